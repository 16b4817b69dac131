//! Rollouts in Consul, for people: reads the keys, and writes what people write. It needs no controller and no terminal.
//!
//! | file | owns |
//! |---|---|
//! | `rollouts` | reading |
//! | `start` | the spec |
//! | `ask` | requests and approvals, their answers, and taking them back |
//! | `abort` | taking the new side back at once |
//! | `plans` | plans by name |

mod abort;
mod ask;
mod plans;
mod start;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use weightd_core::{
    desired::{Decoder, Published},
    fleet::Keys,
    model::BackendName,
    rollout::{
        BadValue, Controller, Evidence, Request, Spec, State, Verb,
        keys::{MAX_LOG, RolloutKeys},
        log::Log,
    },
};

pub use self::{
    abort::Aborted,
    ask::{ANSWER, Answer, Asked},
    plans::{PlanError, parse_plan},
    start::Started,
};
use super::{Documents, DocumentsError, read_error};
use crate::consul::client::{ConsulError, Operation};

/// Maximum size of the answer for one key in bytes: base64 adds a third to the largest value, that of a log.
const MAX_ANSWER: usize = 2 * MAX_LOG;

/// One key as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyRead<T> {
    /// Its `ModifyIndex`; 0 if there is no such key.
    pub index: u64,
    /// Its value, or why it cannot be read; none if there is no such key.
    pub value: Option<Result<T, BadValue>>,
}

impl<T> Default for KeyRead<T> {
    fn default() -> Self {
        Self { index: 0, value: None }
    }
}

impl<T> KeyRead<T> {
    /// The value; none if there is none, or if it cannot be read.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()?.as_ref().ok()
    }

    /// Why the value cannot be read; none if it can, or if there is none.
    pub fn unreadable(&self) -> Option<&BadValue> {
        self.value.as_ref()?.as_ref().err()
    }
}

/// The keys of the rollout of one backend. They are not of exactly the same moment: `seq` in the state and in what is shown
/// says whether they belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolloutRead {
    /// What it is.
    pub spec: KeyRead<Spec>,
    /// Where it is.
    pub state: KeyRead<State>,
    /// What the leader sees.
    pub evidence: KeyRead<Evidence>,
    /// What happened; none if it was not read.
    pub log: Option<KeyRead<Log>>,
    /// What a person wants; the value is none where nobody wants anything.
    pub request: KeyRead<Option<Request>>,
    /// What a person approved.
    pub approval: KeyRead<Option<Request>>,
}

/// All rollouts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollouts {
    /// Each backend that has, or had, a rollout. Without logs.
    pub rollouts: BTreeMap<BackendName, RolloutRead>,
    /// Who leads; no key where nobody does.
    pub controller: KeyRead<Controller>,
    /// Whether ACLs hide keys from this token.
    pub filtered: bool,
}

/// Where a rollout is, for what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing<'a> {
    /// There is no rollout.
    None,
    /// It was started, and no controller has begun it.
    Pending(&'a Spec),
    /// It is under way.
    Active(&'a State),
    /// It has ended.
    Ended(&'a State),
    /// A key cannot be read: which, and why.
    Unreadable(&'static str, &'a BadValue),
}

impl RolloutRead {
    /// Where it is.
    pub fn standing(&self) -> Standing<'_> {
        if let Some(bad) = self.state.unreadable() {
            return Standing::Unreadable("state", bad);
        }
        match (self.state.get(), self.spec.get()) {
            (Some(state), _) if !state.phase.is_final() => Standing::Active(state),
            (_, None) if self.spec.unreadable().is_some() => {
                self.spec.unreadable().map_or(Standing::None, |bad| Standing::Unreadable("spec", bad))
            }
            (Some(state), Some(spec)) if state.id == spec.id => Standing::Ended(state),
            (_, Some(spec)) => Standing::Pending(spec),
            (Some(state), None) => Standing::Ended(state),
            (None, None) => Standing::None,
        }
    }

    /// The request that nobody has answered; none if there is none.
    pub fn open_request(&self) -> Option<&Request> {
        let request = self.request.get()?.as_ref()?;
        let answered = self.state.get().and_then(|state| state.answered.as_ref());
        self.is_open(request, answered.map(|answered| answered.id.as_str())).then_some(request)
    }

    /// The approval that nobody has answered; none if there is none.
    pub fn open_approval(&self) -> Option<&Request> {
        let approval = self.approval.get()?.as_ref()?;
        let answered = self.state.get().and_then(|state| state.approval.as_ref());
        self.is_open(approval, answered.map(|answered| answered.id.as_str())).then_some(approval)
    }

    /// The `ModifyIndex` of the key that a request of this kind replaces; 0 if there is no such key. There is one request at
    /// a time: what nobody has answered is replaced by nothing but a pause, and an abort not even by that. An abort replaces
    /// each request: [`Documents::abort_rollout`].
    ///
    /// # Errors
    /// The request that nobody has answered.
    pub fn replaced_by(&self, verb: &Verb) -> Result<u64, &Request> {
        if *verb == Verb::Approve {
            return Ok(self.approval.index);
        }
        match self.open_request() {
            Some(open) if *verb != Verb::Pause || matches!(open.verb, Verb::Abort { .. }) => Err(open),
            _ => Ok(self.request.index),
        }
    }

    /// A changed spec does not answer the requests of the rollout that runs.
    fn is_open(&self, request: &Request, answered: Option<&str>) -> bool {
        let runs = match self.standing() {
            Standing::Pending(spec) => &spec.id,
            Standing::Active(state) => &state.id,
            Standing::None | Standing::Ended(_) | Standing::Unreadable(..) => return false,
        };
        *runs == request.rollout && answered != Some(&request.id)
    }
}

/// A new random identifier, of a rollout or of a request.
pub fn new_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

impl Documents {
    /// The names of the keys of rollouts.
    pub fn rollout_keys(&self) -> RolloutKeys<'_> {
        RolloutKeys(&self.root)
    }

    /// Reads all keys of the rollout of a backend. A value that cannot be read is in the result.
    ///
    /// # Errors
    /// [`DocumentsError::Read`] with the rule that the token needs.
    pub async fn rollout(&self, backend: &BackendName) -> Result<RolloutRead, DocumentsError> {
        let keys = self.rollout_keys();
        let names = [keys.spec(backend), keys.state(backend), keys.evidence(backend), keys.log(backend)];
        let (spec, state, evidence, log, request, approval) = tokio::try_join!(
            self.read_key(&names[0], |value, _| Spec::parse(value)),
            self.read_key(&names[1], State::parse),
            self.read_key(&names[2], |value, _| Evidence::parse(value)),
            self.read_key(&names[3], |value, _| Log::parse(value)),
            self.rollout_request(backend),
            self.rollout_approval(backend),
        )?;
        Ok(RolloutRead { spec, state, evidence, log: Some(log), request, approval })
    }

    /// Reads spec and state of the rollout of a backend, and nothing else of it.
    ///
    /// # Errors
    /// As [`Documents::rollout`].
    pub async fn rollout_now(&self, backend: &BackendName) -> Result<RolloutRead, DocumentsError> {
        let key = self.rollout_keys().spec(backend);
        let (spec, state) =
            tokio::try_join!(self.read_key(&key, |value, _| Spec::parse(value)), self.rollout_state(backend))?;
        Ok(RolloutRead { spec, state, ..RolloutRead::default() })
    }

    /// Reads the request of a rollout.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn rollout_request(&self, backend: &BackendName) -> Result<KeyRead<Option<Request>>, DocumentsError> {
        self.read_key(&self.rollout_keys().request(backend), |value, _| Request::parse(value)).await
    }

    async fn rollout_approval(&self, backend: &BackendName) -> Result<KeyRead<Option<Request>>, DocumentsError> {
        self.read_key(&self.rollout_keys().approval(backend), |value, _| Request::parse(value)).await
    }

    /// Reads the state of a rollout.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn rollout_state(&self, backend: &BackendName) -> Result<KeyRead<State>, DocumentsError> {
        self.read_key(&self.rollout_keys().state(backend), State::parse).await
    }

    /// Reads who leads. Without the key nobody does.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn controller(&self) -> Result<KeyRead<Controller>, DocumentsError> {
        self.read_key(&self.rollout_keys().controller(), |value, _| Controller::parse(value)).await
    }

    /// Reads all rollouts, without their logs. Where the token may not read one kind of keys, the others are in the result.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also if the token may read neither specs nor states.
    pub async fn rollouts(&self) -> Result<Rollouts, DocumentsError> {
        let keys = self.rollout_keys();
        let names = [keys.specs(), keys.states(), keys.evidences(), keys.requests(), keys.approvals()];
        let (specs, states, evidences, requests, approvals, controller) = tokio::try_join!(
            self.seen_kind(&names[0], |value, _| Spec::parse(value)),
            self.seen_kind(&names[1], State::parse),
            self.seen_kind(&names[2], |value, _| Evidence::parse(value)),
            self.seen_kind(&names[3], |value, _| Request::parse(value)),
            self.seen_kind(&names[4], |value, _| Request::parse(value)),
            self.controller(),
        )?;
        let (specs, states) = match (specs, states) {
            ((_, Some(denied)), (_, Some(_))) => return Err(denied),
            ((specs, _), (states, _)) => (specs, states),
        };
        let (evidences, requests, approvals) = (evidences.0, requests.0, approvals.0);
        let filtered = specs.1 || states.1 || evidences.1 || requests.1 || approvals.1;
        let mut rollouts: BTreeMap<BackendName, RolloutRead> = BTreeMap::new();
        let mut of = |backend: BackendName, set: &mut dyn FnMut(&mut RolloutRead)| {
            set(rollouts.entry(backend).or_default());
        };
        specs.0.into_iter().for_each(|(backend, read)| of(backend, &mut |rollout| rollout.spec = read.clone()));
        states.0.into_iter().for_each(|(backend, read)| of(backend, &mut |rollout| rollout.state = read.clone()));
        evidences.0.into_iter().for_each(|(backend, read)| of(backend, &mut |rollout| rollout.evidence = read.clone()));
        requests.0.into_iter().for_each(|(backend, read)| of(backend, &mut |rollout| rollout.request = read.clone()));
        approvals.0.into_iter().for_each(|(backend, read)| of(backend, &mut |rollout| rollout.approval = read.clone()));
        Ok(Rollouts { rollouts, controller, filtered })
    }

    /// Reads the evidence and the logs of all rollouts, for a leader that goes on with them. What cannot be read is left out:
    /// it costs time and no safety. The errors are [`DocumentsError::Read`].
    pub async fn notes(&self) -> (Notes<Evidence>, Notes<Log>) {
        let keys = self.rollout_keys();
        let (evidences, logs) = (keys.evidences(), keys.logs());
        let (evidences, logs) = tokio::join!(
            self.read_kind(&evidences, |value, _| Evidence::parse(value)),
            self.read_kind(&logs, |value, _| Log::parse(value)),
        );
        (evidences.map(|(read, _)| readable(read)), logs.map(|(read, _)| readable(read)))
    }

    /// Reads what the keys of a backend say to a node; none if it has no key.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn published(&self, backend: &BackendName) -> Result<Option<Published>, DocumentsError> {
        let prefix = self.prefix.clone();
        let decode = |entries: &[weightd_core::desired::Entry<'_>]| {
            Ok(Decoder::new(prefix).decode(entries)?.backends.get(backend).cloned())
        };
        let read = self.read_keys(backend, decode).await;
        read.map_err(|source| read_error(&self.key(backend), source))
    }

    /// Reads one key. An answer of any size is an answer: a value that is too large is unreadable, and no error.
    async fn read_key<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&[u8], u64) -> Result<T, BadValue>,
    ) -> Result<KeyRead<T>, DocumentsError> {
        let read = async {
            let listing = match self.client.get_at_most(key, MAX_ANSWER).await {
                Ok(listing) => listing,
                // Consul's own limit is larger than that of any of these keys.
                Err(ConsulError::TooLarge(_)) => self.client.get_at_most(key, super::MAX_BACKEND).await?,
                Err(error) => return Err(error),
            };
            let entries = listing.entries()?;
            let Some(entry) = entries.first() else { return Ok(KeyRead::default()) };
            let value = entry.bytes().map_err(ConsulError::BadResponse)?;
            Ok(KeyRead { index: entry.modify_index, value: Some(parse(&value, entry.modify_index)) })
        };
        read.await.map_err(|source| read_error(key, source))
    }

    /// As [`Self::read_kind`]. Of a kind that the token may not read there are no keys, and the error is in the result.
    async fn seen_kind<T>(
        &self,
        prefix: &str,
        parse: impl Fn(&[u8], u64) -> Result<T, BadValue>,
    ) -> Result<(Kind<T>, Option<DocumentsError>), DocumentsError> {
        match self.read_kind(prefix, parse).await {
            Err(error @ DocumentsError::Read { source: ConsulError::Denied(_), .. }) => {
                Ok(((BTreeMap::new(), true), Some(error)))
            }
            read => read.map(|kind| (kind, None)),
        }
    }

    /// Reads the keys of one kind, by backend, and whether ACLs hide some.
    async fn read_kind<T>(
        &self,
        prefix: &str,
        parse: impl Fn(&[u8], u64) -> Result<T, BadValue>,
    ) -> Result<Kind<T>, DocumentsError> {
        self.read_prefix(prefix, |entries| {
            let mut reads = BTreeMap::new();
            for entry in entries {
                let Some(backend) = Keys::backend_of(prefix, &entry.key) else { continue };
                let value = Some(parse(&entry.bytes()?, entry.modify_index));
                reads.insert(backend, KeyRead { index: entry.modify_index, value });
            }
            Ok(reads)
        })
        .await
    }
}

/// What a leader left of one kind, by backend.
pub type Notes<T> = Result<BTreeMap<BackendName, T>, DocumentsError>;

/// The keys of one kind, by backend, and whether ACLs hide some.
type Kind<T> = (BTreeMap<BackendName, KeyRead<T>>, bool);

/// The values that can be read.
fn readable<T>(reads: BTreeMap<BackendName, KeyRead<T>>) -> BTreeMap<BackendName, T> {
    reads.into_iter().filter_map(|(backend, read)| Some((backend, read.value?.ok()?))).collect()
}

/// The rights that a transaction needs, as rules of an ACL policy.
fn rules(operations: &[Operation]) -> String {
    let rule = |operation: &Operation| {
        let (key, policy) = match operation {
            Operation::Cas { key, .. } | Operation::Set { key, .. } | Operation::DeleteCas { key, .. } => {
                (key, "write")
            }
            Operation::CheckIndex { key, .. }
            | Operation::CheckNotExists { key }
            | Operation::CheckSession { key, .. } => (key, "read"),
        };
        format!("key \"{key}\" {{ policy = \"{policy}\" }}")
    };
    operations.iter().map(rule).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
