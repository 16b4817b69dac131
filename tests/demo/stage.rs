//! The running programs of the demo: one Consul, and two nodes with a HAProxy and a weightd each.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use crate::harness::{
    Apps, Consul, Haproxy, PATIENCE, Port, Traffic, Weightd, eventually, haproxy,
    traffic::{Count, Rate},
    weightd,
};

/// The names of the nodes.
pub const NODES: [&str; 2] = ["lb-1", "lb-2"];
/// Requests per second to each node, half of them on persistent connections.
const RATE: Rate = Rate { kept: 75, fresh: 75 };

/// The first version of HAProxy with which the backend with sticky users is shown.
const STICKY_SINCE: (u32, u32) = (2, 4);

/// A host with HAProxy and weightd, and the requests to it.
pub struct Node {
    /// Its name in the fleet.
    pub name: &'static str,
    /// The requests to `app` through this HAProxy.
    pub traffic: Traffic,
    /// The weightd under demonstration.
    pub weightd: Weightd,
    /// The HAProxy in front of both sides of `app`.
    pub haproxy: Haproxy,
    /// The port of the frontend of `app`.
    pub web: Port,
}

/// The running programs. They end in this order when this is dropped.
pub struct Stage {
    /// The fleet.
    pub nodes: Vec<Node>,
    /// The Consul that weightctl writes to.
    pub consul: Consul,
    /// The weights of blue and green in haproxy.cfg.
    pub configured: (u32, u32),
    /// Whether HAProxy can have the backend with sticky users.
    pub has_sticky: bool,
    _apps: Apps,
}

impl Stage {
    /// Starts all programs.
    pub async fn start() -> anyhow::Result<Self> {
        let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
        let ports = (apps.blue.port(), apps.green.port());
        let starting = NODES.map(|name| Node::start(name, &consul, ports));
        let nodes = futures_util::future::try_join_all(starting).await?;
        let mut configured = (0, 0);
        let nodes = nodes.into_iter().map(|(node, weights)| {
            configured = weights;
            node
        });
        let has_sticky = haproxy::version()? >= STICKY_SINCE;
        Ok(Self { nodes: nodes.collect(), consul, configured, has_sticky, _apps: apps })
    }

    /// The counts of each node since its start.
    pub fn counts(&self) -> Vec<Count> {
        self.nodes.iter().map(|node| node.traffic.count()).collect()
    }

    /// The count over all nodes since `earlier`.
    pub fn since(&self, earlier: &[Count]) -> Count {
        difference(&self.counts(), earlier)
    }

    /// The commands that a user can try while the demo runs.
    pub fn instructions(&self) -> anyhow::Result<String> {
        let bin = crate::harness::program::binary("weightctl")?;
        let bin = bin.parent().context("weightctl has no directory")?.display();
        let consul = self.consul.address();
        let (mut hosts, mut logs, mut masters) = (String::new(), String::new(), String::new());
        let (mut webs, mut shops) = (String::new(), String::new());
        for node in &self.nodes {
            let dir = node.weightd.dir();
            writeln!(
                hosts,
                "\x20 {}() {{ WEIGHTD_API={} WEIGHTD_SOCKET={} \"$@\"; }}",
                node.name.replace('-', ""),
                node.weightd.address(),
                dir.join("run/weightd.sock").display()
            )?;
            write!(logs, " {}", dir.join("weightd.log").display())?;
            write!(webs, " http://127.0.0.1:{}/", node.web)?;
            write!(shops, " http://127.0.0.1:{}/shop", node.web)?;
            write!(masters, " {}", node.haproxy.master_pid()?.as_raw_nonzero())?;
        }
        let first = self.nodes.first().context("no node")?.haproxy.socket();
        Ok(format!(
            "The programs run until Ctrl-C. In another terminal:\n\
             \n\
             \x20 export CONSUL_HTTP_ADDR={consul}\n\
             \x20 PATH={bin}:$PATH\n\
             {hosts}\
             \n\
             \x20 weightctl set app blue=75 green=25 --reason 'a try' --wait\n\
             \x20 weightctl status\n\
             \x20 weightctl history app\n\
             \x20 weightctl rollback app\n\
             \n\
             \x20 # sticky users: a share of the users of shop, and who is where\n\
             \x20 weightctl set shop blue=75 green=25 --yes --wait\n\
             \x20 weightctl whois shop alice bob\n\
             \x20 curl -b uid=bob{shops}\n\
             \n\
             \x20 # pause lb-2, and see what the fleet says\n\
             \x20 lb2 weightctl pause app --for 5m\n\
             \x20 weightctl set app blue=50 green=50 --yes --wait\n\
             \x20 weightctl status --problems\n\
             \x20 lb2 weightctl resume\n\
             \x20 lb1 weightctl status --local\n\
             \x20 tail -f{logs}\n\
             \n\
             \x20 # see which side answers (this and the hand edit below need curl)\n\
             \x20 curl -i{webs}\n\
             \x20 # reload both HAProxies\n\
             \x20 kill -USR2{masters}\n\
             \x20 # change a weight on lb-1 by hand; weightd corrects it within 10 s\n\
             \x20 echo 'set server app/green weight 99' | curl -s --unix-socket {first} telnet://x\n\
             \x20 # Consul's web interface\n\
             \x20 {consul}/ui\n",
            first = first.display(),
        ))
    }
}

impl Node {
    /// Starts HAProxy, weightd and the requests. Also returns the weights of blue and green in haproxy.cfg.
    pub async fn start(
        name: &'static str,
        consul: &Consul,
        (blue, green): (u16, u16),
    ) -> anyhow::Result<(Self, (u32, u32))> {
        let web = Port::free()?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("haproxy/demo.cfg");
        let mut config =
            std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        if haproxy::version()? < STICKY_SINCE {
            let (before, _) =
                config.split_once("\n# The same application with sticky users").context("no backend shop")?;
            config = before.replace("    use_backend shop if { path_beg /shop }\n", "");
        }
        let address = |port: u16| format!("127.0.0.1:{port}");
        let environment = [
            ("WEB_ADDRESS", address(web.number())),
            ("BLUE_ADDRESS", address(blue)),
            ("GREEN_ADDRESS", address(green)),
        ];
        let haproxy = Haproxy::start_with(&config, &environment).await?;
        let from_file = haproxy.weights("app").await?;
        let weight = |server| from_file.get(server).copied().with_context(|| format!("no {server} in demo.cfg"));
        let configured = (weight("blue")?, weight("green")?);
        // Blue has weight 0, and weightd accepts only servers that have passed a check.
        haproxy.until_checked("app").await?;
        if haproxy::version()? >= STICKY_SINCE {
            haproxy.until_checked("shop").await?;
        }
        let weightd = weightd::Settings::new(consul, &haproxy).set("node", name).start().await?;
        eventually(PATIENCE, "weightd is ready", async || weightd.get("/ready").await).await?;
        let traffic = Traffic::start(web.number(), RATE);
        Ok((Self { name, traffic, weightd, haproxy, web }, configured))
    }
}

/// The count over all nodes between two points in time.
pub fn difference(now: &[Count], earlier: &[Count]) -> Count {
    let each = now.iter().zip(earlier).map(|(now, earlier)| now.clone() - earlier);
    each.reduce(|all, node| all + node).unwrap_or_default()
}
