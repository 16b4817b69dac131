//! The running programs of the demo.

use std::path::Path;

use anyhow::Context as _;

use crate::harness::{Apps, Consul, Haproxy, Port, Traffic, Weightd, eventually, traffic::Rate, weightd};

/// Requests per second, half of them on persistent connections.
const RATE: Rate = Rate { kept: 150, fresh: 150 };

/// The running programs. They end in this order when this is dropped.
pub struct Stage {
    /// The requests to `app`.
    pub traffic: Traffic,
    /// The weightd under demonstration.
    pub weightd: Weightd,
    /// The HAProxy in front of both sides of `app`.
    pub haproxy: Haproxy,
    /// The port of the frontend of `app`.
    pub web: Port,
    /// The Consul that weightctl writes to.
    pub consul: Consul,
    /// The weights of blue and green in haproxy.cfg.
    pub configured: (u32, u32),
    _apps: Apps,
}

impl Stage {
    /// Starts all programs.
    pub async fn start() -> anyhow::Result<Self> {
        let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
        let web = Port::free()?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("haproxy/demo.cfg");
        let config = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let environment = [
            ("WEB_ADDRESS", address(web.number())),
            ("BLUE_ADDRESS", address(apps.blue.port())),
            ("GREEN_ADDRESS", address(apps.green.port())),
        ];
        let haproxy = Haproxy::start_with(&config, &environment).await?;
        let from_file = haproxy.weights("app").await?;
        let weight = |server| from_file.get(server).copied().with_context(|| format!("no {server} in demo.cfg"));
        let configured = (weight("blue")?, weight("green")?);
        // Blue has weight 0, and weightd accepts only servers that have passed a check.
        haproxy.until_checked("app").await?;
        let weightd = weightd::Settings::new(&consul, &haproxy).start().await?;
        eventually(crate::harness::PATIENCE, "weightd is ready", async || weightd.get("/ready").await).await?;
        let traffic = Traffic::start(web.number(), RATE);
        Ok(Self { traffic, weightd, haproxy, web, consul, configured, _apps: apps })
    }

    /// The commands that a user can try while the demo runs.
    pub async fn instructions(&self) -> anyhow::Result<String> {
        let bin = crate::harness::program::binary("weightctl")?;
        let bin = bin.parent().context("weightctl has no directory")?.display();
        let (web, socket, api) = (&self.web, self.haproxy.socket(), self.weightd.address());
        let (consul, master) = (self.consul.address(), self.haproxy.master_pid()?);
        let (log, worker) = (self.weightd.dir().join("weightd.log"), self.haproxy.pid().await?);
        Ok(format!(
            "The programs run until Ctrl-C. In another terminal:\n\
             \n\
             \x20 export CONSUL_HTTP_ADDR={consul} WEIGHTD_API={api}\n\
             \x20 export WEIGHTD_SOCKET={control}\n\
             \x20 PATH={bin}:$PATH\n\
             \x20 ADMIN={socket}\n\
             \n\
             \x20 weightctl set app blue=75 green=25 --reason 'a try'\n\
             \x20 weightctl get app\n\
             \x20 weightctl status --local\n\
             \x20 tail -f {log}\n\
             \n\
             \x20 # see which side answers (this and the hand edit below need curl)\n\
             \x20 curl -i http://127.0.0.1:{web}/\n\
             \x20 # reload HAProxy (its worker is now {worker})\n\
             \x20 kill -USR2 {master}\n\
             \x20 # change a weight by hand; weightd corrects it within 10 s\n\
             \x20 echo 'set server app/green weight 99' | curl -s --unix-socket $ADMIN telnet://x\n\
             \x20 # Consul's web interface\n\
             \x20 {consul}/ui\n",
            log = log.display(),
            control = self.weightd.dir().join("run/weightd.sock").display(),
            socket = socket.display(),
            worker = worker.as_raw_nonzero(),
            master = master.as_raw_nonzero(),
        ))
    }
}
