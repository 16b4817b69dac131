//! What weightd says to a HAProxy, word for word.

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

/// Stands between weightd and HAProxy's socket, and writes down what is sent.
pub(crate) struct Tap {
    path: PathBuf,
    said: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// Listens beside the socket of `haproxy`, in its folder.
    pub(crate) fn start(haproxy: &Haproxy) -> anyhow::Result<Self> {
        let (path, socket) = (haproxy.dir().join("tap.sock"), haproxy.socket());
        let listener = UnixListener::bind(&path)?;
        let said = Arc::new(Mutex::new(String::new()));
        let writes = Arc::clone(&said);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = UnixStream::connect(&socket).await else { continue };
                let mut line = Vec::new();
                let mut piece = [0; 4096];
                // One line is what one connection carries; HAProxy closes it after its answer.
                while !line.ends_with(b"\n") {
                    match client.read(&mut piece).await {
                        Ok(read) if read > 0 => line.extend_from_slice(&piece[..read]),
                        _ => break,
                    }
                }
                writes.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                let mut answer = Vec::new();
                if server.write_all(&line).await.is_ok() && server.read_to_end(&mut answer).await.is_ok() {
                    // Who went away already wanted nothing.
                    let _ = client.write_all(&answer).await;
                }
            }
        });
        Ok(Self { path, said, task })
    }

    /// Where weightd is to find HAProxy.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Every line so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.lines().map(str::to_owned).collect()
    }

    /// Every command so far.
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
