//! The edits of `shift` and `rollback`, for the command line and for the page: the same checks for both. Pure.

use weightd_core::{
    desired::{Invalid, Kind, Pattern, Weights},
    history::To,
    model::BackendName,
    rollback::Target,
    shift::{self, Reported, Shift, Wanted, shift_split, split_from, split_given},
};

use super::{
    context::Context,
    edit::{self, Edit, EditError, Intent},
    stored::{Content, Stored},
};

/// How a share is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// As shares by pattern, also where the document has weights.
    pub split: bool,
    /// The closest weights, even if they miss a share by more than one point or stop a server.
    pub approximate: bool,
}

/// The computed change of a share.
#[derive(Debug)]
pub struct Shifted {
    /// The edit.
    pub edit: Edit,
    /// The weights and their error; none for a split, which each node expands for itself.
    pub shift: Option<Shift>,
}

/// The change of a share is refused.
#[derive(Debug, thiserror::Error)]
pub enum ShiftError {
    /// The shares contradict each other, or name no server.
    #[error("{0}")]
    Shares(shift::Refused),
    /// No weights are close to the shares, or rounding would stop a server: the nearest ones.
    #[error("no weights give these shares")]
    NotClose(Box<Shift>),
    /// The edit is refused.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// There are no weights.
    #[error("backend `{0}` has no weights")]
    NoWeights(BackendName),
}

impl From<shift::Refused> for ShiftError {
    fn from(refused: shift::Refused) -> Self {
        Self::Shares(refused)
    }
}

/// The edit that gives the sides in `asked` their shares, with the servers that the nodes report. Backends with a split stay
/// splits.
///
/// # Errors
/// [`ShiftError`].
pub fn shift_edit(
    backend: &BackendName,
    stored: Option<&Stored>,
    asked: &[(Pattern, Wanted)],
    reported: &Reported,
    how: How,
    intent: &Intent,
) -> Result<Shifted, ShiftError> {
    let of_split = |split: &weightd_core::desired::Split| -> Result<Shifted, ShiftError> {
        Ok(Shifted { edit: edit::split(backend, stored, split, intent)?, shift: None })
    };
    let weights: Option<Weights> = match stored.map(|stored| &stored.content) {
        Some(Content::Document(document)) => match &document.kind {
            Kind::Weights(weights) => Some(weights.clone()),
            Kind::Split(split) => return of_split(&shift_split(split, asked)?),
            Kind::Release => None,
        },
        Some(Content::Leaves(leaves)) => Some(leaves.iter().map(|(name, leaf)| (name.clone(), leaf.weight)).collect()),
        Some(Content::Rejected(_)) | None => None,
    };
    let Some(weights) = weights else {
        if intent.create {
            return of_split(&split_given(asked)?);
        }
        // It says why there are no weights to shift.
        edit::set(backend, stored, &Weights::new(), intent)?;
        return Err(ShiftError::NoWeights(backend.clone()));
    };
    if how.split {
        return of_split(&split_from(&weights, asked)?);
    }
    let shift = shift::shift(&weights, reported, asked)?;
    if !shift.is_close() && !how.approximate {
        return Err(ShiftError::NotClose(Box::new(shift)));
    }
    // HAProxy has the servers that the document does not name.
    let intent = &Intent { create: intent.create || !shift.added.is_empty(), ..intent.clone() };
    Ok(Shifted { edit: edit::set(backend, stored, &shift.weights, intent)?, shift: Some(shift) })
}

/// The edit that goes back to `target`.
///
/// # Errors
/// [`EditError`].
pub fn rollback_edit(
    backend: &BackendName,
    known: &Context,
    target: &Target,
    intent: Intent,
) -> Result<Edit, EditError> {
    let intent = Intent { create: true, target: target.index, raised: target.raised.clone(), ..intent };
    let intent = known.intent(intent);
    match &target.document {
        To::Weights(weights) => edit::set(backend, known.stored.as_ref(), weights, &intent),
        To::Split(split) => edit::split(backend, known.stored.as_ref(), split, &intent),
        To::Release => edit::release(backend, known.stored.as_ref(), &intent),
        // The rule gives no other targets.
        To::Gone | To::Omitted | To::Unreadable(_) => Err(EditError::Invalid(Invalid::NoInstruction)),
    }
}
