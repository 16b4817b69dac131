use std::time::Duration;

use tokio::time::{Instant, sleep};
use weightd_core::{
    model::BackendName,
    rollout::{Request, State, Verb, state::Answered},
};

use crate::documents::{Documents, DocumentsError, single::KeyWrite};

/// Between two reads of the state while an answer is waited for.
const PACE: Duration = Duration::from_millis(150);

/// How long a leader may take to answer a request.
pub const ANSWER: Duration = Duration::from_secs(5);

/// The answer of a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done, and this is the state since.
    Done(Box<State>),
    /// It was refused: why.
    Refused(String),
    /// Nobody answered in time.
    None,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A leader did it, and this is the state since.
    Done(Box<State>),
    /// A leader refused it: why.
    Refused(String),
    /// Nobody answered in time. It was taken back, and has no effect any more.
    TakenBack,
    /// Nobody answered in time. It stays, and the next leader does it.
    Stays,
    /// Another request replaced it, and no leader is known to have answered it.
    Replaced,
    /// Nothing was written, because another writer changed the key first.
    Conflict,
}

impl Answer {
    /// What became of the request; `else_` if nobody answered it.
    fn or(self, else_: Asked) -> Asked {
        match self {
            Self::Done(state) => Asked::Done(state),
            Self::Refused(why) => Asked::Refused(why),
            Self::None => else_,
        }
    }
}

impl Documents {
    /// Writes a request, if the key still has the `ModifyIndex` `seen`; 0 if there was none. An approval has a key of its
    /// own.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] with the rule that the token needs, [`DocumentsError::UnknownResult`] if the result is
    /// unknown.
    pub async fn ask_rollout(
        &self,
        backend: &BackendName,
        request: &Request,
        seen: u64,
    ) -> Result<KeyWrite, DocumentsError> {
        self.put_request(backend, &request.verb, request.to_value(), seen).await
    }

    /// Waits at most `limit` for the answer to a request. A read that fails is repeated until then.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], if the last read failed.
    pub async fn answer(
        &self,
        backend: &BackendName,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, DocumentsError> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.answer_now(backend, request).await;
            let is_over = Instant::now() >= deadline;
            match answer {
                // An election of Consul's leader takes seconds.
                Ok(Answer::None) | Err(_) if !is_over => sleep(PACE).await,
                answer => return answer,
            }
        }
    }

    /// Writes a request, if the key still has the `ModifyIndex` `seen`, and waits for its answer for [`ANSWER`]. A request that
    /// nobody answers is taken back, so that it does not move traffic hours later; a pause stays.
    /// [`super::RolloutRead::replaced_by`] says whether it may be written, and `seen`.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] with the rule that the token needs, [`DocumentsError::UnknownResult`] if the request may be
    /// done.
    pub async fn ask_and_wait(
        &self,
        backend: &BackendName,
        request: &Request,
        seen: u64,
    ) -> Result<Asked, DocumentsError> {
        let written = self.ask_rollout(backend, request, seen).await?;
        self.ended(backend, request, written).await.map_err(|error| {
            let (DocumentsError::Read { source, .. }
            | DocumentsError::Write { source, .. }
            | DocumentsError::UnknownResult { source, .. }) = error;
            let hint = format!("`weightctl rollout status {backend}` shows whether it was done");
            DocumentsError::UnknownResult { key: self.request_key(backend, &request.verb), hint, source }
        })
    }

    async fn ended(
        &self,
        backend: &BackendName,
        request: &Request,
        written: KeyWrite,
    ) -> Result<Asked, DocumentsError> {
        let written = match written {
            KeyWrite::Yes(written) => written,
            KeyWrite::Conflict => return Ok(Asked::Conflict),
            // A leader can have answered it before another request replaced it.
            KeyWrite::Superseded => return Ok(self.answer_now(backend, request).await?.or(Asked::Replaced)),
        };
        match self.answer(backend, request, ANSWER).await {
            // It must not be done hours later; also if its answer cannot be read.
            Ok(Answer::None) | Err(_) if request.verb != Verb::Pause => self.take_back(backend, request, written).await,
            Ok(Answer::None) => self.stays(backend, request).await,
            answer => Ok(answer?.or(Asked::Stays)),
        }
    }

    /// Whether a request that nobody answered is still there: another pause or an abort may have replaced it.
    async fn stays(&self, backend: &BackendName, request: &Request) -> Result<Asked, DocumentsError> {
        let read = self.rollout_request(backend).await?;
        let is_there = read.get().and_then(Option::as_ref).is_some_and(|there| there.id == request.id);
        let answer = self.answer_now(backend, request).await?;
        Ok(answer.or(if is_there { Asked::Stays } else { Asked::Replaced }))
    }

    /// Takes a request back that nobody answered. `written` is the `ModifyIndex` that it was written with. After
    /// [`Asked::TakenBack`] no leader does it: each of them checks that the request is still there.
    ///
    /// # Errors
    /// [`DocumentsError`]; the request may still be done then.
    pub async fn take_back(
        &self,
        backend: &BackendName,
        request: &Request,
        written: u64,
    ) -> Result<Asked, DocumentsError> {
        let taken = match self.put_request(backend, &request.verb, b"{}".to_vec(), written).await? {
            KeyWrite::Yes(_) | KeyWrite::Superseded => Asked::TakenBack,
            KeyWrite::Conflict => Asked::Replaced,
        };
        // A leader that was faster wrote its answer in the same transaction.
        Ok(self.answer_now(backend, request).await?.or(taken))
    }

    async fn answer_now(&self, backend: &BackendName, request: &Request) -> Result<Answer, DocumentsError> {
        let read = self.rollout_state(backend).await?;
        let Some(state) = read.get() else { return Ok(Answer::None) };
        let answered = if request.verb == Verb::Approve { &state.approval } else { &state.answered };
        Ok(match answered {
            Some(Answered { id, refused: None }) if *id == request.id => Answer::Done(Box::new(state.clone())),
            Some(Answered { id, refused: Some(why) }) if *id == request.id => Answer::Refused(why.clone()),
            _ => Answer::None,
        })
    }

    async fn put_request(
        &self,
        backend: &BackendName,
        verb: &Verb,
        value: Vec<u8>,
        index: u64,
    ) -> Result<KeyWrite, DocumentsError> {
        let key = self.request_key(backend, verb);
        let hint = format!("`weightctl rollout status {backend}` shows what is asked for");
        self.put_one(&key, value, index, &hint).await
    }

    /// The key of a request of this kind.
    fn request_key(&self, backend: &BackendName, verb: &Verb) -> String {
        let keys = self.rollout_keys();
        if *verb == Verb::Approve { keys.approval(backend) } else { keys.request(backend) }
    }
}
