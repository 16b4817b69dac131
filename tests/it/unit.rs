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

/// A unit as it is shipped.
#[derive(Debug)]
struct Unit {
    name: &'static str,
    text: &'static str,
    /// The users that its package makes.
    users: &'static str,
    /// The program that it starts, without its arguments.
    program: &'static str,
    /// What it starts after.
    after: &'static [&'static str],
    /// Whether it reads its configuration again on a reload.
    reloads: bool,
}

const WEIGHTD: Unit = Unit {
    name: "weightd",
    text: include_str!("../../systemd/weightd.service"),
    users: include_str!("../../systemd/weightd.sysusers"),
    program: "weightd",
    after: &["haproxy.service", "consul.service"],
    reloads: true,
};
const ROLLOUTD: Unit = Unit {
    name: "rolloutd",
    text: include_str!("../../systemd/rolloutd.service"),
    users: include_str!("../../systemd/rolloutd.sysusers"),
    program: "rolloutd",
    after: &["consul.service"],
    reloads: true,
};
const PAGE: Unit = Unit {
    name: "rolloutd-page",
    text: include_str!("../../systemd/rolloutd-page.service"),
    reloads: false,
    ..ROLLOUTD
};
const UNITS: [Unit; 3] = [WEIGHTD, ROLLOUTD, PAGE];

/// What a unit may be exposed to, in tenths: the network, and for weightd HAProxy's group. They cannot do without.
const EXPOSURE: &str = "13";

impl Unit {
    /// The values of a directive, in the order of its lines.
    fn values(&self, directive: &str) -> Vec<&'static str> {
        let value = |line: &'static str| line.strip_prefix(directive)?.strip_prefix('=');
        self.text.lines().filter_map(value).collect()
    }

    /// The one value of a directive.
    fn value(&self, directive: &str) -> anyhow::Result<&'static str> {
        match self.values(directive)[..] {
            [value] => Ok(value),
            _ => None.with_context(|| format!("not one {directive}= in {}", self.name)),
        }
    }

    /// The unit where it is looked at: for the program that was built, and with a drop-in.
    fn installed(&self, drop_in: &str) -> anyhow::Result<(TempDir, PathBuf)> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(format!("{}.service", self.name));
        let binary = program::binary(self.program)?;
        fs::write(&file, self.text.replace(&format!("/usr/bin/{}", self.program), &binary.display().to_string()))?;
        let drop_ins = folder.path().join(format!("{}.service.d", self.name));
        fs::create_dir(&drop_ins)?;
        fs::write(drop_ins.join("more.conf"), drop_in)?;
        Ok((folder, file))
    }

    /// What `systemd-analyze verify` says; it has no objection where that is nothing.
    fn verify(&self, scope: &str, drop_in: &str) -> anyhow::Result<String> {
        let (folder, file) = self.installed(drop_in)?;
        let arguments = [scope, "verify", "--man=no", "--recursive-errors=no", &file.display().to_string()];
        let output = analyze(folder.path(), &arguments)?;
        let said = said(&output);
        ensure!(output.status.success() == said.is_empty(), "{}: {said}", output.status);
        Ok(said)
    }

    /// Whether it is exposed to no more than [`EXPOSURE`]; fails where that was not measured.
    fn is_safe(&self, scope: &str, drop_in: &str) -> anyhow::Result<bool> {
        let (folder, file) = self.installed(drop_in)?;
        let (threshold, file) = (format!("--threshold={EXPOSURE}"), file.display().to_string());
        let arguments = [scope, "security", "--offline=true", "--no-pager", &threshold, &file];
        let output = analyze(folder.path(), &arguments)?;
        let said = said(&output);
        // A systemd-analyze that got nowhere fails as well.
        ensure!(said.contains(&format!("Overall exposure level for {}.service: ", self.name)), "{scope}: {said}");
        Ok(output.status.success())
    }
}

/// The values of a directive in the unit of weightd, in the order of its lines.
pub(crate) fn values(directive: &str) -> Vec<&'static str> {
    WEIGHTD.values(directive)
}

/// The one value of a directive in the unit of weightd.
pub(crate) fn value(directive: &str) -> anyhow::Result<&'static str> {
    WEIGHTD.value(directive)
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

#[test]
fn systemd_accepts_the_units_and_the_drop_ins_of_the_pages() -> anyhow::Result<()> {
    let drop_ins = blocks("ini");
    assert!(!drop_ins.is_empty());
    for unit in UNITS {
        for scope in scopes() {
            assert_eq!(unit.verify(scope, "")?, "", "{scope}: {}", unit.name);
            for drop_in in &drop_ins {
                assert_eq!(unit.verify(scope, drop_in)?, "", "{scope}: {}: {drop_in}", unit.name);
            }
            // It would say so.
            let objection = unit.verify(scope, "[Service]\nProtectClok=yes\n")?;
            assert!(objection.contains("ProtectClok"), "{scope}: {objection}");
        }
    }
    Ok(())
}

#[test]
fn they_are_exposed_to_what_they_cannot_do_without_and_to_no_more() -> anyhow::Result<()> {
    for unit in UNITS {
        for scope in scopes() {
            assert!(unit.is_safe(scope, "")?, "{scope}: {}", unit.name);
            let more = "[Service]\nPrivateDevices=no\nSystemCallFilter=\n";
            assert!(!unit.is_safe(scope, more)?, "{scope}: {}", unit.name);
        }
    }
    Ok(())
}

#[test]
fn they_come_back_for_ever_and_refuse_a_broken_configuration_before_anything_is_asked_of_them() -> anyhow::Result<()> {
    for unit in UNITS {
        let lives = (unit.value("Restart")?, unit.value("StartLimitIntervalSec")?, unit.value("Type")?);
        assert_eq!(lives, ("always", "0", "notify"), "{}", unit.name);
        let check = format!("/usr/bin/{} --check", unit.program);
        assert_eq!(unit.values("ExecStartPre"), [&check]);
        let reload: &[&str] = if unit.reloads { &[&check, "/bin/sh -c 'kill -HUP $MAINPID'"] } else { &[] };
        assert_eq!(unit.values("ExecReload"), reload);
        for bound in ["BindsTo", "Requires", "Requisite", "PartOf"] {
            assert_eq!(unit.values(bound), [""; 0], "{bound}: {} outlives HAProxy and Consul", unit.name);
        }
        let after: Vec<_> = unit.value("After")?.split(' ').collect();
        assert!(unit.after.iter().all(|other| after.contains(other)), "{}: {after:?}", unit.name);
    }
    Ok(())
}

#[test]
fn each_user_is_one_that_systemd_sysusers_makes_and_not_a_dynamic_one() -> anyhow::Result<()> {
    for unit in UNITS {
        let lines = unit.users.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let made: Vec<_> = lines.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>()).collect();
        // `u` makes a group of the same name.
        assert!(made.contains(&vec!["u", unit.value("User")?, "-"]), "{}: {made:?}", unit.name);
        assert_eq!(unit.value("Group")?, unit.value("User")?);
        assert_eq!(unit.values("DynamicUser"), [""; 0]);
    }
    assert_eq!(WEIGHTD.value("SupplementaryGroups")?, "haproxy");
    // A HAProxy that is not root reads the server-state file in it.
    assert_eq!(WEIGHTD.value("StateDirectoryMode")?, "0755");
    // The controller and the page have no file of their own, and nothing of HAProxy's or of each other.
    for none in ["StateDirectory", "RuntimeDirectory", "ReadWritePaths", "SupplementaryGroups"] {
        assert_eq!((ROLLOUTD.values(none), PAGE.values(none)), (vec![], vec![]), "{none}");
    }
    assert_ne!(ROLLOUTD.value("User")?, PAGE.value("User")?);
    Ok(())
}
