//! `apply` and `export`: many backends from a file and to one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use weightd_core::{
    desired::{Split, Weights},
    history::Way,
    model::{BackendName, Escaped, Weight},
};

use super::{
    Exit,
    change::{Flags, Options, with_context},
    context::Context,
    failure::Failure,
    first,
    many::{Change, carry_out_each},
    observing::{self, Answers},
    outcome::Outcome,
    output::{self, Format},
    refusals::{not_written, refused},
    takeover::TakeOver,
    wait::WaitFlags,
};
use crate::documents::{
    Context as Known, Documents,
    edit::{self, Intent},
    view::{State, View},
};

const EXAMPLES: &str = "\
Examples:
  weightctl export >weights.toml            the weights of all backends
  weightctl apply -f weights.toml           show the differences, ask, write
  weightctl apply -f weights.toml --dry-run

The file is TOML, or JSON if its name ends in .json:
  [app1]
  weights = { blue = 90, green = 10 }
  [app2]
  split = { \"blue-*\" = 90, \"green-*\" = 10 }
  [app3]
  release = true

One transaction for each backend. Backends that the file does not name stay as they are.";

/// Write the weights of many backends from a file
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ApplyArgs {
    /// The file; - is stdin, with TOML
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Allow backends without a key in Consul, and servers that their documents do not name
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    take_over: TakeOver,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Print the weights of all backends as a file for `apply`
///
/// TOML, or JSON with `-o json`. `apply` of an export changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Only these backends
    #[arg(value_name = "BACKEND", value_parser = BackendName::new)]
    backends: Vec<BackendName>,
}

/// What the file says of one backend.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Weights(Weights),
    Split(Split),
    Release,
}

/// One backend in the file: weights, a split or a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Item {
    /// The weight of each server, 0 to 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<BTreeMap<String, u64>>,
    /// The share of each pattern of servers, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<Split>,
    /// Whether weightd stops managing it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    release: bool,
    /// Whether the weights pass the guards.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    force: bool,
}

/// Reads the file.
fn read(args: &ApplyArgs) -> Result<BTreeMap<String, Item>, Failure> {
    let name = args.file.display();
    let failed = |error: std::io::Error| Failure::caused(Exit::Usage, error).context(format!("cannot read {name}"));
    let text = if args.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(failed)?
    } else {
        fs::read_to_string(&args.file).map_err(failed)?
    };
    let invalid = |what: String| {
        let message = format!("{name} is invalid: {}", Escaped(what.trim()));
        Failure::new(Exit::Refused, message).hint("`weightctl export` prints a valid file; nothing was written")
    };
    if args.file.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))
    } else {
        toml::from_str(&text).map_err(|error| invalid(error.to_string().replace('\n', " ")))
    }
}

impl Item {
    /// The content, validated.
    fn asked(&self, backend: &str) -> Result<Asked, Failure> {
        let invalid = |what: String| {
            Failure::new(Exit::Refused, format!("backend `{}`: {what}; nothing was written", Escaped(backend)))
        };
        match (&self.weights, &self.split, self.release) {
            (None, None, false) => Err(invalid("it has none of `weights`, `split` and `release = true`".to_owned())),
            (None, None, true) => Ok(Asked::Release),
            (None, Some(split), false) => Ok(Asked::Split(split.clone())),
            (Some(weights), None, false) => {
                let parse = |(server, weight): (&String, &u64)| {
                    let name =
                        weightd_core::model::ServerName::new(server).map_err(|error| invalid(error.to_string()))?;
                    let weight = Weight::new(*weight).map_err(|error| invalid(format!("{name}: {error}")))?;
                    Ok((name, weight))
                };
                weights.iter().map(parse).collect::<Result<_, _>>().map(Asked::Weights)
            }
            _ => Err(invalid("it has more than one of `weights`, `split` and `release`".to_owned())),
        }
    }
}

/// Applies the file. The JSON output is a list of [`Outcome`]: of all backends that were written or need no write, also if
/// one of the writes failed.
pub(super) async fn apply(args: &ApplyArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    args.flags.check()?;
    // Everything is validated before anything is written.
    let mut items = Vec::new();
    for (name, item) in read(args)? {
        let backend = BackendName::new(&name).map_err(|error| Failure::caused(Exit::Refused, error))?;
        let asked = item.asked(&name)?;
        items.push((backend, asked, item.force));
    }
    let documents = context.documents()?;
    let mut changes = Vec::new();
    let backends: Vec<_> = items.iter().map(|(backend, ..)| backend.clone()).collect();
    let contexts = documents.contexts(&backends).await.map_err(not_written)?;
    let contexts = with_first(&items, contexts, args, &documents, context).await;
    for ((backend, asked, force), (known, heard)) in items.into_iter().zip(contexts) {
        let intent = with_context(args.flags.intent(Way::Apply, context.env), &known);
        let intent = Intent { create: args.create, force, ..intent };
        let edit = match &asked {
            Asked::Weights(weights) => edit::set(&backend, known.stored.as_ref(), weights, &intent),
            Asked::Split(split) => edit::split(&backend, known.stored.as_ref(), split, &intent),
            Asked::Release => edit::release(&backend, known.stored.as_ref(), &intent),
        };
        match edit {
            Ok(edit) => changes.push((backend, known, edit, heard)),
            Err(error) => return Err(refused(&documents, error).await.context(format!("backend {backend}"))),
        }
    }
    let changes = changes.iter().map(|(backend, known, edit, heard)| {
        let outcome = Outcome::of(backend, edit, &args.flags).heard(heard.as_ref());
        Change { backend, known, edit, lines: &[], outcome }
    });
    let (flags, waits, take_over) = (&args.flags, &args.wait, Some(args.take_over));
    let options = Options { flags, waits, take_over, serving: None, shift: None, heard: None };
    carry_out_each(context.format, &documents, changes.collect(), &options).await
}

/// The contexts of new backends with what the nodes have before the first document, and the answers of the nodes.
async fn with_first(
    items: &[(BackendName, Asked, bool)],
    contexts: Vec<Known>,
    args: &ApplyArgs,
    documents: &Documents,
    context: &Context<'_>,
) -> Vec<(Known, Option<Answers>)> {
    let is_first = |asked: &Asked, known: &Known| args.create && known.is_new() && *asked != Asked::Release;
    let count = items.iter().zip(&contexts).filter(|((_, asked, _), known)| is_first(asked, known)).count();
    if count > observing::MOST {
        output::note(&format!(
            "more than {} new backends: no rollback goes back to before their first documents",
            observing::MOST
        ));
    }
    if count == 0 || count > observing::MOST {
        return contexts.into_iter().map(|known| (known, None)).collect();
    }
    let nodes = first::nodes(documents).await;
    let by = args.flags.intent(Way::Apply, context.env).by;
    let ask = async |(backend, asked, _): &(BackendName, Asked, bool), known: Known| {
        let servers = match asked {
            Asked::Weights(weights) => weights.keys().cloned().collect(),
            Asked::Split(_) | Asked::Release => BTreeSet::new(),
        };
        if !is_first(asked, &known) {
            return (known, None);
        }
        first::observed(documents, backend, known, &nodes, &servers, &by).await
    };
    join_all(items.iter().zip(contexts).map(|(item, known)| ask(item, known))).await
}

/// Prints the file.
pub(super) async fn export(args: &ExportArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let everything = context.documents()?.all().await?;
    let mut items = BTreeMap::new();
    for stored in &everything.backends {
        if !args.backends.is_empty() && !args.backends.contains(&stored.backend) {
            continue;
        }
        let view = View::of(stored);
        let weights = |view: &View| {
            let weights = view.weights.iter().flatten();
            weights.map(|(server, weight)| (server.to_string(), u64::from(weight.get()))).collect()
        };
        let item = match view.state {
            State::Weights => Item { weights: Some(weights(&view)), force: view.force, ..Item::default() },
            State::Split => Item { split: view.split.clone(), force: view.force, ..Item::default() },
            State::Released => Item { release: true, ..Item::default() },
            State::Rejected => {
                output::note(&format!("left out: {}, because its document is rejected", stored.backend));
                continue;
            }
        };
        items.insert(stored.backend.to_string(), item);
    }
    for backend in args.backends.iter().filter(|backend| !items.contains_key(backend.as_str())) {
        output::note(&format!("there is no backend {backend} to export"));
    }
    match context.format {
        Format::Json => context.format.json(&items)?,
        Format::Table => {
            output::print(&toml::to_string(&items).map_err(|error| Failure::caused(Exit::Failure, error))?)?;
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_validated_before_anything_is_written() {
        let item =
            |text: &str| toml::from_str::<BTreeMap<String, Item>>(text).map(|mut items| items.remove("app").unwrap());
        let good = item("[app]\nweights = { blue = 90, green = 10 }").unwrap();
        assert!(matches!(good.asked("app").unwrap(), Asked::Weights(weights) if weights.len() == 2));
        assert_eq!(item("[app]\nrelease = true").unwrap().asked("app").unwrap(), Asked::Release);
        let split = "[app.split]\n\"blue-*\" = 90\n\"green-*\" = 9.5\ngray = 0.5\n";
        let parsed = item(split).unwrap();
        assert!(matches!(parsed.asked("app").unwrap(), Asked::Split(split) if split.shares().len() == 3));
        let exported = toml::to_string(&BTreeMap::from([("app", &parsed)])).unwrap();
        assert_eq!(item(&exported).unwrap(), parsed, "{exported}");
        for bad in [
            "[app]",
            "[app]\nweights = {a = 1}\nrelease = true",
            "[app]\nweights = {a = 257}",
            "[app]\nweights = {\"a b\" = 1}",
            "[app]\nweights = {a = 1}\nsplit = {a = 100}",
        ] {
            assert!(item(bad).unwrap().asked("app").is_err(), "{bad}");
        }
        assert!(item("[app]\nwieghts = {a = 1}").unwrap_err().to_string().contains("wieghts"));
        assert!(item("[app]\nweights = {a = -1}").is_err());
        assert!(item("[app]\nsplit = {a = 99}").is_err());
    }
}
