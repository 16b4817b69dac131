use weightd_core::{model::BackendName, share::Percent};

use super::{
    Exit,
    context::Context,
    failure::Failure,
    observing,
    output::{self, Format},
    refusals::no_such,
    serving,
    table::{Align, Cell, Table, Tone},
};
use crate::documents::{
    Documents,
    view::{Overview, State, View, foreign},
};

/// Show weights and shares: of one backend, or of all
///
/// A share is the part of the new traffic that a server gets. If this host's weightd follows the backend, shares count
/// the servers that take traffic on its HAProxy. Else shares count all servers in the document; they are correct if all
/// are up and none is a backup server. For one backend, it then asks the nodes, for at most 1 s and if the token may, why
/// shares differ from the weights. With -o json it does not ask.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend; without it all backends
    #[arg(value_parser = BackendName::new)]
    backend: Option<BackendName>,
}

/// The JSON output is a [`View`] for one backend, an [`Overview`] for all.
pub(super) async fn run(args: &Args, context: &Context<'_>) -> Result<Exit, Failure> {
    let documents = context.documents()?;
    match &args.backend {
        Some(backend) => one(backend, &documents, context).await,
        None => all(&documents, context.format).await,
    }
}

async fn one(backend: &BackendName, documents: &Documents, context: &Context<'_>) -> Result<Exit, Failure> {
    let (stored, serving) = tokio::join!(documents.backend(backend), serving::of(context, backend));
    let Some(stored) = stored? else {
        return Err(no_such(documents, backend, "`weightctl list` shows the backends that exist").await);
    };
    let mut view = View::of(&stored);
    if let Some(serving) = &serving {
        view.limit_shares_to(&serving.active);
    }
    context.format.data(&view, |view| table(std::slice::from_ref(view), output::columns()))?;
    match &serving {
        Some(serving) => serving.notes(),
        // On a host without a weightd that has the backend, the nodes know. A program asks `status`.
        None if context.format == Format::Table && view.rejected.is_none() => {
            observing::say_untrue(documents, &view).await;
        }
        None => {}
    }
    match &view.rejected {
        None => Ok(Exit::Ok),
        Some(rejected) => Err(Failure::new(Exit::Failure, rejected.sentence()).hint(rejected.remedy.clone())),
    }
}

async fn all(documents: &Documents, format: Format) -> Result<Exit, Failure> {
    let everything = documents.all().await?;
    let overview = Overview::of(&everything);
    format.data(&overview, |overview| table(&overview.backends, output::columns()))?;
    overview.notes(documents.prefix(), everything.filtered).iter().for_each(|note| output::note(note));
    Ok(Exit::Ok)
}

/// One line per server, sorted by backend.
fn table(views: &[View], columns: Option<usize>) -> String {
    if views.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        ("BACKEND", Align::Left),
        ("SERVER", Align::Left),
        ("WEIGHT", Align::Right),
        ("SHARE", Align::Right),
        ("BY", Align::Left),
        ("AT", Align::Left),
        ("REASON", Align::Left),
    ]);
    for view in views {
        let backend = || Cell::from(view.backend.as_str());
        let origin = || [&view.by, &view.at, &view.reason].map(|text| Cell::from(foreign(text.as_ref())));
        let [by, at, reason] = origin();
        if let Some(split) = &view.split {
            let mut origin = [by, at, reason];
            for (pattern, share) in split.shares() {
                let [by, at, reason] = std::mem::take(&mut origin);
                let share = Percent(share.percent()).to_string().into();
                table.row([backend(), pattern.as_str().into(), "split".into(), share, by, at, reason]);
            }
            continue;
        }
        let Some(weights) = &view.weights else {
            let (state, tone) = match view.state {
                State::Rejected => ("rejected", Tone::Bad),
                State::Released | State::Weights | State::Split => ("released", Tone::Faint),
            };
            table.row([backend(), "-".into(), Cell::new(state, tone), "-".into(), by, at, reason]);
            continue;
        };
        let mut origin = [by, at, reason];
        for (server, weight) in weights {
            // Only the first line of a backend shows author, time and reason.
            let [by, at, reason] = std::mem::take(&mut origin);
            let share = view.share(server).into();
            table.row([backend(), server.as_str().into(), weight.to_string().into(), share, by, at, reason]);
        }
    }
    table.render_within("", columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::stored::tests::everything;

    fn shown(keys: &[(&str, &str)]) -> String {
        let text = table(&Overview::of(&everything(keys)).backends, None);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn backends_as_a_table() {
        let document =
            r#"{"weights":{"blue":90,"green":10},"by":"alice","reason":"10 % canary","at":"2026-11-21T10:00:00Z"}"#;
        insta::assert_snapshot!(shown(&[
            ("app1", document),
            ("app2/blue", "1"),
            ("app2/green", "2"),
            ("app3", r#"{"release":true,"by":"bob"}"#),
            ("app4", "50%"),
            ("app5", r#"{"weights":{"blue":0},"force":true,"by":"\u001b[2J"}"#),
            ("app6", r#"{"split":{"blue-*":90,"green-*":9.5,"gray":0.5},"by":"bob"}"#),
        ]), @r"
        BACKEND  SERVER     WEIGHT  SHARE  BY         AT                    REASON
        app1     blue           90    90%  alice      2026-11-21T10:00:00Z  10 % canary
        app1     green          10    10%
        app2     blue            1  33.3%
        app2     green           2  66.7%
        app3     -        released      -  bob
        app4     -        rejected      -
        app5     blue            0      -  \u{1b}[2J
        app6     blue-*      split    90%  bob
        app6     gray        split   0.5%
        app6     green-*     split   9.5%
        ");
    }

    #[test]
    fn without_backends_the_table_is_empty() {
        assert_eq!(shown(&[]), "");
    }
}
