//! Checks of docker-compose.yml and the Dockerfile without Docker. `make compose-test` runs the stack and needs Docker.

use std::{io::Write as _, path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use weightd::{rolloutd::config::Config as ControllerConfig, weightd::config::Config};

use crate::{
    common::SOON,
    harness::{
        Apps, Consul, Haproxy, PATIENCE, Port, Rolloutd, Weightd, eventually, haproxy, program,
        users::Browser,
        weightd::{Settings, weightctl},
    },
    pages::page,
};

const STACK: &str = include_str!("../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../Dockerfile");

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The values of `key: ` in the lines of the stack.
fn values(key: &str) -> Vec<&'static str> {
    STACK.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(key)?.strip_prefix(": ")).collect()
}

#[test]
fn weightds_configuration_is_valid_and_names_consul_and_haproxy() {
    let config = Config::load(Some(&root().join("docker/weightd.toml")), &environment).unwrap();
    let consul = config.consul.address.to_string();
    assert!(consul.starts_with("http://consul:8500"), "{consul}");
    let [instance] = config.haproxy.as_slice() else { panic!("one HAProxy: {:?}", config.haproxy) };
    let socket = values("environment").into_iter().find_map(|line| line.split_once("ADMIN_SOCKET: "));
    let socket = socket.map(|(_, path)| path.trim_end_matches('}')).unwrap();
    assert_eq!(instance.address.to_string(), format!("unix:{socket}"));
}

/// The environment that the stack gives to weightd and to rolloutd.
fn environment(name: &str) -> Option<String> {
    let consul = STACK.split_once("CONSUL_HTTP_ADDR: \"").and_then(|(_, rest)| rest.split('"').next());
    if name == "CONSUL_HTTP_ADDR" { consul.map(Into::into) } else { None }
}

#[test]
fn rolloutds_configuration_is_valid_and_names_the_consul_and_the_prometheus_of_its_profile() {
    let config = ControllerConfig::load(Some(&root().join("docker/rolloutd.toml")), &environment).unwrap();
    let consul = config.consul.address.to_string();
    assert!(consul.starts_with("http://consul:8500"), "{consul}");
    let controller = service("rolloutd");
    assert!(controller.contains(&"environment: *consul"), "{controller:?}");
    for (name, source) in &config.sources {
        let host = source.url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).unwrap();
        let profiles = service(host).into_iter().find_map(|line| line.strip_prefix("profiles: ")).unwrap();
        assert!(profiles.contains("rollout"), "{name}: {profiles}");
    }
    let port = config.api.unwrap().port();
    assert!(controller.contains(&format!("ports: [\"127.0.0.1:{port}:{port}\"]").as_str()), "{controller:?}");
    let jobs = include_str!("../../docker/prometheus.yml");
    let (_, job) = jobs.split_once("job_name: rolloutd\n").unwrap();
    assert!(job.contains("names: [rolloutd]") && job.contains(&format!("port: {port}\n")), "{job}");
}

#[tokio::test]
async fn the_health_check_of_rolloutd_fails_until_a_controller_leads() -> anyhow::Result<()> {
    let controller = service("rolloutd");
    let check = controller.iter().find_map(|line| line.strip_prefix("test: [CMD, bash, -c, ")?.strip_suffix(']'));
    // What stands between the quotes of YAML is written as in JSON.
    let check: String = serde_json::from_str(check.context("rolloutd has no health check in bash")?)?;
    ensure!(check.contains("/dev/tcp/127.0.0.1/9112"), "{check}");
    let consul = Consul::start().await?;
    let rolloutd = Rolloutd::start(&consul, "controller-1").await?;
    let healthy = async |port: u16| {
        let script = check.replace("/9112", &format!("/{port}")).replace("$$", "$");
        let output = Command::new("bash").args(["-c", &script]).output().await.context("cannot run bash")?;
        anyhow::Ok(output.status.success())
    };
    eventually(PATIENCE, "it is healthy", async || {
        ensure!(healthy(rolloutd.port()).await?, "{}", rolloutd.log());
        Ok(())
    })
    .await?;
    let nobody = Port::free()?;
    ensure!(!healthy(nobody.number()).await?, "it is healthy where nothing listens");
    Ok(())
}

#[test]
fn the_image_has_every_program() {
    let manifest = include_str!("../../Cargo.toml");
    let programs = manifest.split("[[bin]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let install = DOCKERFILE.lines().find(|line| line.contains("install -D -t /out")).unwrap();
    let mut count = 0;
    for program in programs {
        assert!(install.split(' ').any(|word| word == format!("target/release/{program}")), "{install}");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[tokio::test]
async fn haproxy_accepts_its_configuration_files() -> anyhow::Result<()> {
    let commands = values("command").into_iter().filter(|line| line.starts_with("[haproxy, "));
    let commands: Vec<Vec<&str>> = commands.map(|line| line.trim_matches(['[', ']']).split(", ").collect()).collect();
    ensure!(commands.len() == 2, "this test knows the balancer and the application: {commands:?}");
    for command in commands {
        let files = command.into_iter().skip(1).map(|word| word.replace("/usr/local/etc", "."));
        let output = Command::new(program::server("haproxy")?)
            .arg("-c")
            .args(files)
            .current_dir(root())
            .envs([("ADMIN_SOCKET", "/nowhere/admin.sock"), ("APP_ADDRESS", ":8080"), ("APP_NAME", "blue")])
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run haproxy")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The stack's HAProxy is newer. A version before 2.4 does not know these two, and reports only that.
        let unknown = ["unknown option 'idle-close-on-response'", "unknown fetch method 'srv_uweight'"];
        let reports = stderr.lines().filter(|line| line.contains(": parsing ["));
        if haproxy::version()? < (2, 4) && reports.clone().count() > 0 {
            let known = |line: &str| unknown.iter().any(|text| line.contains(text));
            ensure!(reports.clone().all(known), "{stderr}");
        } else {
            ensure!(output.status.success(), "{stderr}");
        }
    }
    Ok(())
}

#[test]
fn ports_are_published_only_on_this_host_and_each_image_has_a_version() {
    let ports = values("ports");
    assert!(!ports.is_empty());
    for port in ports {
        assert!(port.starts_with("[\"127.0.0.1:") && !port.contains(','), "{port}");
    }
    let bases = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("FROM "));
    for image in values("image").into_iter().chain(bases.clone()).filter(|image| *image != "weightd") {
        let tag = image.split(' ').next().unwrap().split_once(':').map(|(_, tag)| tag);
        let pinned = |tag: &str| tag.contains(|character: char| character.is_ascii_digit()) || tag.ends_with("-slim");
        assert!(tag.is_some_and(pinned), "{image}");
    }
    let least: u32 = env!("CARGO_PKG_RUST_VERSION").split('.').nth(1).unwrap().parse().unwrap();
    let rust = bases.clone().find_map(|base| base.strip_prefix("rust:1.")).unwrap();
    assert!(rust.split('-').next().unwrap().parse::<u32>().unwrap() >= least, "{rust}");
}

/// Runs a function of tests/compose/traffic.sh on what Compose prints.
fn traffic(function: &str, printed: &str) -> anyhow::Result<(bool, String)> {
    let mut shell = std::process::Command::new("sh")
        .args(["-euc", &format!(". tests/compose/traffic.sh; {function}")])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a shell")?;
    shell.stdin.take().context("no input")?.write_all(printed.as_bytes())?;
    let output = shell.wait_with_output()?;
    Ok((output.status.success(), String::from_utf8(output.stdout)?))
}

#[test]
fn the_log_of_the_traffic_is_read_from_every_version_of_compose() -> anyhow::Result<()> {
    let lines = [
        "blue 18  green  2  |  of 60: failed 0, refused 1",
        "blue 17  green  3  |  of 80: failed 0, refused 1",
        "blue 19  green  1  |  of 100: failed 0, refused 1",
    ];
    let clean = lines.map(|line| format!("{line}\n")).concat();
    // Compose 2.26.1, Compose 2.5.0, the newest one, and one that colours what it prints.
    for (before, after) in [("\x1b[2K", ""), (" ", ""), ("", ""), ("\x1b[36m\x1b[0m", "\x1b[0m\r")] {
        let printed = lines.map(|line| format!("{before}{line}{after}\n")).concat();
        assert_eq!(traffic("traffic_lines", &printed)?.1, clean, "{before:?}");
        for (word, count) in [("failed", "0\n"), ("refused", "1\n"), ("of", "100\n")] {
            assert_eq!(traffic(&format!("traffic_lines | traffic_count {word}"), &printed)?.1, count, "{before:?}");
        }
        for (percent, right) in [(10, true), (15, false), (0, false)] {
            let share = format!("traffic_lines | traffic_share_is {percent}");
            assert_eq!(traffic(&share, &printed)?.0, right, "{before:?} {percent}");
        }
    }
    // What the container prints before the first whole line is none.
    assert_eq!(traffic("traffic_lines || :", "\x1b[2Kcannot reach HAProxy\n")?.1, "");
    Ok(())
}

#[test]
fn every_mounted_file_exists() {
    let mounted: Vec<&str> =
        STACK.split(['[', ' ']).filter_map(|word| word.strip_prefix("./")?.split(':').next()).collect();
    assert!(mounted.len() > 4, "{mounted:?}");
    for path in mounted {
        assert!(root().join(path).exists(), "{path}");
    }
}

/// The nodes of the profile `fleet`: the service of weightd, and its host name.
const NODES: [(&str, &str); 2] = [("weightd", "lb-1"), ("weightd-2", "lb-2")];

/// The lines of one service in the stack.
fn service(name: &str) -> Vec<&'static str> {
    let mut lines = STACK.lines().skip_while(|line| *line != format!("  {name}:")).skip(1);
    let lines: Vec<_> = lines.by_ref().take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    assert!(!lines.is_empty(), "there is no service {name}");
    lines
}

#[test]
fn each_node_of_the_fleet_has_its_own_haproxy_and_its_own_state_and_all_have_one_consul() {
    let mut volumes = Vec::new();
    for (weightd, host) in NODES {
        let lines = service(weightd);
        assert!(lines.contains(&format!("hostname: {host}").as_str()), "{lines:?}");
        assert!(lines.contains(&"<<: *weightd"), "{lines:?}");
        let own = |path: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix("- ")?.strip_suffix(path));
            found.unwrap_or_else(|| panic!("{weightd} mounts nothing at {path}")).to_owned()
        };
        volumes.extend([own(":/var/lib/weightd"), own(":/run/haproxy")]);
        let balancer = service(&weightd.replace("weightd", "haproxy"));
        let socket = format!("- {}:/run/haproxy", own(":/run/haproxy"));
        assert!(balancer.contains(&socket.as_str()) && balancer.contains(&"<<: *balancer"), "{balancer:?}");
        assert_eq!(balancer.contains(&"profiles: [fleet]"), lines.contains(&"profiles: [fleet]"), "{weightd}");
    }
    let distinct: std::collections::BTreeSet<_> = volumes.iter().collect();
    assert_eq!(distinct.len(), volumes.len(), "{volumes:?}");
    assert_eq!(STACK.matches("CONSUL_HTTP_ADDR:").count(), 1, "one address for every weightd");
}

/// One node of the stack as programs of this machine.
struct Node {
    weightd: Weightd,
    web: Port,
    _haproxy: Haproxy,
}

impl Node {
    /// HAProxy with haproxy/compose.cfg, and a weightd for it. The names of Docker's network are replaced by addresses.
    async fn start(host: &str, consul: &Consul, apps: &Apps) -> anyhow::Result<Self> {
        let web = Port::free()?;
        let text = include_str!("../../haproxy/compose.cfg");
        let (before, rest) = text.split_once("resolvers docker\n").context("no resolvers")?;
        let (_, after) = rest.split_once("\n\n").context("no end of the resolvers")?;
        let body = format!("{before}\n{after}")
            .replace(" resolvers docker init-addr libc,none", "")
            .replace("bind :8080", &format!("bind 127.0.0.1:{web}"))
            .replace("blue:8080", &format!("127.0.0.1:{}", apps.blue.port()))
            .replace("green:8080", &format!("127.0.0.1:{}", apps.green.port()));
        ensure!(!body.contains("8080") && !body.contains("resolvers docker"), "{body}");
        let haproxy = Haproxy::start(&body).await?;
        for backend in ["app", "shop"] {
            haproxy.until_checked(backend).await?;
        }
        let weightd = Settings::new(consul, &haproxy).set("node", host).start().await?;
        eventually(PATIENCE, "weightd is ready", async || weightd.get("/ready").await).await?;
        Ok(Self { weightd, web, _haproxy: haproxy })
    }
}

/// The words of a line without those that differ from run to run: versions, times and indexes.
fn stable(line: &str) -> Vec<&str> {
    let changes = |word: &str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().filter(|word| !changes(word)).collect()
}

/// What docs/docker.md types into the containers of the fleet, on the same programs without containers.
#[tokio::test]
async fn the_commands_of_the_fleet_on_the_page_print_what_the_page_shows() -> anyhow::Result<()> {
    if haproxy::version()? < (2, 4) {
        return Ok(());
    }
    let (consul, apps) = tokio::try_join!(Consul::start(), Apps::start())?;
    let [(_, first), (_, second)] = NODES;
    let (first, second) = tokio::try_join!(Node::start(first, &consul, &apps), Node::start(second, &consul, &apps))?;
    let address = consul.address();
    let section = page("docs/docker.md").text.split("## A fleet of two nodes").nth(1).context("no section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut run = 0;
    for command in section.split("\n$ ").skip(1) {
        let (command, printed) = command.split_once('\n').unwrap_or((command, ""));
        let printed = printed.split("```").next().unwrap_or_default();
        let Some(command) = command.strip_prefix("docker compose exec ") else {
            let other = command.starts_with("docker compose --profile fleet up") || command.starts_with("curl ");
            ensure!(other, "this test does not know `{command}`");
            continue;
        };
        let (service, words) = command.split_once(" weightctl ").context("which program is it?")?;
        let node = if service == NODES[0].0 { &first } else { &second };
        ensure!(NODES.iter().any(|(name, _)| *name == service), "{service}");
        let (api, socket) = (node.weightd.address(), node.weightd.dir().join("run/weightd.sock"));
        let socket = socket.display().to_string();
        let environment = [
            ("CONSUL_HTTP_ADDR", address.as_str()),
            ("WEIGHTD_API", api.as_str()),
            ("WEIGHTD_SOCKET", socket.as_str()),
        ];
        let words: Vec<_> = words.split(' ').collect();
        // The page says that a paused node makes it end with 3.
        let code = if words == ["status", "--problems"] { 3 } else { 0 };
        let attempt = async || {
            let output = weightctl(&environment, &words).await?;
            let said = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
            ensure!(output.status.code() == Some(code), "{words:?}: {}: {said}", output.status);
            for line in printed.lines().filter(|line| !line.is_empty()) {
                ensure!(said.lines().any(|said| stable(said) == stable(line)), "{words:?}: no `{line}` in\n{said}");
            }
            anyhow::Ok(())
        };
        // Reports of the nodes may need a moment. A command that writes is run once.
        if ["node", "status"].contains(&words[0]) {
            eventually(SOON, command, attempt).await?;
        } else {
            attempt().await?;
        }
        run += 1;
        if words[0] == "whois" {
            // The page shows the answers of both HAProxies to alice.
            for node in [&first, &second] {
                let side = Browser::new(node.web.number()).side("/shop", "alice").await?;
                ensure!(side == "green", "{side}");
            }
        }
    }
    ensure!(run > 9, "only {run} commands are found");
    Ok(())
}
