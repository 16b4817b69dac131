//! A TCP agent for `agent-check`: it answers each connection with one line.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle};

/// An agent.
#[derive(Debug)]
pub struct Agent {
    port: u16,
    answer: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts an agent that answers with `answer`, such as `up` or `50%`.
    pub async fn start(answer: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let shared = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let line = shared.lock().unwrap_or_else(PoisonError::into_inner).clone() + "\n";
                // HAProxy may have closed the connection.
                let _ = stream.write_all(line.as_bytes()).await;
            }
        });
        Ok(Self { port, answer, task })
    }

    /// Changes the answer.
    pub fn set_answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
