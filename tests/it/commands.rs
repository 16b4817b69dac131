//! Every command that the pages, the help, and the hints and errors print: run as it is printed, or listed with a reason.
//!
//! The commands are collected, not copied, so that a new one is run or fails the test. A block of commands is one session;
//! every other command finds the host as [`World::reset`] makes it. A person's replacements, such as a name for BACKEND,
//! are those of [`PLACEHOLDERS`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use anyhow::{Context as _, bail, ensure};

use crate::pages::pages;

mod collect;
mod listed;
mod world;

use collect::Printed;
use listed::{NOT_RUN, PLACEHOLDERS, VERBS};
use world::World;

/// The page that tests/it/coming.rs walks, with all of its blocks.
const WALKED: &str = "docs/coming-from-consul-template.md";

/// Invocations that fail, so that their hints are collected and run.
const WRONG: [&str; 13] = [
    "weightctl get nothing",
    "weightctl set nothing blue=1 --yes",
    "weightctl set app blu=1 --yes",
    "weightctl set app blue=0 green=0 --yes",
    "weightctl status --api ftp://nowhere",
    "weightctl pause app",
    "weightctl set blue=90",
    "weightctl set app blue=90,green=10",
    "weightctl set app BLUE=50",
    "weightctl import --from-kv traffic/app",
    "weightctl release nothing --yes",
    "weightctl import --from-kv nothing",
    "weightctl man sett",
];

/// What happens to a command.
enum Way {
    /// It is run, as this.
    Run(String),
    /// This is sent to HAProxy.
    Sent(String),
    /// It is a target of the Makefile.
    Made(String),
    /// It is not run.
    Listed(&'static str),
}

/// How a command is tested; fails if no rule here knows it.
fn way(printed: &Printed) -> anyhow::Result<Way> {
    let command = printed.command.as_str();
    if let Some((_, reason)) = NOT_RUN.iter().find(|(beginning, _)| command.starts_with(beginning)) {
        return Ok(Way::Listed(reason));
    }
    if let Some(target) = command.strip_prefix("make ") {
        return Ok(Way::Made(target.split(' ').next().unwrap_or_default().to_owned()));
    }
    let mut filled = command.to_owned();
    for (word, value) in PLACEHOLDERS {
        filled = filled.replace(word, value);
    }
    let shouted = |word: &str| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase());
    let open = filled.contains(['{', '…']) && !filled.contains("'{");
    ensure!(!open && !filled.split([' ', '=', '/']).any(shouted), "what stands for others in `{filled}`?");
    if let Some(rest) = filled.strip_prefix("sudo weight") {
        // Not as root: the host of the test belongs to the user of the test.
        filled = format!("weight{rest}");
    }
    if let Some(rest) = filled.strip_prefix("echo \"") {
        let (line, rest) = rest.split_once("\" | socat stdio ").context("it goes to another program")?;
        ensure!(rest.starts_with("/run/haproxy/admin.sock"), "which socket is {rest}?");
        return Ok(Way::Sent(line.to_owned()));
    }
    if let Some(verb) = filled.strip_prefix("weightctl ").filter(|verb| VERBS.contains(verb)) {
        return Ok(Way::Run(format!("weightctl {verb} --help")));
    }
    let program = filled.split(' ').next().unwrap_or_default();
    ensure!(["weightctl", "weightd", "rolloutd", "consul"].contains(&program), "it is neither run nor listed");
    // What is on the other side of a pipe belongs to the machine.
    Ok(Way::Run(filled.split(" | ").next().unwrap_or_default().to_owned()))
}

/// The exit code that the text implies: 0, unless what is printed below the command says otherwise.
fn implied(printed: &Printed) -> i32 {
    let Printed { command, output, .. } = printed;
    let failed = output.lines().any(|line| line.ends_with(" failed") && !line.starts_with("nothing"));
    match command.split(' ').nth(1) {
        Some("status") if output.contains(": not converged") => 3,
        Some("check") if failed => 1,
        // Another weightd drives the HAProxy of the host.
        Some("--once") if !command.contains("--dry-run") => 75,
        _ => 0,
    }
}

/// The backend that a command starts to manage: a block that begins with it is the first thing that a person does to it.
fn created(command: &str) -> Option<&str> {
    let mut words = command.strip_prefix("weightctl set ")?.split(' ');
    let backend = words.next()?;
    words.any(|word| word == "--create").then_some(backend)
}

/// What was done, for the count.
#[derive(Default)]
struct Count {
    run: BTreeSet<Printed>,
    sent: usize,
    made: usize,
    listed: BTreeMap<&'static str, BTreeSet<String>>,
    failures: Vec<String>,
    answered: BTreeSet<Printed>,
}

impl Count {
    /// Tests one command.
    async fn test(&mut self, world: &World, printed: &Printed) {
        let tested = match way(printed) {
            Ok(Way::Listed(reason)) => {
                self.listed.entry(reason).or_default().insert(printed.command.clone());
                return;
            }
            Ok(Way::Made(target)) => {
                self.made += 1;
                target_exists(&target)
            }
            Ok(Way::Sent(line)) => {
                self.sent += 1;
                world.send(&line).await
            }
            Ok(Way::Run(command)) => {
                self.run.insert(printed.clone());
                world.ends(&command, implied(printed)).await.map(|text| {
                    self.answered.extend(collect::answered(&format!("the answer of `{command}`"), &text));
                })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = tested {
            self.failures.push(format!("{}: `{}`: {error:#}", printed.place, printed.command));
        }
    }

    /// Tests them, each on a host as it is at first.
    async fn test_each(&mut self, world: &World, all: BTreeSet<Printed>) -> anyhow::Result<()> {
        // Once for all places that print the same.
        let mut seen = BTreeSet::new();
        for printed in all {
            if seen.insert((printed.command.clone(), implied(&printed))) {
                world.reset().await.with_context(|| format!("before `{}`", printed.command))?;
                self.test(world, &printed).await;
            } else if matches!(way(&printed), Ok(Way::Run(_))) {
                self.run.insert(printed);
            }
        }
        Ok(())
    }

    /// Tests what the commands printed in turn, reports the count, and fails if a command did.
    async fn finish(mut self, world: &World, what: &str, walked: usize) -> anyhow::Result<()> {
        let answered = std::mem::take(&mut self.answered);
        self.test_each(world, answered).await?;
        let listed: usize = self.listed.values().map(BTreeSet::len).sum();
        let run = self.run.len() + walked;
        let total = run + self.sent + self.made + listed;
        // Past the runner, which shows the output of failed tests only.
        let mut screen = std::io::stderr();
        writeln!(
            screen,
            "commands of {what}: {total}: {run} run, {} sent to HAProxy, {} targets of make, {listed} listed",
            self.sent, self.made
        )?;
        for (reason, commands) in &self.listed {
            writeln!(screen, "  not run, {reason}: {}", commands.len())?;
        }
        if self.failures.is_empty() { Ok(()) } else { bail!("{}", self.failures.join("\n\n")) }
    }
}

fn target_exists(target: &str) -> anyhow::Result<()> {
    let makefile = include_str!("../../Makefile");
    ensure!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "there is no such target");
    Ok(())
}

#[tokio::test]
async fn every_command_of_the_pages_does_what_it_says() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (mut count, mut walked) = (Count::default(), 0);
    for page in pages() {
        for block in collect::typed(page) {
            if page.path == WALKED {
                walked += block.len();
                continue;
            }
            world.reset().await?;
            if let Some(backend) = block.first().and_then(|printed| created(&printed.command)) {
                world.forget(backend).await?;
            }
            for printed in &block {
                count.test(&world, printed).await;
            }
        }
    }
    let mentioned = pages().iter().flat_map(collect::mentioned).collect();
    count.test_each(&world, mentioned).await?;
    ensure!(count.run.len() > 30, "only {} commands are found", count.run.len());
    count.finish(&world, "the pages", walked).await
}

#[tokio::test]
async fn every_command_of_the_help_does_what_it_says() -> anyhow::Result<()> {
    let (world, mut count) = (World::start().await?, Count::default());
    count.test_each(&world, collect::helped()?).await?;
    ensure!(count.run.len() > 15, "only {} commands are found", count.run.len());
    count.finish(&world, "the help", 0).await
}

#[tokio::test]
async fn every_command_of_hints_and_errors_does_what_it_says() -> anyhow::Result<()> {
    let (world, mut count) = (World::start().await?, Count::default());
    let mut all = collect::hinted();
    for wrong in WRONG {
        world.reset().await?;
        let ended = world.run(wrong).await?;
        ensure!(ended.code != 0, "`{wrong}` is right: {}", ended.text);
        all.extend(collect::answered(&format!("the error of `{wrong}`"), &ended.text));
    }
    count.test_each(&world, all).await?;
    ensure!(count.run.len() > 10, "only {} commands are found", count.run.len());
    count.finish(&world, "hints and errors", 0).await
}
