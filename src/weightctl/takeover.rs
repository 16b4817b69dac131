//! A change of the weights while a rollout runs: it is named, and in mode auto a person must say that it may end the rollout.

use weightd_core::{
    model::BackendName,
    rollout::{Mode, Phase, State},
};

use super::{Exit, change::answered_with_yes, failure::Failure, output};
use crate::documents::{
    Documents,
    rollouts::{RolloutRead, Standing},
};

/// The flag of a change that may end a rollout.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct TakeOver {
    /// End the rollout of the backend, if one runs in mode auto
    #[arg(long)]
    pub(super) take_over: bool,
}

/// Names the rollout of the backend, and asks whether a change may end it. A change in mode watch and guard does not: the
/// rollout adopts it.
pub(super) async fn ask(
    documents: &Documents,
    backend: &BackendName,
    take_over: TakeOver,
    dry_run: bool,
    asks: bool,
) -> Result<(), Failure> {
    let Some(read) = read(documents, backend).await else { return Ok(()) };
    let (said, ends) = match read.standing() {
        Standing::None | Standing::Ended(_) => return Ok(()),
        Standing::Unreadable(key, bad) => {
            output::note(&format!("{backend} may have a rollout: its {key} cannot be read: {bad}"));
            return Ok(());
        }
        Standing::Pending(spec) => {
            (format!("{} started a rollout at {}, and no controller has begun it", spec.by, spec.at), false)
        }
        Standing::Active(state) => (sentence(&read, state), state.mode == Mode::Auto && ends(state.phase)),
    };
    output::note(&format!("{backend} has a rollout: {said}"));
    if !ends || dry_run || take_over.take_over {
        return Ok(());
    }
    let refused = |exit, what: &str| {
        Failure::new(exit, format!("{what}; nothing was written")).hint(format!(
            "`weightctl rollout abort {backend}` goes back and ends it; add --take-over to end it with this change"
        ))
    };
    if !asks {
        return Err(refused(Exit::Refused, &format!("this change would end the rollout of `{backend}`")));
    }
    if answered_with_yes("This change ends the rollout. End it? [y/N]").await? {
        return Ok(());
    }
    Err(refused(Exit::Failure, "cancelled"))
}

/// Whether a foreign document ends a rollout in mode auto: before it moves, it begins again from the new weights.
const fn ends(phase: Phase) -> bool {
    matches!(phase, Phase::Shift | Phase::Bake | Phase::RollingBack)
}

fn sentence(read: &RolloutRead, state: &State) -> String {
    let by = read.spec.get().map(|spec| format!(", started by {} at {}", spec.by, spec.at)).unwrap_or_default();
    let adopts = match state.mode {
        Mode::Watch | Mode::Guard => "; it judges these weights from now on",
        Mode::Auto if ends(state.phase) => "",
        Mode::Auto => "; it begins again from these weights",
    };
    let (mode, phase, share) = (state.mode.as_str(), state.phase.as_str(), state.share.percent());
    format!("{mode}, {phase}, {share} %{by}{adopts}")
}

/// The rollout; none if it cannot be read: says why.
async fn read(documents: &Documents, backend: &BackendName) -> Option<RolloutRead> {
    match documents.rollout_now(backend).await {
        Ok(read) => Some(read),
        Err(error) => {
            let Failure { error, hint, .. } = Failure::from(error);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            output::note(&format!("whether a rollout of {backend} runs is not known: {error:#}{hint}"));
            None
        }
    }
}
