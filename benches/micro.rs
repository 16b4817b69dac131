//! What the pure parts take, without a server: reading what HAProxy says, decoding what Consul says, and deciding.
//!
//! `make bench CASE=micro` runs it; a filter such as `cargo bench --bench micro -- plan` runs a part.

use std::{collections::BTreeMap, fmt::Write as _, hint::black_box, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use divan::{Bencher, counter::ItemsCount};
use weightd::haproxy::reply::{ServersState, servers_state};
use weightd_core::{
    accept::accept,
    desired::{Decoder, Desired, DesiredState, Entry, Instruction, Published},
    model::{BackendName, Moment},
    observed::Observed,
    plan::plan,
};

const BACKENDS: usize = 1000;
const SERVERS: usize = 10;
const PREFIX: &str = "weightd/weights/";

fn main() {
    divan::main();
}

fn backend(at: usize) -> String {
    format!("b{at:04}")
}

/// What HAProxy 2.6 says about a backend.
fn said(at: usize, weight: u32) -> String {
    let mut text = String::from(
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
         srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
         srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port \
         srv_check_addr srv_agent_addr srv_agent_port\n",
    );
    let name = backend(at);
    for server in 0..SERVERS {
        let id = server + 1;
        let _ =
            writeln!(text, "{at} {name} {id} s{server:02} 127.0.0.1 2 0 {weight} 100 7 1 0 2 0 0 0 0 - 9 - 0 0 - - 0");
    }
    text
}

/// A document in Consul's answer.
fn entry(at: usize, weight: u32) -> String {
    let mut document = String::from(r#"{"v":1,"weights":{"#);
    for server in 0..SERVERS {
        let _ = write!(document, "{}\"s{server:02}\":{weight}", if server == 0 { "" } else { "," });
    }
    document.push_str(r#"},"by":"bench","reason":"all at once","at":"2026-11-21T10:00:00Z"}"#);
    let (key, value) = (format!("{PREFIX}{}", backend(at)), BASE64.encode(document));
    format!(r#"{{"LockIndex":0,"Key":"{key}","Flags":0,"Value":"{value}","CreateIndex":9,"ModifyIndex":{weight}}}"#)
}

/// Consul's answer for all backends.
fn answer(weight: u32) -> String {
    format!("[{}]", (0..BACKENDS).map(|at| entry(at, weight)).collect::<Vec<_>>().join(","))
}

fn decoded(decoder: &mut Decoder, answer: &str) -> Arc<DesiredState> {
    let entries: Vec<Entry<'_>> = serde_json::from_str(answer).expect("Consul's JSON");
    decoder.decode(&entries).expect("an answer that can be trusted")
}

/// What should be, for all backends.
fn desired(weight: u32) -> BTreeMap<BackendName, Arc<Desired>> {
    let state = decoded(&mut Decoder::new(PREFIX), &answer(weight));
    let valid = state.backends.iter().filter_map(|(name, source)| match source {
        Published::Valid(Instruction::Weights(desired)) => Some((name.clone(), Arc::clone(desired))),
        _ => None,
    });
    let valid: BTreeMap<_, _> = valid.collect();
    assert_eq!(valid.len(), BACKENDS);
    valid
}

fn observed(text: &str) -> Observed {
    match servers_state(text).expect("HAProxy's answer") {
        ServersState::Servers(rows) => Observed::new(&rows, None, None, &|_, _| None),
        ServersState::NoBackend => panic!("no backend"),
    }
}

/// What is, for all backends.
fn all_observed(weight: u32) -> Vec<Observed> {
    (0..BACKENDS).map(|at| observed(&said(at, weight))).collect()
}

/// `show servers state` of 10,000 servers, backend by backend, as weightd asks for it.
#[divan::bench]
fn parse_10_000_servers(bencher: Bencher<'_, '_>) {
    let texts: Vec<_> = (0..BACKENDS).map(|at| said(at, 50)).collect();
    bencher
        .counter(ItemsCount::new(BACKENDS * SERVERS))
        .bench(|| texts.iter().map(|text| black_box(observed(text)).servers.len()).sum::<usize>());
}

/// Consul's answer with 1,000 documents, none of which was seen before.
#[divan::bench]
fn decode_1_000_new_documents(bencher: Bencher<'_, '_>) {
    let answer = answer(50);
    bencher
        .counter(ItemsCount::new(BACKENDS))
        .with_inputs(|| Decoder::new(PREFIX))
        .bench_values(|mut decoder| decoded(&mut decoder, &answer));
}

/// The same answer again, with another index: what each change of one document among a thousand costs.
#[divan::bench]
fn decode_1_000_known_documents(bencher: Bencher<'_, '_>) {
    let answer = answer(50);
    let mut decoder = Decoder::new(PREFIX);
    decoded(&mut decoder, &answer);
    bencher.counter(ItemsCount::new(BACKENDS)).bench_local(|| decoded(&mut decoder, black_box(&answer)));
}

/// Guards and plans of all backends; returns how many weights change.
fn decide(desired: &BTreeMap<BackendName, Arc<Desired>>, observed: &[Observed]) -> usize {
    let both = desired.iter().zip(observed);
    both.map(|((name, desired), observed)| {
        black_box(accept(desired, None, observed, None, Moment::default()));
        plan(name, desired, observed).changes().count()
    })
    .sum()
}

/// Accept and plan for 10,000 servers that are as they should be.
#[divan::bench]
fn decide_10_000_servers_unchanged(bencher: Bencher<'_, '_>) {
    let (desired, observed) = (desired(50), all_observed(50));
    assert_eq!(decide(&desired, &observed), 0);
    bencher.counter(ItemsCount::new(BACKENDS * SERVERS)).bench(|| decide(&desired, black_box(&observed)));
}

/// Accept and plan for 10,000 servers all of which change.
#[divan::bench]
fn decide_10_000_servers_all_changed(bencher: Bencher<'_, '_>) {
    let (desired, observed) = (desired(60), all_observed(50));
    assert_eq!(decide(&desired, &observed), BACKENDS * SERVERS);
    bencher.counter(ItemsCount::new(BACKENDS * SERVERS)).bench(|| decide(&desired, black_box(&observed)));
}
