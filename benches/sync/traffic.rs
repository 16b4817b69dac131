//! What requests feel of a HAProxy that is watched: one with weightd and 10,000 servers, and the same one alone.

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    Options,
    harness::{Apps, Consul, Haproxy, Port, Weightd, config},
    http::Http,
    observer,
    setup::{self, Shape},
    stats::{Counts, Samples},
    table::{Report, Row},
};

const CASE: &str = "traffic, 10,000 servers";
const PREFIX: &str = "weightd/weights/";
const OTHERS: Shape = Shape::new(1000, 10);
/// How long weightd may take to set everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests to one HAProxy.
const PERIOD: Duration = Duration::from_millis(2);

/// One request to each of both at a time, in turn, so that what else the machine does hits both.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (consul, apps) = (Consul::start().await?, Apps::start().await?);
    let ports = [Port::free()?, Port::free()?];
    let servers = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
    let app = config::backend("app", &["balance roundrobin"], &servers, "");
    let body = |port: &Port| config::frontend(port.number(), "app") + &app + &OTHERS.config();
    let watched = Haproxy::start(&body(&ports[0])).await?;
    let _alone = Haproxy::start(&body(&ports[1])).await?;

    let mut desired = OTHERS.weights(|_| 50);
    desired.insert("app".into(), [("blue".into(), 50), ("green".into(), 50)].into());
    setup::write(&mut Http::connect(&consul.address())?, PREFIX, &desired, 0)?;
    let _weightd = Weightd::start(&consul, &watched).await?;
    let socket = watched.socket();
    observer::until(&socket, &desired, PATIENCE, true)?.context("weightd did not set the weights")?;

    let during = Duration::from_secs(options.seconds.unwrap_or(60));
    let numbers = ports.each_ref().map(Port::number);
    let (times, failed) = spawn_blocking(move || ask(numbers, during)).await.context("nobody asks any more")??;
    report.expect(failed == 0, || format!("{CASE}: {failed} requests failed"));
    for wrong in observer::differences(&socket, &desired)? {
        report.expect(false, || format!("{CASE}: at the end {wrong}"));
    }
    let row = |figure: &str, percent| {
        Row::new(CASE, figure, "ms").weightd(times[0].percentile(percent)).floor(times[1].percentile(percent))
    };
    report.rows([
        row("request p50, floor: HAProxy alone", 50.0),
        row("request p99", 99.0),
        row("request p99.9", 99.9),
        row("request max", 100.0),
        Row::new(CASE, "failed", "requests").weightd(Counts::figure(failed)),
    ]);
    Ok(())
}

/// Asks both for `during`, each on a kept connection.
fn ask(ports: [u16; 2], during: Duration) -> anyhow::Result<([Samples; 2], u64)> {
    let connect = |port| Http::connect(&format!("http://127.0.0.1:{port}"));
    let mut clients = [connect(ports[0])?, connect(ports[1])?];
    let mut times = [Samples::default(), Samples::default()];
    let (mut failed, start) = (0, Instant::now());
    while start.elapsed() < during {
        let next = Instant::now() + PERIOD;
        for side in if fastrand::bool() { [0, 1] } else { [1, 0] } {
            let from = Instant::now();
            match clients[side].get("/") {
                Ok(answer) if answer.status == 200 => times[side].push(from.elapsed()),
                _ => {
                    failed += 1;
                    ensure!(failed < 100, "most requests fail");
                    clients[side] = connect(ports[side])?;
                }
            }
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((times, failed))
}
