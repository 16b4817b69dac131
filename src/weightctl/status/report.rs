use std::fmt::{self, Write as _};

use serde::Deserialize;
use weightd_core::model::Escaped;

use crate::weightctl::table::{Align, Cell, Table, Tone};

/// What weightd says at `/v1/status`, as far as the table shows it. Read leniently, so that weightctl and
/// weightd need not be of the same version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::weightctl) struct Report {
    pub(in crate::weightctl) version: String,
    node: String,
    pub(in crate::weightctl) mode: String,
    uptime_seconds: f64,
    pub(in crate::weightctl) instances: Vec<Instance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::weightctl) struct Instance {
    pub(in crate::weightctl) name: String,
    address: String,
    pub(in crate::weightctl) root: String,
    pub(in crate::weightctl) converged: bool,
    paused: Option<Paused>,
    pub(in crate::weightctl) consul: Consul,
    pub(in crate::weightctl) haproxy: Haproxy,
    backends: Vec<Backend>,
    stray: Vec<Stray>,
    stray_total: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Paused {
    for_seconds: f64,
    reason: Option<String>,
    by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::weightctl) struct Consul {
    address: String,
    pub(in crate::weightctl) state: String,
    reason: Option<String>,
    pub(in crate::weightctl) detail: Option<String>,
    pub(in crate::weightctl) remedy: Option<String>,
    held_seconds: Option<f64>,
    index: Option<u64>,
    last_read_age_seconds: Option<f64>,
    pub(in crate::weightctl) empty: Option<bool>,
    filtered: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::weightctl) struct Haproxy {
    pub(in crate::weightctl) state: String,
    reason: Option<String>,
    pub(in crate::weightctl) detail: Option<String>,
    pub(in crate::weightctl) remedy: Option<String>,
    version: Option<String>,
    pid: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Backend {
    #[serde(rename = "backend")]
    name: String,
    state: String,
    reasons: Vec<Why>,
    paused: Option<Paused>,
    orphaned: bool,
    would: Option<String>,
    servers: Vec<Server>,
    observed_age_seconds: Option<f64>,
    drift_corrections: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Why {
    reason: Option<String>,
    detail: Option<String>,
    remedy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    #[serde(rename = "server")]
    name: String,
    desired: Option<u64>,
    accepted: Option<u64>,
    observed: Option<u64>,
    usable: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stray {
    key: String,
    reason: Option<String>,
    remedy: Option<String>,
}

impl Report {
    /// Whether every HAProxy of this weightd has what it should have. Without any there is nothing that is so.
    pub(super) fn converged(&self) -> bool {
        !self.instances.is_empty() && self.instances.iter().all(|instance| instance.converged)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, node, mode, uptime_seconds, instances } = self;
        write!(f, "weightd {} on {}", Escaped(version), Escaped(node))?;
        if !mode.is_empty() {
            write!(f, ", mode {}", Escaped(mode))?;
        }
        writeln!(f, ", up {}", span(*uptime_seconds))?;
        instances.iter().try_for_each(|instance| write!(f, "\n{instance}"))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, tone) = if self.converged { ("converged", Tone::Good) } else { ("not converged", Tone::Warn) };
        writeln!(
            f,
            "{} {}, root {}: {}",
            Tone::Strong.paint(&Escaped(&self.name).to_string()),
            Escaped(&self.address),
            Escaped(&self.root),
            tone.paint(word)
        )?;
        write!(f, "{}{}", self.consul, self.haproxy)?;
        if let Some(paused) = &self.paused {
            write!(f, "{paused}")?;
        }
        if !self.backends.is_empty() {
            write!(f, "\n{}", table(&self.backends))?;
        }
        let reasons = [self.reasons(), self.plans(), self.strays()].concat();
        if !reasons.is_empty() {
            write!(f, "\n{reasons}")?;
        }
        Ok(())
    }
}

impl Instance {
    /// Why backends are as they are; once for all that have it in common. That all are paused was said already.
    fn reasons(&self) -> String {
        let mut reasons: Vec<(&Why, Vec<&str>)> = Vec::new();
        for backend in &self.backends {
            for why in &backend.reasons {
                if self.paused.is_some() && why.reason.as_deref() == Some("paused") {
                    continue;
                }
                match reasons.iter_mut().find(|(other, _)| *other == why) {
                    Some((_, names)) => names.push(&backend.name),
                    None => reasons.push((why, vec![&backend.name])),
                }
            }
        }
        let line = |(why, names): &(&Why, Vec<&str>)| {
            because("  ", &first_few(names), why.reason.as_deref(), why.detail.as_deref(), why.remedy.as_deref())
        };
        reasons.iter().map(line).collect()
    }

    /// What a node that only observes would do.
    fn plans(&self) -> String {
        let plan = |backend: &Backend| {
            let would = backend.would.as_ref()?;
            Some(format!("  {}: would send: {}\n", Escaped(&backend.name), Escaped(would)))
        };
        self.backends.iter().filter_map(plan).collect()
    }

    fn strays(&self) -> String {
        let mut text = String::new();
        for Stray { key, reason, remedy } in &self.stray {
            text.push_str(&because("  ", &format!("key {}", Escaped(key)), reason.as_deref(), None, remedy.as_deref()));
        }
        let listed = u64::try_from(self.stray.len()).unwrap_or(u64::MAX);
        if self.stray_total > listed {
            let _ = writeln!(text, "  {} more such keys", self.stray_total - listed);
        }
        text
    }
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = vec![format!("for {}", span(self.for_seconds))];
        facts.extend(self.by.as_ref().map(|by| format!("by {}", Escaped(by))));
        facts.extend(self.reason.as_ref().map(|reason| Escaped(reason).to_string()));
        f.write_str(&part("weightd", "paused", &facts))?;
        f.write_str(&because(
            "           ",
            "",
            None,
            None,
            Some("nothing is set until that is over; go on with `weightctl resume --local`"),
        ))
    }
}

impl fmt::Display for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = vec![Escaped(&self.address).to_string()];
        facts.extend(self.index.map(|index| format!("index {index}")));
        facts.extend(self.last_read_age_seconds.map(|age| format!("read {} ago", span(age))));
        facts.extend(self.held_seconds.map(|age| format!("held for {}", span(age))));
        facts.extend(self.empty.unwrap_or_default().then(|| "no keys".to_owned()));
        facts.extend(self.filtered.unwrap_or_default().then(|| "keys hidden by ACLs".to_owned()));
        f.write_str(&part("Consul ", &self.state, &facts))?;
        f.write_str(&because("           ", "", self.reason.as_deref(), self.detail.as_deref(), self.remedy.as_deref()))
    }
}

impl fmt::Display for Haproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Vec::new();
        facts.extend(self.version.as_ref().map(|version| format!("version {}", Escaped(version))));
        facts.extend(self.pid.map(|pid| format!("pid {pid}")));
        f.write_str(&part("HAProxy", &self.state, &facts))?;
        f.write_str(&because("           ", "", self.reason.as_deref(), self.detail.as_deref(), self.remedy.as_deref()))
    }
}

impl Backend {
    /// The state's word, and what has to be said beside it.
    fn state(&self) -> String {
        let mut text = Escaped(&self.state).to_string();
        if self.orphaned && self.state != "orphaned" {
            text.push_str(", orphaned");
        }
        if let Some(paused) = &self.paused {
            let _ = write!(text, ", {} left", span(paused.for_seconds));
        }
        match self.drift_corrections {
            0 => {}
            1 => text.push_str(", drift corrected once"),
            times => {
                let _ = write!(text, ", drift corrected {times} times");
            }
        }
        if let Some(age) = self.observed_age_seconds.filter(|age| *age >= 60.0) {
            let _ = write!(text, ", seen {} ago", span(age));
        }
        text
    }
}

/// A line about one side.
fn part(name: &str, state: &str, facts: &[String]) -> String {
    let state = if state.is_empty() { "unknown" } else { state };
    let width = if facts.is_empty() { 0 } else { "following".len() + 2 };
    let shown = Escaped(state).to_string();
    let padding = width.saturating_sub(shown.chars().count());
    format!("  {name}  {}{:padding$}{}\n", tone(state).paint(&shown), "", facts.join(", "))
}

/// The first few names, and how many more there are.
fn first_few(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// A reason, and its remedy on the line below; nothing if there is none.
fn because(indent: &str, subject: &str, reason: Option<&str>, detail: Option<&str>, remedy: Option<&str>) -> String {
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

fn table(backends: &[Backend]) -> String {
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("SERVER", Align::Left),
        ("DESIRED", Align::Right),
        ("ACCEPTED", Align::Right),
        ("OBSERVED", Align::Right),
        ("STATE", Align::Left),
    ]);
    let number = |weight: Option<u64>| weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string());
    for backend in backends {
        let name = Escaped(&backend.name).to_string();
        let mut state = Cell::new(backend.state(), tone(&backend.state));
        if backend.servers.is_empty() {
            table.row([name.into(), "-".into(), "-".into(), "-".into(), "-".into(), state]);
            continue;
        }
        for server in &backend.servers {
            // The state is the backend's: it is said once.
            let mut state = std::mem::take(&mut state);
            if server.usable == Some(false) && server.observed.is_some() {
                state.append("server not usable", Tone::Warn);
            }
            let off = server.accepted.is_some() && server.observed != server.accepted;
            table.row([
                name.clone().into(),
                Escaped(&server.name).to_string().into(),
                number(server.desired).into(),
                number(server.accepted).into(),
                Cell::new(number(server.observed), if off { Tone::Warn } else { Tone::Plain }),
                state,
            ]);
        }
    }
    table.render("  ")
}

/// How good a state is. A word that is not known is shown as it is.
fn tone(state: &str) -> Tone {
    match state {
        "converged" | "following" | "up" => Tone::Good,
        "released" => Tone::Faint,
        "down" | "unsupported" | "rejected" => Tone::Bad,
        _ => Tone::Warn,
    }
}

/// A span of time, as people say it: two units at most.
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
