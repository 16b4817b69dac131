//! The steps that every writing verb has in common: show the change, ask, write, report the result.

use std::{io, os::unix::fs::MetadataExt as _, thread};

use clap::Args;
use jiff::Timestamp;
use tokio::{signal::ctrl_c, sync::oneshot};
use weightd_core::{
    history::Way,
    model::{BackendName, Escaped},
};

use super::{
    Exit,
    failure::Failure,
    observing::Answers,
    outcome::{Outcome, say_nodes},
    output::{self, Format},
    preview::preview,
    serving::Serving,
    shift::ShiftView,
    takeover::{self, TakeOver},
    wait::{WaitFlags, wait},
};
use crate::{
    consul::Env,
    documents::{
        Context as Known, Documents, InForce, Written,
        commit::Without,
        edit::{Edit, Intent},
        view::View,
    },
};

/// The flags of a change.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Reason; stored in the document
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Author; stored in the document
    #[arg(
        long,
        value_name = "NAME",
        help = "Author; stored in the document [default: $SUDO_USER, $USER or the user id]"
    )]
    pub(super) by: Option<String>,
    /// Write without a question
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Show the change and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl Flags {
    /// Fails if the question could not be answered: neither --yes nor --dry-run, and no terminal.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run || output::can_ask() {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, "cannot ask: stdin or stderr is no terminal")
            .hint("add --yes to write without a question, or --dry-run to show the change"))
    }

    /// Whether a person can be asked: neither --yes nor a pipe.
    pub(super) fn asks(&self) -> bool {
        !self.yes && output::can_ask()
    }

    /// The change's author, reason, time and verb. `env` supplies the author if there is no `--by`.
    pub(super) fn intent(&self, way: Way, env: &Env<'_>) -> Intent {
        let by = self.by.clone().or_else(|| user(env)).unwrap_or_else(|| "unknown".to_owned());
        Intent { by, reason: self.reason.clone(), at: now(), way, ..Intent::default() }
    }
}

/// `intent` for one backend: with its history, the writer's token, and Consul's time.
pub(super) fn with_context(intent: Intent, known: &Known) -> Intent {
    known.intent(intent)
}

/// The user: `SUDO_USER`, else `USER`, else `uid` and the user id of this process.
pub(super) fn user(env: &Env<'_>) -> Option<String> {
    ["SUDO_USER", "USER"]
        .into_iter()
        .find_map(|variable| env(variable).filter(|name| !name.is_empty()))
        .or_else(|| Some(format!("uid {}", std::fs::metadata("/proc/self").ok()?.uid())))
}

/// The time of this machine, RFC 3339 in UTC, in whole seconds. Consul's time replaces it where it is known.
fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// How a change is carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) flags: &'a Flags,
    pub(super) waits: &'a WaitFlags,
    /// What serves on this host, if it has a weightd.
    pub(super) serving: Option<&'a Serving>,
    /// The shares that a shift gives.
    pub(super) shift: Option<&'a ShiftView>,
    /// What the nodes answered before.
    pub(super) heard: Option<&'a Answers>,
    /// Whether the change may end a rollout; none for a change that never asks.
    pub(super) take_over: Option<TakeOver>,
}

/// Shows `edit`, asks, writes it, and waits for the nodes.
pub(super) async fn carry_out(
    format: Format,
    documents: &Documents,
    backend: &BackendName,
    edit: &Edit,
    known: &Known,
    options: &Options<'_>,
) -> Result<Exit, Failure> {
    let Options { flags, waits, serving, shift, heard, take_over } = *options;
    let mut outcome = Outcome::of(backend, edit, flags).shifted(shift).heard(heard);
    if !outcome.changes() {
        output::message(&format!("nothing to change: {backend} {}", edit.after.summary()));
        outcome.print(format, waits)?;
        return match outcome.index().filter(|_| !flags.dry_run) {
            Some(index) => wait(format, documents, backend, index, waits).await,
            None => Ok(Exit::Ok),
        };
    }
    output::message(preview(backend, edit, output::message_columns()).trim_end());
    if let Some(frozen) = known.frozen(backend).filter(|_| !edit.passes_freeze()) {
        return Err(frozen_failure(backend, &frozen, "nothing was written"));
    }
    if let Some(serving) = serving {
        serving.notes();
    }
    say_nodes(documents, flags, waits, std::slice::from_mut(&mut outcome)).await;
    if let Some(take_over) = take_over {
        takeover::ask(documents, backend, take_over, flags.dry_run, flags.asks()).await?;
    }
    if flags.dry_run {
        output::message("dry run: nothing was written");
        outcome.print(format, waits)?;
        return Ok(Exit::Ok);
    }
    confirm(documents, flags).await?;
    let index = write(documents, backend, edit, known).await?;
    outcome.written(index).print(format, waits)?;
    wait(format, documents, backend, index, waits).await
}

/// Writes `edit`, reports it, and returns the `ModifyIndex` that was read back.
pub(super) async fn write(
    documents: &Documents,
    backend: &BackendName,
    edit: &Edit,
    known: &Known,
) -> Result<u64, Failure> {
    match commit(documents, backend, edit, known).await? {
        Written::Yes { index, without } => {
            report(backend, edit, index, &without);
            Ok(index)
        }
        // Not "nothing": a command for many backends may have written others.
        Written::Frozen(frozen) => Err(frozen_failure(backend, &frozen, &format!("{backend} is not written"))),
        Written::Conflict => Err(changed_by_another(documents, backend, "this change is not written").await),
        Written::Superseded => {
            let what = "Consul accepted the write, but another write replaced it";
            Err(changed_by_another(documents, backend, what).await)
        }
    }
}

/// Writes `edit`. Ctrl-C ends the command.
pub(super) async fn commit(
    documents: &Documents,
    backend: &BackendName,
    edit: &Edit,
    known: &Known,
) -> Result<Written, Failure> {
    tokio::select! {
        biased;
        written = documents.commit(backend, edit, known, edit.passes_freeze()) => Ok(written?),
        _ = ctrl_c() => {
            Err(Failure::new(Exit::Interrupted, format!("interrupted during the write; {backend} may have changed"))
                .hint(format!("`weightctl get {backend}` shows what is in Consul")))
        }
    }
}

/// Reports a write that was read back.
pub(super) fn report(backend: &BackendName, edit: &Edit, index: u64, without: &[Without]) {
    output::message(&format!("written: {backend} {}, index {index}", edit.after.summary()));
    for without in without {
        output::note(&without.sentence());
    }
}

/// A freeze stops the write; `effect` says what was not written.
pub(super) fn frozen_failure(
    backend: &BackendName,
    InForce { backend: scope, frozen }: &InForce,
    effect: &str,
) -> Failure {
    let what = scope.as_ref().map_or_else(|| "all backends are".to_owned(), |scope| format!("`{scope}` is"));
    let by = frozen.by.as_ref().map(|by| format!(" by {}", Escaped(by))).unwrap_or_default();
    let since = frozen.since.map(|since| format!(" since {since}")).unwrap_or_default();
    let why = frozen.reason.as_ref().map(|reason| format!(": {}", Escaped(reason))).unwrap_or_default();
    let scope = scope.as_ref().map(|scope| format!(" {scope}")).unwrap_or_default();
    Failure::new(Exit::Refused, format!("{what} frozen{by}{since}{why}; {effect}"))
        .hint(format!("`weightctl rollback {backend}` passes a freeze; to end it: `weightctl unfreeze{scope}`"))
}

/// Another writer changed the backend; names what Consul has now.
pub(super) async fn changed_by_another(documents: &Documents, backend: &BackendName, what: &str) -> Failure {
    let now = match documents.backend(backend).await {
        Ok(Some(stored)) => {
            let view = View::of(&stored);
            let origin = view.origin();
            let detail = view.rejected.as_ref().map_or_else(String::new, |r| format!(": {}", Escaped(&r.reason)));
            let separator = if origin.is_empty() { "" } else { ", " };
            format!("it is now {}{detail}{separator}{origin}", view.summary())
        }
        Ok(None) => "it has no key now".to_owned(),
        Err(_) => "its current content cannot be read".to_owned(),
    };
    Failure::new(Exit::Conflict, format!("another writer changed `{backend}` meanwhile: {what}; {now}")).hint(format!(
        "`weightctl get {backend}` shows the backend; run the command again if the change is still correct"
    ))
}

/// Asks on the terminal, unless --yes is given. The question names the address of Consul. Every answer except `y` and
/// `yes` cancels the command.
pub(super) async fn confirm(documents: &Documents, flags: &Flags) -> Result<(), Failure> {
    if flags.yes {
        return Ok(());
    }
    confirm_write(documents).await
}

/// Asks on the terminal.
pub(super) async fn confirm_write(documents: &Documents) -> Result<(), Failure> {
    let place = documents.place().await;
    if answered_with_yes(&format!("Write to {place}? [y/N]")).await? {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "cancelled; nothing was written")
        .hint("only `y` or `yes` writes; --yes writes without a question"))
}

/// Asks on the terminal. Every answer except `y` and `yes` is no.
pub(super) async fn answered_with_yes(question: &str) -> Result<bool, Failure> {
    let answer = answer_to(question).await?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks on the terminal and returns the answer, without blanks around it. Ctrl-C ends the command.
pub(super) async fn answer_to(question: &str) -> Result<String, Failure> {
    output::ask(question);
    let (answer, answered) = oneshot::channel();
    // A blocking read cannot be interrupted: on Ctrl-C this thread is abandoned.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = answer.send(io::stdin().read_line(&mut line).map(|_| line));
    });
    tokio::select! {
        biased;
        _ = ctrl_c() => {
            output::message("");
            Err(Failure::new(Exit::Interrupted, "interrupted; nothing was written"))
        }
        line = answered => {
            let line = line.unwrap_or_else(|_| Ok(String::new()));
            let line = line.map_err(|error| Failure::caused(Exit::Failure, error).context("cannot read the answer"))?;
            if !line.ends_with('\n') {
                output::message("");
            }
            Ok(line.trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_the_user_who_ran_sudo() {
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(user(&env(&[("SUDO_USER", "alice"), ("USER", "root")])).as_deref(), Some("alice"));
        assert_eq!(user(&env(&[("SUDO_USER", ""), ("USER", "bob")])).as_deref(), Some("bob"));
        assert!(user(&env(&[])).is_some_and(|by| by.starts_with("uid ")));
    }

    #[test]
    fn the_time_is_utc_in_whole_seconds() {
        let now = now();
        assert_eq!(now.len(), "2026-11-21T10:00:00Z".len(), "{now}");
        assert!(now.ends_with('Z'));
    }
}
