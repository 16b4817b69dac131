//! The applications behind HAProxy: blue and green, each of which answers with its name.

use std::path::Path;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{Port, program, program::Program};

/// Both sides. Each is a process of its own, so that one can be down.
#[derive(Debug)]
pub struct Apps {
    /// The side people come from.
    pub blue: App,
    /// The side people go to.
    pub green: App,
}

impl Apps {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        let (blue, green) = tokio::try_join!(App::start("blue"), App::start("green"))?;
        Ok(Self { blue, green })
    }
}

/// One side: a small HAProxy, since one is there anyway and it answers faster than what it is measured with.
#[derive(Debug)]
pub struct App {
    program: Program,
    port: Port,
    _dir: TempDir,
}

impl App {
    /// Starts an application that answers every request with `name`.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("app-").tempdir()?;
        let port = Port::free()?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("haproxy/app.cfg");
        let program = Program::new(name, program::server("haproxy")?, dir.path())
            .args(["-db".as_ref(), "-f".as_ref(), config.as_os_str()])
            .env("APP_NAME", name)
            .env("APP_ADDRESS", format!("127.0.0.1:{port}"));
        let mut app = Self { program, port, _dir: dir };
        app.start_again().await?;
        Ok(app)
    }

    /// Starts it after `stop`, on the same port.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let url = format!("http://127.0.0.1:{}/", self.port);
        let http = super::http().build().context("no HTTP client")?;
        let answers = async || {
            let answer = http.get(&url).send().await?;
            ensure!(answer.status() == 200, "answered {}", answer.status());
            Ok(())
        };
        self.program.ready("it answers", answers).await
    }

    /// Stops it: connections are refused from then on.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.program.stop().await.map(drop)
    }

    /// Where it listens on 127.0.0.1, also while it is stopped.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
