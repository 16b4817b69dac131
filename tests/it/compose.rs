//! Checks of docker-compose.yml and the Dockerfile without Docker. `make compose-test` runs the stack and needs Docker.

use std::{io::Write as _, path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use tokio::process::Command;
use weightd::weightd::config::Config;

use crate::harness::{haproxy, program};

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
    let consul = STACK.split_once("CONSUL_HTTP_ADDR: \"").and_then(|(_, rest)| rest.split('"').next());
    let environment = |name: &str| if name == "CONSUL_HTTP_ADDR" { consul.map(Into::into) } else { None };
    let config = Config::load(Some(&root().join("docker/weightd.toml")), &environment).unwrap();
    let consul = config.consul.address.to_string();
    assert!(consul.starts_with("http://consul:8500"), "{consul}");
    let [instance] = config.haproxy.as_slice() else { panic!("one HAProxy: {:?}", config.haproxy) };
    let socket = values("environment").into_iter().find_map(|line| line.split_once("ADMIN_SOCKET: "));
    let socket = socket.map(|(_, path)| path.trim_end_matches('}')).unwrap();
    assert_eq!(instance.address.to_string(), format!("unix:{socket}"));
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
        // The stack's HAProxy is newer. A version before 2.4 does not know this option, and reports only that.
        let unknown = "unknown option 'idle-close-on-response'";
        if haproxy::version()? < (2, 4) && stderr.contains(unknown) {
            ensure!(stderr.matches(": parsing [").count() == 1, "{stderr}");
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
