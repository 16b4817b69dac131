//! Figures: bytes and first paint with 500 applications, and how soon a change is seen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::Instant,
};

use crate::{
    browser::{Browser, Look},
    common::key,
    harness::{Consul, Rolloutd, page::Process},
    pictures::{at_the_desk, sign_in},
    story,
};

#[tokio::test]
async fn five_hundred_applications_are_small_and_soon_there() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    for number in 0..480 {
        let document = json!({"split": {"blue-*": 100, "green-*": 0}, "by": "n.haddad", "at": "2026-11-21T10:00:00Z"});
        consul.put(&key(&format!("service-{number:03}")), document.to_string()).await?;
    }
    story::tell(&consul).await?;
    let process = Process::start(&consul, None).await?;
    let page = &process.page;
    let browser = Browser::start().await?;
    browser.look(Look::DESK).await?;
    sign_in(&browser, page, "ann").await?;
    let paints = async |path: &str| -> anyhow::Result<Vec<f64>> {
        let mut paints = Vec::new();
        for _ in 0..7 {
            // As after signing in, from a small page: a large one takes its time to go.
            browser.open(&page.url("/keys")).await?;
            browser.open(&page.url(path)).await?;
            paints.push(browser.first_paint().await?);
        }
        paints.sort_by(f64::total_cmp);
        Ok(paints)
    };
    // What this machine needs for any page at all.
    let floor = paints("/keys").await?;
    let paints = paints("/").await?;
    let bytes = |of: &str| {
        format!(
            "performance.getEntriesByType('{of}').filter((e) => !e.name.includes('/events')).reduce((n, e) => n + e.encodedBodySize + 300, 0)"
        )
    };
    let own = browser.script(&bytes("navigation")).await?.as_f64().context("bytes")?;
    let others = browser.script(&bytes("resource")).await?.as_f64().context("bytes")?;
    let answered = browser.script("performance.getEntriesByType('navigation')[0].responseEnd").await?;
    println!(
        "497 applications: answered in {answered} ms, first paint {:.0} ms (median of 7, least {:.0}; a page of five lines {:.0}), page {:.1} KiB, style, script and icon {:.1} KiB",
        paints[3],
        paints[0],
        floor[3],
        own / 1024.0,
        others / 1024.0
    );
    ensure!((own + others) / 1024.0 < 60.0, "{own} + {others} bytes");
    ensure!(browser.text().await?.contains("497 applications"));
    browser.stop().await
}

#[tokio::test]
async fn a_change_is_seen_within_a_second() -> anyhow::Result<()> {
    let (consul, page, browser) = at_the_desk().await?;
    browser.open(&page.url("/app/ads")).await?;
    browser.shows("Live").await?;
    let mut times = Vec::new();
    for green in [3_u32, 7, 11, 13, 17, 19, 23, 29, 31] {
        let wait = format!(
            "window.seen = new Promise((done) => {{ const look = () => document.getElementById('now').textContent.includes('green {green}') && done(true); new MutationObserver(look).observe(document.body, {{subtree: true, childList: true}}); look(); }}); 1"
        );
        browser.script(&wait).await?;
        let document = json!({"split": {"blue-*": 100 - green, "green-*": green}, "by": "bob"}).to_string();
        let began = Instant::now();
        consul.put(&key("ads"), document).await?;
        browser.script("window.seen").await?;
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    times.sort();
    println!("a change in Consul is in the browser after {:?} (median), {:?} at most", times[4], times[8]);
    ensure!(times[8] < Duration::from_secs(1), "{times:?}");
    browser.stop().await
}

/// CPU time of a process, in seconds.
fn cpu(pid: Pid) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let fields: Vec<_> = stat.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// Memory of a process, in MiB.
fn memory(pid: Pid) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// The median and the largest of so many ticks of the controller, in milliseconds.
async fn ticks(controller: &Rolloutd, count: usize) -> anyhow::Result<(f64, f64)> {
    let mut ticks = Vec::new();
    while ticks.len() < count {
        let (_, text) = controller.get("/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix("rolloutd_tick_seconds "));
        ticks.push(1000.0 * line.context("no tick")?.parse::<f64>()?);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ticks.sort_by(f64::total_cmp);
    Ok((ticks[count / 2], ticks[count - 1]))
}

#[tokio::test]
#[ignore = "minutes; make page-test"]
async fn a_thousand_streams_hear_a_change() -> anyhow::Result<()> {
    const STREAMS: usize = 1000;
    const PEOPLE: usize = 50;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )?;
    let consul = Consul::start().await?;
    story::tell(&consul).await?;
    let mut process = Process::start(&consul, None).await?;
    let pid = process.program().pid()?;
    let page = &process.page;
    let controller = Rolloutd::start(&consul, "ctl-1").await?;
    let mut cookies = Vec::new();
    while cookies.len() < PEOPLE {
        // Sign-ins are limited.
        match page.named(&format!("person {}", cookies.len())).await {
            Ok(person) => cookies.push(person.cookie()),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
    let alone = ticks(&controller, 40).await?;
    let before = memory(pid)?;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut stream = TcpStream::connect(page.address).await?;
        let (host, cookie) = (page.address, &cookies[number % PEOPLE]);
        let head = format!("GET /events?page=/ HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        streams.push(stream);
    }
    let changes: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stream).lines();
                while let Some(line) = lines.next_line().await? {
                    if line.contains("<b>33") {
                        return anyhow::Ok((Instant::now(), lines));
                    }
                }
                anyhow::bail!("the stream ended")
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (since, idle, after) = (Instant::now(), cpu(pid)?, memory(pid)?);
    let beside = ticks(&controller, 40).await?;
    let idle = (cpu(pid)? - idle) / since.elapsed().as_secs_f64();
    let (began, spent) = (Instant::now(), cpu(pid)?);
    story::split(&consul, "mail", 33, "bob", "shift", 0).await?;
    let mut last = Duration::ZERO;
    let mut open = Vec::new();
    for change in changes {
        let (at, lines) = tokio::time::timeout(Duration::from_secs(30), change).await???;
        last = last.max(at - began);
        open.push(lines);
    }
    println!(
        "{STREAMS} streams of {PEOPLE} people: {:.1} % of a core while nothing happens, {:.0} KiB a stream, a change is at the last one after \
         {last:?} and costs {:.0} ms of CPU",
        idle * 100.0,
        (after - before) * 1024.0 / 1000.0,
        (cpu(pid)? - spent) * 1000.0
    );
    println!(
        "a tick of the controller: {:.2} ms (median), {:.2} ms at most; beside the streams {:.2} and {:.2} ms, {:.2} times",
        alone.0,
        alone.1,
        beside.0,
        beside.1,
        beside.0 / alone.0
    );
    Ok(())
}
