//! `shift`: a share of the requests, whatever the number of servers.
//!
//! The numbers come from [`weightd_core::shift`]; this file shows them with their error, asks, and writes. Backends with a
//! split stay splits. `servers` asks the nodes which servers there are.

mod servers;
mod view;

use std::{collections::BTreeSet, str::FromStr};

use weightd_core::{
    desired::Pattern,
    history::Way,
    model::{BackendName, InvalidName},
    shift::Wanted,
};

pub(super) use self::view::ShiftView;
use self::{
    servers::Servers,
    view::{lines, not_close},
};
use super::{
    Exit,
    change::{Flags, Options, carry_out, frozen_failure, with_context},
    context::Context,
    failure::Failure,
    first,
    many::{Change, carry_out_each},
    outcome::Outcome,
    output,
    refusals::refused,
    serving,
    takeover::TakeOver,
    wait::WaitFlags,
};
use crate::documents::{
    Context as Known, Documents,
    changes::{How, ShiftError, Shifted, shift_edit},
    edit::{Edit, Intent, Write},
};

const EXAMPLES: &str = "\
Examples:
  weightctl shift app1 green=10%                     10 % of the requests; shows it and asks
  weightctl shift app1 green --step +10% --yes       10 points more than now
  weightctl shift app1 'green*=10%' --yes --wait     all servers that match, together
  weightctl shift app1 'b*=90%' 'g*=10%' --split     each node computes its weights
  weightctl shift 'app*' --all 'green*=10%' --yes    every backend that matches

Exit codes: as `set`; 7 also if the weights miss a share by more than one point.";

/// Give servers a share of the requests, whatever their number
///
/// Computes the weights that come closest to the share, and shows their error. The other servers keep their ratio. A
/// pattern stands for the servers that HAProxy has now: it asks the nodes, for at most 1 s. Without an answer, for those of
/// the document. In a backend with a split, changes the shares of its patterns. Writes nothing if another writer changes
/// the backend meanwhile.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own, and all combinations occur")]
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend; with --all a pattern of backends
    #[arg(value_name = "BACKEND", value_parser = Pattern::new)]
    backend: Pattern,
    /// A server, or a pattern of servers (* and ?), and its share; with --step without a share
    #[arg(required = true, value_name = "SERVERS=SHARE%")]
    sides: Vec<SideArg>,
    /// Add these percentage points to the present share
    #[arg(long, value_name = "+N%", value_parser = points, allow_hyphen_values = true)]
    step: Option<f64>,
    /// Shift every backend that matches; one transaction each
    #[arg(long)]
    all: bool,
    /// Write shares by pattern: each node computes the weights for the servers that it has
    #[arg(long)]
    split: bool,
    /// Write the closest weights, even if they miss a share by more than one point or stop a server
    #[arg(long)]
    approximate: bool,
    /// With --split: allow a backend without a key in Consul
    #[arg(long, requires = "split", conflicts_with = "all")]
    create: bool,
    #[command(flatten)]
    from: first::From,
    #[command(flatten)]
    take_over: TakeOver,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// `SERVERS=SHARE%` or `SERVERS`.
#[derive(Debug, Clone, PartialEq)]
struct SideArg {
    pattern: Pattern,
    percent: Option<f64>,
}

/// The error for a text that is not `SERVERS=SHARE%`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum InvalidSide {
    #[error("write it as SERVERS=SHARE%, such as green=10% or 'green-*=2.5%', from 0% to 100%")]
    Share,
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl FromStr for SideArg {
    type Err = InvalidSide;

    fn from_str(text: &str) -> Result<Self, InvalidSide> {
        let (pattern, percent) = match text.split_once('=') {
            Some((pattern, share)) => {
                let percent = number(share).filter(|percent| (0.0..=100.0).contains(percent));
                (pattern, Some(percent.ok_or(InvalidSide::Share)?))
            }
            None => (text, None),
        };
        Ok(Self { pattern: Pattern::new(pattern)?, percent })
    }
}

/// `10%` or `2.5%`: digits with at most three decimals.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_suffix('%')?;
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain(whole) && plain(decimals) && whole.len() <= 3 && decimals.len() <= 3).then(|| digits.parse().ok())?
}

/// `+10%` or `-10%`.
fn points(text: &str) -> Result<f64, &'static str> {
    let negative = text.starts_with('-');
    let points = text.strip_prefix(['+', '-']).and_then(number).filter(|points| *points <= 100.0);
    let points = points.ok_or("write it as +N% or -N%, such as +10%, up to 100%")?;
    Ok(if negative { -points } else { points })
}

/// The computed change of one backend.
struct Planned {
    edit: Edit,
    /// None for a split, which each node expands for itself.
    view: Option<ShiftView>,
    /// Lines above the preview.
    lines: Vec<String>,
    /// What the nodes answered, for the preview.
    servers: Servers,
}

impl Args {
    fn asked(&self) -> Result<Vec<(Pattern, Wanted)>, Failure> {
        let wanted = |side: &SideArg| match (side.percent, self.step) {
            (Some(percent), None) => Ok((side.pattern.clone(), Wanted::Share(percent))),
            (None, Some(points)) => Ok((side.pattern.clone(), Wanted::Step(points))),
            (Some(_), Some(_)) => {
                let message = format!("`{}` has a share, and --step adds to the present one", side.pattern);
                Err(Failure::new(Exit::Usage, message).hint("name the servers without a share, or remove --step"))
            }
            (None, None) => Err(Failure::new(Exit::Usage, format!("`{}` has no share", side.pattern))
                .hint(format!("write `{}=10%`, or add --step +10%", side.pattern))),
        };
        if self.step.is_some() && self.sides.len() > 1 {
            return Err(Failure::new(Exit::Usage, "--step takes one server or one pattern"));
        }
        self.sides.iter().map(wanted).collect()
    }
}

/// Shifts traffic. The JSON output is an [`Outcome`] with a [`ShiftView`]; with --all a list of them.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let asked = args.asked()?;
    let from = args.from.weights()?;
    args.flags.check()?;
    let documents = context.documents()?;
    if args.all {
        return all(args, &asked, &documents, context).await;
    }
    let backend = BackendName::new(args.backend.as_str()).map_err(|error| {
        Failure::caused(Exit::Usage, error).hint("add --all to shift every backend that matches a pattern")
    })?;
    let (known, serving) = tokio::join!(documents.context(&backend), serving::of(context, &backend));
    let known = known?;
    let by = args.flags.intent(Way::Shift, context.env).by;
    // Each node computes the weights of a new backend, for the servers that it has.
    let (known, heard) = first::known(&documents, &backend, known, from, args.create, BTreeSet::new(), &by).await?;
    let servers = Servers::ask(&documents, [(&backend, &known)], &by).await.pop().unwrap_or_default();
    let planned = plan(args, &asked, &documents, &backend, &known, servers, context).await?;
    planned.lines.iter().for_each(|line| output::message(line));
    let edit = match &serving {
        Some(serving) => planned.edit.limit_shares_to(&serving.active),
        None => planned.edit,
    };
    let options = Options {
        flags: &args.flags,
        waits: &args.wait,
        serving: serving.as_ref(),
        shift: planned.view.as_ref(),
        heard: planned.servers.answers().or(heard.as_ref()),
        take_over: Some(args.take_over),
    };
    carry_out(context.format, &documents, &backend, &edit, &known, &options).await
}

/// Every backend that matches. Nothing is written if one of them cannot be shifted.
async fn all(
    args: &Args,
    asked: &[(Pattern, Wanted)],
    documents: &Documents,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let everything = documents.all().await?;
    let backends = everything.backends.iter().map(|stored| &stored.backend);
    let backends: Vec<_> = backends.filter(|backend| args.backend.matches(backend.as_str())).collect();
    if backends.is_empty() {
        return Err(Failure::new(Exit::Refused, format!("no backend in Consul matches `{}`", args.backend))
            .hint("`weightctl list` shows the backends"));
    }
    let mut contexts = Vec::new();
    for backend in backends {
        contexts.push((backend, documents.context(backend).await?));
    }
    let by = args.flags.intent(Way::Shift, context.env).by;
    let servers = Servers::ask(documents, contexts.iter().map(|(backend, known)| (*backend, known)), &by).await;
    let (mut plans, mut failed) = (Vec::new(), Vec::new());
    for ((backend, known), servers) in contexts.into_iter().zip(servers) {
        match plan(args, asked, documents, backend, &known, servers, context).await {
            Ok(planned) => match known.frozen(backend).filter(|_| planned.edit.write != Write::Nothing) {
                Some(frozen) => failed.push((backend, frozen_failure(backend, &frozen, "nothing was written"))),
                None => plans.push((backend, known, planned)),
            },
            Err(failure) if failure.exit == Exit::Refused => failed.push((backend, failure)),
            Err(failure) => return Err(failure),
        }
    }
    for (backend, failure) in &failed {
        output::note(&format!("{backend}: {}", failure.error));
    }
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|(backend, _)| backend.as_str()).collect();
        let message = format!("cannot shift {}: {}", output::counted(failed.len(), "backend"), names.join(", "));
        return Err(Failure::new(Exit::Refused, format!("{message}; nothing was written"))
            .hint("use a pattern that matches only the other backends"));
    }
    let changes = plans.iter().map(|(backend, known, Planned { edit, view, lines, servers })| {
        let outcome = Outcome::of(backend, edit, &args.flags).shifted(view.as_ref()).heard(servers.answers());
        Change { backend, known, edit, lines, outcome }
    });
    let (flags, waits, take_over) = (&args.flags, &args.wait, Some(args.take_over));
    let options = Options { flags, waits, take_over, serving: None, shift: None, heard: None };
    carry_out_each(context.format, documents, changes.collect(), &options).await
}

/// The change of one backend.
async fn plan(
    args: &Args,
    asked: &[(Pattern, Wanted)],
    documents: &Documents,
    backend: &BackendName,
    known: &Known,
    servers: Servers,
    context: &Context<'_>,
) -> Result<Planned, Failure> {
    let intent = with_context(args.flags.intent(Way::Shift, context.env), known);
    let intent = Intent { create: args.create, ..intent };
    let how = How { split: args.split, approximate: args.approximate };
    match shift_edit(backend, known.stored.as_ref(), asked, &servers.reported(), how, &intent) {
        Ok(Shifted { edit, shift: Some(shift) }) => {
            let lines = lines(backend, &shift, &servers);
            Ok(Planned { edit, view: Some(ShiftView::of(&shift, &servers)), lines, servers })
        }
        Ok(Shifted { edit, shift: None }) => {
            Ok(Planned { edit, view: None, lines: Vec::new(), servers: Servers::default() })
        }
        Err(ShiftError::Edit(error)) => Err(refused(documents, error).await),
        Err(ShiftError::NotClose(shift)) => Err(not_close(backend, &shift, &servers)),
        Err(ShiftError::Shares(error)) => Err(no_shift(backend, &error)),
        Err(error @ ShiftError::NoWeights(_)) => Err(Failure::new(Exit::Refused, error.to_string())),
    }
}

fn no_shift(backend: &BackendName, error: &weightd_core::shift::Refused) -> Failure {
    Failure::new(Exit::Refused, format!("backend `{backend}`: {error}; nothing was written"))
        .hint(format!("`weightctl get {backend}` shows servers and shares"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_parsed_strictly() {
        let parsed: SideArg = "green-*=2.5%".parse().unwrap();
        assert_eq!((parsed.pattern.as_str(), parsed.percent), ("green-*", Some(2.5)));
        assert_eq!("green".parse::<SideArg>().unwrap().percent, None);
        for text in
            ["green=10", "green=", "green=101%", "green=-1%", "green=1e1%", "green=.5%", "a b=5%", "=5%", "g=5.1234%"]
        {
            assert!(text.parse::<SideArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_step_has_a_sign() {
        assert_eq!((points("+10%"), points("-2.5%")), (Ok(10.0), Ok(-2.5)));
        for text in ["10%", "+10", "++1%", "+101%", "+-1%"] {
            assert!(points(text).is_err(), "{text}");
        }
    }
}
