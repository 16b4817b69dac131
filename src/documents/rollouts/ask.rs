use std::time::Duration;

use tokio::time::{Instant, sleep};
use weightd_core::{
    model::BackendName,
    rollout::{Request, State, Verb, state::Answered},
};

use crate::documents::{Documents, DocumentsError, single::KeyWrite};

/// Between two reads of the state while an answer is waited for.
const PACE: Duration = Duration::from_millis(150);

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

/// What became of a request that nobody answered in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBack {
    /// It has no effect any more.
    Yes,
    /// A leader answered it just then.
    Answered(Answer),
    /// Another request has replaced it.
    Replaced,
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

    /// Waits at most `limit` for the answer to a request.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn answer(
        &self,
        backend: &BackendName,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, DocumentsError> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.answer_now(backend, request).await?;
            if answer != Answer::None || Instant::now() >= deadline {
                return Ok(answer);
            }
            sleep(PACE).await;
        }
    }

    /// Takes a request back that nobody answered. `written` is the `ModifyIndex` that it was written with. After
    /// [`TakenBack::Yes`] no leader does it: each of them checks that the request is still there.
    ///
    /// # Errors
    /// [`DocumentsError`]; the request may still be done then.
    pub async fn take_back(
        &self,
        backend: &BackendName,
        request: &Request,
        written: u64,
    ) -> Result<TakenBack, DocumentsError> {
        let asked = self.put_request(backend, &request.verb, b"{}".to_vec(), written).await?;
        // A leader that was faster wrote its answer in the same transaction.
        match (self.answer_now(backend, request).await?, asked) {
            (Answer::None, KeyWrite::Yes(_) | KeyWrite::Superseded) => Ok(TakenBack::Yes),
            (Answer::None, KeyWrite::Conflict) => Ok(TakenBack::Replaced),
            (answer, _) => Ok(TakenBack::Answered(answer)),
        }
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
        let keys = self.rollout_keys();
        let key = if *verb == Verb::Approve { keys.approval(backend) } else { keys.request(backend) };
        let hint = format!("`weightctl rollout status {backend}` shows what is asked for");
        self.put_one(&key, value, index, &hint).await
    }
}
