//! Who looks at HAProxy for the measurement: neither weightd nor the floor.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::Pid;
use tokio::time::Instant;

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// After this a change counts as lost. HAProxy alone takes seconds to give 10,000 servers of a consistent hash a weight far
/// from the one before.
pub const LOST_AFTER: Duration = Duration::from_secs(20);
/// How many backends one exchange looks at when all of them are waited for.
const BATCH: usize = 20;
/// Between two looks at many backends, each of which costs HAProxy some time.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two looks at one backend. The kernel makes about 100 µs of it, so that a time is about as much too long at
/// most, on all sides alike. Without a pause HAProxy would be busy with the looks, and on a machine with few cores it
/// takes the CPU from whoever is measured: the longer that computes, the more it would lose by being observed.
const SHORT_PAUSE: Duration = Duration::from_micros(50);

/// The weights of all servers, by backend.
pub type Weights = BTreeMap<String, BTreeMap<String, u32>>;

/// Sends one line on a connection of its own and reads the whole answer.
pub fn exchange(socket: &Path, line: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).context("cannot connect to HAProxy")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::with_capacity(4096);
    stream.read_to_string(&mut answer).context("no answer of HAProxy")?;
    Ok(answer)
}

/// Reads the rows of `show servers state` in an answer; a frame that says anything else is an error.
pub fn rows(answer: &str, mut row: impl FnMut(&str, &str, u32)) -> anyhow::Result<()> {
    const HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight ";
    for line in answer.lines().filter(|line| !line.is_empty() && *line != "1") {
        if line.starts_with('#') {
            if !line.starts_with(HEADER) {
                bail!("columns of another order: {line:?}");
            }
            continue;
        }
        let mut columns = line.split(' ');
        let (backend, server) = (columns.nth(1), columns.nth(1));
        let weight = columns.nth(3).and_then(|weight| weight.parse().ok());
        match (backend, server, weight) {
            (Some(backend), Some(server), Some(weight)) => row(backend, server, weight),
            _ => bail!("HAProxy answered {line:?}"),
        }
    }
    Ok(())
}

/// The weights of these backends.
pub fn weights<'a>(socket: &Path, backends: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Weights> {
    parse(&exchange(socket, &look(backends))?)
}

/// The weights of these backends in another process than `before`; none if that answers.
fn weights_after<'a>(
    socket: &Path,
    backends: impl IntoIterator<Item = &'a str>,
    before: Pid,
) -> anyhow::Result<Weights> {
    let answer = exchange(socket, &format!("show info;{}", look(backends)))?;
    let (info, answer) = answer.split_once("\n\n").context("no end of what HAProxy says about itself")?;
    let before = format!("Pid: {}", before.as_raw_nonzero());
    if info.lines().any(|line| line == before) { Ok(Weights::new()) } else { parse(answer) }
}

fn look<'a>(backends: impl IntoIterator<Item = &'a str>) -> String {
    let commands = backends.into_iter().map(|backend| format!("show servers state {backend}"));
    commands.collect::<Vec<_>>().join(";")
}

fn parse(answer: &str) -> anyhow::Result<Weights> {
    let mut weights = Weights::new();
    rows(answer, |backend, server, weight| {
        weights.entry(backend.to_owned()).or_default().insert(server.to_owned(), weight);
    })?;
    Ok(weights)
}

/// Waits until HAProxy has these weights, and tells when that was seen; none if it was not within `within`. What was
/// once right is looked at once: the caller looks at all of them at the end. `sparing` leaves HAProxy some time between
/// two looks.
pub fn until(socket: &Path, expected: &Weights, within: Duration, sparing: bool) -> anyhow::Result<Option<Instant>> {
    until_seen(expected, within, sparing, |backends| weights(socket, backends.iter().copied()))
}

/// The same after a reload: what the process `before` it answers does not count.
pub fn until_after(
    socket: &Path,
    expected: &Weights,
    within: Duration,
    before: Pid,
) -> anyhow::Result<Option<Instant>> {
    until_seen(expected, within, true, |backends| weights_after(socket, backends.iter().copied(), before))
}

fn until_seen(
    expected: &Weights,
    within: Duration,
    sparing: bool,
    weights: impl Fn(&[&str]) -> anyhow::Result<Weights>,
) -> anyhow::Result<Option<Instant>> {
    let deadline = Instant::now() + within;
    let mut open = expected.iter().collect::<Vec<_>>();
    let mut at = Instant::now();
    while !open.is_empty() {
        let batch = &open[..open.len().min(BATCH)];
        let seen = weights(&batch.iter().map(|(backend, _)| backend.as_str()).collect::<Vec<_>>())?;
        at = Instant::now();
        let right = batch.iter().take_while(|(backend, weights)| seen.get(*backend) == Some(*weights)).count();
        open.drain(..right);
        if at > deadline {
            return Ok(None);
        }
        if right == 0 {
            thread::sleep(if sparing { PAUSE } else { SHORT_PAUSE });
        }
    }
    Ok(Some(at))
}

/// What differs from what is expected, as text; empty if nothing does.
pub fn differences(socket: &Path, expected: &Weights) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for batch in expected.iter().collect::<Vec<_>>().chunks(BATCH) {
        let seen = weights(socket, batch.iter().map(|(backend, _)| backend.as_str()))?;
        for (backend, weights) in batch {
            if seen.get(*backend) != Some(*weights) {
                wrong.push(format!("{backend} has {:?} and not {weights:?}", seen.get(*backend)));
            }
        }
    }
    Ok(wrong)
}

struct Order {
    socket: PathBuf,
    expected: Weights,
}

enum Report {
    Looking,
    End(anyhow::Result<Option<Instant>>),
}

/// A thread that looks for as long as it has an order, with as short a pause as disturbs nobody.
#[derive(Debug)]
pub struct Observer {
    orders: SyncSender<Order>,
    reports: Receiver<Report>,
}

impl Observer {
    /// Starts the thread, which ends with its owner.
    pub fn start() -> Self {
        let (orders, inbox) = sync_channel::<Order>(1);
        let (outbox, reports) = sync_channel(2);
        thread::spawn(move || {
            for Order { socket, expected } in inbox {
                // The first exchange pays for what is cold.
                let _ = exchange(&socket, "show info");
                if outbox.send(Report::Looking).is_err() {
                    return;
                }
                if outbox.send(Report::End(until(&socket, &expected, LOST_AFTER, expected.len() > 1))).is_err() {
                    return;
                }
            }
        });
        Self { orders, reports }
    }

    /// Looks at `socket` while `act` runs and after it, until the weights are there. Returns how long that took from
    /// just before `act`; none if they were not seen within [`LOST_AFTER`].
    pub fn time(
        &self,
        socket: &Path,
        expected: Weights,
        act: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<Duration>> {
        self.orders.send(Order { socket: socket.to_owned(), expected }).ok().context("the observer has ended")?;
        if !matches!(self.reports.recv()?, Report::Looking) {
            bail!("the observer ended before it began");
        }
        let from = Instant::now();
        act()?;
        match self.reports.recv()? {
            Report::End(seen) => Ok(seen?.map(|at| at - from)),
            Report::Looking => bail!("the observer began twice"),
        }
    }
}
