//! consul-template as the page has it; or what stands for it where there is none.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::page::blocks;
use crate::harness::{
    Consul, Haproxy, PATIENCE,
    consul::Http,
    program::{self, Program},
    runtime,
};

/// How the weights of the keys get into HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A task of the test sends them when they change, and at no other time.
    StandIn,
    /// consul-template makes commands, and socat sends them.
    Commands,
    /// consul-template makes haproxy.cfg, and HAProxy is reloaded.
    Reloads,
}

/// What was in charge before.
pub(super) enum Old {
    StandIn { http: Http, socket: PathBuf, task: Option<JoinHandle<()>> },
    Real(Program),
}

impl Old {
    /// As the page has it, for this host; not started yet.
    pub(super) fn new(kind: Kind, consul: &Consul, haproxy: &Haproxy, dir: &Path) -> anyhow::Result<Self> {
        if kind == Kind::StandIn {
            return Ok(Self::StandIn { http: consul.http().clone(), socket: haproxy.socket(), task: None });
        }
        let cfg = haproxy.dir().join("haproxy.cfg");
        let template = dir.join("haproxy.cfg.ctmpl");
        let with_keys = fs::read_to_string(&cfg)?
            .replace("weight 90", r#"weight {{ key "traffic/app1/blue" }}"#)
            .replace("weight 10", r#"weight {{ key "traffic/app1/green" }}"#);
        fs::write(&template, with_keys)?;
        // A signal would be lost while the master is busy with the reload before.
        let master = haproxy.dir().join("master.sock");
        let reload = format!("echo reload | socat - UNIX-CONNECT:{}", master.display());
        let number = usize::from(kind == Kind::Reloads);
        let block = *blocks("hcl").get(number).context("the page lacks a template")?;
        let text = block
            .replace("/run/haproxy/weights.cmd", &dir.join("weights.cmd").display().to_string())
            .replace("/run/haproxy/admin.sock", &haproxy.socket().display().to_string())
            .replace("/etc/haproxy/haproxy.cfg.ctmpl", &template.display().to_string())
            .replace("/etc/haproxy/haproxy.cfg", &cfg.display().to_string())
            .replace("systemctl reload haproxy", &reload);
        let file = dir.join("consul-template.hcl");
        fs::write(&file, format!("consul {{\n  address = \"{}\"\n}}\n{text}", consul.address()))?;
        let program = program::server("consul-template").context("`make coming` has one made")?;
        let program = Program::new("consul-template", program, dir);
        Ok(Self::Real(program.args(["-config".as_ref(), file.as_os_str()])))
    }

    /// Starts it.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Real(program) => program.spawn(),
            Self::StandIn { http, socket, task } => {
                *task = Some(tokio::spawn(follow(http.clone(), socket.clone())));
                Ok(())
            }
        }
    }

    /// Stops it.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Real(program) => {
                // Its unit has `KillSignal=SIGINT`: it takes no other.
                program.signal(Signal::INT)?;
                timeout(PATIENCE, program.ended()).await.context("consul-template does not end")?.map(drop)
            }
            Self::StandIn { task, .. } => {
                task.take().context("it does not run")?.abort();
                Ok(())
            }
        }
    }
}

/// Sends the weights whenever the keys have changed, as a template of commands does.
async fn follow(http: Http, socket: PathBuf) {
    let mut rendered = String::new();
    loop {
        if let Ok(commands) = commands(&http).await
            && commands != rendered
            && runtime::command(&socket, &commands).await.is_ok()
        {
            rendered = commands;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn commands(http: &Http) -> anyhow::Result<String> {
    let mut commands = Vec::new();
    for server in ["blue", "green"] {
        let answer = http.request(Method::GET, &format!("kv/traffic/app1/{server}?raw")).send().await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        commands.push(format!("set server app1/{server} weight {}", answer.text().await?));
    }
    Ok(commands.join(";"))
}
