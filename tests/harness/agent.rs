//! An agent as `agent-check` asks it: a TCP server that answers each connection with one line.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle};

/// An agent.
#[derive(Debug)]
pub struct Agent {
    port: u16,
    says: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts one that answers this, such as `up` or `50%`.
    pub async fn start(says: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let says = Arc::new(Mutex::new(says.to_owned()));
        let shared = Arc::clone(&says);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let line = shared.lock().unwrap_or_else(PoisonError::into_inner).clone() + "\n";
                // HAProxy may have closed it already.
                let _ = stream.write_all(line.as_bytes()).await;
            }
        });
        Ok(Self { port, says, task })
    }

    /// From now on it answers this.
    pub fn say(&self, says: &str) {
        says.clone_into(&mut self.says.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
