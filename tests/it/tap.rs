//! Records every line that weightd sends to a HAProxy.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::harness::Haproxy;

/// A proxy between weightd and HAProxy's socket that records the sent lines.
pub(crate) struct Tap {
    path: PathBuf,
    sent: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// Listens next to the socket of `haproxy`, in the same directory.
    pub(crate) fn start(haproxy: &Haproxy) -> anyhow::Result<Self> {
        let (path, socket) = (haproxy.dir().join("tap.sock"), haproxy.socket());
        let listener = UnixListener::bind(&path)?;
        let sent = Arc::new(Mutex::new(String::new()));
        let writes = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = UnixStream::connect(&socket).await else { continue };
                let mut line = Vec::new();
                let mut piece = [0; 4096];
                // A connection carries one line. HAProxy closes it after its answer.
                while !line.ends_with(b"\n") {
                    match client.read(&mut piece).await {
                        Ok(read) if read > 0 => line.extend_from_slice(&piece[..read]),
                        _ => break,
                    }
                }
                writes.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                let mut answer = Vec::new();
                if server.write_all(&line).await.is_ok() && server.read_to_end(&mut answer).await.is_ok() {
                    // The client may have disconnected.
                    let _ = client.write_all(&answer).await;
                }
            }
        });
        Ok(Self { path, sent, task })
    }

    /// The address for weightd.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.lines().map(str::to_owned).collect()
    }

    /// All commands so far.
    pub(crate) fn commands(&self) -> Vec<String> {
        let lines = self.lines();
        let commands = lines.iter().flat_map(|line| line.split(';')).map(|command| command.trim().to_owned());
        commands.filter(|command| !command.is_empty()).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}
