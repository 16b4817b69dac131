//! HAProxy reloaded under traffic, the weights in its configuration the opposite of those in Consul.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tokio::time::sleep;

use crate::{
    Options,
    harness::{Apps, Consul, Haproxy, Port, Traffic, config, eventually, traffic::Rate, weightd::Settings},
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

/// The application alone, then among 1,000 servers; without and with a server-state file.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for others in options.backends.clone().unwrap_or_else(|| vec![0, 100]) {
        for with_file in [false, true] {
            let others = Shape::new(others, 10);
            measure(others, with_file, options.rounds.unwrap_or(200), report).await?;
        }
    }
    Ok(())
}

async fn measure(others: Shape, with_file: bool, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let all = 2 + others.backends * others.servers;
    let case = format!("reload{}, {all} servers", if with_file { " with state file" } else { "" });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("server-state");
    let (consul, apps, port) = (Consul::start().await?, Apps::start().await?, Port::free()?);
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
    let app = config::backend("app", &["balance roundrobin"], &servers, "");
    let lines = if with_file { config::state_file(&file) } else { String::new() };
    let body = lines + &config::frontend(port.number(), "app") + &app + &others.config();
    let mut haproxy = Haproxy::start(&body).await?;

    let mut desired = others.weights(|server| u32::from(server % 2 == 0) * 50);
    desired.insert("app".into(), [("blue".into(), 0), ("green".into(), 100)].into());
    setup::write(&mut Http::connect(&consul.address())?, PREFIX, &desired, 0)?;
    let address = haproxy.address();
    let mut keys = vec![("name", "haproxy"), ("address", address.as_str())];
    let path = file.display().to_string();
    if with_file {
        keys.push(("state_file", &path));
    }
    let _weightd = Settings::without_haproxy(&consul.address()).instance(&keys).start().await?;
    let socket = haproxy.socket();
    // On a thread of its own, also where there is traffic meanwhile. What the process before the reload answers, which
    // still does now and then, does not count.
    let until_right = async |before: Option<Pid>| {
        let (socket, desired) = (socket.clone(), desired.clone());
        let look = move || match before {
            Some(pid) => observer::until_after(&socket, &desired, LOST_AFTER, pid),
            None => observer::until(&socket, &desired, LOST_AFTER, true),
        };
        tokio::task::spawn_blocking(look).await.context("the observer has ended")?
    };
    until_right(None).await?.context("weightd did not set the weights")?;

    if with_file {
        let rows = async || {
            let text = fs::read_to_string(&file)?;
            ensure!(text.lines().count() == all + 2, "{} lines", text.lines().count());
            Ok(())
        };
        eventually(LOST_AFTER, "weightd has written all servers", rows).await?;
    }
    let traffic = Traffic::start(port.number(), Rate { kept: 200, fresh: 200 });
    let (mut times, mut wrong, mut lost) = (Samples::default(), Counts::default(), 0_u32);
    for _ in 0..rounds {
        sleep(Duration::from_millis(fastrand::u64(300..700))).await;
        let window = traffic.count();
        let old = haproxy.pid().await?;
        let answered = haproxy.reload_again().await?;
        match until_right(Some(old)).await? {
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
    let none_wrong = |row: Row| if with_file { row.goal(Goal::AtMost(0.0)) } else { row };
    report.rows([
        row("p50", "ms").weightd(times.percentile(50.0)),
        row("p90", "ms").weightd(times.percentile(90.0)),
        row("p99", "ms").weightd(times.percentile(99.0)).goal(Goal::AtMost(300.0)),
        row("max", "ms").weightd(times.max()),
        row("on wrong weights, mean", "requests").weightd(wrong.mean()),
        none_wrong(row("on wrong weights, max", "requests").weightd(wrong.max())),
        row(&format!("failed of {}", count.answered() + count.failed), "requests")
            .weightd(Counts::figure(count.failed))
            .goal(Goal::AtMost(0.0)),
    ]);
    Ok(())
}
