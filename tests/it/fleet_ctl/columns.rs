//! Every verb that shows something, in a terminal of 80 columns and in a pipe.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::{process::Command, time::timeout};

use super::{Node, run};
use crate::{
    common::{SOON, backend},
    harness::{Consul, config, program, weightd::weightctl},
};

/// The table of this command in a terminal of 80 columns.
async fn on_a_terminal(consul: &Consul, node: &Node, arguments: &str) -> anyhow::Result<String> {
    shown(consul, node, &format!("{arguments} 2>/dev/null")).await
}

/// What this command prints in a terminal of 80 columns, messages included.
async fn shown(consul: &Consul, node: &Node, arguments: &str) -> anyhow::Result<String> {
    let mut script = Command::new("script");
    program::without_consul(&mut script);
    let weightctl = program::binary("weightctl")?;
    let line = format!("stty rows 50 cols 80; {} {arguments}; true", weightctl.display());
    let output = script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .envs([("CONSUL_HTTP_ADDR", consul.address()), ("SHELL", "/bin/sh".to_owned())])
        .env("WEIGHTD_API", node.weightd.address())
        .env("WEIGHTD_SOCKET", node.weightd.dir().join("run/weightd.sock"))
        .env("WEIGHTD_CONFIG", node.weightd.dir().join("weightd.toml"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SOON * 2, output).await.context("it does not end")??;
    let text = String::from_utf8(output.stdout)?.replace('\r', "");
    Ok(anstream::adapter::strip_str(&text).to_string())
}

#[tokio::test]
async fn no_table_is_wider_than_the_terminal_and_a_pipe_gets_everything() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let name = "checkout-service_public_eu-west";
    let body = backend("app1", 9, 1) + &backend(name, 9, 1);
    let nodes = [
        Node::start_with(&consul, "lb-1.edge.example.net", &body, |settings| settings).await?,
        Node::start_with(&consul, "lb-2.edge.example.net", &backend("app1", 9, 1), |settings| settings).await?,
    ];
    let reason = "the 10 % canary of the second week, agreed with the team";
    for (backend, weights) in [("app1", "blue=90 green=10"), (name, "blue=50 green=50")] {
        let line = format!("set {backend} {weights} --yes --create --by alice.of.the.platform-team --wait -m");
        let arguments: Vec<_> = line.split_whitespace().chain([reason]).collect();
        let output = weightctl(&[("CONSUL_HTTP_ADDR", &consul.address())], &arguments).await?;
        ensure!(output.status.success(), "{output:?}");
    }
    nodes[1].local(&["pause", "app1", "--for", "1h", "-m", reason]).await?;
    run(&consul, "set app1 green=11 --yes").await?.expect(0, &[])?;
    nodes[1].says(&consul, "paused").await?;
    for verb in [
        "list",
        "get",
        "get app1",
        "history app1",
        "history --since 1h",
        "status",
        "status app1",
        "status --node lb-2.edge.example.net",
        "diff",
        "node list",
        "export",
        "status --local",
    ] {
        let shown = on_a_terminal(&consul, &nodes[1], verb).await?;
        ensure!(shown.lines().count() > 1, "`{verb}` shows nothing: {shown}");
        // Sentences wrap as everywhere; the lines of a table do not.
        let sentence =
            |line: &str| verb == "status --local" && !line.starts_with("  app1 ") && !line.starts_with("  BACKEND");
        let wide = shown.lines().find(|line| line.chars().count() > 80 && !sentence(line));
        ensure!(wide.is_none(), "`{verb}` has a line of more than 80 columns: {wide:?}\n{shown}");
    }
    let cut = on_a_terminal(&consul, &nodes[1], "history --since 1h").await?;
    ensure!(cut.contains('…'), "{cut}");
    let whole = run(&consul, "history --since 1h").await?.expect(0, &[reason, name, "alice.of.the.platform-team"])?;
    ensure!(!whole.out.contains('…'), "{}", whole.out);
    Ok(())
}

#[tokio::test]
async fn no_table_of_a_writing_verb_or_a_check_is_wider_than_the_terminal() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let long = ["blue", "green"].map(|side| format!("{side}-of-the-checkout-service.eu-west-1.cluster.example.net"));
    let servers: Vec<_> = long.iter().map(|name| (name.as_str(), 9, 1)).collect();
    let body = config::backend("app1", &["balance roundrobin"], &servers, "");
    let node = Node::start_with(&consul, "lb-1.edge.example.net", &body, |settings| settings).await?;
    let [blue, green] = &long;
    let reason = "the 10 % canary of the second week, agreed with the team";
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    for verb in [
        format!("set app1 {blue}=90 {green}=10 --create --yes --wait -m '{reason}'"),
        format!("set app1 {blue}=50 {green}=50 --dry-run"),
        "shift app1 'green*=25%' --dry-run".to_owned(),
        "shift 'app*' --all 'green*=25%' --yes --wait".to_owned(),
        "rollback app1 --dry-run".to_owned(),
        "rollback --all --off 'green*' --dry-run".to_owned(),
        "rollback app1 --yes --wait".to_owned(),
        "shift app1 'blue*=75%' 'green*=25%' --split --dry-run".to_owned(),
        format!("export >{}", file.path().display()),
        format!("set app1 {green}=30 --yes --wait"),
        format!("apply -f {} --dry-run", file.path().display()),
        format!("freeze app1 -m '{reason}'"),
        "unfreeze app1".to_owned(),
        "settle app1".to_owned(),
        "release app1 --dry-run".to_owned(),
        "node expect 1".to_owned(),
        "node forget --missing --yes".to_owned(),
        format!("pause app1 --for 1m -m '{reason}'"),
        "resume app1".to_owned(),
        format!("override app1 {blue}=1 --for 1m -m '{reason}'"),
        "resume app1".to_owned(),
        format!("import --from-haproxy {} --replace --dry-run", node.haproxy.socket().display()),
        "check".to_owned(),
    ] {
        let text = shown(&consul, &node, &verb).await?;
        // Sentences wrap as everywhere, and a hint stays on one line so that it can be pasted.
        let is_row = |line: &str| line.starts_with("  ") && line.trim().contains("  ") && !line.contains("hint: ");
        let wide = text.lines().find(|line| line.chars().count() > 80 && is_row(line));
        ensure!(wide.is_none(), "`{verb}` has a row of more than 80 columns: {wide:?}\n{text}");
        ensure!(!text.contains("Usage:"), "`{verb}`: {text}");
    }
    Ok(())
}
