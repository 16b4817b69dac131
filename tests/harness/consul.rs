//! A single Consul server.

use std::{fs, path::Path, process::Output, time::Duration};

use anyhow::{Context as _, bail, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    Port, consul_acl, program,
    program::{Paused, Program},
    tls::{Authority, Certificate, Leaf},
    weightd,
};

/// The files of Consul's CA, certificate and key.
const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// The options of a Consul.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keeps the data over a restart. The start takes about 2 s because of an election; without this option 0.1 s.
    pub durable: bool,
    /// ACLs with default policy `deny`, and one management token. Implies `durable`.
    pub acl: bool,
    /// The number of other servers that Consul waits for. They never start: above 0, there is no leader. Implies
    /// `durable`.
    pub missing: u8,
    /// Also listens with TLS. TLS clients need a certificate of its CA.
    pub https: bool,
}

/// A running Consul. It listens on a loopback port and on a Unix socket.
#[derive(Debug)]
pub struct Consul {
    program: Program,
    port: Port,
    https: Port,
    server: Port,
    serf: Port,
    http: Http,
    ca: Authority,
    dir: TempDir,
}

/// How many connections of one host Consul accepts: enough for a benchmark, and fewer where a process may open fewer files.
/// Consul does not start with more than its limit of open files allows.
fn max_clients() -> u64 {
    const MOST: u64 = 2000;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = open_files.and_then(|limits| limits.split_whitespace().next()?.parse::<u64>().ok());
    soft.map_or(MOST, |soft| MOST.min(soft.saturating_sub(100)))
}

impl Consul {
    /// Starts a Consul in memory, without ACLs.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a Consul.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let mut consul = Self::prepared(options, &Value::Null).await?;
        if options.missing > 0 {
            consul.spawn().await?;
        } else {
            consul.start_again().await?;
        }
        if options.acl {
            let http = &consul.http;
            let token =
                consul.program.ready("Consul returns a management token", async || consul_acl::bootstrap(http).await);
            let token = token.await?;
            consul.http.token = Some(token);
        }
        Ok(consul)
    }

    /// A Consul that is not started yet, with more keys in its configuration.
    pub(super) async fn prepared(options: Options, more: &Value) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("consul-").tempdir()?;
        let path = program::server("consul")?;
        let (port, https, server, serf) = (Port::free()?, Port::free()?, Port::free()?, Port::free()?);
        let ca = Authority::new("Consul's CA")?;
        let mut config = json!({
            // The default is 200, and all clients have the same address.
            "limits": { "http_max_conns_per_client": max_clients() },
            "bind_addr": "127.0.0.1",
            "advertise_addr": "127.0.0.1",
            "addresses": { "http": format!("127.0.0.1 unix://{}", dir.path().join("http.sock").display()) },
            "ports": {
                "http": port.number(), "server": server.number(), "serf_lan": serf.number(),
                "https": -1, "dns": -1, "grpc": -1, "serf_wan": -1,
            },
        });
        if version(&path).await? >= (1, 14) {
            // Older versions reject this unknown key; newer versions listen on a fixed port without it.
            config["ports"]["grpc_tls"] = json!(-1);
        }
        let durable = options.durable || options.acl || options.missing > 0;
        if durable {
            config["server"] = json!(true);
            config["bootstrap_expect"] = json!(1 + options.missing);
            config["data_dir"] = json!(dir.path().join("data"));
        }
        if options.acl {
            config["acl"] = json!({ "enabled": true, "default_policy": "deny" });
        }
        if options.https {
            let file = |name: &str| dir.path().join(name);
            config["ports"]["https"] = json!(https.number());
            config["verify_incoming_https"] = json!(true);
            for (key, name) in [("ca_file", CA), ("cert_file", CERT), ("key_file", KEY)] {
                config[key] = json!(file(name));
            }
            fs::write(file(CA), ca.pem())?;
            ca.issue(&Leaf::default())?.write(&file(CERT), &file(KEY))?;
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let own = dir.path().join("agent.json");
        fs::write(&own, config.to_string()).context("cannot write Consul's configuration")?;

        let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("consul/agent.json");
        let program = Program::new("consul", path, dir.path())
            .args(["agent"].iter().chain((!durable).then_some(&"-dev")))
            .args(["-config-file".as_ref(), common.as_os_str()])
            .args(["-config-file".as_ref(), own.as_os_str()]);
        let http = Http::new(&port)?;
        Ok(Self { program, port, https, server, serf, http, ca, dir })
    }

    /// Starts Consul, and waits until it answers: it may have no leader.
    pub(super) async fn spawn(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let http = &self.http;
        let answers = async || expect_ok(http.request(Method::GET, "status/leader")).await;
        self.program.ready("Consul answers", answers).await.map(drop)
    }

    /// Starts Consul after `stop` or `kill`. With `durable` it keeps its data; else it is empty and its index restarts.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.program.spawn()?;
        let http = &self.http;
        self.program.ready("Consul has a leader", async || http.has_leader().await).await
    }

    /// Stops Consul and starts it again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops Consul like a service manager, with SIGTERM.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        // The exit code depends on version and mode.
        self.program.stop().await.map(drop)
    }

    /// Kills Consul.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// The port on which it talks to other servers.
    pub(super) fn server_port(&self) -> u16 {
        self.server.number()
    }

    /// The port on which it finds other agents.
    pub(super) fn serf_port(&self) -> u16 {
        self.serf.number()
    }

    /// The process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        self.program.pid()
    }

    /// Stops Consul with SIGSTOP: the kernel accepts connections, but Consul does not answer.
    pub fn pause(&self) -> anyhow::Result<Paused> {
        let pid = self.program.pid()?;
        Paused::new(pid).context("cannot stop Consul")
    }

    /// The address on a loopback port, in the form of `CONSUL_HTTP_ADDR`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address with TLS.
    pub fn https_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.https)
    }

    /// The CA of Consul's certificate and of the client certificates that Consul accepts.
    pub fn ca(&self) -> &Authority {
        &self.ca
    }

    /// Replaces Consul's certificate. New connections get the new one.
    pub fn set_certificate(&self, certificate: &Certificate) -> anyhow::Result<()> {
        certificate.write(&self.dir.path().join(CERT), &self.dir.path().join(KEY))?;
        self.program.signal(Signal::HUP)
    }

    /// The address on a Unix socket.
    pub fn unix_address(&self) -> String {
        format!("unix://{}", self.dir.path().join("http.sock").display())
    }

    /// The management token; none without ACLs.
    pub fn token(&self) -> Option<&str> {
        self.http.token.as_deref()
    }

    /// The HTTP API, with the management token.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// Runs weightctl with this Consul and the management token.
    pub async fn weightctl(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let address = self.address();
        let mut environment = vec![("CONSUL_HTTP_ADDR", address.as_str())];
        environment.extend(self.token().map(|token| ("CONSUL_HTTP_TOKEN", token)));
        weightd::weightctl(&environment, arguments).await
    }

    /// Writes a key.
    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        let request = self.http.request(Method::PUT, &format!("kv/{key}"));
        let answer = expect_ok(request.body(value.into())).await?;
        ensure!(answer.trim() == "true", "Consul did not write {key}: {answer:?}");
        Ok(())
    }

    /// Reads a key; `None` if it does not exist.
    pub async fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let answer = self.http.request(Method::GET, &format!("kv/{key}?raw")).send().await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(answer.bytes().await?.to_vec())),
            status => bail!("reading {key}: {status}"),
        }
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        expect_ok(self.http.request(Method::DELETE, &format!("kv/{key}"))).await.map(drop)
    }

    /// Deletes all keys with this prefix.
    pub async fn delete_tree(&self, prefix: &str) -> anyhow::Result<()> {
        expect_ok(self.http.request(Method::DELETE, &format!("kv/{prefix}?recurse"))).await.map(drop)
    }

    /// The index of a prefix, as a blocking query returns it.
    pub async fn index(&self, prefix: &str) -> anyhow::Result<u64> {
        let answer = self.http.request(Method::GET, &format!("kv/{prefix}?recurse")).send().await?;
        let index = answer.headers().get("x-consul-index").context("an answer without an index")?;
        Ok(index.to_str()?.parse()?)
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        // A regular stop takes a second, and the data is not needed.
        let _ = self.program.signal(Signal::KILL);
    }
}

/// Consul's HTTP API.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Http {
    fn new(port: &Port) -> anyhow::Result<Self> {
        let client = super::http().timeout(Duration::from_secs(15)).build()?;
        Ok(Self { client, base: format!("http://127.0.0.1:{port}/v1"), token: None })
    }

    /// The same API with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// A request for `path` below `/v1/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/{path}", self.base));
        match &self.token {
            Some(token) => request.header("X-Consul-Token", token),
            None => request,
        }
    }

    /// Sends a request with a JSON body and returns its JSON answer.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = expect_ok(self.request(method, path).body(body.to_string())).await?;
        serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer:?}"))
    }

    /// Fails unless there is a leader that can still commit.
    async fn has_leader(&self) -> anyhow::Result<()> {
        let answer = self.request(Method::GET, "kv/harness?consistent").send().await?;
        // The status code does not matter if the cluster made the decision.
        let decided = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&answer.status());
        ensure!(decided, "{}: {}", answer.status(), answer.text().await?);
        let leader = expect_ok(self.request(Method::GET, "status/leader")).await?;
        ensure!(leader.trim().len() > 2, "no leader");
        Ok(())
    }
}

/// Sends a request and returns the body of a 200; every other status is an error.
pub async fn expect_ok(request: RequestBuilder) -> anyhow::Result<String> {
    let answer = request.send().await?;
    let (status, url) = (answer.status(), answer.url().clone());
    let body = answer.text().await?;
    ensure!(status == StatusCode::OK, "{url}: {status}: {}", body.trim());
    Ok(body)
}

/// Major and minor version of the Consul binary.
async fn version(consul: &Path) -> anyhow::Result<(u32, u32)> {
    let output = Command::new(consul).arg("version").output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().next().and_then(|line| line.strip_prefix("Consul v"));
    let mut numbers = numbers.with_context(|| format!("not a version of Consul: {output:?}"))?.split('.');
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).context("not a version of Consul");
    Ok((next()?, next()?))
}
