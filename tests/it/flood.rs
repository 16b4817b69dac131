//! A local user who opens as many connections as possible disrupts nothing.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    common::{SOON, backend, becomes, converged, put, servers},
    harness::{Weightd, eventually, weightd::Settings},
};

const IDLE: usize = 2000;
const LARGE: usize = 400;

/// The resident memory of a weightd in KiB: present and maximum.
fn memory(weightd: &mut Weightd) -> anyhow::Result<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{}/status", weightd.program().pid()?))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        anyhow::Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?])
}

/// Opens connections and keeps them open.
async fn open(port: u16, count: usize, send: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        // If the backlog is full, the kernel retries the connection. The test does not wait for that.
        let connect = tokio::time::timeout(Duration::from_millis(20), TcpStream::connect(("127.0.0.1", port)));
        if let Ok(Ok(mut stream)) = connect.await {
            // weightd may have closed the connection already: that is the expected protection.
            let _ = stream.try_write(send);
            if send.len() > 1024 {
                let _ = tokio::time::timeout(Duration::from_millis(5), stream.write_all(send)).await;
            }
            streams.push(stream);
        }
    }
    streams
}

#[tokio::test]
async fn idle_connections_and_large_heads_delay_no_change_and_use_no_memory() -> anyhow::Result<()> {
    // This process needs one descriptor per connection.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let (consul, haproxy) = servers(&backend("app", 100, 0)).await?;
    put(&consul, "app", 70, 30).await?;
    let mut weightd = Settings::new(&consul, &haproxy).descriptors(256).start().await?;
    becomes(&haproxy, "app", 70, 30).await?;
    converged(&weightd).await?;
    let port: u16 = weightd.address().rsplit(':').next().unwrap_or_default().parse()?;
    let [before, _] = memory(&mut weightd)?;

    let idle = open(port, IDLE, b"").await;
    let head = format!("GET /live HTTP/1.1\r\nHost: a\r\n{}", "X-Large: 0123456789abcdef\r\n".repeat(40_000));
    let large = open(port, LARGE, head.as_bytes()).await;
    ensure!(idle.len() > IDLE / 4 && large.len() > LARGE / 4, "{} and {} are open", idle.len(), large.len());
    // Changes are applied, HAProxy is read, and weights are restored after a reload.
    for green in [40, 50, 60] {
        put(&consul, "app", 70, green).await?;
        becomes(&haproxy, "app", 70, green).await?;
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", weightd.program().pid()?))?.count();
    ensure!(descriptors < 128, "{descriptors} are open");
    let [now, most] = memory(&mut weightd)?;
    ensure!(now < before + 16 * 1024 && most < before + 24 * 1024, "{before} KiB before, {now} now, {most} at most");
    // Other clients are not blocked for long.
    eventually(SOON, "weightd answers other clients", async || weightd.get("/ready").await).await?;
    drop((idle, large));
    converged(&weightd).await
}
