//! `systemd/`: what systemd itself says of the unit, and what the unit and its neighbours say of each other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{harness::program, pages::blocks};

/// The unit as it is shipped.
const UNIT: &str = include_str!("../../systemd/weightd.service");
const USERS: &str = include_str!("../../systemd/weightd.sysusers");

/// What the unit may be exposed to, in tenths: the network and HAProxy's group, which it cannot do without.
const EXPOSURE: &str = "13";
/// What follows it is the figure.
const MEASURED: &str = "Overall exposure level for weightd.service: ";

/// The values of a directive, in the order of its lines.
pub(crate) fn values(directive: &str) -> Vec<&'static str> {
    let value = |line: &'static str| line.strip_prefix(directive)?.strip_prefix('=');
    UNIT.lines().filter_map(value).collect()
}

/// The one value of a directive.
pub(crate) fn value(directive: &str) -> anyhow::Result<&'static str> {
    match values(directive)[..] {
        [value] => Ok(value),
        _ => None.with_context(|| format!("not one {directive}= in the unit")),
    }
}

/// As whose unit systemd is asked about it: as a user's everywhere, and as the system's, which it is, where that is to be
/// had. For a unit of the system, systemd wants `/run/systemd`, and would make it, which root alone can: where systemd
/// is not installed nobody has. For a user's it wants `$XDG_RUNTIME_DIR/systemd`. It reads the same in both.
fn scopes() -> &'static [&'static str] {
    if Path::new("/run/systemd").is_dir() || geteuid().is_root() { &["--user", "--system"] } else { &["--user"] }
}

/// Runs systemd-analyze with no other unit around than those in `folder`.
pub(crate) fn analyze(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program::server("systemd-analyze")?);
    command.args(arguments).env("SYSTEMD_UNIT_PATH", folder).env("XDG_RUNTIME_DIR", folder);
    command.env("SYSTEMD_COLORS", "0").env("LC_ALL", "C.UTF-8");
    command.output().context("cannot run systemd-analyze")
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The unit where it is looked at: for the weightd that was built, and with a drop-in.
fn installed(drop_in: &str) -> anyhow::Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weightd.service");
    let binary = program::binary("weightd")?;
    fs::write(&file, UNIT.replace("/usr/bin/weightd", &binary.display().to_string()))?;
    fs::create_dir(folder.path().join("weightd.service.d"))?;
    fs::write(folder.path().join("weightd.service.d/more.conf"), drop_in)?;
    Ok((folder, file))
}

/// What `systemd-analyze verify` says; it has no objection where that is nothing.
fn verify(scope: &str, drop_in: &str) -> anyhow::Result<String> {
    let (folder, file) = installed(drop_in)?;
    let arguments = [scope, "verify", "--man=no", "--recursive-errors=no", &file.display().to_string()];
    let output = analyze(folder.path(), &arguments)?;
    let said = said(&output);
    ensure!(output.status.success() == said.is_empty(), "{}: {said}", output.status);
    Ok(said)
}

#[test]
fn systemd_accepts_the_unit_and_the_drop_ins_of_the_pages() -> anyhow::Result<()> {
    let drop_ins = blocks("ini");
    assert!(!drop_ins.is_empty());
    for scope in scopes() {
        assert_eq!(verify(scope, "")?, "", "{scope}");
        for drop_in in &drop_ins {
            assert_eq!(verify(scope, drop_in)?, "", "{scope}: {drop_in}");
        }
        // It would say so.
        let objection = verify(scope, "[Service]\nProtectClok=yes\n")?;
        assert!(objection.contains("ProtectClok"), "{scope}: {objection}");
    }
    Ok(())
}

#[test]
fn it_is_exposed_to_what_it_cannot_do_without_and_to_no_more() -> anyhow::Result<()> {
    for scope in scopes() {
        let measure = |drop_in| {
            let (folder, file) = installed(drop_in)?;
            let (threshold, file) = (format!("--threshold={EXPOSURE}"), file.display().to_string());
            analyze(folder.path(), &[scope, "security", "--offline=true", "--no-pager", &threshold, &file])
        };
        // What it measured, too: a systemd-analyze that got nowhere fails as well.
        let output = measure("")?;
        assert!(output.status.success() && said(&output).contains(MEASURED), "{scope}: {}", said(&output));
        let output = measure("[Service]\nPrivateDevices=no\n")?;
        assert!(!output.status.success() && said(&output).contains(MEASURED), "{scope}: {}", said(&output));
    }
    Ok(())
}

#[test]
fn it_comes_back_for_ever_and_refuses_a_broken_configuration_before_anything_is_asked_of_it() -> anyhow::Result<()> {
    assert_eq!((value("Restart")?, value("StartLimitIntervalSec")?, value("Type")?), ("always", "0", "notify"));
    let check = "/usr/bin/weightd --check";
    assert_eq!(values("ExecStartPre"), [check]);
    assert_eq!(values("ExecReload"), [check, "/bin/sh -c 'kill -HUP $MAINPID'"]);
    for bound in ["BindsTo", "Requires", "Requisite", "PartOf"] {
        assert_eq!(values(bound), [""; 0], "{bound}: it outlives HAProxy and Consul");
    }
    let after = value("After")?;
    assert!(after.contains("haproxy.service") && after.contains("consul.service"), "{after}");
    Ok(())
}

#[test]
fn its_user_is_one_that_systemd_sysusers_makes_and_not_a_dynamic_one() -> anyhow::Result<()> {
    let mut lines = USERS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let words: Vec<_> = lines.next().context("no user")?.split_whitespace().collect();
    assert_eq!(lines.next(), None);
    // `u` makes a group of the same name.
    assert_eq!(words[..3], ["u", value("User")?, "-"]);
    assert_eq!(value("Group")?, value("User")?);
    assert_eq!(value("SupplementaryGroups")?, "haproxy");
    assert_eq!(values("DynamicUser"), [""; 0]);
    // A HAProxy that is not root reads the server-state file in it.
    assert_eq!(value("StateDirectoryMode")?, "0755");
    Ok(())
}
