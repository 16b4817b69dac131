use weightd_core::model::BackendName;

use super::{
    Exit,
    context::Context,
    failure::Failure,
    output::{self, Format},
    refusals::no_such,
    table::{Align, Cell, Table, Tone},
};
use crate::documents::{
    stored::Layout,
    view::{Overview, State, foreign},
};

/// List the backends, one line each
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these backends
    #[arg(value_name = "BACKEND", value_parser = BackendName::new)]
    backends: Vec<BackendName>,
}

/// Lists the backends. The JSON output is an [`Overview`], as from `get`.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let everything = documents.all().await?;
    let mut overview = Overview::of(&everything);
    for backend in &args.backends {
        if !overview.backends.iter().any(|view| view.backend == *backend) {
            return Err(no_such(&documents, backend, "`weightctl list` shows the backends that exist").await);
        }
    }
    let all = args.backends.is_empty();
    overview.backends.retain(|view| all || args.backends.contains(&view.backend));
    context.format.data(&overview, |overview| table(overview, output::columns()))?;
    if context.format == Format::Table {
        output::message(&summary(&overview));
    }
    if all {
        overview.notes(documents.prefix(), everything.filtered).iter().for_each(|note| output::note(note));
    }
    Ok(Exit::Ok)
}

/// The number of backends, and the number in each unusual state.
fn summary(overview: &Overview) -> String {
    let count = |state| overview.backends.iter().filter(|view| view.state == state).count();
    let others = [(count(State::Released), "released"), (count(State::Rejected), "rejected")];
    let others: Vec<_> = others.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let total = match overview.backends.len() {
        1 => "1 backend".to_owned(),
        n => format!("{n} backends"),
    };
    if others.is_empty() { total } else { format!("{total}: {}", others.join(", ")) }
}

fn table(overview: &Overview, columns: Option<usize>) -> String {
    if overview.backends.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("LAYOUT", Align::Left),
        ("STATE", Align::Left),
        ("BY", Align::Left),
        ("AT", Align::Left),
    ]);
    for view in &overview.backends {
        let layout = match view.layout {
            Layout::Document => "document",
            Layout::Leaves => "leaves",
            Layout::Both => "both",
        };
        let tone = match view.state {
            State::Weights | State::Split => Tone::Plain,
            State::Released => Tone::Faint,
            State::Rejected => Tone::Bad,
        };
        table.row([
            view.backend.as_str().into(),
            layout.into(),
            Cell::new(view.summary(), tone),
            foreign(view.by.as_ref()).into(),
            foreign(view.at.as_ref()).into(),
        ]);
    }
    table.render_within("", columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::stored::tests::everything;

    #[test]
    fn backends_as_a_list() {
        let many = format!(
            r#"{{"weights":{{{}}}}}"#,
            (10..30).map(|n| format!(r#""s{n}":{n}"#)).collect::<Vec<_>>().join(",")
        );
        let overview = Overview::of(&everything(&[
            ("app1", r#"{"weights":{"blue":90,"green":10},"by":"alice","at":"2026-11-21T10:00:00Z"}"#),
            ("app2/blue", "1"),
            ("app2/green", "2"),
            ("app3", r#"{"release":true,"by":"bob"}"#),
            ("app4", r#"{"weights":{"blue":1}}"#),
            ("app4/blue", "2"),
            ("app5", r#"{"weights":{"blue":0},"force":true}"#),
            ("app6", &many),
        ]));
        assert_eq!(summary(&overview), "6 backends: 1 released, 1 rejected");
        insta::assert_snapshot!(anstream::adapter::strip_str(&table(&overview, None)), @r"
        BACKEND  LAYOUT    STATE                                                                BY     AT
        app1     document  blue=90 green=10                                                     alice  2026-11-21T10:00:00Z
        app2     leaves    blue=1 green=2
        app3     document  released                                                             bob
        app4     both      rejected
        app5     document  blue=0 (force)
        app6     document  s10=10 s11=11 s12=12 s13=13 s14=14 s15=15 s16=16 s17=17 and 12 more
        ");
        insta::assert_snapshot!(serde_json::to_string_pretty(&Overview::of(&everything(&[("a b", "1")]))).unwrap(), @r#"
        {
          "backends": [],
          "stray": [
            {
              "key": "weightd/weights/a b",
              "reason": "the backend's name is invalid: the name `a b` contains ` `; valid characters are A-Z a-z 0-9 _ . : -",
              "remedy": "delete the key; use the name of the backend in haproxy.cfg"
            }
          ],
          "stray_total": 1
        }
        "#);
    }
}
