use super::{
    Exit,
    context::Context,
    failure::Failure,
    output,
    table::{Align, Cell, Table, Tone},
};
use crate::documents::{
    stored::Layout,
    view::{Overview, State, foreign},
};

/// List the backends, one line each
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// In JSON an [`Overview`], the same as of `get`.
pub(super) async fn run(_: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    let everything = documents.all().await?;
    let overview = Overview::of(&everything);
    context.format.data(&overview, table)?;
    overview.notes(documents.prefix(), everything.filtered).iter().for_each(|note| output::note(note));
    Ok(Exit::Ok)
}

fn table(overview: &Overview) -> String {
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
            State::Weights => Tone::Plain,
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
    table.render("")
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
        insta::assert_snapshot!(anstream::adapter::strip_str(&table(&overview)), @r"
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
              "reason": "the backend's name is invalid: the name `a b` contains ` `; HAProxy's names are made of A-Z a-z 0-9 _ . : -",
              "remedy": "delete the key; write the backend's name as haproxy.cfg has it"
            }
          ],
          "stray_total": 1
        }
        "#);
    }
}
