//! A real Chromium without a screen, driven by its own protocol over one WebSocket.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::harness::{eventually, program::server};

/// The longest answer of the browser.
const ANSWER: Duration = Duration::from_secs(20);
/// How long something on a page may take.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A browser with one tab.
pub(crate) struct Browser {
    child: Child,
    socket: Mutex<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    next: AtomicU64,
    session: String,
    /// What the console and the page policy reported, and what failed to load.
    reports: Mutex<Vec<String>>,
    _dir: TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
    pub(crate) touch: bool,
}

impl Look {
    pub(crate) const DESK: Self = Self { width: 1280, height: 800, dark: false, touch: false };
    pub(crate) const PHONE: Self = Self { width: 390, height: 844, dark: false, touch: true };
}

impl Browser {
    /// Starts a browser with an empty profile.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(server("chromium")?);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args([
                "--remote-debugging-port=0",
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
            ])
            .args(["--force-color-profile=srgb", "--font-render-hinting=none", "about:blank"])
            .arg(format!("--user-data-dir={}", dir.path().display()))
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let child = command.spawn().context("cannot start chromium")?;
        let port: PathBuf = dir.path().join("DevToolsActivePort");
        let address = eventually(Duration::from_secs(60), "chromium listens", async || {
            let text = std::fs::read_to_string(&port)?;
            let (port, path) = text.trim().split_once('\n').context("half a file")?;
            Ok(format!("ws://127.0.0.1:{port}{path}"))
        })
        .await?;
        let (socket, _) = connect_async(address).await?;
        let mut browser = Self {
            child,
            socket: Mutex::new(socket),
            next: AtomicU64::new(1),
            session: String::new(),
            reports: Mutex::default(),
            _dir: dir,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await?;
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true})).await?;
        attached["sessionId"].as_str().context("no session")?.clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            browser.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(browser)
    }

    /// Ends the browser.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Calls a method of the protocol.
    pub(crate) async fn call(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut socket = self.socket.lock().await;
        socket.send(Message::text(request.to_string())).await?;
        loop {
            let message = timeout(ANSWER, socket.next()).await.with_context(|| format!("{method}: no answer"))?;
            let Message::Text(text) = message.context("the browser ended")?? else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["id"] == json!(id) {
                ensure!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
            self.take(&answer).await;
        }
    }

    async fn take(&self, event: &Value) {
        let parameters = &event["params"];
        let report = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => Some(format!("exception: {}", parameters["exceptionDetails"])),
            "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
                Some(format!("console: {}", parameters["args"]))
            }
            "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
                Some(format!("log: {}", parameters["entry"]["text"]))
            }
            "Audits.issueAdded" => Some(format!("issue: {}", parameters["issue"])),
            _ => None,
        };
        if let Some(report) = report {
            self.reports.lock().await.push(report);
        }
    }

    /// What the browser complained about since the last call: errors of scripts, and violations of the policy.
    pub(crate) async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        // An answer comes after the events before it.
        self.script("1").await?;
        let all: Vec<String> = self.reports.lock().await.drain(..).collect();
        // A page that is left ends its stream, which is no fault.
        Ok(all.into_iter().filter(|report| !report.contains("ERR_ABORTED")).collect())
    }

    /// Sets size, colours and touch.
    pub(crate) async fn look(&self, look: Look) -> anyhow::Result<()> {
        let Look { width, height, dark, touch } = look;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await?;
        self.call("Emulation.setTouchEmulationEnabled", json!({"enabled": touch})).await?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.call("Emulation.setEmulatedMedia", features).await.map(drop)
    }

    /// Switches scripts on or off.
    pub(crate) async fn scripts(&self, on: bool) -> anyhow::Result<()> {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !on})).await.map(drop)
    }

    /// Opens an address, and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) -> anyhow::Result<()> {
        let loader = self.call("Page.navigate", json!({"url": url})).await?;
        ensure!(loader.get("errorText").is_none(), "{url}: {}", loader["errorText"]);
        self.loaded().await
    }

    /// Waits until the page is loaded.
    pub(crate) async fn loaded(&self) -> anyhow::Result<()> {
        eventually(SOON, "the page is loaded", async || {
            let state = self.script("document.readyState").await?;
            ensure!(state == json!("complete"), "{state}");
            Ok(())
        })
        .await
    }

    /// The value of an expression.
    pub(crate) async fn script(&self, expression: &str) -> anyhow::Result<Value> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters).await?;
        if let Some(exception) = answer.get("exceptionDetails") {
            bail!("{expression}: {exception}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// The visible text of the page.
    pub(crate) async fn text(&self) -> anyhow::Result<String> {
        let text = self.script("document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().replace('\u{a0}', " ").split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Waits until the page shows a text.
    pub(crate) async fn shows(&self, text: &str) -> anyhow::Result<()> {
        eventually(SOON, text, async || {
            let shown = self.text().await?;
            ensure!(shown.contains(text), "{shown}");
            Ok(())
        })
        .await
    }

    /// Presses a key, such as `Tab`, `Enter` or `r`.
    pub(crate) async fn press(&self, key: &str) -> anyhow::Result<()> {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            " " => (32, " "),
            other => (0, other),
        };
        let event = |kind: &str| json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        self.call("Input.dispatchKeyEvent", event(down)).await?;
        self.call("Input.dispatchKeyEvent", event("keyUp")).await.map(drop)
    }

    /// Types a text into the field that has the focus. The browser gives it to the first field with a frame after the
    /// document is complete, which a busy machine can see.
    pub(crate) async fn write(&self, text: &str) -> anyhow::Result<()> {
        eventually(SOON, "a field has the focus", async || {
            let there = self.script("!!document.activeElement?.matches('input, textarea')").await?;
            ensure!(there == json!(true), "none has");
            Ok(())
        })
        .await?;
        self.call("Input.insertText", json!({"text": text})).await.map(drop)
    }

    /// Presses Tab until the element that has the focus fits the selector.
    pub(crate) async fn tab_to(&self, selector: &str) -> anyhow::Result<()> {
        for _ in 0..80 {
            self.press("Tab").await?;
            let there = self.script(&format!("!!document.activeElement?.matches({})", json!(selector))).await?;
            if there == json!(true) {
                return Ok(());
            }
        }
        bail!("the focus does not reach {selector}")
    }

    /// Touches the middle of an element, once it stays where it is: rows are laid out when they come near the screen.
    pub(crate) async fn touch(&self, selector: &str) -> anyhow::Result<()> {
        // Longer than two frames.
        const SAME: u32 = 6;
        let (mut last, mut same) = (Value::Null, 0);
        let place = eventually(SOON, "an element stays where it is", async || {
            let now = self.place(selector).await?;
            same = if now.is_null() || now != last { 0 } else { same + 1 };
            last = now.clone();
            ensure!(same >= SAME, "{selector}: {now}");
            Ok(now)
        })
        .await?;
        let (x, y) = (place[0].as_f64(), place[1].as_f64());
        let (Some(x), Some(y)) = (x, y) else { bail!("{selector} is nowhere: {place}") };
        let points = json!([{"x": x, "y": y}]);
        self.call("Input.dispatchTouchEvent", json!({"type": "touchStart", "touchPoints": points})).await?;
        self.call("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []})).await.map(drop)
    }

    /// Scrolls to an element. The middle of it; null if there is none.
    async fn place(&self, selector: &str) -> anyhow::Result<Value> {
        self.script(&format!(
                "(() => {{ const e = document.querySelector({}); if (!e) return null; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
                json!(selector)
            ))
            .await
    }

    /// A picture of the whole page.
    pub(crate) async fn picture(&self, whole: bool) -> anyhow::Result<Vec<u8>> {
        if whole {
            // Rows far below the screen are laid out only when they come near it.
            let all = "document.querySelectorAll('tr').forEach((row) => { row.style.contentVisibility = 'visible'; })";
            self.script(all).await?;
        }
        let parameters = json!({"format": "png", "captureBeyondViewport": whole});
        let picture = self.call("Page.captureScreenshot", parameters).await?;
        Ok(BASE64.decode(picture["data"].as_str().context("no picture")?)?)
    }

    /// Milliseconds from the start of the navigation to the first paint with content.
    pub(crate) async fn first_paint(&self) -> anyhow::Result<f64> {
        let deadline = Instant::now() + SOON;
        loop {
            let paint =
                self.script("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null").await?;
            if let Some(paint) = paint.as_f64() {
                return Ok(paint);
            }
            ensure!(Instant::now() < deadline, "nothing was painted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
