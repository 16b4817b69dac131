//! weightd under the restrictions of `systemd/weightd.service`, with a real HAProxy and a real Consul: its own user,
//! HAProxy's socket only by a supplementary group, no capabilities, only the unit's system calls, and access only to
//! its own files.
//!
//! Without systemd as process 1, setpriv, Landlock and seccomp apply the restrictions: see `tests/confine`. For options
//! that hide parts of the machine (`ProtectProc=`, `PrivateTmp=` and others), the test checks what cannot be opened.
//! Only root can change the user: without root the test omits that part and prints a note.

mod filters;

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Signal, getegid, geteuid};
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::{
    common::{SOON, backend, becomes, is, put, servers, stays},
    harness::{
        Port, eventually,
        program::{self, Program},
        weightd::weightctl,
    },
    life::notified,
    unit,
};

/// Ids of users and groups that no machine has: weightd's, and the group of HAProxy's socket.
const USER: u32 = 64_711;
const HAPROXY: u32 = 64_712;

/// The directories and identities that systemd provides for weightd.
struct Machine {
    dir: TempDir,
    user: u32,
    haproxy: u32,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let (user, haproxy) = if geteuid().is_root() {
            (USER, HAPROXY)
        } else {
            // Printed past the test runner, which hides the output of a passed test.
            writeln!(
                std::io::stderr(),
                "NOT EXERCISED: weightd as another user, in HAProxy's group by a supplementary group, without the \
                 capabilities of root. Run this test as root for it: everything else of it is exercised"
            )?;
            (geteuid().as_raw(), getegid().as_raw())
        };
        let dir = tempfile::Builder::new().prefix("confined-").tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let machine = Self { dir, user, haproxy };
        for (name, mode, group) in [
            ("bin", 0o755, None),
            ("etc", 0o755, None),
            ("haproxy", 0o750, Some(haproxy)),
            ("lib", 0o755, Some(user)),
            ("run", 0o750, Some(user)),
        ] {
            fs::create_dir(machine.at(name))?;
            fs::set_permissions(machine.at(name), Permissions::from_mode(mode))?;
            if geteuid().is_root() {
                let owner = (group == Some(user)).then_some(user);
                chown(machine.at(name), owner, group)?;
            }
        }
        // The other user may not be able to read the build directory.
        fs::copy(program::binary("weightd")?, machine.at("bin/weightd"))?;
        fs::copy(program::binary("examples/confine")?, machine.at("bin/confine"))?;
        fs::write(machine.at("etc/filters.json"), filters::filters()?.to_string())?;
        Ok(machine)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn shown(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    /// HAProxy's configuration from docs/install.md, with the number of the group in place of its name.
    fn haproxy_cfg(&self) -> String {
        let (socket, group, file) = (self.shown("haproxy/admin.sock"), self.haproxy, self.shown("lib/server-state"));
        format!(
            "global\n    stats socket {socket} mode 660 gid {group} level admin expose-fd listeners\n    \
             server-state-file {file}\n"
        ) + &backend("app", 0, 100).replace("backend app\n", "backend app\n    load-server-state-from-file global\n")
    }

    /// The arguments that run a command with the restrictions of the unit.
    fn confined(&self) -> anyhow::Result<Vec<String>> {
        ensure!((unit::value("CapabilityBoundingSet")?, unit::value("NoNewPrivileges")?) == ("", "yes"));
        ensure!((unit::value("ProtectSystem")?, unit::value("UMask")?) == ("strict", "0077"));
        let mut words = vec!["/usr/bin/setpriv".to_owned(), "--no-new-privs".to_owned()];
        if geteuid().is_root() {
            let ids = [format!("--reuid={USER}"), format!("--regid={USER}"), format!("--groups={HAPROXY}")];
            words.extend(ids);
            words.extend(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"].map(str::to_owned));
            // A change of the user clears the parent-death signal that the harness sets.
            words.extend(["--pdeathsig", "KILL"].map(str::to_owned));
        }
        let readable = format!("/usr:/lib:/lib64:/bin:/etc:{}:{}", self.shown("bin"), self.shown("etc"));
        let writable = format!("/dev/null:{}:{}", self.shown("lib"), self.shown("run"));
        words.extend(["--".to_owned(), "/bin/sh".to_owned(), "-c".to_owned(), "umask 0077; exec \"$@\"".to_owned()]);
        words.extend(["sh".to_owned(), self.shown("bin/confine"), self.shown("etc/filters.json"), readable, writable]);
        Ok(words)
    }

    /// Runs a confined program until it ends.
    fn run(&self, words: &[&str]) -> anyhow::Result<std::process::Output> {
        let confined = self.confined()?;
        let mut command = Command::new(&confined[0]);
        command.args(&confined[1..]).args(words).env("LC_ALL", "C").current_dir("/");
        command.output().context("cannot run setpriv, of the package util-linux")
    }

    /// The files that weightd keeps for its next start.
    fn state(&self) -> anyhow::Result<PathBuf> {
        let found = fs::read_dir(self.at("lib"))?.filter_map(Result::ok).map(|entry| entry.path());
        let mut found = found.filter(|path| path.extension().is_some_and(|extension| extension == "state"));
        found.next().context("there is no state file")
    }

    /// The mode of a file; fails unless weightd owns it.
    fn mode(&self, path: &Path) -> anyhow::Result<u32> {
        let found = fs::symlink_metadata(path)?;
        ensure!(found.uid() == self.user, "{} belongs to {}", path.display(), found.uid());
        Ok(found.mode() & 0o7777)
    }
}

/// The values of one line of /proc/PID/status.
fn status(pid: rustix::process::Pid, name: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.split_whitespace().map(str::to_owned).collect())
}

async fn ctl(machine: &Machine, arguments: &[&str]) -> anyhow::Result<()> {
    let output = weightctl(&[("WEIGHTD_SOCKET", &machine.shown("run/weightd.sock"))], arguments).await?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn logs(weightd: &Program, words: &str) -> anyhow::Result<()> {
    eventually(SOON, &format!("the log contains {words:?}"), async || {
        ensure!(weightd.log().contains(words), "{}", weightd.log());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn weightd_works_under_the_restrictions_of_the_unit() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let (consul, mut haproxy) = servers(&machine.haproxy_cfg()).await?;
    put(&consul, "app", 70, 30).await?;

    let notify = machine.shown("haproxy/notify.sock");
    let systemd = UnixDatagram::bind(&notify)?;
    fs::set_permissions(&notify, Permissions::from_mode(0o666))?;
    // A host name, so that weightd must resolve it.
    let address = consul.address().replace("127.0.0.1", "localhost");
    ensure!(address.contains("localhost"), "{address}");
    let (socket, file, port) = (machine.shown("haproxy/admin.sock"), machine.shown("lib/server-state"), Port::free()?);
    let config = format!(
        "[consul]\naddress = \"{address}\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n\
         [[haproxy]]\naddress = \"unix:{socket}\"\nstate_file = \"{file}\"\n"
    );
    fs::write(machine.at("etc/weightd.toml"), config)?;
    let (words, binary, config) =
        (machine.confined()?, machine.shown("bin/weightd"), machine.shown("etc/weightd.toml"));
    let mut weightd = Program::new("weightd", PathBuf::from(&words[0]), machine.dir.path())
        .args(&words[1..])
        .args([&binary, "--config", &config])
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "2000000")
        .env("STATE_DIRECTORY", machine.at("lib"))
        .env("RUNTIME_DIRECTORY", machine.at("run"));
    weightd.spawn()?;
    let ready = notified(&systemd, "READY=1").await;
    weightd.check()?;
    ready?;

    let pid = weightd.pid()?;
    assert_eq!(fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()))?, Path::new(&binary));
    assert_eq!(status(pid, "NoNewPrivs")?, ["1"]);
    assert_eq!(status(pid, "Seccomp_filters")?, ["4"]);
    assert_eq!(status(pid, "Umask")?, ["0077"]);
    if geteuid().is_root() {
        let (user, group) = (USER.to_string(), HAPROXY.to_string());
        assert_eq!((status(pid, "Uid")?, status(pid, "Gid")?), (vec![user.clone(); 4], vec![user; 4]));
        assert_eq!(status(pid, "Groups")?, [group]);
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set)?, ["0000000000000000"], "{set}");
    }

    // A change of weights, through the socket that only the group may open, and the files about it.
    becomes(&haproxy, "app", 70, 30).await?;
    put(&consul, "app", 60, 40).await?;
    becomes(&haproxy, "app", 60, 40).await?;
    eventually(SOON, "both files are written", async || {
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains("blue - 2 0 60 ") && text.contains("green - 2 0 40 "), "{text}");
        let text = fs::read_to_string(machine.state()?)?;
        ensure!(text.contains("\"green\":40"), "{text}");
        Ok(())
    })
    .await?;
    assert_eq!((machine.mode(&machine.state()?)?, machine.mode(Path::new(&file))?), (0o600, 0o644));

    // Two reloads of HAProxy: it reads the server-state file, and weightd must follow it.
    haproxy.reload_completely().await?;
    is(&haproxy, "app", 60, 40).await?;
    haproxy.reload(&machine.haproxy_cfg().replace("    load-server-state-from-file global\n", "")).await?;
    becomes(&haproxy, "app", 60, 40).await?;

    // A reload of weightd.
    weightd.signal(Signal::HUP)?;
    logs(&weightd, "the new configuration is in force").await?;
    notified(&systemd, "RELOADING=1").await?;
    notified(&systemd, "WATCHDOG=1").await?;

    // The local socket, and its file on disk.
    assert_eq!(machine.mode(&machine.at("run/weightd.sock"))?, 0o660);
    ctl(&machine, &["pause", "app", "--local", "--for", "30m"]).await?;
    put(&consul, "app", 50, 50).await?;
    stays(&haproxy, "app", 60, 40).await?;
    ctl(&machine, &["resume", "app", "--local"]).await?;
    becomes(&haproxy, "app", 50, 50).await?;

    let stopped = weightd.stop().await?;
    assert!(stopped.success(), "{stopped}");
    notified(&systemd, "STOPPING=1").await?;
    is(&haproxy, "app", 50, 50).await?;
    let log = weightd.log();
    assert!(!log.contains("ERROR") && !log.contains("os error"), "{log}");
    Ok(())
}

#[test]
fn the_unit_denies_files_and_system_calls() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let refused = |words: &[&str], why: &str| {
        let output = machine.run(words)?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned() + &format!(" {}", output.status);
        ensure!(!output.status.success() && message.contains(why), "{words:?}: {message}");
        Ok(())
    };
    let allowed = machine.run(&["/usr/bin/touch", &machine.shown("lib/file")])?;
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    assert_eq!(machine.mode(&machine.at("lib/file"))?, 0o600);
    // Files: not even in directories where every user may write. Also no information about other processes.
    fs::create_dir(machine.at("open"))?;
    fs::set_permissions(machine.at("open"), Permissions::from_mode(0o777))?;
    refused(&["/usr/bin/touch", &machine.shown("open/file")], "Permission denied")?;
    refused(&["/bin/cat", "/proc/1/status"], "Permission denied")?;
    // System calls: of the sets that the unit denies, and calls that it does not list.
    refused(&["/bin/chown", &machine.user.to_string(), &machine.shown("lib/file")], "SIGSYS")?;
    refused(&["/bin/mount", "-t", "tmpfs", "none", &machine.shown("lib")], "SIGSYS")?;
    // AF_NETLINK is denied as by systemd; another family is allowed.
    let socket = |family: &str| format!("socket(my $s, {family}, 2, 0) or die \"$!\\n\"");
    refused(&["/usr/bin/perl", "-e", &socket("16")], "Address family not supported")?;
    let allowed = machine.run(&["/usr/bin/perl", "-e", &socket("2")])?;
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    Ok(())
}
