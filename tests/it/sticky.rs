//! Sticky users: `haproxy/sticky.cfg` on a real HAProxy whose weights weightd sets, against `weightctl whois`.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    common::{SOON, becomes, put},
    harness::{
        Apps, Consul, Haproxy, PATIENCE, Port, Weightd, config, eventually,
        haproxy::version,
        program,
        users::{Browser, users},
        weightd::Settings,
    },
};

mod asked;
mod down;
mod lines;

/// The shipped configuration.
const STICKY: &str = include_str!("../../haproxy/sticky.cfg");
/// The number of users.
const USERS: usize = 2000;
/// The weights of green; blue has the rest of 100.
const SHARES: [u32; 8] = [0, 1, 5, 10, 25, 50, 75, 100];
/// The number of clients that send requests during a change.
const CLIENTS: usize = 3;
/// The number of requests that they send on a connection.
const PER_CONNECTION: usize = 20;

/// Whether this HAProxy has what the lines need. tests/it/sticky/lines.rs says what an older one answers.
fn supported() -> anyhow::Result<bool> {
    Ok(version()? >= (2, 3))
}

/// The shipped configuration with these ports: of the frontend, and of the servers from 8001 on.
fn sticky(web: &Port, servers: [u16; 4]) -> String {
    let mut text = STICKY.replace("127.0.0.1:8080", &format!("127.0.0.1:{web}"));
    for (number, port) in (8001..).zip(servers) {
        text = text.replace(&format!("127.0.0.1:{number} check"), &format!("127.0.0.1:{port} check inter 300ms"));
    }
    text
}

/// Two applications, and HAProxy in front of them.
struct Node {
    haproxy: Haproxy,
    web: Port,
}

impl Node {
    /// Starts HAProxy. `before` stands in front of the shipped configuration.
    async fn start(apps: &Apps, before: &str) -> anyhow::Result<Self> {
        let web = Port::free()?;
        let (blue, green) = (apps.blue.port(), apps.green.port());
        let haproxy = Haproxy::start(&(before.to_owned() + &sticky(&web, [blue, green, blue, green]))).await?;
        haproxy.until_checked("app").await?;
        Ok(Self { haproxy, web })
    }

    /// Starts a weightd for this HAProxy.
    async fn weightd(&self, consul: &Consul, name: &str) -> anyhow::Result<Weightd> {
        let weightd = Settings::new(consul, &self.haproxy).set("node", name).start().await?;
        eventually(PATIENCE, "weightd is ready", async || weightd.get("/ready").await).await?;
        Ok(weightd)
    }

    fn browser(&self) -> Browser {
        Browser::new(self.web.number())
    }

    /// The side of each user, by requests on several connections.
    async fn sides(&self, path: &'static str, users: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
        let mut clients = JoinSet::new();
        for part in users.chunks(users.len().div_ceil(4).max(1)) {
            let (mut browser, part) = (self.browser(), part.to_vec());
            clients.spawn(async move { browser.sides(path, &part).await });
        }
        let mut sides = BTreeMap::new();
        while let Some(part) = clients.join_next().await {
            sides.extend(part.context("a client panicked")??);
        }
        Ok(sides)
    }
}

/// Runs `weightctl whois … - -o json` with the users on stdin. With `consul`, by the document there.
async fn whois(consul: Option<&Consul>, arguments: &[&str], users: &[String]) -> anyhow::Result<Value> {
    let mut command = Command::new(program::binary("weightctl")?);
    program::without_consul(&mut command);
    let address = consul.map_or_else(|| "127.0.0.1:9".to_owned(), Consul::address);
    let mut child = command
        .arg("whois")
        .args(arguments)
        .args(["-", "-o", "json", "--http-addr", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(users.join("\n").as_bytes()).await?;
    let output = timeout(PATIENCE, child.wait_with_output()).await.context("it does not end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The side of each user as `whois` computes it, by the name of the server of that side.
async fn computed(
    consul: Option<&Consul>,
    arguments: &[&str],
    users: &[String],
) -> anyhow::Result<BTreeMap<String, String>> {
    let answer = whois(consul, arguments, users).await?;
    let mut sides = BTreeMap::new();
    for entry in answer["users"].as_array().context("no users")? {
        let side = entry["side"].as_str().context("no side")?;
        let servers = answer[side]["servers"].as_object().context("no servers")?;
        let server = servers.keys().next().context("no server")?.clone();
        sides.insert(entry["user"].as_str().context("no user")?.to_owned(), server);
    }
    ensure!(sides.len() == users.len(), "{} of {} users", sides.len(), users.len());
    Ok(sides)
}

/// How many users are on green.
fn on_green(sides: &BTreeMap<String, String>) -> usize {
    sides.values().filter(|side| side.as_str() == "green").count()
}

/// Fails with the first users whose side differs.
fn same(sides: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, what: &str) -> anyhow::Result<()> {
    let differ: Vec<_> = sides.iter().filter(|(user, side)| expected.get(*user) != Some(side)).take(5).collect();
    ensure!(differ.is_empty() && sides.len() == expected.len(), "{what}: {differ:?} differ");
    Ok(())
}

/// The answers to users during a change: when each request was sent, its user, and the side that answered.
#[derive(Default)]
struct Answers {
    sides: Vec<(Instant, String, String)>,
    failures: Vec<String>,
}

/// Requests of known users, until it is stopped.
struct Load {
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(node: &Node, users: &[String]) -> Self {
        let (answers, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (mut browser, mut users) = (node.browser(), users.to_vec());
            let (answers, stop): (Arc<Mutex<Answers>>, _) = (Arc::clone(&answers), Arc::clone(&stop));
            let middle = users.len() * number / CLIENTS;
            users.rotate_left(middle);
            clients.spawn(async move {
                for (number, user) in users.iter().cycle().enumerate() {
                    // A busy connection can stay with the old worker of HAProxy after a reload.
                    if number % PER_CONNECTION == 0 {
                        browser.close();
                    }
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let sent = Instant::now();
                    let side = browser.side("/", user).await;
                    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    match side {
                        Ok(side) => answers.sides.push((sent, user.clone(), side)),
                        Err(error) => answers.failures.push(format!("{error:#}")),
                    }
                }
            });
        }
        Self { answers, stop, clients }
    }

    /// Waits until this many more requests are answered.
    async fn more(&self, count: usize) -> anyhow::Result<()> {
        let answered = || self.answers.lock().unwrap_or_else(PoisonError::into_inner).sides.len();
        let before = answered();
        eventually(SOON * 2, "requests are answered", async || {
            let now = answered();
            ensure!(now >= before + count, "{}", now - before);
            Ok(())
        })
        .await
    }

    /// Ends the requests and returns the answers.
    async fn stop(mut self) -> anyhow::Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.context("a client panicked")?;
        }
        Ok(std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[tokio::test]
async fn users_are_on_the_side_that_whois_computes_on_every_haproxy_and_stay_there() -> anyhow::Result<()> {
    if !supported()? {
        return Ok(());
    }
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let (first, second) = tokio::try_join!(Node::start(&apps, ""), Node::start(&apps, ""))?;
    let _weightds = tokio::try_join!(first.weightd(&consul, "lb-1"), second.weightd(&consul, "lb-2"))?;
    let users = users(USERS);
    let mut before: Option<BTreeMap<String, String>> = None;
    let mut figures = Vec::new();
    for green in SHARES {
        put(&consul, "app", 100 - green, green).await?;
        becomes(&first.haproxy, "app", 100 - green, green).await?;
        becomes(&second.haproxy, "app", 100 - green, green).await?;
        let (one, other) = tokio::try_join!(first.sides("/", &users), second.sides("/", &users))?;
        let what = format!("at {green} %");
        same(&one, &computed(Some(&consul), &["app"], &users).await?, &what)?;
        let weights = format!("blue={},green={green}", 100 - green);
        same(&one, &computed(None, &["app", "--weights", &weights], &users).await?, &what)?;
        same(&one, &other, &format!("{what}, on the second HAProxy"))?;
        if let Some(before) = before {
            let back = before.iter().filter(|(user, side)| *side == "green" && one[*user] != "green").count();
            ensure!(back == 0, "{what}: {back} users went back to blue");
        }
        figures.push(format!("{green} %: {}", on_green(&one)));
        before = Some(one);
    }
    eprintln!("HAProxy {:?}, users on green of {USERS}: {}", version()?, figures.join(", "));
    Ok(())
}

#[tokio::test]
async fn a_rollback_takes_every_user_back_at_once() -> anyhow::Result<()> {
    if !supported()? {
        return Ok(());
    }
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let node = Node::start(&apps, "").await?;
    let _weightd = node.weightd(&consul, "lb-1").await?;
    for words in [&["blue=100", "green=0", "--create"][..], &["blue=50", "green=50"]] {
        let output = consul.weightctl(&[&["set", "app"], words, &["--yes", "--wait"]].concat()).await?;
        ensure!(output.status.success(), "{output:?}");
    }
    let sides = computed(Some(&consul), &["app"], &users(USERS)).await?;
    let chosen: Vec<_> = sides.into_iter().filter(|(_, side)| side == "green").map(|(user, _)| user).collect();
    let load = Load::start(&node, &chosen);
    load.more(500).await?;
    let socket = node.haproxy.socket();
    let observer = tokio::spawn(async move {
        crate::harness::haproxy::until_weights(&socket, "app", &[("blue", 100), ("green", 0)], PATIENCE).await
    });
    let output = consul.weightctl(&["rollback", "app", "--yes", "--wait"]).await?;
    ensure!(output.status.success(), "{output:?}");
    let has_it = observer.await.context("the observer panicked")??;
    load.more(1000).await?;
    let answers = load.stop().await?;
    ensure!(answers.failures.is_empty(), "{:?}", answers.failures);
    let after: Vec<_> = answers.sides.iter().filter(|(sent, ..)| *sent > has_it).collect();
    let old = after.iter().filter(|(_, _, side)| side == "green").count();
    let green = answers.sides.iter().filter(|(_, _, side)| side == "green").count();
    eprintln!(
        "HAProxy {:?}, rollback: {} requests, {green} on green, {old} of {} on green after HAProxy had the weights",
        version()?,
        answers.sides.len(),
        after.len()
    );
    ensure!(old == 0 && green > 0 && after.len() >= 1000, "{old} requests on green of {}", after.len());
    Ok(())
}

#[tokio::test]
async fn a_reload_with_the_state_file_moves_no_user() -> anyhow::Result<()> {
    if !supported()? {
        return Ok(());
    }
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let folder = tempfile::Builder::new().prefix("state-").tempdir()?;
    let file = folder.path().join("server-state");
    let mut node = Node::start(&apps, &config::state_file(&file)).await?;
    let (address, path) = (node.haproxy.address(), file.display().to_string());
    let weightd = Settings::without_haproxy(&consul.address())
        .instance(&[("name", "haproxy"), ("address", &address), ("state_file", &path)])
        .start()
        .await?;
    // haproxy.cfg has blue 100, green 0.
    put(&consul, "app", 75, 25).await?;
    becomes(&node.haproxy, "app", 75, 25).await?;
    until_saved(&file).await?;
    let expected = computed(Some(&consul), &["app"], &users(USERS)).await?;
    let known: Vec<_> = expected.keys().cloned().collect();
    let load = Load::start(&node, &known);
    for _ in 0..5 {
        load.more(200).await?;
        node.haproxy.reload_completely().await?;
        until_saved(&file).await?;
    }
    load.more(200).await?;
    let answers = load.stop().await?;
    let wrong = answers.sides.iter().filter(|(_, user, side)| expected.get(user) != Some(side)).count();
    eprintln!(
        "HAProxy {:?}, 5 reloads with the state file: {wrong} of {} requests on the wrong side, {} failed",
        version()?,
        answers.sides.len(),
        answers.failures.len()
    );
    ensure!(wrong == 0 && answers.failures.is_empty(), "{wrong} wrong, {:?}", answers.failures);
    drop(weightd);
    Ok(())
}

/// Waits until the state file has the weights 75 and 25.
async fn until_saved(file: &Path) -> anyhow::Result<()> {
    eventually(SOON, "the state file has the weights", async || {
        let text = std::fs::read_to_string(file)?;
        let weight = |server: &str| {
            let row = text.lines().find(|line| line.split(' ').nth(3) == Some(server))?;
            row.split(' ').nth(7).map(str::to_owned)
        };
        let weights = (weight("blue"), weight("green"));
        ensure!(weights == (Some("75".to_owned()), Some("25".to_owned())), "{weights:?}");
        Ok(())
    })
    .await
}

/// Longer than it takes HAProxy to notice that a server is down, on a busy machine.
const NOTICED: Duration = Duration::from_secs(20);
