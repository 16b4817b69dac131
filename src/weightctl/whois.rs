//! `whois`: the side that users are on. Computed from the weights. `split` asks the nodes for the servers of a split.
//!
//! A user's id is personal data: it is printed only as the data that was asked for. No message contains one.

mod split;

use std::{fmt::Write as _, io::Read as _};

use serde::Serialize;
use weightd_core::{
    desired::{Document, Kind, Pattern, Weights},
    model::{BackendName, Escaped, ServerName},
    share::Percent,
    users::{Bucket, InvalidUserId, NoSides, Salt, Side, Sides, UserId},
};

use self::split::Places;
use super::{
    Exit,
    context::Context,
    failure::Failure,
    output::{self, Format},
    refusals::no_such,
    set::{Assignment, unique},
    table::{Align, Cell, Table, Tone},
};
use crate::documents::{
    stored::{Content, Stored},
    view::RejectedView,
};

const EXAMPLES: &str = "\
Examples:
  weightctl whois app1 alice bob                           by the document in Consul
  weightctl whois app1 alice --of 'gr*'                    the side is every server that matches
  weightctl whois app1 alice --weights blue=75,green=25    by these weights, without Consul
  weightctl whois app1 - <users.txt                        one user a line; no id in the history

The backend in haproxy.cfg needs the lines of haproxy/sticky.cfg. An id is the value of the cookie
or header, as the browser sends it.";

/// Compute which side users are on, where a backend has sticky users
///
/// Also computes from which share on. The answer holds on a HAProxy that has these weights. Where the document is a split,
/// asks the nodes which servers they have, for at most 1 s, and computes the weights of each HAProxy.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The backend
    #[arg(value_parser = BackendName::new)]
    backend: BackendName,
    /// The ids of the users; - reads them from stdin, one a line
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
    /// The servers of the new side: names or patterns, separated by commas
    #[arg(long, value_name = "SERVER", value_delimiter = ',', value_parser = Pattern::new, default_value = "green*")]
    of: Vec<Pattern>,
    /// Use these weights, and not the document in Consul
    #[arg(long, value_name = "SERVER=WEIGHT", value_delimiter = ',')]
    weights: Vec<Assignment>,
    /// The text of another draw, as it stands in haproxy.cfg: 2026-12 for concat(/2026-12/,txn.wd_id)
    #[arg(long, value_name = "TEXT", value_parser = Salt::new)]
    salt: Option<Salt>,
}

/// The users with their sides. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "salt": null,                        the text of another draw, if there is one
///   "index": 42,                         ModifyIndex of the document, of leaves the greatest; null with --weights
///   "haproxies": ["lb-1"],               only of a split: the nodes whose servers it was expanded for; "to" and "from"
///                                        are those of the first one
///   "to": {"servers": {"green": 10}, "weight": 10},
///   "from": {"servers": {"blue": 90}, "weight": 90},
///   "share": 10.0,                       the part of the users on `to`, in percent; null if all weights are 0
///   "users": [
///     {"user": "alice",
///      "side": "from",                   "to" or "from"
///      "bucket": 2565,                   0 to 9999
///      "above": 25.65}                   the user is on `to` while its share is above this, in percent
///   ]
/// }
/// ```
#[derive(Debug, Serialize)]
struct Answer {
    backend: BackendName,
    salt: Option<Salt>,
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    haproxies: Option<Vec<String>>,
    to: Part,
    from: Part,
    share: Option<f64>,
    users: Vec<Located>,
}

/// One side.
#[derive(Debug, Serialize)]
struct Part {
    servers: Weights,
    weight: u64,
}

/// A user with the side.
#[derive(Debug, Serialize)]
struct Located {
    user: String,
    side: Side,
    bucket: Bucket,
    above: f64,
}

/// The most bytes that are read from stdin: about two million ids.
const MAX_INPUT: u64 = 64 << 20;

/// Prints the answer as data.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    // The users first: with a mistake in them, Consul is not asked.
    let users = users(&args.users)?;
    let answer = if args.weights.is_empty() {
        match in_force(&args.backend, context).await? {
            (InForce::Weights(weights), index) => Answer::new(args, &users, sides(args, &weights)?, Some(index)),
            (InForce::Split(places), index) => {
                let (sides, haproxies) = places.sides(args, &users)?;
                Answer { haproxies: Some(haproxies), ..Answer::new(args, &users, sides, Some(index)) }
            }
        }
    } else {
        Answer::new(args, &users, sides(args, &unique(&args.weights)?)?, None)
    };
    context.format.data(&answer, Answer::table)?;
    if matches!(context.format, Format::Table) {
        output::message(&answer.summary());
    }
    Ok(Exit::Ok)
}

/// The two sides of these weights.
fn sides(args: &Args, weights: &Weights) -> Result<Sides, Failure> {
    Sides::new(weights, &args.of).map_err(|error| {
        let hint = match error {
            NoSides::NoServer { .. } => "name the servers of the new side, such as --of 'green*'",
            NoSides::NoOther(_) => "name the servers of the new side alone, such as --of green",
        };
        Failure::caused(Exit::Refused, error).hint(hint)
    })
}

/// What is in force.
enum InForce {
    /// The weights of a document or of leaves.
    Weights(Weights),
    /// The weights of a split in each HAProxy.
    Split(Places),
}

/// What the document in Consul says, and its index.
async fn in_force(backend: &BackendName, context: &Context<'_>) -> Result<(InForce, u64), Failure> {
    const OFFLINE: &str = "without Consul, give the weights: --weights blue=90,green=10";
    let documents = context.documents()?;
    let stored = documents.backend(backend).await.map_err(|error| {
        let failure = Failure::from(error);
        match (failure.exit, &failure.hint) {
            (Exit::Unreachable, Some(hint)) => {
                let hint = format!("{hint}; {OFFLINE}");
                failure.hint(hint)
            }
            _ => failure,
        }
    })?;
    let Some(stored) = stored else {
        return Err(no_such(&documents, backend, "give the weights that HAProxy has: --weights blue=90,green=10").await);
    };
    let in_force = match &stored.content {
        Content::Document(Document { kind: Kind::Split(split), .. }) => {
            InForce::Split(Places::ask(&documents, &stored.backend, split, context).await?)
        }
        _ => InForce::Weights(weights_of(&stored)?),
    };
    Ok((in_force, stored.index))
}

fn weights_of(stored: &Stored) -> Result<Weights, Failure> {
    match &stored.content {
        Content::Leaves(leaves) => Ok(leaves.iter().map(|(server, leaf)| (server.clone(), leaf.weight)).collect()),
        Content::Document(document) => match &document.kind {
            Kind::Weights(weights) => Ok(weights.clone()),
            Kind::Split(_) | Kind::Release => {
                let why = if document.kind == Kind::Release { "is released" } else { "is a split" };
                let message = format!("`{}` {why}: its document has no weights", stored.backend);
                Err(Failure::new(Exit::Refused, message)
                    .hint("give the weights that HAProxy has: --weights blue=90,green=10"))
            }
        },
        Content::Rejected(rejected) => {
            let rejected = RejectedView::of(rejected);
            Err(Failure::new(Exit::Failure, rejected.sentence()).hint(rejected.remedy))
        }
    }
}

/// The ids on the command line, with those of stdin in the place of `-`.
fn users(words: &[String]) -> Result<Vec<UserId>, Failure> {
    let mut users = Vec::new();
    let mut read = false;
    for (number, word) in words.iter().enumerate() {
        if word != "-" {
            let user = UserId::new(word).map_err(|error| invalid(&format!("user {}", number + 1), error))?;
            users.push(user);
        } else if !std::mem::replace(&mut read, true) {
            users.extend(lines(&input()?)?);
        }
    }
    if users.is_empty() {
        return Err(Failure::new(Exit::Usage, "stdin has no user").hint("write one id on each line"));
    }
    Ok(users)
}

fn input() -> Result<String, Failure> {
    let failed = |error| Failure::caused(Exit::Failure, error).context("cannot read the users from stdin");
    let mut text = Vec::new();
    std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_INPUT) {
        let message = format!("stdin has more than {} MiB", MAX_INPUT >> 20);
        return Err(Failure::new(Exit::Usage, message).hint("split the list"));
    }
    String::from_utf8(text).map_err(|_| Failure::new(Exit::Usage, "the users on stdin are not UTF-8"))
}

/// The ids in a text, one a line. Blank lines are no users.
fn lines(text: &str) -> Result<Vec<UserId>, Failure> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| UserId::new(line).map_err(|error| invalid(&format!("line {}", number + 1), error)))
        .collect()
}

/// The failure for an id. It names the place and never the id.
fn invalid(place: &str, error: InvalidUserId) -> Failure {
    Failure::new(Exit::Usage, format!("the id of {place} {error}"))
        .hint("an id is the value of the cookie or header, as the browser sends it")
}

impl Answer {
    fn new(args: &Args, users: &[UserId], sides: Sides, index: Option<u64>) -> Self {
        let located = users.iter().map(|user| {
            let bucket = Bucket::of(&args.backend, args.salt.as_ref(), user);
            Located { user: user.reveal().to_owned(), side: sides.of(bucket), bucket, above: bucket.above() }
        });
        let users = located.collect();
        let (share, (to, all)) = (sides.percent(), sides.weight());
        Self {
            backend: args.backend.clone(),
            salt: args.salt.clone(),
            index,
            haproxies: None,
            to: Part { servers: sides.to, weight: to },
            from: Part { servers: sides.from, weight: all - to },
            share,
            users,
        }
    }

    fn table(&self) -> String {
        let (to, from) = (names(&self.to.servers), names(&self.from.servers));
        let above = format!("{to} ABOVE");
        let mut table = Table::new([
            ("USER", Align::Left),
            ("SIDE", Align::Left),
            (above.as_str(), Align::Right),
            ("BUCKET", Align::Right),
        ]);
        for Located { user, side, bucket, above } in &self.users {
            let side = match side {
                Side::To => Cell::new(to.as_str(), Tone::Good),
                Side::From => from.as_str().into(),
            };
            table.row([
                Escaped(user).to_string().into(),
                side,
                format!("{above:.2}%").into(),
                bucket.to_string().into(),
            ]);
        }
        table.render("")
    }

    /// What the table follows from.
    fn summary(&self) -> String {
        let source = match (self.index, &self.haproxies) {
            (Some(index), Some(haproxies)) => {
                let first = haproxies.first().map(|name| Escaped(name).to_string()).unwrap_or_default();
                format!("the split of index {index}, on {first}")
            }
            (Some(index), None) => format!("the document of index {index}"),
            (None, _) => "the given weights".to_owned(),
        };
        let names = names(&self.to.servers);
        match self.share {
            Some(share) => format!(
                "{}: {names} has {} of {} in {source}: {} of the users",
                self.backend,
                self.to.weight,
                self.to.weight + self.from.weight,
                Percent(share)
            ),
            None => format!("{}: all weights are 0 in {source}", self.backend),
        }
    }
}

/// The names of the first servers of a side, and the number of the others.
fn names(servers: &Weights) -> String {
    const SHOWN: usize = 3;
    let mut text = servers.keys().take(SHOWN).map(ServerName::as_str).collect::<Vec<_>>().join(",");
    if servers.len() > SHOWN {
        let _ = write!(text, ",+{}", servers.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests;
