//! One write as one transaction: the document or the leaves, the history, and the checks of the freezes.
//!
//! Document and leaves come first, so that the position of a failed operation shows what it belongs to. A clash on history
//! or freeze alone is judged again; a clash on the document is a conflict.

use weightd_core::{
    fleet::{Freeze, Keys},
    history::Entry,
    model::{BackendName, Root},
};

use super::context::{Context, Optional};
use crate::consul::client::{FailedOperation, Operation};

/// An optional part of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The entry of the history.
    History,
    /// The check of the freeze of all backends.
    FreezeAll,
    /// The check of the freeze of this backend.
    Freeze,
}

/// A part that the write went without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// The part.
    pub part: Part,
    /// Why.
    pub why: String,
}

impl Without {
    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let what = match self.part {
            Part::History => "the history has no entry for this write",
            Part::FreezeAll => "the freeze of all backends was not checked",
            Part::Freeze => "the freeze of this backend was not checked",
        };
        format!("{what}: {}", self.why)
    }
}

/// The transaction of one write.
#[derive(Debug)]
pub(super) struct Commit {
    /// The operations on document and leaves.
    documents: usize,
    /// All operations.
    pub(super) operations: Vec<Operation>,
    /// What each operation behind those belongs to.
    parts: Vec<Part>,
    /// The parts that are left out.
    pub(super) without: Vec<Without>,
}

impl Commit {
    /// The transaction for `documents`, with `entry` in the history. `left_out` are parts that Consul denied before. A
    /// write that passes freezes does not check them.
    pub(super) fn of(
        documents: Vec<Operation>,
        entry: &Entry,
        context: &Context,
        (root, backend): (&Root, &BackendName),
        passes_freeze: bool,
        left_out: &[Without],
    ) -> Self {
        let mut commit =
            Self { documents: documents.len(), operations: documents, parts: Vec::new(), without: left_out.to_vec() };
        let keys = Keys(root);
        let denied = |part| left_out.iter().any(|without| without.part == part);
        if !denied(Part::History) {
            match context.history() {
                Ok((history, index)) => {
                    let value = history.append(context.before(), entry.clone()).to_value();
                    commit.push(Part::History, Operation::Cas { key: keys.history(backend), value, index });
                }
                Err(why) => commit.without.push(Without { part: Part::History, why: why.to_owned() }),
            }
        }
        if passes_freeze {
            return commit;
        }
        let freezes = [
            (Part::FreezeAll, keys.freeze_all(), &context.freeze_all),
            (Part::Freeze, keys.freeze(backend), &context.freeze),
        ];
        for (part, key, freeze) in freezes {
            if denied(part) {
                continue;
            }
            match still(key, freeze) {
                Ok(operation) => commit.push(part, operation),
                Err(why) => commit.without.push(Without { part, why: why.to_owned() }),
            }
        }
        commit
    }

    /// The transaction for `documents` alone, and `history` where it is not denied.
    pub(super) fn alone(documents: Vec<Operation>, history: Option<Operation>) -> Self {
        let mut commit =
            Self { documents: documents.len(), operations: documents, parts: Vec::new(), without: Vec::new() };
        if let Some(history) = history {
            commit.push(Part::History, history);
        }
        commit
    }

    fn push(&mut self, part: Part, operation: Operation) {
        self.parts.push(part);
        self.operations.push(operation);
    }

    /// What the failed operations mean.
    pub(super) fn judge(&self, failed: &[FailedOperation]) -> Failed {
        let of_documents = |failed: &&FailedOperation| failed.position < self.documents;
        if let Some(denied) = failed.iter().filter(of_documents).find(|failed| failed.denied) {
            return Failed::Denied(denied.what.clone());
        }
        let part = |failed: &FailedOperation| {
            let part = failed.position.checked_sub(self.documents).and_then(|at| self.parts.get(at))?;
            Some(Without { part: *part, why: "the token may not write it".to_owned() })
        };
        let denied: Vec<_> = failed.iter().filter(|failed| failed.denied).filter_map(part).collect();
        // Consul checks all rights before it runs any operation.
        if !denied.is_empty() {
            return Failed::WithoutParts(denied);
        }
        if failed.iter().any(|failed| failed.position < self.documents) || failed.is_empty() {
            return Failed::Conflict;
        }
        Failed::ReadAgain
    }
}

/// The operation that fails if a freeze is not as it was read; why there is none, if it could not be read.
pub(super) fn still(key: String, freeze: &Optional<Freeze>) -> Result<Operation, &str> {
    match freeze {
        Optional::Present(_, index) => Ok(Operation::CheckIndex { key, index: *index }),
        // An absent key cannot be checked, so the first write that may create it does.
        Optional::Absent => Ok(Operation::Cas { key, value: Freeze::default().to_value(), index: 0 }),
        Optional::Off(why) => Err(why),
    }
}

/// What a failed transaction means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The token may not write the document: Consul's words.
    Denied(String),
    /// Another writer changed the document.
    Conflict,
    /// Only the history or a freeze changed.
    ReadAgain,
    /// The token may not write these optional parts.
    WithoutParts(Vec<Without>),
}

#[cfg(test)]
mod tests {
    use weightd_core::history::{History, To, Way};

    use super::*;

    fn context(history: Optional<History>, freeze: Optional<Freeze>) -> Context {
        Context { history, freeze_all: freeze.clone(), freeze, ..Context::from(None) }
    }

    fn commit(context: &Context, passes_freeze: bool, left_out: &[Without]) -> Commit {
        let documents = vec![Operation::Cas { key: "d".to_owned(), value: Vec::new(), index: 0 }];
        let (root, backend) = (Root::default(), BackendName::new("app").unwrap());
        let entry = Entry::new(Way::Set, To::Release);
        Commit::of(documents, &entry, context, (&root, &backend), passes_freeze, left_out)
    }

    fn failed(position: usize, denied: bool) -> FailedOperation {
        FailedOperation { position, denied, what: "no".to_owned() }
    }

    #[test]
    fn a_write_is_document_history_and_the_checks_of_both_freezes() {
        let first = commit(&context(Optional::Absent, Optional::Absent), false, &[]);
        assert_eq!(first.operations.len(), 4);
        assert!(matches!(&first.operations[1], Operation::Cas { key, index: 0, .. } if key == "weightd/history/app"));
        assert!(
            matches!(&first.operations[2], Operation::Cas { key, value, index: 0 } if key == "weightd/freeze" && value == b"{}")
        );
        let later = commit(&context(Optional::Absent, Optional::Present(Freeze::default(), 7)), false, &[]);
        assert!(matches!(&later.operations[3], Operation::CheckIndex { key, index: 7 } if key == "weightd/freeze/app"));
        assert_eq!(commit(&context(Optional::Absent, Optional::Absent), true, &[]).operations.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_named() {
        let off = || Optional::Off("it has version 2".to_owned());
        let without = commit(&context(Optional::Off("too large".to_owned()), off()), false, &[]);
        assert_eq!(without.operations.len(), 1);
        let parts: Vec<_> = without.without.iter().map(|without| without.part).collect();
        assert_eq!(parts, [Part::History, Part::FreezeAll, Part::Freeze]);
    }

    #[test]
    fn the_position_of_a_failure_decides_what_it_means() {
        let commit = commit(&context(Optional::Absent, Optional::Absent), false, &[]);
        assert_eq!(commit.judge(&[failed(0, true)]), Failed::Denied("no".to_owned()));
        assert_eq!(commit.judge(&[failed(0, false), failed(1, false)]), Failed::Conflict);
        assert_eq!(commit.judge(&[failed(1, false)]), Failed::ReadAgain);
        assert_eq!(commit.judge(&[failed(3, false)]), Failed::ReadAgain);
        let Failed::WithoutParts(parts) = commit.judge(&[failed(1, true), failed(2, true)]) else {
            panic!("not denied")
        };
        assert_eq!(parts.iter().map(|without| without.part).collect::<Vec<_>>(), [Part::History, Part::FreezeAll]);
    }
}
