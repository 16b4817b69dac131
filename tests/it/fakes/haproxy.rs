//! A fake runtime API on a Unix socket: the honest [`Model`], and a script over it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::sleep,
};

use super::Model;

/// What is done in place of the honest answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, each on its own, then the end.
    Slices(Vec<u8>),
    /// These bytes, and no end.
    Open(Vec<u8>),
    /// Nothing, and no end.
    Hang,
    /// The end, before anything was read.
    Closed,
    /// So many bytes, then the end.
    Flood(usize),
}

impl Reply {
    /// This text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }
}

/// Looks at each line before the model does. What it returns is sent instead of the honest answer; it may also change
/// the model, or ask it.
type Script = Box<dyn FnMut(&str, &mut Model) -> Option<Reply> + Send>;

struct Shared {
    model: Model,
    script: Option<Script>,
}

/// A runtime API that can be made to misbehave.
pub struct FakeHaproxy {
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
    dir: TempDir,
}

impl FakeHaproxy {
    /// Starts it.
    pub fn start(model: Model) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("haproxy-").tempdir()?;
        let listener = UnixListener::bind(dir.path().join("admin.sock"))?;
        let shared = Arc::new(Mutex::new(Shared { model, script: None }));
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Ok(Self { shared, task, dir })
    }

    /// Where it is, as the configuration has it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("admin.sock")
    }

    /// Looks at the model, or changes it.
    pub fn model<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut lock(&self.shared).model)
    }

    /// From now on each line goes through `script`.
    pub fn script(&self, script: impl FnMut(&str, &mut Model) -> Option<Reply> + Send + 'static) {
        lock(&self.shared).script = Some(Box::new(script));
    }

    /// From now on it is honest.
    pub fn behave(&self) {
        lock(&self.shared).script = None;
    }

    /// Fails if it was told anything that a well-behaved client never says.
    pub fn expect_no_violation(&self) {
        let (lines, violations) = self.model(|m| (m.lines.len(), m.violations.clone()));
        assert!(lines > 0, "it was never asked anything");
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

impl Drop for FakeHaproxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: UnixStream, shared: Arc<Mutex<Shared>>) {
    let mut received = Vec::new();
    // The client closes its half after its line: what comes on one connection is known only then.
    if stream.read_to_end(&mut received).await.is_err() {
        return;
    }
    let received = String::from_utf8_lossy(&received).into_owned();
    let reply = {
        let Shared { model, script } = &mut *lock(&shared);
        let scripted = script.as_mut().and_then(|script| script(&received, model));
        scripted.unwrap_or_else(|| Reply::text(model.answer(&received)))
    };
    // A client that has gone meanwhile is no concern of the fake.
    let _ = match reply {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await,
        Reply::Slices(bytes) => slices(&mut stream, &bytes).await,
        Reply::Open(bytes) => {
            let written = stream.write_all(&bytes).await;
            linger().await;
            written
        }
        Reply::Hang => {
            linger().await;
            Ok(())
        }
        Reply::Closed => Ok(()),
        Reply::Flood(size) => stream.write_all(&vec![b'x'; size]).await,
    };
}

async fn slices(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn linger() {
    sleep(Duration::from_secs(3600)).await;
}
