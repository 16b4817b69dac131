//! Parses the answers of HAProxy strictly: frames, and the tables in them.
//!
//! Pure functions over text. Columns are found by name and never by position. Text that does not parse is an error.

use std::{collections::BTreeSet, ops::Range};

use weightd_core::{
    model::{BackendName, ServerName, Weight},
    observed::{Role, Roles, ServerRow, SetError},
};

use super::csv::Columns;

/// The answer does not have the format of HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// The number of frames differs from the number of commands: the answer is truncated, or not from HAProxy.
    #[error("expected {expected} replies, found {found}")]
    Frames {
        /// The number of commands.
        expected: usize,
        /// The number of complete frames.
        found: usize,
    },
    /// A required line or column is missing.
    #[error("the answer to `{command}` has no `{wanted}`")]
    Missing {
        /// The command.
        command: &'static str,
        /// The missing line or column.
        wanted: &'static str,
    },
    /// A value cannot be parsed.
    #[error("the answer to `{command}` has an invalid `{column}`")]
    Value {
        /// The command.
        command: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The format of `show servers state` is not version 1.
    #[error("the format of `show servers state` is not version 1")]
    Format,
}

/// Splits an answer into exactly `expected` frames. A frame is a number of lines, ended by an empty line.
///
/// # Errors
/// [`BadReply::Frames`] if there are more or fewer. It is then unknown which commands ran. Read the weights to find
/// out.
pub fn frames(text: &str, expected: usize) -> Result<Vec<Range<usize>>, BadReply> {
    let mut frames = Vec::with_capacity(expected);
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with('\n') {
            frames.push(at..at);
            at += 1;
        } else if let Some(length) = empty_line(&text[at..]) {
            frames.push(at..at + length);
            at += length + 2;
        } else {
            // The final empty line is missing: the answer is truncated, or it is an error text of an old version.
            return Err(BadReply::Frames { expected, found: frames.len() });
        }
    }
    if frames.len() == expected { Ok(frames) } else { Err(BadReply::Frames { expected, found: frames.len() }) }
}

/// Returns the offset in bytes of the empty line that ends a frame; none without one. Compares at line ends only: a
/// comparison at each byte took a tenth of weightd's idle CPU time.
fn empty_line(text: &str) -> Option<usize> {
    text.match_indices('\n').map(|(at, _)| at).find(|at| text.as_bytes().get(at + 1) == Some(&b'\n'))
}

/// The process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// `Version`.
    pub version: String,
    /// `Pid`.
    pub pid: u32,
    /// `Uptime_sec`, in seconds.
    pub uptime: u64,
    /// `Stopping`: true for an old process that still answers after a reload.
    pub stopping: bool,
    /// `Nbproc`: above 1, this socket belongs to one of several processes.
    pub processes: u32,
}

/// Parses the answer to `show info`.
///
/// # Errors
/// [`BadReply`] if the format is not HAProxy's.
pub fn info(frame: &str) -> Result<Info, BadReply> {
    const COMMAND: &str = "show info";
    const NAMES: [&str; 6] = ["Name", "Version", "Pid", "Uptime_sec", "Stopping", "Nbproc"];
    // One pass over the lines, because this runs five times a second and before each reading.
    let mut fields = [None; NAMES.len()];
    for (name, value) in frame.lines().filter_map(|line| line.split_once(':')) {
        if let Some(at) = NAMES.iter().position(|wanted| *wanted == name) {
            fields[at] = fields[at].or(value.strip_prefix(' '));
        }
    }
    let [name, version, pid, uptime, stopping, processes] = fields;
    let missing = |wanted| BadReply::Missing { command: COMMAND, wanted };
    if name != Some("HAProxy") {
        return Err(missing("Name: HAProxy"));
    }
    let number = |text: Option<&str>, column| {
        let text = text.ok_or(missing(column))?;
        text.parse::<u64>().map_err(|_| BadReply::Value { command: COMMAND, column })
    };
    Ok(Info {
        version: version.ok_or(missing("Version"))?.to_owned(),
        pid: u32::try_from(number(pid, "Pid")?).map_err(|_| BadReply::Value { command: COMMAND, column: "Pid" })?,
        uptime: number(uptime, "Uptime_sec")?,
        stopping: stopping.is_some_and(|v| v != "0"),
        processes: processes.and_then(|v| v.parse().ok()).unwrap_or(1),
    })
}

/// Parses the answer to `show backend`: the names of all backends. Skips names that no document can have.
///
/// # Errors
/// [`BadReply`] if the format is not HAProxy's.
pub fn backends(frame: &str) -> Result<Vec<BackendName>, BadReply> {
    let mut lines = frame.lines();
    if lines.next() != Some("# name") {
        return Err(BadReply::Missing { command: "show backend", wanted: "header" });
    }
    Ok(lines.filter_map(|line| BackendName::new(line).ok()).collect())
}

/// The answer to `show servers state <backend>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServersState<'a> {
    /// The servers, in HAProxy's order.
    Servers(Vec<ServerRow<'a>>),
    /// HAProxy has no such backend.
    NoBackend,
}

/// Parses the answer to `show servers state <backend>`.
///
/// # Errors
/// [`BadReply`] if the format is not HAProxy's.
pub fn servers_state(frame: &str) -> Result<ServersState<'_>, BadReply> {
    const COMMAND: &str = "show servers state";
    if frame.starts_with("Can't find backend") || frame.starts_with("No such backend") {
        return Ok(ServersState::NoBackend);
    }
    let mut lines = frame.lines();
    if lines.next() != Some("1") {
        return Err(BadReply::Format);
    }
    let header: Vec<&str> = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or(BadReply::Missing { command: COMMAND, wanted: "header" })?
        .split_ascii_whitespace()
        .collect();
    let column = |wanted: &'static str| {
        header.iter().position(|name| *name == wanted).ok_or(BadReply::Missing { command: COMMAND, wanted })
    };
    let (backend_id, backend) = (column("be_id")?, column("be_name")?);
    let (server_id, server, port) = (column("srv_id")?, column("srv_name")?, column("srv_port")?);
    let (op_state, admin_state) = (column("srv_op_state")?, column("srv_admin_state")?);
    let (weight, initial) = (column("srv_uweight")?, column("srv_iweight")?);
    let (check_status, check_state) = (column("srv_check_status")?, column("srv_check_state")?);
    let (agent_state, last_change) = (column("srv_agent_state")?, column("srv_time_since_last_change")?);
    let srv_record = column("srvrecord")?;

    let mut rows = Vec::new();
    let mut fields: Vec<&str> = Vec::with_capacity(header.len());
    for line in lines {
        fields.clear();
        fields.extend(line.split_ascii_whitespace());
        // A truncated row would be parsed with shifted columns.
        if fields.len() < header.len() {
            return Err(BadReply::Missing { command: COMMAND, wanted: "columns of a row" });
        }
        let text =
            |at: usize, column| fields.get(at).copied().ok_or(BadReply::Missing { command: COMMAND, wanted: column });
        rows.push(ServerRow {
            backend_id: value(text(backend_id, "be_id")?, "be_id")?,
            backend: text(backend, "be_name")?,
            server_id: value(text(server_id, "srv_id")?, "srv_id")?,
            server: text(server, "srv_name")?,
            op_state: value(text(op_state, "srv_op_state")?, "srv_op_state")?,
            admin_state: value(text(admin_state, "srv_admin_state")?, "srv_admin_state")?,
            weight: to_weight(text(weight, "srv_uweight")?, "srv_uweight")?,
            initial: to_weight(text(initial, "srv_iweight")?, "srv_iweight")?,
            check_status: value(text(check_status, "srv_check_status")?, "srv_check_status")?,
            check_state: value(text(check_state, "srv_check_state")?, "srv_check_state")?,
            agent_state: value(text(agent_state, "srv_agent_state")?, "srv_agent_state")?,
            last_change: value(text(last_change, "srv_time_since_last_change")?, "srv_time_since_last_change")?,
            srv_record: text(srv_record, "srvrecord")? != "-",
            port: value(text(port, "srv_port")?, "srv_port")?,
        });
    }
    Ok(ServersState::Servers(rows))
}

/// Whether two answers to `show servers state <backend>` show the same servers in the same state. They may differ in
/// `srv_time_since_last_change`, which grows by itself. Does not check whether they are valid.
pub fn same_servers(before: &str, now: &str) -> bool {
    const GROWS: &str = "srv_time_since_last_change";
    let (mut before, mut now) = (before.lines(), now.lines());
    let heads = (before.next(), before.next());
    if heads != (now.next(), now.next()) {
        return false;
    }
    let columns = heads.1.and_then(|header| header.strip_prefix("# ")).unwrap_or_default();
    let Some(column) = columns.split(' ').position(|name| name == GROWS) else { return false };
    loop {
        match (before.next(), now.next()) {
            (None, None) => return true,
            (Some(before), Some(now)) if same_but_for(column, before, now) => {}
            _ => return false,
        }
    }
}

/// Whether two rows are the same but for the value in this column.
fn same_but_for(column: usize, before: &str, now: &str) -> bool {
    // Fields are short, so one pass over the bytes is cheaper than a search for each space.
    let mut spaces = before.bytes().enumerate().filter(|(_, byte)| *byte == b' ');
    let Some((start, _)) = spaces.nth(column.saturating_sub(1)) else { return before == now };
    let (before, now) = (before.as_bytes().split_at_checked(start + 1), now.as_bytes().split_at_checked(start + 1));
    let after = |rest: &[u8]| rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    match (before, now) {
        (Some((same, before)), Some((same_now, now))) => {
            same == same_now && before[after(before)..] == now[after(now)..]
        }
        _ => false,
    }
}

fn value<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, BadReply> {
    text.parse().map_err(|_| BadReply::Value { command: "show servers state", column })
}

fn to_weight(text: &str, column: &'static str) -> Result<Weight, BadReply> {
    Weight::new(value(text, column)?).map_err(|_| BadReply::Value { command: "show servers state", column })
}

/// Parses the answer to `show stat <id> 6 -1`. Returns none for a disabled backend, because it has no rows.
///
/// # Errors
/// [`BadReply`] if the format is not HAProxy's.
pub fn roles(frame: &str) -> Result<Option<Roles>, BadReply> {
    const WANTED: [&str; 6] = ["svname", "type", "bck", "tracked", "cookie", "algo"];
    let mut lines = frame.lines();
    let columns = Columns::of(lines.next(), WANTED, WANTED.len())?;
    let mut roles = None::<Roles>;
    let mut servers = Vec::new();
    for line in lines {
        let [server, kind, backup, tracked, cookie, algorithm] = columns.fields(line)?;
        match kind {
            "1" => {
                let roles = roles.get_or_insert_default();
                algorithm.clone_into(&mut roles.algorithm);
                roles.cookie = !cookie.is_empty();
            }
            "2" => {
                let role = Role {
                    backup: backup == "1",
                    tracked: tracked.split_once('/').and_then(|(backend, server)| {
                        Some((BackendName::new(backend).ok()?, ServerName::new(server).ok()?))
                    }),
                };
                // A server with an invalid name is skipped: no document can name it.
                if role != Role::default() {
                    servers.extend(ServerName::new(server).ok().map(|name| (name, role)));
                }
            }
            _ => {}
        }
    }
    if let Some(roles) = &mut roles {
        roles.servers.extend(servers);
    }
    Ok(roles)
}

/// Parses the answer to `show table`: the backends that have a stick table. Ignores every other line, such as the error
/// of a socket without permission.
pub fn stick_tables(frame: &str) -> BTreeSet<BackendName> {
    let name = |line: &str| BackendName::new(line.strip_prefix("# table: ")?.split_once(',')?.0).ok();
    frame.lines().filter_map(name).collect()
}

/// Parses the answer to `set server … weight`. An empty answer means success.
///
/// # Errors
/// [`SetError`] for any other answer.
pub fn set_weight(frame: &str) -> Result<(), SetError> {
    match frame {
        "" => Ok(()),
        f if f.starts_with("No such backend") => Err(SetError::NoBackend),
        f if f.starts_with("No such server") => Err(SetError::NoServer),
        f if f.starts_with("Proxy is disabled") => Err(SetError::Disabled),
        f if f.starts_with("Backend is using a static LB algorithm") => Err(SetError::StaticAlgorithm),
        f if f.starts_with("Permission denied") => Err(SetError::Denied),
        other => Err(SetError::Other(other.chars().take(200).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
        bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
        srv_agent_addr srv_agent_port\n\
        3 rr 1 s1 127.0.0.1 2 0 7 100 2 6 3 4 6 0 0 0 - 23201 - 0 0 - - 0\n\
        3 rr 2 s2 127.0.0.1 0 8 0 1 2 6 3 4 6 0 0 0 - 23201 - 0 0 - - 0";

    #[test]
    fn columns_of_servers_are_found_by_name() {
        let ServersState::Servers(rows) = servers_state(STATE).unwrap() else { panic!() };
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].server, rows[0].weight.get(), rows[0].initial.get()), ("s1", 7, 100));
        assert_eq!((rows[1].op_state, rows[1].admin_state, rows[1].check_status), (0, 8, 6));
        assert_eq!(servers_state("Can't find backend."), Ok(ServersState::NoBackend));
    }

    #[test]
    fn only_the_time_since_the_last_change_may_differ_between_the_same_servers() {
        assert!(same_servers(STATE, STATE));
        let later = STATE.replace(" 100 2 6 ", " 100 3600 6 ");
        assert_ne!(later, STATE);
        assert!(same_servers(STATE, &later) && same_servers(&later, STATE));
        let one_less = STATE.rsplit_once('\n').unwrap().0;
        for other in [
            STATE.replace(" 7 100 ", " 8 100 "),
            STATE.replace(" 7 100 ", " 77 100 "),
            STATE.replace("3 rr 2 s2", "3 rr 2 s3"),
            STATE.replace(" 0 8 0 ", " 0 8 1 "),
            STATE.replace("srv_uweight", "other"),
            format!("{STATE}\n3 rr 3 s3 127.0.0.1 0 8 0 1 2 6 3 4 6 0 0 0 - 23201 - 0 0 - - 0"),
            one_less.to_owned(),
            STATE.replace(" - - 0\n", " - - 1\n"),
            STATE.replace("3 rr 1 s1 127.0.0.1 2 0 7 100 2 6", "3 rr 1 s1"),
            String::new(),
        ] {
            assert!(!same_servers(STATE, &other) && !same_servers(&other, STATE), "{other}");
        }
    }

    #[test]
    fn a_malformed_servers_state_is_an_error() {
        assert_eq!(servers_state(""), Err(BadReply::Format));
        assert_eq!(servers_state("2\n# x"), Err(BadReply::Format));
        let renamed = STATE.replace("srv_uweight", "other");
        assert!(matches!(servers_state(&renamed), Err(BadReply::Missing { wanted: "srv_uweight", .. })));
        let high = STATE.replace(" 7 100 ", " 300 100 ");
        assert!(matches!(servers_state(&high), Err(BadReply::Value { column: "srv_uweight", .. })));
        let short = STATE.replace("127.0.0.1 0 8", "");
        assert!(servers_state(&short).is_err());
    }

    #[test]
    fn the_number_of_frames_must_be_exact() {
        let text = "\nNo such server.\n\n\n11 (initial 100)\n\n";
        let found: Vec<&str> = frames(text, 4).unwrap().into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["", "No such server.", "", "11 (initial 100)"]);
        for (text, expected) in [("", 1), ("\n", 2), ("\n\n", 1), ("garbage", 1), ("x\n", 1), ("a\n\nb\n", 2)] {
            assert!(frames(text, expected).is_err(), "{text:?}");
        }
    }

    #[test]
    fn info_identifies_the_process() {
        let frame =
            "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nNbproc: 1\nPid: 77\nUptime_sec: 12\nStopping: 0\nnode: x";
        let info = info(frame).unwrap();
        assert_eq!((info.pid, info.uptime, info.stopping, info.version.as_str()), (77, 12, false, "2.6.12-1+deb12u4"));
        assert!(super::info("220 smtp.example ready").is_err());
        assert!(super::info(&frame.replace("Pid: 77", "Pid: x")).is_err());
    }

    #[test]
    fn roles_are_parsed_behind_quoted_fields() {
        let frame = "# pxname,svname,bck,type,last_chk,tracked,cookie,algo,\n\
            app,blue,0,2,\"a, \"\"b\"\"\",,b,,\n\
            app,spare,1,2,,,,,\n\
            app,follower,0,2,,other/x,,,\n\
            app,BACKEND,0,1,,,SRV,roundrobin,";
        let roles = roles(frame).unwrap().unwrap();
        assert!(roles.known_dynamic() && roles.cookie);
        assert_eq!(roles.servers.len(), 2);
        assert!(roles.servers["spare"].backup);
        assert_eq!(roles.servers["follower"].tracked.as_ref().unwrap().1.as_str(), "x");
        assert_eq!(super::roles("# pxname,svname,bck,type,tracked,cookie,algo,").unwrap(), None, "a disabled backend");
        assert!(super::roles("Permission denied").is_err());
    }

    #[test]
    fn stick_tables_are_listed_by_name() {
        let frame = "# table: rate, type: ip, size:1024, used:0\n# table: st:x, type: ip, size:1024, used:7";
        assert_eq!(stick_tables(frame).iter().map(BackendName::as_str).collect::<Vec<_>>(), ["rate", "st:x"]);
        assert!(stick_tables("").is_empty() && stick_tables("Permission denied").is_empty());
    }

    #[test]
    fn backends_are_listed_by_name() {
        let names = backends("# name\napp\n<HTTPCLIENT>\nweb:1").unwrap();
        assert_eq!(names.iter().map(BackendName::as_str).collect::<Vec<_>>(), ["app", "web:1"]);
        assert!(backends("Permission denied").is_err() && backends("").is_err());
    }

    #[test]
    fn each_error_text_has_its_own_error() {
        assert_eq!(set_weight(""), Ok(()));
        assert_eq!(set_weight("Proxy is disabled."), Err(SetError::Disabled));
        let stat = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.";
        assert_eq!(set_weight(stat), Err(SetError::StaticAlgorithm));
        assert_eq!(set_weight("news"), Err(SetError::Other("news".to_owned())));
    }
}
