//! The page, in this process, and a browser without a screen: it keeps cookies and follows nothing by itself.

use std::{fmt::Write as _, fs, net::SocketAddr, os::unix::fs::PermissionsExt, sync::Mutex, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use tempfile::TempDir;
use weightd::{
    base::shutdown::Tasks,
    consul::{Settings as ConsulSettings, TokenSource},
    page,
};

pub use weightd::page::settings::Settings;

use super::{
    Consul, Port, eventually,
    program::{self, Program},
};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Where it is.
    pub address: SocketAddr,
    /// Where its metrics are.
    pub metrics: Option<SocketAddr>,
    tasks: Tasks,
    base: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// A header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The settings of a page for this Consul.
pub fn settings(consul: &Consul, token: Option<&str>) -> anyhow::Result<Settings> {
    let token = token.map_or(Ok(TokenSource::None), TokenSource::value)?;
    let consul = ConsulSettings { address: consul.address().parse()?, token, ..ConsulSettings::default() };
    Ok(Settings {
        consul,
        root: "weightd".parse()?,
        listen: "127.0.0.1:0".parse()?,
        key_file: None,
        hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
        base_path: String::new(),
        behind_proxy: false,
        tls: None,
        metrics: Some("127.0.0.1:0".parse()?),
    })
}

/// A page as a process of its own. People stay signed in when it starts again, because its keys are in a file.
#[derive(Debug)]
pub struct Process {
    /// The page.
    pub page: Page,
    program: Program,
    metrics: u16,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Process {
    /// A page for this Consul, which reads with this token.
    pub async fn start(consul: &Consul, token: Option<&str>) -> anyhow::Result<Self> {
        Self::start_with(consul, token, "").await
    }

    /// A page with these lines more at the end of its configuration.
    pub async fn start_with(consul: &Consul, token: Option<&str>, more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("page-").tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let (port, metrics) = (Port::free()?, Port::free()?);
        fs::write(path("keys"), "a".repeat(64))?;
        fs::set_permissions(path("keys"), PermissionsExt::from_mode(0o600))?;
        let mut config = format!(
            "[consul]\naddress = \"{}\"\n[page]\nlisten = \"127.0.0.1:{port}\"\nmetrics_listen = \"127.0.0.1:{metrics}\"\nkey_file = \"{}\"\n",
            consul.address(),
            path("keys").display()
        );
        if let Some(token) = token {
            fs::write(path("token"), token)?;
            writeln!(config, "token_file = \"{}\"", path("token").display())?;
        }
        config.push_str(more);
        fs::write(path("rolloutd.toml"), config)?;
        let program = Program::new("page", program::binary("rolloutd")?, dir.path())
            .args(["page".as_ref(), "--config".as_ref(), path("rolloutd.toml").as_os_str()])
            .env("ROLLOUTD_LOG", "debug");
        let page = Page::at(([127, 0, 0, 1], port.number()).into());
        let http = super::http().pool_max_idle_per_host(0).build()?;
        let mut process = Self { page, program, metrics: metrics.number(), http, _dir: dir };
        process.start_again().await?;
        Ok(process)
    }

    /// Starts it after its end, and waits until it has read everything.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let (http, url) = (&self.http, format!("http://127.0.0.1:{}/ready", self.metrics));
        let ready = async || {
            let status = http.get(&url).send().await?.status();
            ensure!(status == StatusCode::OK, "{status}");
            Ok(())
        };
        self.program.ready("/ready answers", ready).await
    }

    /// Its metrics.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics);
        Ok(self.http.get(url).send().await?.text().await?)
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

impl Page {
    /// A page for this Consul, which reads with this token.
    pub async fn start(consul: &Consul, token: Option<&str>) -> anyhow::Result<Self> {
        Self::with(settings(consul, token)?).await
    }

    /// A page with these settings. Returns when it has read everything.
    pub async fn with(settings: Settings) -> anyhow::Result<Self> {
        let tasks = Tasks::default();
        let base = settings.base_path.clone();
        let listening = page::start(settings, &tasks).await?;
        let page = Self { address: listening.page, metrics: listening.metrics, tasks, base };
        if let Some(metrics) = page.metrics {
            let client = super::http().build()?;
            eventually(Duration::from_secs(10), "the page is ready", async || {
                let ready = client.get(format!("http://{metrics}/ready")).send().await?;
                ensure!(ready.status() == StatusCode::OK, "{}", ready.status());
                Ok(())
            })
            .await?;
        }
        Ok(page)
    }

    /// A page of another process.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, metrics: None, tasks: Tasks::default(), base: String::new() }
    }

    /// Stops it.
    pub async fn stop(self) {
        self.tasks.stop().await;
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, self.base)
    }

    /// Somebody who is not signed in.
    pub fn nobody(&self) -> anyhow::Result<Visitor> {
        let client = super::http().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Visitor { client, url: self.url(""), origin: format!("http://{}", self.address), cookie: Mutex::default() })
    }

    /// Somebody who signed in with this token.
    pub async fn person(&self, token: &str) -> anyhow::Result<Visitor> {
        self.signed_in(&[("token", token)]).await
    }

    /// Somebody who signed in with a name, where ACLs are off.
    pub async fn named(&self, name: &str) -> anyhow::Result<Visitor> {
        self.signed_in(&[("name", name)]).await
    }

    async fn signed_in(&self, form: &[(&str, &str)]) -> anyhow::Result<Visitor> {
        let visitor = self.nobody()?;
        let answer = visitor.post("/sign-in", form).await?;
        ensure!(answer.status == StatusCode::SEE_OTHER, "{}: {}", answer.status, answer.text);
        Ok(visitor)
    }
}

/// Somebody with a browser.
#[derive(Debug)]
pub struct Visitor {
    client: reqwest::Client,
    url: String,
    origin: String,
    cookie: Mutex<String>,
}

impl Visitor {
    /// The cookies, as the browser sends them.
    pub fn cookie(&self) -> String {
        self.cookie.lock().map(|cookie| cookie.clone()).unwrap_or_default()
    }

    /// Takes the cookies of somebody else.
    pub fn steal(&self, cookie: &str) {
        if let Ok(mut own) = self.cookie.lock() {
            cookie.clone_into(&mut own);
        }
    }

    /// A request as a browser sends it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match self.cookie() {
            cookie if cookie.is_empty() => request,
            cookie => request.header("cookie", cookie),
        }
    }

    /// Gets a page.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Gets a page that must be there.
    pub async fn page(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.get(path).await?;
        ensure!(answer.status == StatusCode::OK, "{path}: {}: {}", answer.status, answer.text);
        Ok(answer.text)
    }

    /// Sends a form.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let request = self.request(Method::POST, path).header("origin", &self.origin);
        self.send(with_form(request, form)).await
    }

    /// Sends a request, and keeps its cookies.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let answer = request.timeout(Duration::from_secs(30)).send().await.context("no answer")?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        let mut jar: Vec<(String, String)> = self
            .cookie()
            .split("; ")
            .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect();
        for set in headers.get_all("set-cookie") {
            let set = set.to_str()?;
            let (name, value) = set.split(';').next().and_then(|pair| pair.split_once('=')).context("no cookie")?;
            jar.retain(|(known, _)| known != name);
            if !set.contains("Max-Age=0") {
                jar.push((name.to_owned(), value.to_owned()));
            }
        }
        let jar: Vec<_> = jar.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.steal(&jar.join("; "));
        Ok(Answer { status, headers, text })
    }
}

/// A request with a form.
pub fn with_form(request: RequestBuilder, form: &[(&str, &str)]) -> RequestBuilder {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let body: Vec<_> = form.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"))
}
