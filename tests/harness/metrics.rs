//! Metrics systems, and applications that they scrape.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::ensure;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use ::weightd::consul::tls::{self, Ca};

use super::{
    Port,
    program::{self, Program},
    tls::{Authority, Leaf},
};

/// A page of metrics, as an application serves it. It ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    port: u16,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Serves what `text` returns, on a free port of 127.0.0.1.
    pub async fn start(text: impl Fn() -> String + Send + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, text()));
            }
        });
        Ok(Self { port, task })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Two clusters that count requests by status: `blue` gets 100 requests a second, 1 of them fails; `green` gets 20, 2 of them
/// fail.
#[derive(Debug)]
pub struct Counting {
    exporter: Exporter,
    green: Arc<AtomicBool>,
}

impl Counting {
    /// Starts them on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        let green = Arc::new(AtomicBool::new(true));
        let (begin, alive) = (Instant::now(), Arc::clone(&green));
        let text = move || exposition(begin.elapsed().as_secs_f64(), alive.load(Ordering::Relaxed));
        Ok(Self { exporter: Exporter::start(text).await?, green })
    }

    /// Their page of metrics.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// From now on `green` shows nothing, as a cluster that is gone.
    pub fn stop_green(&self) {
        self.green.store(false, Ordering::Relaxed);
    }
}

/// The counters after so many seconds.
fn exposition(seconds: f64, green: bool) -> String {
    let mut text = "# TYPE requests_total counter\n".to_owned();
    let mut cluster = |name: &str, good: f64, bad: f64| {
        for (code, rate) in [(200, good), (500, bad)] {
            let count = (rate * seconds).floor();
            let _infallible = writeln!(text, "requests_total{{cluster=\"{name}\",code=\"{code}\"}} {count}");
        }
    };
    cluster("blue", 99.0, 1.0);
    if green {
        cluster("green", 18.0, 2.0);
    }
    text
}

async fn answer(mut stream: TcpStream, text: String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(&chunk[..read]),
        }
    }
    let length = text.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await
}

/// The kind of a metrics system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prometheus, which `make servers` provides.
    Prometheus,
    /// `VictoriaMetrics`, which `make metrics-test` builds.
    VictoriaMetrics,
}

/// A metrics system that scrapes an [`Exporter`] once a second.
#[derive(Debug)]
pub struct MetricsSystem {
    program: Program,
    port: Port,
    kind: Kind,
    dir: TempDir,
}

/// The name of the file with its CA.
const CA: &str = "ca.pem";

impl MetricsSystem {
    /// Starts it. The page of metrics has a counter `requests_total` with the clusters `blue` and `green`.
    pub async fn start(kind: Kind, exporter: &Exporter) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("metrics-").tempdir()?;
        let port = Port::free()?;
        let scrape = dir.path().join("scrape.yml");
        fs::write(
            &scrape,
            format!(
                "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['127.0.0.1:{}']\n",
                exporter.port
            ),
        )?;
        let (name, data) = (kind.program(), dir.path().join("data"));
        let file = |name: &str| dir.path().join(name);
        let ca = Authority::new("the CA of the metrics system")?;
        fs::write(file(CA), ca.pem())?;
        ca.issue(&Leaf::default())?.write(&file("cert.pem"), &file("key.pem"))?;
        // A hash of `secret` by bcrypt.
        let web = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nbasic_auth_users:\n  reader: $2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        fs::write(file("web.yml"), web)?;
        let listen = format!("127.0.0.1:{}", port.number());
        let arguments = match kind {
            Kind::Prometheus => [
                format!("--config.file={}", scrape.display()),
                format!("--storage.tsdb.path={}", data.display()),
                format!("--web.listen-address={listen}"),
                format!("--web.config.file={}", file("web.yml").display()),
            ]
            .to_vec(),
            Kind::VictoriaMetrics => [
                format!("-promscrape.config={}", scrape.display()),
                format!("-storageDataPath={}", data.display()),
                format!("-httpListenAddr={listen}"),
            ]
            .to_vec(),
        };
        let program = Program::new(name, program::server(name)?, dir.path()).args(arguments);
        let mut system = Self { program, port, kind, dir };
        system.start_again().await?;
        Ok(system)
    }

    /// Starts it after [`MetricsSystem::stop`], with the same data, and waits until the API of queries answers with samples:
    /// Prometheus takes seconds until its first scrape, and a window that began before has fewer counts.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let trust = tls::trusting(Some(&Ca::File(self.ca_file())))?;
        let http = reqwest::Client::builder().tls_backend_preconfigured(trust).no_proxy().build()?;
        let url = format!("{}/api/v1/query?query=requests_total&latency_offset=1s", self.url());
        let answers = async || {
            let response = http.get(&url).basic_auth("reader", Some("secret")).send().await?;
            let answer = response.error_for_status()?.text().await?;
            ensure!(answer.contains("green"), "{answer}");
            Ok(())
        };
        self.program.ready("the API of queries answers with samples", answers).await
    }

    fn url(&self) -> String {
        let scheme = if self.kind == Kind::Prometheus { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port.number())
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.path().join(CA)
    }

    /// The lines of [sources.<name>] that reach it: Prometheus with TLS and basic authentication.
    pub fn source(&self) -> String {
        let url = format!("url = \"{}\"\n", self.url());
        match self.kind {
            Kind::Prometheus => format!("{url}ca_file = \"{}\"\nauth = \"reader:secret\"\n", self.ca_file().display()),
            Kind::VictoriaMetrics => url,
        }
    }

    /// Stops it.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.program.stop().await.map(|_| ())
    }
}

impl Kind {
    const fn program(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria-metrics",
        }
    }
}
