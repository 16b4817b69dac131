//! The library below the verbs and the page.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;
use weightd::{
    consul::session::SessionId,
    documents::{
        DocumentsError,
        lead::{Lead, Led},
        rollouts::{Aborted, Answer, Asked, Standing, Started, new_id},
        single::KeyWrite,
    },
};
use weightd_core::{
    model::Timestamp,
    rollback::{Decision, Refused, decide},
    rollout::{Request, Spec, State, Verb, abort::WhyAsk, state::Answered},
};

use super::{APPROVAL, REQUEST, SPEC, STATE, app1, baking, documents, documents_at, spec, split, state, value};
use crate::{
    common::{document, key},
    harness::{
        Consul,
        gate::{Gate, Passage},
    },
};

const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

#[tokio::test]
async fn a_start_writes_spec_and_request_if_nothing_changed() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    let index = consul.index(&key("app1")).await?;
    let one: Spec = serde_json::from_value(spec("r1", "watch"))?;
    let seen = documents.rollout(&app1).await?;
    ensure!(seen.standing() == Standing::None, "{seen:?}");

    // The person saw another document.
    ensure!(documents.start_rollout(&app1, &one, &seen, index - 1).await? == Started::Conflict);
    ensure!(consul.get(SPEC).await?.is_none() && consul.get(REQUEST).await?.is_none());

    let Started::Yes(_) = documents.start_rollout(&app1, &one, &seen, index).await? else {
        anyhow::bail!("not started")
    };
    ensure!(value(&consul, SPEC).await?["id"] == "r1");
    ensure!(consul.get(REQUEST).await? == Some(b"{}".to_vec()));
    let now = documents.rollout(&app1).await?;
    ensure!(matches!(now.standing(), Standing::Pending(spec) if spec.id == "r1"), "{now:?}");

    // Two people at once: the second one has seen no rollout.
    let two: Spec = serde_json::from_value(spec("r2", "watch"))?;
    ensure!(documents.start_rollout(&app1, &two, &seen, index).await? == Started::Conflict);
    let all = documents.rollouts().await?;
    ensure!(all.rollouts.len() == 1 && all.rollouts.contains_key(&app1), "{all:?}");
    ensure!(all.controller.index == 0 && !all.filtered, "{all:?}");
    Ok(())
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_reported_and_hides_nothing_else() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(SPEC, spec("r1", "watch").to_string()).await?;
    consul.put(STATE, r#"{"v":2}"#).await?;
    consul.put("weightd/rollouts/evidence/app1", "no JSON").await?;
    consul.put("weightd/rollouts/log/app1", "x".repeat(40_000)).await?;
    consul
        .put("weightd/controller", r#"{"v":1,"name":"ctl-1","since":"2026-11-21T10:00:00Z","checks":["slow"]}"#)
        .await?;
    let documents = documents(&consul, None)?;
    let read = documents.rollout(&app1()?).await?;
    ensure!(read.spec.get().is_some() && read.state.get().is_none());
    let why = |bad: Option<&weightd_core::rollout::BadValue>| bad.map(ToString::to_string).unwrap_or_default();
    ensure!(why(read.state.unreadable()) == "the value has version 2; this program reads version 1");
    ensure!(why(read.evidence.unreadable()).starts_with("the value is malformed"));
    let log = read.log.as_ref().and_then(|log| log.unreadable());
    ensure!(why(log) == "the value has 40000 bytes; the maximum is 32768", "{}", why(log));
    ensure!(matches!(read.standing(), Standing::Unreadable("state", _)));
    let controller = documents.controller().await?;
    ensure!(controller.get().is_some_and(|controller| controller.checks == ["slow"]), "{controller:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_taken_back() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    for (verb, key) in [(Verb::Promote, REQUEST), (Verb::Approve, APPROVAL)] {
        let read = documents.rollout(&app1).await?;
        let seen = if verb == Verb::Approve { read.approval.index } else { read.request.index };
        let request = Request::new(new_id(), verb, "r1".to_owned(), 7, "ada", None);
        let KeyWrite::Yes(written) = documents.ask_rollout(&app1, &request, seen).await? else {
            anyhow::bail!("not asked")
        };
        ensure!(documents.ask_rollout(&app1, &request, seen).await? == KeyWrite::Conflict);
        ensure!(documents.answer(&app1, &request, Duration::from_millis(300)).await? == Answer::None);
        ensure!(documents.take_back(&app1, &request, written).await? == Asked::TakenBack);
        ensure!(consul.get(key).await? == Some(b"{}".to_vec()));
        // Somebody else asked for something meanwhile.
        consul.put(key, r#"{"v":1,"id":"x","verb":"pause","rollout":"r1","at":7,"by":"bob"}"#).await?;
        ensure!(documents.take_back(&app1, &request, written).await? == Asked::Replaced);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_is_taken_back_although_the_reads_of_its_answer_failed() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    baking(&consul, "auto").await?;
    let gate = Gate::open(&consul).await?;
    let (documents, app1) = (documents_at(&gate.address(), None)?, app1()?);
    let seen = documents.rollout(&app1).await?.request.index;
    // An election of Consul's leader: 20 reads in a row fail.
    let failed = std::sync::atomic::AtomicU32::new(0);
    gate.rule(move |method, path| {
        let reads_state = *method == Method::GET && path.contains("rollouts/state");
        let fails = reads_state && failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 20;
        if fails { Passage::Closed } else { Passage::Through }
    });
    let request = Request::new(new_id(), Verb::Promote, "r1".to_owned(), 7, "ada", None);
    ensure!(documents.ask_and_wait(&app1, &request, seen).await? == Asked::TakenBack);
    ensure!(consul.get(REQUEST).await? == Some(b"{}".to_vec()));
    Ok(())
}

/// The leader has read the approval, and its transaction comes after the person took it back.
#[tokio::test]
async fn an_approval_that_was_taken_back_has_no_effect() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let session = consul.http().json(Method::PUT, "session/create", &serde_json::json!({ "TTL": "60s" })).await?;
    let session = session["ID"].as_str().context("no session")?.to_owned();
    let lock = format!("kv/weightd/controller?acquire={session}");
    ensure!(consul.http().request(Method::PUT, &lock).body("{}").send().await?.text().await?.trim() == "true");
    baking(&consul, "auto").await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    let request = Request::new(new_id(), Verb::Approve, "r1".to_owned(), 7, "ada", None);
    let KeyWrite::Yes(written) = documents.ask_rollout(&app1, &request, 0).await? else { anyhow::bail!("not asked") };
    let read = documents.rollout(&app1).await?;
    let lead = Lead {
        session: SessionId::new(session),
        backend: app1.clone(),
        spec: Some(read.spec.index),
        request: read.request.index,
        approval: Some(read.approval.index),
        state: read.state.index,
        has_leaves: false,
    };
    let before = read.state.get().context("no state")?;
    let answered = Some(Answered { id: request.id.clone(), refused: None });
    let approved = State { seq: before.seq + 1, approved: Some(2), approval: answered, ..before.clone() };
    ensure!(documents.take_back(&app1, &request, written).await? == Asked::TakenBack);
    ensure!(documents.begin_rollout(&lead, &approved).await? == Led::Conflict);
    // What does not answer it goes on.
    let other = State { seq: before.seq + 1, ..before.clone() };
    let done = documents.begin_rollout(&Lead { approval: None, ..lead }, &other).await?;
    ensure!(matches!(done, Led::Applied(_)), "{done:?}");
    Ok(())
}

#[tokio::test]
async fn the_answer_of_a_leader_is_found_also_while_it_is_taken_back() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    consul.put(SPEC, spec("r1", "auto").to_string()).await?;
    consul.put(REQUEST, "{}").await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    let request = Request::new("q1".to_owned(), Verb::Promote, "r1".to_owned(), 7, "ada", None);
    let seen = documents.rollout(&app1).await?.request.index;
    let KeyWrite::Yes(written) = documents.ask_rollout(&app1, &request, seen).await? else {
        anyhow::bail!("not asked")
    };
    let mut answered = state("r1", "bake", "auto", 10, 5);
    answered["answered"] = serde_json::json!({"id": "q1"});
    consul.put(STATE, answered.to_string()).await?;
    ensure!(matches!(documents.answer(&app1, &request, Duration::ZERO).await?, Answer::Done(_)));
    ensure!(matches!(documents.take_back(&app1, &request, written).await?, Asked::Done(_)));
    answered["answered"]["refused"] = "there is no bake to end".into();
    consul.put(STATE, answered.to_string()).await?;
    let answer = documents.answer(&app1, &request, Duration::ZERO).await?;
    ensure!(answer == Answer::Refused("there is no bake to end".to_owned()), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_abort_takes_the_new_side_back_in_one_transaction_past_a_freeze() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    for (mode, freeze) in
        [("auto", "weightd/freeze"), ("guard", "weightd/freeze/app1"), ("watch", "weightd/freeze/app1")]
    {
        consul.put(freeze, r#"{"v":1,"by":"bob","reason":"holidays"}"#).await?;
        baking(&consul, mode).await?;
        let done = documents.abort_rollout(&app1, "ada", Some("no"), NOW).await?;
        let Aborted::Wrote { share, request, without, .. } = done else { anyhow::bail!("{done:?}") };
        ensure!(share.percent() == 0.0 && without.is_empty(), "{without:?}");
        let document = value(&consul, &key("app1")).await?;
        ensure!(document["split"] == serde_json::json!({"blue": 100, "green": 0}), "{document}");
        ensure!(document["reason"] == "rollout r1: aborted: no" && document["by"] == "ada", "{document}");
        let asked = value(&consul, REQUEST).await?;
        ensure!(asked["verb"] == "abort" && asked["wrote"] == true && asked["id"] == request.id, "{asked}");
        let history = value(&consul, "weightd/history/app1").await?;
        let newest = &history["entries"][0];
        ensure!(newest["way"] == "rollback" && newest["by"] == "ada" && newest["raised"][0] == "green", "{history}");
        // Whoever rolls back now would bring green back.
        let decided = decide(&documents.context(&app1).await?.entries(), &weightd_core::rollback::Asked::default());
        ensure!(matches!(decided, Decision::Refuse(Refused::AlreadyRolledBack { .. })), "{decided:?}");
        consul.delete(freeze).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_abort_writes_only_its_request_where_nothing_moved_or_the_document_is_of_another_person()
-> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    let index = split(&consul, 0).await?;
    consul.put(SPEC, spec("r1", "auto").to_string()).await?;
    consul.put(REQUEST, "{}").await?;
    for (phase, share, document, why) in [
        ("preflight", 0, index, WhyAsk::NotMoved),
        ("rolling_back", 0, index, WhyAsk::GoesBack),
        ("bake", 10, index - 1, WhyAsk::Foreign),
    ] {
        consul.put(STATE, state("r1", phase, "auto", share, document).to_string()).await?;
        let done = documents.abort_rollout(&app1, "ada", None, NOW).await?;
        ensure!(matches!(&done, Aborted::Asked { why: found, .. } if *found == why), "{phase}: {done:?}");
        ensure!(consul.index(&key("app1")).await? == index, "{phase}");
        let asked = value(&consul, REQUEST).await?;
        ensure!(asked["verb"] == "abort" && asked["wrote"] == false, "{asked}");
    }
    Ok(())
}

#[tokio::test]
async fn an_abort_withdraws_what_nobody_began_and_leaves_what_ended() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    ensure!(documents.abort_rollout(&app1, "ada", None, NOW).await? == Aborted::Nothing);
    consul.put(&key("app1"), document(100, 0)).await?;
    consul.put(STATE, state("r1", "done", "auto", 100, 5).to_string()).await?;
    consul.put(SPEC, spec("r2", "watch").to_string()).await?;
    ensure!(documents.abort_rollout(&app1, "ada", None, NOW).await? == Aborted::Withdrawn);
    ensure!(consul.get(SPEC).await?.is_none());
    ensure!(matches!(documents.abort_rollout(&app1, "ada", None, NOW).await?, Aborted::Ended(_)));
    Ok(())
}

/// A leader begins a rollout while a person aborts it: each of them is right, or neither is.
#[tokio::test]
async fn a_rollout_that_a_leader_has_begun_is_never_withdrawn() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let (documents, app1) = (documents(&consul, None)?, app1()?);
    consul.put(&key("app1"), document(100, 0)).await?;
    for round in 0..60_u64 {
        consul.delete(STATE).await?;
        consul.put(SPEC, spec("r1", "watch").to_string()).await?;
        let index = consul.index(SPEC).await?;
        // As a leader does: the state is new, and the spec is still the one that it is made from.
        let begins = async {
            tokio::time::sleep(Duration::from_micros(round * 400)).await;
            let value = BASE64.encode(state("r1", "queued", "watch", 0, 1).to_string());
            let operations = serde_json::json!([
                {"KV": {"Verb": "check-index", "Key": SPEC, "Index": index}},
                {"KV": {"Verb": "cas", "Key": STATE, "Index": 0, "Value": value}},
            ]);
            consul.http().request(Method::PUT, "txn").body(operations.to_string()).send().await
        };
        let (done, answer) = tokio::join!(documents.abort_rollout(&app1, "ada", None, NOW), begins);
        let (withdrawn, begun) = (done? == Aborted::Withdrawn, answer?.status().is_success());
        ensure!(withdrawn != begun, "round {round}: withdrawn {withdrawn}, begun {begun}");
        let asked = value(&consul, REQUEST).await?;
        ensure!(withdrawn || asked["verb"] == "abort", "round {round}: a leader ends what it has begun: {asked}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_right_is_named_by_its_rule() -> anyhow::Result<()> {
    let consul = Consul::start_with(crate::harness::consul::Options { acl: true, ..Default::default() }).await?;
    consul.put(&key("app1"), document(100, 0)).await?;
    let index = consul.index(&key("app1")).await?;
    let rules = r#"key "weightd/weights/app1" { policy = "write" } key_prefix "weightd/rollouts/" { policy = "read" }
                   key "weightd/rollouts/spec/app1" { policy = "write" } key "weightd/controller" { policy = "read" }"#;
    consul.http().set_policy("some", rules).await?;
    let token = consul.http().new_token("some").await?;
    let (documents, app1) = (documents(&consul, Some(&token))?, app1()?);
    let seen = documents.rollout(&app1).await?;
    let one: Spec = serde_json::from_value(spec("r1", "watch"))?;
    let denied = documents.start_rollout(&app1, &one, &seen, index).await;
    let Err(DocumentsError::Write { rule, .. }) = denied else { anyhow::bail!("{denied:?}") };
    ensure!(rule == r#"key "weightd/rollouts/request/app1" { policy = "write" }"#, "{rule}");
    consul.http().set_policy("some", r#"key_prefix "weightd/weights/" { policy = "read" }"#).await?;
    let denied = documents.rollout(&app1).await;
    let Err(DocumentsError::Read { rule, .. }) = denied else { anyhow::bail!("{denied:?}") };
    ensure!(rule.starts_with(r#"key "weightd/rollouts/"#) && rule.ends_with(r#"{ policy = "read" }"#), "{rule}");
    Ok(())
}
