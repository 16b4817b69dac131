//! The weights of a split: each HAProxy computes them for its own servers, so the nodes are asked for those.

use weightd_core::{
    desired::{Split, Weights},
    expand::expand,
    fleet::NodeName,
    forecast::observed,
    model::{BackendName, Escaped},
    reasons::list,
    users::{Bucket, Sides, UserId},
};

use super::{Args, sides};
use crate::{
    documents::Documents,
    weightctl::{
        Exit,
        change::user,
        context::Context,
        failure::Failure,
        observing::{self, Answers},
        output,
    },
};

/// The hint where the weights are not known.
const GIVE: &str = "give the weights that HAProxy has: --weights blue=90,green=10";

/// The weights of each HAProxy that was read; at least one.
pub(super) struct Places(Vec<(String, Weights)>);

impl Places {
    /// Asks the nodes, for at most 1 s, and expands the split for the servers of each HAProxy. Says which nodes are left out.
    ///
    /// Fails if no HAProxy has told its servers.
    pub(super) async fn ask(
        documents: &Documents,
        backend: &BackendName,
        split: &Split,
        context: &Context<'_>,
    ) -> Result<Self, Failure> {
        let unknown = |why: &str| {
            let message = format!("`{backend}` is a split, and the servers of the nodes are not known: {why}");
            Failure::new(Exit::Refused, message).hint(GIVE)
        };
        let asked = observing::counting(&documents.nodes(None).await?);
        if asked.is_empty() {
            return Err(unknown("no node reports"));
        }
        let Some(answers) = observing::ask(documents, backend, &asked, user(context.env)).await else {
            return Err(unknown("the nodes cannot be asked"));
        };
        let (places, without) = expanded(&answers, split);
        if places.is_empty() && answers.nobody_has_it() {
            return Err(unknown("no HAProxy of any node has the backend"));
        }
        if places.is_empty() {
            return Err(unknown(&without.join("; ")));
        }
        for without in &without {
            output::note(&format!("the answer leaves out {without}"));
        }
        Ok(Self(places))
    }

    /// The sides of the first HAProxy, and the names of all. Says so where other HAProxies have other weights.
    ///
    /// Fails if a user is not on the same side on all of them. No message names a user.
    pub(super) fn sides(&self, args: &Args, users: &[UserId]) -> Result<(Sides, Vec<String>), Failure> {
        let mut each = Vec::new();
        for (place, weights) in &self.0 {
            each.push((place, sides(args, weights)?));
        }
        let Some((_, first)) = each.first().cloned() else {
            return Err(Failure::new(Exit::Refused, "no HAProxy has told its servers").hint(GIVE));
        };
        if each.iter().any(|(_, sides)| sides.buckets() != first.buckets()) {
            let part = |(place, sides): &(&String, Sides)| {
                let (to, all) = sides.weight();
                format!("{to} of {all} on {}", Escaped(place))
            };
            let parts: Vec<_> = each.iter().map(part).collect();
            let differ = format!(
                "the weights differ between the HAProxies: the new side has {}",
                list(parts.iter().map(String::as_str))
            );
            let same = |user: &UserId| {
                let bucket = Bucket::of(&args.backend, args.salt.as_ref(), user);
                each.iter().all(|(_, sides)| sides.of(bucket) == first.of(bucket))
            };
            let others = users.iter().filter(|user| !same(user)).count();
            if others > 0 {
                let users = output::counted(others, "user");
                let message = format!("{differ}; the side of {users} depends on the HAProxy");
                return Err(Failure::new(Exit::Refused, message)
                    .hint("give the weights of one HAProxy: --weights blue=90,green=10"));
            }
            output::note(&format!("{differ}; the users are on the same side on each"));
        }
        Ok((first, self.0.iter().map(|(place, _)| place.clone()).collect()))
    }
}

/// The weights of each HAProxy, and what is left out, with the reason.
fn expanded(answers: &Answers, split: &Split) -> (Vec<(String, Weights)>, Vec<String>) {
    let (mut places, mut without) = (Vec::new(), Vec::new());
    for (node, instance) in answers.instances() {
        let several = answers.instances().filter(|(other, _)| *other == node).count() > 1;
        let place = if several { format!("{} on {node}", instance.name) } else { node.to_string() };
        let why = match (&instance.down, expand(split, &observed(instance))) {
            (Some(why), _) => format!("it cannot be read now ({})", Escaped(why)),
            (None, Err(misfit)) => misfit.to_string(),
            (None, Ok(expansion)) => {
                places.push((place, expansion.weights));
                continue;
            }
        };
        without.push(format!("{}: {why}", Escaped(&place)));
    }
    without.extend(answers.no_data.iter().map(|(node, why)| format!("{node}: {}", Escaped(why))));
    let silent: Vec<_> = answers.silent().map(NodeName::as_str).collect();
    if !silent.is_empty() {
        without.push(format!("{}: no answer within 1 s", list(silent.into_iter())));
    }
    (places, without)
}
