//! The seccomp filters of `systemd/weightd.service`, from the unit and from systemd's list of its sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::unit::{analyze, said, value, values};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
/// `PROT_EXEC`, alone and with `PROT_WRITE`.
const EXEC: u64 = 4;
const WRITE_AND_EXEC: u64 = 6;

/// The filters for `confine`: one kills the process at a call that the unit does not allow; the others make single
/// calls fail with the error that they have under systemd.
pub(super) fn filters() -> anyhow::Result<Value> {
    let allowed = allowed_calls()?;
    let allowed: Vec<_> = allowed.iter().filter(|call| known(call)).map(|call| rule(call, &[])).collect();
    ensure!(allowed.len() > 200, "only {} calls are allowed", allowed.len());
    let families = value("RestrictAddressFamilies")?.split(' ').map(family).collect::<anyhow::Result<Vec<_>>>()?;
    let other: Vec<_> = families.iter().map(|family| condition(0, &json!("ne"), *family)).collect();
    ensure!(value("MemoryDenyWriteExecute")? == "yes" && value("RestrictNamespaces")? == "yes");
    let protection = |bits| [condition(2, &json!({ "masked_eq": bits }), bits)];
    let refused = |errno: u32, rules: &[Value]| json!({ "mismatch_action": "allow", "match_action": { "errno": errno }, "filter": rules });
    Ok(json!({
        "1 families": refused(EAFNOSUPPORT, &[rule("socket", &other)]),
        "2 memory": refused(EPERM, &[
            rule("mmap", &protection(WRITE_AND_EXEC)),
            rule("mprotect", &protection(EXEC)),
            rule("pkey_mprotect", &protection(EXEC)),
        ]),
        // As under systemd: seccomp cannot read the flags of this call, and the C library then uses the older call.
        "3 namespaces": refused(ENOSYS, &[rule("clone3", &[])]),
        // The last filter, because it denies the call that installs filters.
        "4 calls": { "mismatch_action": "kill_process", "match_action": "allow", "filter": allowed },
    }))
}

fn rule(call: &str, conditions: &[Value]) -> Value {
    match conditions {
        [] => json!({ "syscall": call }),
        conditions => json!({ "syscall": call, "args": conditions }),
    }
}

fn condition(index: u8, op: &Value, value: u64) -> Value {
    json!({ "index": index, "type": "dword", "op": op, "val": value })
}

fn family(name: &str) -> anyhow::Result<u64> {
    match name {
        "AF_UNIX" => Ok(1),
        "AF_INET" => Ok(2),
        "AF_INET6" => Ok(10),
        _ => None.with_context(|| format!("{name} is not known here")),
    }
}

/// Whether this processor has the call. systemd's sets contain the calls of all processors.
fn known(call: &str) -> bool {
    let one =
        json!({ "one": { "mismatch_action": "allow", "match_action": "kill_process", "filter": [rule(call, &[])] } });
    let arch = std::env::consts::ARCH.try_into().expect("a processor with seccomp");
    seccompiler::compile_from_json(one.to_string().as_bytes(), arch).is_ok()
}

/// The calls that `SystemCallFilter=` allows, from systemd's list of its sets.
fn allowed_calls() -> anyhow::Result<BTreeSet<String>> {
    let output = analyze(Path::new("/nonexistent"), &["syscall-filter", "--no-pager"])?;
    ensure!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout)?;
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut set = "";
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(member) if !member.starts_with('#') => sets.entry(set).or_default().push(member),
            Some(_) => {}
            None => set = line,
        }
    }
    let mut allowed = BTreeSet::new();
    expand(&sets, "@default", &mut allowed)?;
    for line in values("SystemCallFilter") {
        let (deny, line) = line.strip_prefix('~').map_or((false, line), |line| (true, line));
        let mut named = BTreeSet::new();
        line.split(' ').try_for_each(|name| expand(&sets, name, &mut named))?;
        if deny {
            allowed.retain(|call| !named.contains(call));
        } else {
            allowed.append(&mut named);
        }
    }
    Ok(allowed)
}

fn expand(sets: &BTreeMap<&str, Vec<&str>>, name: &str, into: &mut BTreeSet<String>) -> anyhow::Result<()> {
    if !name.starts_with('@') {
        into.insert(name.to_owned());
        return Ok(());
    }
    let members = sets.get(name).with_context(|| format!("systemd knows no set {name}"))?;
    members.iter().try_for_each(|member| expand(sets, member, into))
}
