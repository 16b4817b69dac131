//! Runs a program as confined as a unit of systemd would run it, as far as that can be had without systemd and without
//! root: files by Landlock, system calls by seccomp. It replaces itself by the program, which cannot undo it.
//!
//! usage: `confine FILTERS READABLE:.. WRITABLE:.. PROGRAM ARGUMENT..`
//!
//! FILTERS is a file of seccomp filters in JSON, as the crate seccompiler reads them. They are applied by name. The other
//! two are lists of paths: all below them may be read and run, or also written, and nothing else may be opened.

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

/// Of Linux 5.13, the first with Landlock: all that can be read, run, made and written.
const FILES: ABI = ABI::V1;

#[expect(clippy::print_stderr, reason = "what it says is for the one who runs it")]
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
        // Sets no_new_privs too.
        .restrict_self()
        .context("cannot restrict what files are for (it takes a kernel with Landlock)")?;
    for (name, filter) in &filters {
        seccompiler::apply_filter(filter).with_context(|| format!("cannot apply the filter `{name}`"))?;
    }
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("cannot run {}", program.display()))
}
