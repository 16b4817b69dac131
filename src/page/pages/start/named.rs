//! What is said of nodes before a start: their names only to a person who may read `nodes/`, their number to the others.

use weightd_core::{
    fleet::NodeName,
    rollout::start::{Caution, Difference, Refusal},
};

use super::super::super::view::{
    row::{names, sentence_of},
    words::counted,
};

/// A reason why a rollout cannot begin, as a sentence.
pub(super) fn refusal(refusal: &Refusal, names_nodes: bool) -> String {
    let text = match refusal {
        _ if names_nodes => refusal.to_string(),
        Refusal::ToUnusable(nodes) => format!("no server of the new side is usable on {}", count(nodes)),
        Refusal::FromUnusable(nodes) => format!("no server of the old side is usable on {}", count(nodes)),
        Refusal::Differs(difference) => differs(difference),
        _ => refusal.to_string(),
    };
    sentence_of(&text)
}

/// What to do about it on this page.
pub(super) fn remedy(refusal: &Refusal) -> String {
    let text = match refusal {
        Refusal::Leaves | Refusal::Differs(_) => {
            "choose \u{201c}Write shares by side first\u{201d} below; it shows the shares before it writes them"
        }
        Refusal::NoFrom => "give the servers of the old side some traffic first, with Set weights",
        Refusal::NoSteps => "choose a plan with steps",
        Refusal::Blind => "use a plan with a named check of a metrics system, or mode watch",
        Refusal::TooFewRequests(_) => "use a plan with larger shares and longer bakes, or mode watch",
        Refusal::AboveSlo { .. } => {
            "correct the errors first, raise `slo` in the plan, or choose \u{201c}Allow twice the errors\u{201d} below"
        }
        _ => return refusal.remedy(),
    };
    text.to_owned()
}

/// What a person should know before a rollout begins, as a sentence.
pub(super) fn caution(caution: &Caution, names_nodes: bool) -> String {
    let text = match caution {
        _ if names_nodes => caution.to_string(),
        Caution::Silent(nodes) => format!("not checked, because they do not answer: {}", count(nodes)),
        Caution::Down(nodes) => format!("not checked, because a HAProxy cannot be read: {}", count(nodes)),
        _ => caution.to_string(),
    };
    sentence_of(&text)
}

/// That nodes did not answer.
pub(super) fn silent(nodes: &[NodeName], names_nodes: bool) -> String {
    if names_nodes {
        let names = names(nodes.iter().map(NodeName::as_str));
        format!("These nodes did not say which servers they have: {names}")
    } else {
        format!("{} did not say which servers they have", count(nodes))
    }
}

fn differs(Difference { node: _, server, document, split }: &Difference) -> String {
    let what = match server {
        Some(server) => format!("`{server}` has {document:.1} % of its side"),
        None => format!("the new side has {document:.1} %"),
    };
    format!("the document is no split of the two sides: on a node, {what}, and a split gives it {split:.1} %")
}

fn count(nodes: &[NodeName]) -> String {
    counted(nodes.len(), "node")
}

#[cfg(test)]
mod tests;
