//! What the kernel says about a process.

use std::fs;

use anyhow::Context as _;
use rustix::process::Pid;

/// `USER_HZ`, in which `/proc` counts; the same on all architectures that Linux runs servers on.
const TICKS_A_SECOND: f64 = 100.0;

/// Resident memory, in MiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// The most so far.
    pub peak: f64,
}

/// The resident memory of a process.
pub fn memory(pid: Pid) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = value.and_then(|value| value.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).with_context(|| format!("no {name} in {status:?}"))
    };
    Ok(Memory { resident: field("VmRSS")?, peak: field("VmHWM")? })
}

/// The CPU time a process has used, in seconds: also that of its threads and of its children that have ended. consul-template
/// starts a child for each change.
pub fn cpu(pid: Pid) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name stands in parentheses and may hold anything; user and system time are fields 14 and 15, those of the
    // children 16 and 17.
    let rest = stat.rsplit_once(')').context("no name of the process")?.1;
    let fields = rest.split_whitespace().skip(11).take(4).map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
    Ok(fields.iter().sum::<f64>() / TICKS_A_SECOND)
}
