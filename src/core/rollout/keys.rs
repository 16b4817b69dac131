//! The keys of rollouts below the root, by kind: one may watch a kind without being woken by the others.

use crate::model::{BackendName, Root};

/// The keys of rollouts.
#[derive(Debug, Clone, Copy)]
pub struct RolloutKeys<'r>(pub &'r Root);

/// The most bytes of `rollouts/spec/<b>` and of `plans/<name>`.
pub const MAX_SPEC: usize = 8 * 1024;
/// The most bytes of `rollouts/request/<b>` and of `rollouts/approval/<b>`.
pub const MAX_REQUEST: usize = 2 * 1024;
/// The most bytes of `rollouts/state/<b>`.
pub const MAX_STATE: usize = 8 * 1024;
/// The most bytes of `rollouts/evidence/<b>`.
pub const MAX_EVIDENCE: usize = 16 * 1024;
/// The most bytes of `rollouts/log/<b>`.
pub const MAX_LOG: usize = 32 * 1024;

impl RolloutKeys<'_> {
    /// `rollouts/spec/`.
    pub fn specs(&self) -> String {
        self.below("rollouts/spec/")
    }

    /// `rollouts/request/`.
    pub fn requests(&self) -> String {
        self.below("rollouts/request/")
    }

    /// `rollouts/approval/`.
    pub fn approvals(&self) -> String {
        self.below("rollouts/approval/")
    }

    /// `rollouts/state/`.
    pub fn states(&self) -> String {
        self.below("rollouts/state/")
    }

    /// `rollouts/evidence/`.
    pub fn evidences(&self) -> String {
        self.below("rollouts/evidence/")
    }

    /// `rollouts/log/`.
    pub fn logs(&self) -> String {
        self.below("rollouts/log/")
    }

    /// `plans/`.
    pub fn plans(&self) -> String {
        self.below("plans/")
    }

    /// `rollouts/spec/<b>`: what the rollout is. Written by people.
    pub fn spec(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/spec/{backend}"))
    }

    /// `rollouts/request/<b>`: what a person wants of it.
    pub fn request(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/request/{backend}"))
    }

    /// `rollouts/approval/<b>`: that a person approved a step.
    pub fn approval(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/approval/{backend}"))
    }

    /// `rollouts/state/<b>`: where it is. Written by the leader, with the weights.
    pub fn state(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/state/{backend}"))
    }

    /// `rollouts/evidence/<b>`: what the judge knows.
    pub fn evidence(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/evidence/{backend}"))
    }

    /// `rollouts/log/<b>`: what happened.
    pub fn log(&self, backend: &BackendName) -> String {
        self.below(&format!("rollouts/log/{backend}"))
    }

    /// `plans/<name>`: plans of operators.
    pub fn plan(&self, name: &str) -> String {
        self.below(&format!("plans/{name}"))
    }

    /// `controller`: the lock of the leader.
    pub fn controller(&self) -> String {
        self.below("controller")
    }

    fn below(self, tail: &str) -> String {
        format!("{}{tail}", self.0.as_str())
    }
}
