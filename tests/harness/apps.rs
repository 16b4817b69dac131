//! The applications behind HAProxy, blue and green. Each answers with its name.

use std::path::Path;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{Port, program, program::Program};

/// Both sides. Each is a separate process, so that a test can stop one.
#[derive(Debug)]
pub struct Apps {
    /// The old side.
    pub blue: App,
    /// The new side.
    pub green: App,
}

impl Apps {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        let (blue, green) = tokio::try_join!(App::start("blue"), App::start("green"))?;
        Ok(Self { blue, green })
    }
}

/// One side. It is a small HAProxy: that program is available, and it answers faster than the load generator.
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

    /// Starts the application after `stop`, on the same port.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let url = format!("http://127.0.0.1:{}/", self.port);
        let http = super::http().build().context("no HTTP client")?;
        let answers = async || {
            let answer = http.get(&url).send().await?;
            ensure!(answer.status() == 200, "answered {}", answer.status());
            Ok(())
        };
        self.program.ready("the application answers", answers).await
    }

    /// Stops the application: HAProxy's connections are refused.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.program.stop().await.map(drop)
    }

    /// The port on 127.0.0.1, also while the application is stopped.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
