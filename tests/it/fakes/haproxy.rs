//! A fake runtime API on a Unix socket: a correct [`Model`] with a script in front of it.

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

/// The action in place of the correct answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends these bytes, then closes.
    Bytes(Vec<u8>),
    /// Sends these bytes one by one, then closes.
    Slices(Vec<u8>),
    /// Sends these bytes and stays open.
    Open(Vec<u8>),
    /// Sends nothing and stays open.
    Hang,
    /// Closes before it reads anything.
    Closed,
    /// Reads this number of bytes, then closes.
    Flood(usize),
}

impl Reply {
    /// Sends this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }
}

/// Sees each line before the model. If it returns an action, that replaces the correct answer. It may also read or
/// change the model.
type Script = Box<dyn FnMut(&str, &mut Model) -> Option<Reply> + Send>;

struct Shared {
    model: Model,
    script: Option<Script>,
}

/// A fake runtime API.
pub struct FakeHaproxy {
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
    dir: TempDir,
}

impl FakeHaproxy {
    /// Starts the fake.
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

    /// The address, in the form of weightd's configuration.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("admin.sock")
    }

    /// Reads or changes the model.
    pub fn model<T>(&self, access: impl FnOnce(&mut Model) -> T) -> T {
        access(&mut lock(&self.shared).model)
    }

    /// From now on, each line goes through `script`.
    pub fn script(&self, script: impl FnMut(&str, &mut Model) -> Option<Reply> + Send + 'static) {
        lock(&self.shared).script = Some(Box::new(script));
    }

    /// Removes the script.
    pub fn clear_script(&self) {
        lock(&self.shared).script = None;
    }

    /// Fails if a client sent a line that a correct client never sends.
    pub fn expect_no_violation(&self) {
        let (lines, violations) = self.model(|m| (m.lines.len(), m.violations.clone()));
        assert!(lines > 0, "no client connected");
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
    // The client closes its write side after its line. Only then is the request complete.
    if stream.read_to_end(&mut received).await.is_err() {
        return;
    }
    let received = String::from_utf8_lossy(&received).into_owned();
    let reply = {
        let Shared { model, script } = &mut *lock(&shared);
        let scripted = script.as_mut().and_then(|script| script(&received, model));
        scripted.unwrap_or_else(|| Reply::text(model.answer(&received)))
    };
    // The client may have disconnected.
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
