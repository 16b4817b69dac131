//! A local user who opens as many connections as possible stops nothing.

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

/// The resident memory of a weightd, in KiB: now and at most.
fn memory(weightd: &mut Weightd) -> anyhow::Result<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{}/status", weightd.program().pid()?))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        anyhow::Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?])
}

/// Opens connections and leaves them open.
async fn open(port: u16, count: usize, send: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        // Where the backlog is full, a connection waits for the next try of the kernel, which is not waited for here.
        let connect = tokio::time::timeout(Duration::from_millis(20), TcpStream::connect(("127.0.0.1", port)));
        if let Ok(Ok(mut stream)) = connect.await {
            // It may be closed already, which is what this is about.
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
async fn idle_connections_and_large_heads_keep_no_change_waiting_and_take_no_memory() -> anyhow::Result<()> {
    // This process needs a descriptor for each.
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
    // Changes arrive, HAProxy is read, and a reload gets its weights.
    for green in [40, 50, 60] {
        put(&consul, "app", 70, green).await?;
        becomes(&haproxy, "app", 70, green).await?;
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", weightd.program().pid()?))?.count();
    ensure!(descriptors < 128, "{descriptors} are open");
    let [now, most] = memory(&mut weightd)?;
    ensure!(now < before + 16 * 1024 && most < before + 24 * 1024, "{before} KiB before, {now} now, {most} at most");
    // Nor is anybody else kept out for long.
    eventually(SOON, "it answers beside them", async || weightd.get("/ready").await).await?;
    drop((idle, large));
    converged(&weightd).await
}
