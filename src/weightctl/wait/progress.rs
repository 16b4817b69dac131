//! What `--wait` shows: a bar on a terminal, lines in a pipe, JSON with `-o json`.

use serde::Serialize;
use weightd_core::{fleet::NodeName, model::BackendName};

use crate::weightctl::{
    failure::Failure,
    output::{self, Format},
};

/// The width of the bar's line: one less than 80, because a terminal wraps a full line.
const WIDTH: usize = 79;
/// The width of the bar.
const BAR: usize = 20;

/// The state of a wait. Its JSON is documented at [`super::wait`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Progress {
    pub(super) wait: BackendName,
    pub(super) index: u64,
    pub(super) state: &'static str,
    pub(super) done: u64,
    pub(super) needed: u64,
    pub(super) counted: u64,
    pub(super) unknown: u64,
    pub(super) elapsed_seconds: f64,
    pub(super) nodes: Vec<Laggard>,
    /// Of those that are done, the nodes on which no HAProxy has the backend.
    pub(super) lacks: Vec<NodeName>,
}

/// A node that does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Laggard {
    pub(super) node: NodeName,
    /// A word.
    pub(super) reason: String,
    /// A sentence.
    pub(super) detail: String,
    /// Whether it does not change by itself.
    #[serde(rename = "final")]
    pub(super) is_final: bool,
}

/// The nodes that a line of a pipe names at most.
const MOST_NAMED: usize = 10;

impl Progress {
    /// Every node that does not have it, with its reason.
    pub(super) fn names(&self) -> String {
        self.names_of(usize::MAX)
    }

    fn names_of(&self, most: usize) -> String {
        let nodes = self.nodes.iter().take(most);
        let mut names: Vec<_> = nodes.map(|node| format!("{} ({})", node.node, node.reason)).collect();
        if self.nodes.len() > most {
            names.push(format!("{} more", self.nodes.len() - most));
        }
        if self.unknown > 0 {
            names.push(format!("{} expected but never reported", self.unknown));
        }
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }

    /// The nodes that do not get it by themselves, with their reasons; then the others.
    pub(super) fn final_names(&self) -> String {
        let names = |wanted: bool| {
            let names = self.nodes.iter().filter(|node| node.is_final == wanted);
            names.map(|node| format!("{} ({})", node.node, node.reason)).collect::<Vec<_>>().join(", ")
        };
        let others = names(false);
        if others.is_empty() { names(true) } else { format!("{}; waited for: {others}", names(true)) }
    }

    /// The line of a terminal, at most [`WIDTH`] characters.
    pub(super) fn bar(&self) -> String {
        let filled = usize::try_from((self.done * BAR as u64).checked_div(self.needed).unwrap_or(0)).unwrap_or(BAR);
        let filled = filled.min(BAR);
        let name: String = self.wait.as_str().chars().take(24).collect();
        let mut line =
            format!("{name} [{}{}] {}/{}", "#".repeat(filled), ".".repeat(BAR - filled), self.done, self.needed);
        for (position, node) in self.nodes.iter().enumerate() {
            let more = self.nodes.len() - position;
            let item = format!("{}{} {}", if position == 0 { "  " } else { ", " }, node.node, node.reason);
            // Room for the number of those that are not named.
            let reserve = if more > 1 { format!(", +{more}").len() } else { 0 };
            if line.chars().count() + item.chars().count() + reserve > WIDTH {
                let rest = if position == 0 { format!("  {more} waited for") } else { format!(", +{more}") };
                line.push_str(&rest);
                break;
            }
            line.push_str(&item);
        }
        line.chars().take(WIDTH).collect()
    }

    /// How many nodes have `what`, of those that count, and how many have nothing to do, because no HAProxy there has it.
    pub(super) fn have(&self, what: &str) -> String {
        let lacks = self.lacks.len() as u64;
        let have = format!("{} of {} nodes have {what}", self.done.saturating_sub(lacks), self.counted);
        match lacks {
            0 => have,
            1 => format!("{have}, 1 lacks it"),
            lacks => format!("{have}, {lacks} lack it"),
        }
    }

    /// The line of a pipe.
    pub(super) fn line(&self) -> String {
        let what = if self.state == "done" { "done" } else { "waiting" };
        let mut line = format!("{what}: {}", self.have(self.wait.as_str()));
        if !self.nodes.is_empty() || self.unknown > 0 {
            line.push_str("; not: ");
            // A line for each change must not be a page; the last one has all names.
            line.push_str(&self.names_of(if what == "done" { usize::MAX } else { MOST_NAMED }));
        }
        line
    }

    /// Whether the other shows something else than the time.
    fn differs(&self, other: &Self) -> bool {
        Self { elapsed_seconds: 0.0, ..self.clone() } != Self { elapsed_seconds: 0.0, ..other.clone() }
    }
}

/// Where the progress is shown.
#[derive(Debug)]
pub(super) struct Screen {
    format: Format,
    terminal: bool,
    shown: Option<Progress>,
    note: Option<String>,
    /// The number of characters on the line that is redrawn.
    drawn: usize,
}

impl Screen {
    /// The terminal of stderr, if it is one.
    pub(super) fn new(format: Format) -> Self {
        Self { format, terminal: output::is_terminal(), shown: None, note: None, drawn: 0 }
    }

    /// Shows the progress if it changed.
    pub(super) fn show(&mut self, progress: &Progress) -> Result<(), Failure> {
        if self.shown.as_ref().is_some_and(|shown| !shown.differs(progress)) && self.note.is_none() {
            return Ok(());
        }
        self.note = None;
        if self.terminal {
            self.draw(&progress.bar());
        } else if self.format == Format::Table {
            output::message(&progress.line());
        }
        self.format.json_line(progress)?;
        self.shown = Some(progress.clone());
        Ok(())
    }

    /// Shows something else in place of the progress.
    pub(super) fn note(&mut self, text: &str) {
        if self.note.as_deref() == Some(text) {
            return;
        }
        self.note = Some(text.to_owned());
        if self.terminal { self.draw(text) } else { output::message(text) }
    }

    /// Shows the end.
    pub(super) fn end(&mut self, progress: &Progress) -> Result<(), Failure> {
        self.clear();
        if progress.state == "done" {
            output::message(&format!("{}, after {:.1} s", progress.line(), progress.elapsed_seconds));
        }
        self.format.json_line(progress)
    }

    /// Removes the line that is redrawn.
    pub(super) fn clear(&mut self) {
        if self.drawn > 0 {
            self.draw("");
            output::redraw("");
            self.drawn = 0;
        }
    }

    fn draw(&mut self, text: &str) {
        let width = text.chars().count();
        // Blanks over the rest of the previous line: they need no terminal that knows escape sequences.
        output::redraw(&format!("{text}{}", " ".repeat(self.drawn.saturating_sub(width))));
        self.drawn = width;
    }
}
