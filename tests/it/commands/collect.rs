//! Finds the commands: in the blocks and in the text of the pages, in the help, and in the hints and errors of the source.

use std::{collections::BTreeSet, process::Command};

use anyhow::Context as _;

use crate::{harness::program, layering::sources, pages::Page};

/// What a command begins with, after `sudo`. A span of code that begins with another word is no command.
const PROGRAMS: [&str; 27] = [
    "apt",
    "apt-get",
    "cargo",
    "consul",
    "curl",
    "dig",
    "docker",
    "echo",
    "export",
    "go",
    "id",
    "install",
    "journalctl",
    "kill",
    "ls",
    "make",
    "openssl",
    "ps",
    "rm",
    "rolloutd",
    "socat",
    "ss",
    "stat",
    "systemctl",
    "usermod",
    "weightctl",
    "weightd",
];

/// A command, and where it is printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Printed {
    /// A page, a help or a file of the source.
    pub(super) place: String,
    pub(super) command: String,
    /// What the page prints below it.
    pub(super) output: String,
}

/// The blocks of commands of a page, each with its commands in order.
pub(super) fn typed(page: &'static Page) -> Vec<Vec<Printed>> {
    let console = page.blocks("console").into_iter().map(|block| session(&page.path, block.text));
    let lines = |text: &'static str| text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let shell = page.blocks("sh").into_iter().map(|block| {
        lines(block.text).map(|line| printed(&page.path, line.split("  #").next().unwrap_or_default())).collect()
    });
    console.chain(shell).collect()
}

fn session(place: &str, block: &str) -> Vec<Printed> {
    let mut commands: Vec<Printed> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(printed(place, command.split("  #").next().unwrap_or_default()));
        } else if let Some(last) = commands.last_mut() {
            last.output += line;
            last.output.push('\n');
        }
    }
    commands
}

fn printed(place: &str, command: &str) -> Printed {
    Printed { place: place.to_owned(), command: command.trim().to_owned(), output: String::new() }
}

/// The commands in the text of a page.
pub(super) fn mentioned(page: &Page) -> BTreeSet<Printed> {
    commands(&page.path, &page.prose())
}

/// The commands between backticks in a text.
fn commands(place: &str, text: &str) -> BTreeSet<Printed> {
    spans(text).iter().filter(|span| is_command(span)).map(|span| printed(place, span)).collect()
}

/// What stands between backticks, with white space as one space. Between two on each side there can be more of it.
fn spans(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in text.split("``").enumerate() {
        let inside = part.split('`').skip(1).step_by(2);
        found.extend(inside.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
        if number % 2 == 1 && !part.contains('`') {
            found.push(part.trim().to_owned());
        }
    }
    found
}

fn is_command(text: &str) -> bool {
    let mut words = text.split(' ').skip_while(|word| *word == "sudo");
    match (words.next(), words.next()) {
        // It takes options alone: anything else is a sentence about it.
        (Some("weightd" | "rolloutd"), Some(next)) => next.starts_with('-'),
        (Some(first), Some(_)) => PROGRAMS.contains(&first),
        _ => false,
    }
}

/// The commands in the help of all programs and of each verb of weightctl.
pub(super) fn helped() -> anyhow::Result<BTreeSet<Printed>> {
    let top = help("weightctl", &[])?;
    let listed = top.split_once("Commands:\n").context("the help lists no commands")?.1;
    let lines = listed.split("\n\n").next().unwrap_or_default().lines();
    // What begins further to the right goes on with the line above.
    let lines = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let verbs = lines.filter_map(|line| line.split(' ').next()).filter(|verb| *verb != "help");
    let verbs: Vec<&str> = verbs.collect();
    let mut found = examples("weightctl --help", &top);
    for daemon in ["weightd", "rolloutd"] {
        found.extend(examples(&format!("{daemon} --help"), &help(daemon, &[])?));
    }
    for verb in ["completions", "man"].iter().chain(&verbs) {
        found.extend(examples(&format!("weightctl {verb} --help"), &help("weightctl", &[verb])?));
    }
    Ok(found)
}

/// The examples of a help, each on a line of its own, and the commands in its text.
fn examples(place: &str, help: &str) -> BTreeSet<Printed> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    let lines = lines.filter(|line| ["weightctl ", "weightd ", "rolloutd "].iter().any(|name| line.starts_with(name)));
    let mut found: BTreeSet<_> =
        lines.map(|line| printed(place, line.split("   ").next().unwrap_or_default())).collect();
    found.extend(commands(place, help));
    found
}

fn help(program: &str, verb: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program::binary(program)?).args(verb).arg("--help").output()?;
    anyhow::ensure!(output.status.success(), "{program} {verb:?} --help: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The commands in the texts of the source: between backticks, or as a hint that begins with one.
pub(super) fn hinted() -> BTreeSet<Printed> {
    let mut found = BTreeSet::new();
    for source in sources() {
        let code = joined(&source.code);
        let place = format!("src/{}", source.path);
        for line in code.lines() {
            found.extend(commands(&place, line));
            found.extend(line.split('"').skip(1).step_by(2).filter_map(hint).map(|hint| printed(&place, hint)));
        }
    }
    found
}

/// Lines as the compiler sees them: a backslash at the end joins it with the next one.
fn joined(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        match line.strip_suffix('\\') {
            Some(line) if text.ends_with('\u{1f}') => {
                text.pop();
                text += line.trim_start();
                text.push('\u{1f}');
            }
            Some(line) => {
                text += line;
                text.push('\u{1f}');
            }
            None if text.ends_with('\u{1f}') => {
                text.pop();
                text += line.trim_start();
                text.push('\n');
            }
            None => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

/// The command that a hint begins with, up to the words about it; none if the hint is a sentence about the program.
fn hint(text: &str) -> Option<&str> {
    let ends = ["; ", ", ", ": ", " ("].iter().filter_map(|end| text.find(end)).min();
    let text = &text[..ends.unwrap_or(text.len())];
    let (word, rest) = text.split_once(' ')?;
    let is_command = match word {
        "weightd" | "rolloutd" => rest.starts_with("--"),
        "weightctl" => !rest.contains(' ') || rest.contains(" --"),
        "sudo" | "systemctl" | "journalctl" => true,
        "consul" => ["acl ", "kv ", "operator "].iter().any(|group| rest.starts_with(group)),
        _ => false,
    };
    is_command.then_some(text)
}

/// The commands that a program prints: between backticks, and after `hint:`.
pub(super) fn answered(place: &str, output: &str) -> BTreeSet<Printed> {
    let hints = output.lines().filter_map(|line| hint(line.trim_start().strip_prefix("hint: ")?));
    let mut found: BTreeSet<_> = hints.map(|hint| printed(place, hint)).collect();
    found.extend(commands(place, output));
    found
}

#[test]
fn commands_are_found_and_names_are_not() {
    let text = "`weightctl get\n  app`, `weightd_up`, `weightd`, ``a `sudo make x` b``, `consul/`, `set server`";
    let found: Vec<_> = commands("", text).into_iter().map(|printed| printed.command).collect();
    assert_eq!(found, ["sudo make x", "weightctl get app"]);
    let lines = ["say(\"see `weightctl \\".to_owned(), "    list`\")".to_owned()];
    assert_eq!(joined(&lines), "say(\"see `weightctl list`\")\n");
}
