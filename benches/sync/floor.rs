//! The floor: the least that a program with weightd's duty could do, as a process of its own.
//!
//! A blocking query on a kept connection; decoding what changed; where a backend's weights are not known yet, one look
//! at them; one exchange that sets what differs and reads it back; one line of a log. No guards, no second stage, no
//! retries, no status, no state on disk: what weightd takes longer than this is the price of those.
//!
//! A second floor looks at which process answers and at the backend before each change, as whoever decides on what is
//! there has to: weightd does where a server goes to 0.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry as Slot},
    fmt::Write as _,
    io::{Write as _, stdout},
    path::Path,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use crate::{harness::program::Program, http::Http, observer};

/// The most bytes of a line, as for weightd.
const MAX_LINE: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    key: &'a str,
    value: Option<&'a str>,
    modify_index: u64,
}

#[derive(Deserialize)]
struct Document {
    weights: BTreeMap<String, u32>,
}

/// What the process knows.
struct Floor<'a> {
    socket: &'a Path,
    seen: HashMap<String, u64>,
    known: HashMap<String, BTreeMap<String, u32>>,
    looks: bool,
}

/// The floor as a program: this one, told to be it.
pub fn program(looks: bool, dir: &Path, consul: &str, prefix: &str, socket: &Path) -> anyhow::Result<Program> {
    let own = std::env::current_exe().context("where this program lies")?;
    let mode = if looks { "--floor-that-looks" } else { "--floor" };
    Ok(Program::new("floor", own, dir).args([mode, consul, prefix]).args([socket]))
}

/// Follows `prefix` until it is killed.
pub fn run(consul: &str, prefix: &str, socket: &Path, looks: bool) -> anyhow::Result<()> {
    let mut http = Http::connect(consul)?;
    let mut floor = Floor { socket, seen: HashMap::new(), known: HashMap::new(), looks };
    let mut path = format!("/v1/kv/{prefix}?recurse");
    loop {
        let answer = http.get(&path)?;
        path = format!("/v1/kv/{prefix}?recurse&index={}&wait=55s", answer.index);
        match answer.status {
            200 => floor.follow(&answer.body, prefix)?,
            status => ensure!(status == 404, "Consul answered {status}"),
        }
    }
}

impl Floor<'_> {
    fn follow(&mut self, body: &[u8], prefix: &str) -> anyhow::Result<()> {
        let entries: Vec<Entry<'_>> = serde_json::from_slice(body).context("not the KV store's JSON")?;
        let mut changed = Vec::new();
        for entry in entries {
            match self.seen.entry(entry.key.to_owned()) {
                Slot::Occupied(seen) if *seen.get() == entry.modify_index => continue,
                Slot::Occupied(mut seen) => drop(seen.insert(entry.modify_index)),
                Slot::Vacant(slot) => drop(slot.insert(entry.modify_index)),
            }
            let value = BASE64.decode(entry.value.unwrap_or_default())?;
            let document: Document = serde_json::from_slice(&value).context("not a document")?;
            let backend = entry.key.strip_prefix(prefix).context("a key outside the prefix")?;
            changed.push((backend.to_owned(), document.weights));
        }
        if changed.is_empty() {
            return Ok(());
        }
        let unknown = changed.iter().filter(|(backend, _)| self.looks || !self.known.contains_key(backend));
        let unknown = unknown.map(|(backend, _)| format!("show servers state {backend}"));
        let process = self.looks.then(|| "show info".to_owned());
        let looks = process.into_iter().chain(unknown).collect();
        self.talk(looks)?;
        let mut commands = Vec::new();
        for (backend, weights) in &changed {
            let mut command = String::new();
            for (server, weight) in weights {
                if self.known.get(backend).and_then(|known| known.get(server)) != Some(weight) {
                    write!(command, "set server {backend}/{server} weight {weight};")?;
                }
            }
            if !command.is_empty() {
                write!(command, "show servers state {backend}")?;
                commands.push(command);
            }
        }
        self.talk(commands)?;
        for (backend, weights) in &changed {
            let known = self.known.get(backend).context("a backend that HAProxy has not")?;
            let right = weights.iter().all(|(server, weight)| known.get(server) == Some(weight));
            ensure!(right, "{backend} is not as it was set: {known:?}");
        }
        Self::tell()
    }

    /// Says that it is done: a line, as weightd logs one.
    fn tell() -> anyhow::Result<()> {
        writeln!(stdout(), "{} set", jiff::Timestamp::now()).context("nobody listens")
    }

    /// Sends commands, as many on a line as fit, and takes note of the weights that come back.
    fn talk(&mut self, commands: Vec<String>) -> anyhow::Result<()> {
        let mut line = String::new();
        for command in commands {
            if !line.is_empty() && line.len() + command.len() + 2 > MAX_LINE {
                self.exchange(&std::mem::take(&mut line))?;
            }
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&command);
        }
        if line.is_empty() { Ok(()) } else { self.exchange(&line) }
    }

    fn exchange(&mut self, line: &str) -> anyhow::Result<()> {
        let answer = observer::exchange(self.socket, line)?;
        let answer = match line.strip_prefix("show info;") {
            Some(_) => answer.split_once("\n\n").context("no end of what HAProxy says about itself")?.1,
            None => &answer,
        };
        observer::rows(answer, |backend, server, weight| {
            if !self.known.contains_key(backend) {
                self.known.insert(backend.to_owned(), BTreeMap::new());
            }
            if let Some(known) = self.known.get_mut(backend) {
                match known.get_mut(server) {
                    Some(slot) => *slot = weight,
                    None => drop(known.insert(server.to_owned(), weight)),
                }
            }
        })
    }
}
