//! HAProxy reloaded under traffic, the weights in its configuration the opposite of those in Consul.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep;

use crate::{
    Options,
    harness::{Apps, Consul, Haproxy, Port, Traffic, Weightd, config, traffic::Rate},
    http::Http,
    observer,
    setup::{self, Shape},
    stats::{Counts, Samples},
    table::{Goal, Report, Row},
};

const PREFIX: &str = "weightd/weights/";
/// What the header of an answer says under the weights that are configured nowhere and desired.
const RIGHT: &str = "0/100";
/// After this the weights count as lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// How long requests that are on their way get to be answered, so that they are counted with their reload.
const SETTLE: Duration = Duration::from_millis(50);

/// The application alone, then among 1,000 servers.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for others in options.backends.clone().unwrap_or_else(|| vec![0, 100]) {
        measure(Shape { backends: others, servers: 10 }, options.rounds.unwrap_or(20), report).await?;
    }
    Ok(())
}

async fn measure(others: Shape, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let case = format!("reload, {} servers", 2 + others.backends * others.servers);
    let (consul, apps, port) = (Consul::start().await?, Apps::start().await?, Port::free()?);
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
    let app = config::backend("app", &["balance roundrobin"], &servers, "");
    let body = config::frontend(port.number(), "app") + &app + &others.config();
    let mut haproxy = Haproxy::start(&body).await?;

    let mut desired = others.weights(|server| u32::from(server % 2 == 0) * 50);
    desired.insert("app".into(), [("blue".into(), 0), ("green".into(), 100)].into());
    setup::write(&mut Http::connect(&consul.address())?, PREFIX, &desired, 0)?;
    let _weightd = Weightd::start(&consul, &haproxy).await?;
    let socket = haproxy.socket();
    let until_right = async || {
        let (socket, desired) = (socket.clone(), desired.clone());
        // On a thread of its own: the traffic goes on meanwhile.
        let looking = tokio::task::spawn_blocking(move || observer::until(&socket, &desired, LOST_AFTER, true));
        looking.await.context("the observer has ended")?
    };
    until_right().await?.context("weightd did not set the weights")?;

    let traffic = Traffic::start(port.number(), Rate { kept: 200, fresh: 200 });
    let (mut times, mut wrong, mut lost) = (Samples::default(), Counts::default(), 0_u32);
    for _ in 0..rounds {
        sleep(Duration::from_millis(fastrand::u64(300..700))).await;
        let window = traffic.count();
        let answered = haproxy.reload_again().await?;
        match until_right().await? {
            Some(at) => times.push(at.saturating_duration_since(answered)),
            None => lost += 1,
        }
        sleep(SETTLE).await;
        let count = traffic.since(&window);
        wrong.push(count.weights.iter().filter(|(weights, _)| *weights != RIGHT).map(|(_, count)| *count).sum());
    }
    let count = traffic.count();
    report.expect(lost == 0, || format!("{case}: after {lost} reloads the weights did not come back"));
    report.expect(count.failed == 0, || format!("{case}: {} requests failed: {:?}", count.failed, count.errors));
    for wrong in observer::differences(&socket, &desired)? {
        report.expect(false, || format!("{case}: at the end {wrong}"));
    }
    let row = |figure: &str, unit| Row::new(&case, figure, unit);
    report.rows([
        row("p50", "ms").weightd(times.percentile(50.0)),
        row("p99", "ms").weightd(times.percentile(99.0)).goal(Goal::AtMost(300.0)),
        row("max", "ms").weightd(times.max()),
        row("on wrong weights, mean", "requests").weightd(wrong.mean()),
        row("on wrong weights, max", "requests").weightd(wrong.max()),
        row(&format!("failed of {}", count.answered() + count.failed), "requests")
            .weightd(Counts::figure(count.failed))
            .goal(Goal::AtMost(0.0)),
    ]);
    report.notes.push(format!("{case}: each, in ms: {times}"));
    Ok(())
}
