//! The status of a node as text for people. Pure.

use std::fmt::Write as _;

use weightd_core::{
    model::Escaped,
    reasons::Reason,
    share::Percent,
    wire::status::{
        BackendState, BackendStatus, ConsulStatus, HaproxyStatus, InstanceStatus, LinkState, PauseStatus, ProcessState,
        ServerStatus, Status,
    },
};

use crate::weightctl::table::{Align, Cell, Table, Tone};

/// The report shows the age of observations that are older than this, in seconds.
const OLD: f64 = 2.0;
/// Indentation of the lines below a part.
const INDENT: &str = "           ";

/// The status as text, with tables of at most this many columns.
pub(super) fn text(status: &Status, columns: Option<usize>) -> String {
    let Status { version, node, mode, uptime_seconds, problems, instances, .. } = status;
    let mut text = format!("weightd {} on {}", Escaped(version), Escaped(node));
    if !mode.is_empty() {
        let _ = write!(text, ", mode {}", Escaped(mode));
    }
    let _ = writeln!(text, ", up {}", span(*uptime_seconds));
    for problem in problems {
        text.push_str(&reason_lines("  ", "", Some(&problem.reason), Some(&problem.detail), Some(&problem.remedy)));
    }
    for instance in instances {
        text.push('\n');
        text.push_str(&of_instance(instance, columns));
    }
    text
}

fn of_instance(instance: &InstanceStatus, columns: Option<usize>) -> String {
    let InstanceStatus { name, address, root, converged, paused, consul, haproxy, backends, .. } = instance;
    let (word, tone) = match (converged, consul.state) {
        (true, LinkState::Following) => ("converged", Tone::Good),
        // Consul's current content is unknown.
        (true, _) => ("converged with Consul's last answer", Tone::Warn),
        (false, _) => ("not converged", Tone::Warn),
    };
    let mut text = format!(
        "{} {}, root {}: {}\n",
        Tone::Strong.paint(&Escaped(name).to_string()),
        Escaped(address),
        Escaped(root),
        tone.paint(word)
    );
    text.push_str(&of_consul(consul));
    text.push_str(&of_haproxy(haproxy));
    text.extend(paused.as_ref().map(of_pause));
    if !backends.is_empty() {
        text.push('\n');
        text.push_str(&table(backends, columns));
    }
    let below = [reasons(instance), plans(backends), strays(instance)].concat();
    if !below.is_empty() {
        text.push('\n');
        text.push_str(&below);
    }
    text
}

/// The reasons of the backends. Backends with the same reason share a line. Omits `paused` if all backends are paused:
/// the line about weightd reports it.
fn reasons(instance: &InstanceStatus) -> String {
    let mut reasons: Vec<(&Reason, Vec<&str>)> = Vec::new();
    for backend in &instance.backends {
        for reason in &backend.reasons {
            if instance.paused.is_some() && reason.reason == "paused" {
                continue;
            }
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(name(backend)),
                None => reasons.push((reason, vec![name(backend)])),
            }
        }
    }
    let line = |(reason, names): &(&Reason, Vec<&str>)| {
        reason_lines("  ", &first_few(names), Some(&reason.reason), Some(&reason.detail), Some(&reason.remedy))
    };
    reasons.iter().map(line).collect()
}

/// The commands that a node in mode observe would send.
fn plans(backends: &[BackendStatus]) -> String {
    let plan = |backend: &BackendStatus| {
        let would = backend.would.as_ref()?;
        Some(format!("  {}: would send: {}\n", name(backend), Escaped(would)))
    };
    backends.iter().filter_map(plan).collect()
}

fn strays(instance: &InstanceStatus) -> String {
    let mut text = String::new();
    for stray in &instance.stray {
        let subject = format!("key {}", Escaped(&stray.key));
        text.push_str(&reason_lines("  ", &subject, Some(&stray.reason), None, Some(&stray.remedy)));
    }
    if let Some(more @ 1..) = instance.stray_total.checked_sub(instance.stray.len()) {
        let _ = writeln!(text, "  {more} more such keys");
    }
    text
}

fn of_pause(paused: &PauseStatus) -> String {
    let mut facts = vec![format!("for {}", span(paused.for_seconds))];
    facts.extend(paused.by.as_ref().map(|by| format!("by {}", Escaped(by))));
    facts.extend(paused.reason.as_ref().map(|reason| Escaped(reason).to_string()));
    let remedy = "weightd sets no weight until then; to resume now: `weightctl resume --local`";
    part("weightd", "paused", Tone::Warn, &facts) + &reason_lines(INDENT, "", None, None, Some(remedy))
}

fn of_consul(consul: &ConsulStatus) -> String {
    let mut facts = vec![Escaped(&consul.address).to_string()];
    if consul.last_read_age_seconds.is_some() {
        facts.push(format!("index {}", consul.index));
    }
    facts.extend(consul.last_read_age_seconds.map(|age| format!("last answer {} ago", span(age))));
    facts.extend(consul.held_seconds.map(|age| format!("held for {}", span(age))));
    facts.extend(consul.empty.then(|| "no keys".to_owned()));
    facts.extend(consul.filtered.then(|| "keys hidden by ACLs".to_owned()));
    facts.extend(consul.split.then(|| "too large for one answer".to_owned()));
    let (word, tone) = match consul.state {
        LinkState::Following => ("following", Tone::Good),
        LinkState::Starting => ("starting", Tone::Warn),
        LinkState::Held => ("held", Tone::Warn),
        LinkState::Unknown => ("unknown", Tone::Warn),
    };
    let (reason, detail) = (consul.reason.as_deref(), consul.detail.as_deref());
    part("Consul ", word, tone, &facts) + &reason_lines(INDENT, "", reason, detail, consul.remedy.as_deref())
}

fn of_haproxy(haproxy: &HaproxyStatus) -> String {
    let mut facts = Vec::new();
    facts.extend(haproxy.version.as_ref().map(|version| format!("version {}", Escaped(version))));
    facts.extend(haproxy.pid.map(|pid| format!("pid {pid}")));
    facts.extend(haproxy.down_seconds.map(|age| format!("down for {}", span(age))));
    let (word, tone) = match haproxy.state {
        ProcessState::Up => ("up", Tone::Good),
        ProcessState::Starting => ("starting", Tone::Warn),
        ProcessState::Down => ("down", Tone::Bad),
        ProcessState::Unknown => ("unknown", Tone::Warn),
    };
    let (reason, detail) = (haproxy.reason.as_deref(), haproxy.detail.as_deref());
    part("HAProxy", word, tone, &facts) + &reason_lines(INDENT, "", reason, detail, haproxy.remedy.as_deref())
}

fn name(backend: &BackendStatus) -> &str {
    backend.backend.as_ref().map_or("?", |name| name.as_str())
}

/// The state of a backend, and details: orphaned, end of the pause and of the override, drift, old observation.
fn state(backend: &BackendStatus) -> String {
    let mut text = backend.state.as_str().to_owned();
    if backend.orphaned && backend.state != BackendState::Orphaned {
        text.push_str(", orphaned");
    }
    if let Some(split) = backend.desired.as_ref().and_then(|desired| desired.split.as_ref()) {
        let shares = split.shares().iter().map(|(pattern, share)| format!(" {pattern}={}", Percent(share.percent())));
        let _ = write!(text, ", split{}", shares.collect::<String>());
    }
    if let Some(paused) = &backend.paused {
        let _ = write!(text, ", {} left", span(paused.for_seconds));
    }
    match &backend.overridden {
        None => {}
        Some(over) if over.expired => text.push_str(", override expired"),
        Some(over) => {
            let _ = write!(text, ", override alarms in {}", span(over.for_seconds));
        }
    }
    match backend.drift_corrections {
        0 => {}
        1 => text.push_str(", drift corrected once"),
        times => {
            let _ = write!(text, ", drift corrected {times} times");
        }
    }
    let present = backend.state != BackendState::Unmatched;
    if let Some(age) = backend.observed_age_seconds.filter(|age| *age > OLD && present) {
        let _ = write!(text, ", read {} ago", span(age));
    }
    text
}

/// The line about one part: weightd, Consul or HAProxy.
fn part(name: &str, state: &str, tone: Tone, facts: &[String]) -> String {
    let width = if facts.is_empty() { 0 } else { "following".len() + 2 };
    let padding = width.saturating_sub(state.chars().count());
    format!("  {name}  {}{:padding$}{}\n", tone.paint(state), "", facts.join(", "))
}

/// The first names, and the number of the others.
fn first_few(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// A line with subject, reason and detail, and a line with the remedy. Omits what is missing.
fn reason_lines(
    indent: &str,
    subject: &str,
    reason: Option<&str>,
    detail: Option<&str>,
    remedy: Option<&str>,
) -> String {
    let words = [subject, reason.unwrap_or_default(), detail.unwrap_or_default()];
    let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).map(|word| Escaped(word).to_string()).collect();
    let mut text = String::new();
    if reason.or(detail).is_some() {
        let _ = writeln!(text, "{indent}{}", words.join(": "));
    }
    if let Some(remedy) = remedy.filter(|remedy| !remedy.is_empty()) {
        let _ = writeln!(text, "{indent}  {} {}", Tone::Strong.paint("hint:"), Escaped(remedy));
    }
    text
}

fn table(backends: &[BackendStatus], columns: Option<usize>) -> String {
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("SERVER", Align::Left),
        ("DESIRED", Align::Right),
        ("ACCEPTED", Align::Right),
        ("OBSERVED", Align::Right),
        ("SHARE", Align::Right),
        ("STATE", Align::Left),
    ]);
    let number = |weight: Option<weightd_core::model::Weight>| weight.map_or_else(|| "-".to_owned(), |w| w.to_string());
    for backend in backends {
        let mut state = Cell::new(state(backend), tone(backend.state));
        if backend.servers.is_empty() {
            table.row([name(backend).into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into(), state]);
            continue;
        }
        for server in &backend.servers {
            // Only the first line of a backend shows its state.
            let mut state = std::mem::take(&mut state);
            if server.observed.is_some() && !server.usable {
                state.append("server not usable", Tone::Warn);
            } else if server.backup {
                state.append("backup server", Tone::Faint);
            }
            let off = server.accepted.is_some() && server.observed != server.accepted;
            table.row([
                name(backend).into(),
                server.server.as_ref().map_or("?", |name| name.as_str()).into(),
                number(server.desired).into(),
                number(server.accepted).into(),
                Cell::new(number(server.observed), if off { Tone::Warn } else { Tone::Plain }),
                share(server, backend.shares_exact).into(),
                state,
            ]);
        }
    }
    table.render_within("  ", columns)
}

/// The share of a server, in percent. `~` marks a share that differs from the weights; a reason below explains it.
fn share(server: &ServerStatus, exact: bool) -> String {
    match (server.share, server.observed) {
        (Some(percent), _) => format!("{}{}", if exact { "" } else { "~" }, Percent(percent)),
        (None, Some(_)) => "0%".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

/// The colour of a state.
fn tone(state: BackendState) -> Tone {
    match state {
        BackendState::Converged => Tone::Good,
        BackendState::Released => Tone::Faint,
        BackendState::Unsupported | BackendState::Rejected | BackendState::NoUsableServer => Tone::Bad,
        BackendState::Pending
        | BackendState::Paused
        | BackendState::Overridden
        | BackendState::Guarded
        | BackendState::Orphaned
        | BackendState::Unmatched
        | BackendState::Contended
        | BackendState::Unknown => Tone::Warn,
    }
}

/// A duration of `seconds` in at most two units; `?` if negative or not a number.
fn span(seconds: f64) -> String {
    if !(0.0..1e15).contains(&seconds) {
        return "?".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let s = seconds as u64;
    match s {
        0 => "less than 1 s".to_owned(),
        1..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests;
