//! Runs a program with the restrictions of a systemd unit that are possible without systemd and without root: files by
//! Landlock, system calls by seccomp. It executes the program in its own process. The program cannot undo the
//! restrictions.
//!
//! usage: `confine FILTERS READABLE:.. WRITABLE:.. PROGRAM ARGUMENT..`
//!
//! FILTERS is a JSON file of seccomp filters in the format of the crate seccompiler. They are applied in the order of
//! their names. READABLE and WRITABLE are lists of paths: the program may read and run everything below READABLE, and also
//! write everything below WRITABLE. It may open nothing else.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    path_beneath_rules,
};

/// The version of Linux 5.13, the first with Landlock: it covers read, execute, create and write.
const FILES: ABI = ABI::V1;

#[expect(clippy::print_stderr, reason = "the message is for the user of this program")]
fn main() -> ExitCode {
    let Err(error) = run();
    eprintln!("confine: {error:#}");
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<std::convert::Infallible> {
    let mut arguments = env::args_os().skip(1);
    let (Some(filters), Some(readable), Some(writable), Some(program)) =
        (arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        bail!("usage: confine FILTERS READABLE:.. WRITABLE:.. PROGRAM ARGUMENT..");
    };
    let filters = File::open(&filters).with_context(|| format!("cannot open {}", filters.display()))?;
    let arch = env::consts::ARCH.try_into().context("no seccomp for this processor")?;
    let filters = seccompiler::compile_from_json(filters, arch).context("cannot read the filters")?;
    let mut filters: Vec<_> = filters.into_iter().collect();
    filters.sort_by(|(one, _), (other, _)| one.cmp(other));

    let paths = |list| env::split_paths(list).collect::<Vec<PathBuf>>();
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(FILES))?
        .create()?
        .add_rules(path_beneath_rules(paths(&readable), AccessFs::from_read(FILES)))?
        .add_rules(path_beneath_rules(paths(&writable), AccessFs::from_all(FILES)))?
        // Also sets no_new_privs.
        .restrict_self()
        .context("cannot restrict files: the kernel needs Landlock")?;
    for (name, filter) in &filters {
        seccompiler::apply_filter(filter).with_context(|| format!("cannot apply the filter `{name}`"))?;
    }
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("cannot run {}", program.display()))
}
