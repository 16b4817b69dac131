//! Three Consul servers, and the agent of a machine that runs none of them.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Consul, PATIENCE,
    consul::{Options, expect_ok},
    eventually,
};

/// Three servers, one of which leads.
#[derive(Debug)]
pub struct Servers(Vec<Consul>);

impl Servers {
    /// Starts them, and an agent that forwards requests to them: what all other programs use. Waits until each server has the
    /// data.
    pub async fn start() -> anyhow::Result<(Self, Consul)> {
        let options = Options { durable: true, ..Options::default() };
        let mut servers: Vec<Consul> = Vec::new();
        for number in 1..=3 {
            let join: Vec<_> = servers.iter().map(join).collect();
            let more = json!({"node_name": format!("server{number}"), "bootstrap_expect": 3, "retry_join": join});
            let mut server = Consul::prepared(options, &more).await?;
            server.spawn().await?;
            servers.push(server);
        }
        let join: Vec<_> = servers.iter().map(join).collect();
        let more = json!({"node_name": "agent", "server": false, "bootstrap_expect": 0, "retry_join": join});
        let mut agent = Consul::prepared(options, &more).await?;
        agent.start_again().await?;
        let all = Self(servers);
        all.until_complete(&agent).await?;
        Ok((all, agent))
    }

    /// The number of the server that leads, from 0, as the agent says.
    async fn leader(&self, agent: &Consul) -> anyhow::Result<usize> {
        let answer = expect_ok(agent.http().request(Method::GET, "status/leader")).await?;
        let leads = |server: &Consul| answer.contains(&format!(":{}\"", server.server_port()));
        self.0.iter().position(leads).with_context(|| format!("no server leads: {answer}"))
    }

    /// Kills the server that leads, waits until another one leads and writes, and returns the number of the killed one.
    pub async fn kill_leader(&mut self, agent: &Consul) -> anyhow::Result<usize> {
        let killed = self.leader(agent).await?;
        self.0[killed].kill().await?;
        eventually(PATIENCE, "another server leads", async || {
            let leader = self.leader(agent).await?;
            ensure!(leader != killed, "server {leader} leads");
            agent.put("harness", "").await
        })
        .await?;
        Ok(killed)
    }

    /// Starts a server again that was killed, and waits until it has the data.
    pub async fn start_again(&mut self, number: usize, agent: &Consul) -> anyhow::Result<()> {
        self.0[number].spawn().await?;
        self.until_complete(agent).await
    }

    /// Waits until the three servers are one cluster, so that one of them may die.
    async fn until_complete(&self, agent: &Consul) -> anyhow::Result<()> {
        eventually(PATIENCE * 2, "three healthy servers vote", async || {
            let health = agent.http().json(Method::GET, "operator/autopilot/health", &Value::Null).await?;
            let servers = health["Servers"].as_array().context("no servers")?;
            let voters = servers.iter().filter(|server| server["Healthy"] == true && server["Voter"] == true).count();
            ensure!(voters == self.0.len(), "{health}");
            Ok(())
        })
        .await
    }
}

/// Where other agents find this one.
fn join(server: &Consul) -> String {
    format!("127.0.0.1:{}", server.serf_port())
}
