//! `rollback`: back to where the present shift of traffic began.
//!
//! The rule is in [`weightd_core::rollback`]; this file shows its decision, asks, writes, and computes it again after a
//! conflict. A rollback needs no controller and passes every freeze.

mod all;
mod side;

use weightd_core::{
    desired::Pattern,
    history::{Entry, Way},
    model::{BackendName, Escaped},
    rollback::{Ask, Asked, Decision, Reach, Target, decide},
};

use self::side::Side;
use super::{
    Exit,
    change::{Flags, answer_to, changed_by_another, commit, confirm, report},
    context::Context,
    failure::Failure,
    history::summary,
    outcome::{Outcome, say_nodes},
    output,
    preview::preview,
    refusals::{no_such, refused},
    serving,
    wait::{WaitFlags, wait},
};
use crate::documents::{
    Context as Known, Documents, Optional, Written, changes::rollback_edit, edit::Write, view::View,
};

const EXAMPLES: &str = "\
Examples:
  weightctl rollback app1                     back to where the present shift began; shows it and asks
  weightctl rollback app1 --yes               the same, without a question
  weightctl rollback app1 --step --yes        undo one write
  weightctl rollback app1 --yes --wait        wait until every HAProxy has it
  weightctl rollback app1 --dry-run           show where it goes, write nothing
  weightctl rollback app1 --off 'green*'      take the traffic off these servers
  weightctl rollback --all --off 'green*'     the same for every backend that has such servers

`weightctl history app1` shows the states. A rollback passes every freeze.";

/// Attempts to write while other writers change the backend.
const ATTEMPTS: usize = 3;

/// Go back to where the present shift of traffic began
///
/// The servers that gained traffic in the present shift lose it again; servers that the target does not name get 0. If the
/// history allows more than one answer, it shows the states and asks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new, required_unless_present = "all", conflicts_with = "all")]
    backend: Option<BackendName>,
    /// Go back one write
    #[arg(long, conflicts_with_all = ["to", "off"])]
    step: bool,
    /// Go back to the state with this index in `weightctl history BACKEND`
    #[arg(long, value_name = "INDEX", conflicts_with = "off")]
    to: Option<u64>,
    /// Go back further, if the present state is a rollback already
    #[arg(long)]
    again: bool,
    /// Take the traffic off these servers; * and ? are wildcards
    #[arg(long, value_name = "SERVER", value_parser = Pattern::new)]
    off: Vec<Pattern>,
    /// Every backend that has servers named by --off
    #[arg(long, requires = "off", conflicts_with_all = ["step", "to", "again"])]
    all: bool,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    wait: WaitFlags,
}

impl Args {
    fn asked(&self) -> Asked {
        let reach = match self.to {
            Some(index) => Reach::To(index),
            None if self.step => Reach::Step,
            None => Reach::Shift,
        };
        Asked { reach, again: self.again, off: self.off.clone() }
    }
}

/// Rolls back. The JSON output is an [`Outcome`], with --all a list of them.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    let documents = context.documents()?;
    let Some(backend) = &args.backend else { return all::run(args, &documents, context).await };
    let mut so_far = "nothing was written";
    let mut planned: Option<Planned> = None;
    for _ in 0..ATTEMPTS {
        let (known, serving) = tokio::join!(documents.context(backend), serving::of(context, backend));
        let known = known.map_err(|error| Failure::from(error).context(so_far))?;
        let Some(stored) = &known.stored else {
            return Err(no_such(&documents, backend, "`weightctl list` shows the backends").await);
        };
        let view = View::of(stored);
        if let Some(done) = planned.and_then(|planned| done_by_another(backend, &known, &view, &args.off, &planned)) {
            output::message(&done);
            Outcome::unchanged(backend, &view, stored.index, &args.flags).print(context.format, &args.wait)?;
            return wait(context.format, &documents, backend, stored.index, &args.wait).await;
        }
        let target = target_of(&documents, backend, &known, args).await?;
        let edit = match rollback_edit(backend, &known, &target, args.flags.intent(Way::Rollback, context.env)) {
            Ok(edit) => edit,
            Err(error) => return Err(refused(&documents, error).await),
        };
        let edit = match &serving {
            Some(serving) => edit.limit_shares_to(&serving.active),
            None => edit,
        };
        let mut outcome = Outcome::of(backend, &edit, &args.flags);
        if edit.write == Write::Nothing {
            output::message(&format!("nothing to change: {backend} {}", edit.after.summary()));
            outcome.print(context.format, &args.wait)?;
            if args.flags.dry_run {
                return Ok(Exit::Ok);
            }
            return wait(context.format, &documents, backend, stored.index, &args.wait).await;
        }
        output::message(preview(backend, &edit, output::message_columns()).trim_end());
        output::message(&format!("  back to {}", origin(&target)));
        say_nodes(&documents, &args.flags, &args.wait, std::slice::from_mut(&mut outcome)).await;
        if args.flags.dry_run {
            output::message("dry run: nothing was written");
            outcome.print(context.format, &args.wait)?;
            return Ok(Exit::Ok);
        }
        confirm(&documents, &args.flags).await?;
        let written = commit(&documents, backend, &edit, &known).await?;
        match written {
            Written::Yes { index, without } => {
                report(backend, &edit, index, &without);
                outcome.written(index).print(context.format, &args.wait)?;
                return wait(context.format, &documents, backend, index, &args.wait).await;
            }
            // A rollback passes freezes.
            Written::Frozen(_) | Written::Conflict | Written::Superseded => {
                if written == Written::Superseded {
                    so_far = "Consul accepted the rollback, but another write replaced it";
                }
                output::note(&format!("another writer changed {backend} meanwhile; the rollback is computed again"));
            }
        }
        planned = Some(Planned { index: stored.index, after: edit.after.clone() });
    }
    Err(changed_by_another(&documents, backend, so_far).await)
}

/// A rollback that was not written, because another writer changed the backend.
struct Planned {
    /// `ModifyIndex` of the document that it would have replaced.
    index: u64,
    /// What it would have written.
    after: View,
}

/// What another writer has done meanwhile, if that is what is asked for: it is not done a second time. With --off, a
/// rollback of other servers does not count, but a document without traffic on these servers does, however it was written.
fn done_by_another(
    backend: &BackendName,
    known: &Known,
    view: &View,
    off: &[Pattern],
    planned: &Planned,
) -> Option<String> {
    // Only a freeze changed, or the history.
    if view.index == Some(planned.index) {
        return None;
    }
    let side = Side::of(view, off);
    let newest = known.entries().into_iter().next();
    let counts = |newest: &Entry| match off {
        [] => newest.way == Way::Rollback,
        off => side::is_off(newest, view, &planned.after, off),
    };
    if let Some(Entry { to, by, .. }) = newest.filter(counts) {
        let by = by.map(|by| format!(", by {}", Escaped(&by))).unwrap_or_default();
        let left = if side == Side::Traffic { "; it leaves traffic on these servers" } else { "" };
        return Some(format!("another rollback of {backend} was faster: {}{by}{left}", summary(&to)));
    }
    (!off.is_empty() && side == Side::NoTraffic).then(|| format!("another writer took {backend} off these servers"))
}

/// Where the rollback goes; asks a person if the rule does not decide.
async fn target_of(
    documents: &Documents,
    backend: &BackendName,
    known: &Known,
    args: &Args,
) -> Result<Target, Failure> {
    if let Optional::Off(why) = &known.history {
        // A denial has an exit code of its own.
        documents.history(backend).await?.ok();
        let message = format!("the history of `{backend}` cannot be read: {}", Escaped(why));
        return Err(Failure::new(Exit::Refused, message).hint("write the former weights with `weightctl set`"));
    }
    match decide(&known.entries(), &args.asked()) {
        Decision::Target(target) => Ok(target),
        Decision::Refuse(reason) => {
            let failure = Failure::new(Exit::Refused, format!("no rollback of `{backend}`: {reason}"));
            Err(failure.hint(format!("`weightctl history {backend}` shows the states")))
        }
        Decision::Ask(ask) => choose(backend, ask, &args.flags).await,
    }
}

/// Lets a person choose one of the states; without a terminal it prints the commands.
async fn choose(backend: &BackendName, ask: Ask, flags: &Flags) -> Result<Target, Failure> {
    let reason = format!("more than one rollback of `{backend}` is possible: {}", ask.reason);
    let command = |state: &weightd_core::rollback::State| {
        let off: Vec<_> = state.off.iter().map(|pattern| format!(" --off '{}'", pattern.as_str())).collect();
        match (off.is_empty(), state.target.index) {
            (false, _) => format!("weightctl rollback {backend}{} --yes", off.concat()),
            (true, Some(index)) => format!("weightctl rollback {backend} --to {index} --yes"),
            (true, None) => format!("weightctl rollback {backend}"),
        }
    };
    if ask.states.is_empty() {
        return Err(Failure::new(Exit::Refused, reason).hint(format!("`weightctl history {backend}` shows the states")));
    }
    if flags.yes || flags.dry_run || !output::can_ask() {
        let commands: Vec<_> = ask.states.iter().map(|state| format!("`{}`", command(state))).collect();
        return Err(Failure::new(Exit::Refused, reason).hint(format!("choose one: {}", commands.join(", "))));
    }
    output::message(&reason);
    for (number, state) in ask.states.iter().enumerate() {
        let shares: Vec<_> =
            state.shares.iter().map(|(name, share)| format!("{}={share:.0}%", name.as_str())).collect();
        output::message(&format!("  {}  {}  {}", number + 1, shares.join(" "), origin(&state.target)));
    }
    let answer = answer_to(&match ask.states.len() {
        1 => "Go there? [1, Enter cancels]".to_owned(),
        states => format!("Which one? [1-{states}, Enter cancels]"),
    })
    .await?;
    let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    match number.and_then(|number| ask.states.into_iter().nth(number)) {
        Some(state) => Ok(state.target),
        None => Err(Failure::new(Exit::Failure, "cancelled; nothing was written")),
    }
}

/// Which state the target is.
fn origin(target: &Target) -> String {
    let index = target.index.map_or_else(String::new, |index| format!(" of index {index}"));
    let at = target.at.map_or_else(String::new, |at| format!(", written at {at}"));
    format!("the state{index}{at}")
}
