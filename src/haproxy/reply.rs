//! What HAProxy answers, read strictly: frames, and the tables in them.
//!
//! Pure functions over text. Columns are found by their names, never by position; what does not parse is an
//! error, never a guess.

use std::{collections::BTreeSet, ops::Range};

use weightd_core::{
    model::{BackendName, ServerName, Weight},
    observed::{Role, Roles, ServerRow, SetError},
};

/// An answer that HAProxy does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Fewer or more frames than commands: truncated, or not the commands' answers at all.
    #[error("expected {expected} replies, found {found}")]
    Frames {
        /// One for each command.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A required line or column is missing.
    #[error("`{command}` lacks `{wanted}`")]
    Lacks {
        /// The command that was answered.
        command: &'static str,
        /// What is missing.
        wanted: &'static str,
    },
    /// A value that cannot be read.
    #[error("`{command}` has an unreadable `{column}`")]
    Value {
        /// The command that was answered.
        command: &'static str,
        /// The column.
        column: &'static str,
    },
    /// `show servers state` in a format other than 1.
    #[error("`show servers state` has a format other than 1")]
    Format,
}

/// Splits an answer into exactly `expected` frames: each is some lines and an empty one.
///
/// # Errors
/// [`BadReply::Frames`] if there are more or fewer. Then nothing is known of what ran, and only reading the
/// weights back tells.
pub fn frames(text: &str, expected: usize) -> Result<Vec<Range<usize>>, BadReply> {
    let mut frames = Vec::with_capacity(expected);
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with('\n') {
            frames.push(at..at);
            at += 1;
        } else if let Some(length) = text.as_bytes()[at..].windows(2).position(|two| two == b"\n\n") {
            frames.push(at..at + length);
            at += length + 2;
        } else {
            // No empty line at the end: cut off, or an old version's error text that lacks it.
            return Err(BadReply::Frames { expected, found: frames.len() });
        }
    }
    if frames.len() == expected { Ok(frames) } else { Err(BadReply::Frames { expected, found: frames.len() }) }
}

/// Which process answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// `Version`.
    pub version: String,
    /// `Pid`.
    pub pid: u32,
    /// `Uptime_sec`, in seconds.
    pub uptime: u64,
    /// `Stopping`: an old process that still answers after a reload.
    pub stopping: bool,
    /// `Nbproc`: more than 1 means that this socket speaks for one of several processes.
    pub processes: u32,
}

/// Reads `show info`.
///
/// # Errors
/// [`BadReply`] if it is not HAProxy's.
pub fn info(frame: &str) -> Result<Info, BadReply> {
    const COMMAND: &str = "show info";
    const NAMES: [&str; 6] = ["Name", "Version", "Pid", "Uptime_sec", "Stopping", "Nbproc"];
    // One pass: it is asked five times a second and before each look.
    let mut fields = [None; NAMES.len()];
    for (name, value) in frame.lines().filter_map(|line| line.split_once(':')) {
        if let Some(at) = NAMES.iter().position(|wanted| *wanted == name) {
            fields[at] = fields[at].or(value.strip_prefix(' '));
        }
    }
    let [name, version, pid, uptime, stopping, processes] = fields;
    let lacks = |wanted| BadReply::Lacks { command: COMMAND, wanted };
    if name != Some("HAProxy") {
        return Err(lacks("Name: HAProxy"));
    }
    let number = |text: Option<&str>, column| {
        let text = text.ok_or(lacks(column))?;
        text.parse::<u64>().map_err(|_| BadReply::Value { command: COMMAND, column })
    };
    Ok(Info {
        version: version.ok_or(lacks("Version"))?.to_owned(),
        pid: u32::try_from(number(pid, "Pid")?).map_err(|_| BadReply::Value { command: COMMAND, column: "Pid" })?,
        uptime: number(uptime, "Uptime_sec")?,
        stopping: stopping.is_some_and(|v| v != "0"),
        processes: processes.and_then(|v| v.parse().ok()).unwrap_or(1),
    })
}

/// Reads `show backend`: the names of all backends. One that no document can have is left out.
///
/// # Errors
/// [`BadReply`] if it is not HAProxy's.
pub fn backends(frame: &str) -> Result<Vec<BackendName>, BadReply> {
    let mut lines = frame.lines();
    if lines.next() != Some("# name") {
        return Err(BadReply::Lacks { command: "show backend", wanted: "header" });
    }
    Ok(lines.filter_map(|line| BackendName::new(line).ok()).collect())
}

/// What came of reading the servers of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServersState<'a> {
    /// Its servers, in order.
    Servers(Vec<ServerRow<'a>>),
    /// HAProxy has no such backend.
    NoBackend,
}

/// Reads `show servers state <backend>`.
///
/// # Errors
/// [`BadReply`] if it is not HAProxy's.
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
        .ok_or(BadReply::Lacks { command: COMMAND, wanted: "header" })?
        .split_ascii_whitespace()
        .collect();
    let column = |wanted: &'static str| {
        header.iter().position(|name| *name == wanted).ok_or(BadReply::Lacks { command: COMMAND, wanted })
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
        // A row that is cut would be read with its columns shifted.
        if fields.len() < header.len() {
            return Err(BadReply::Lacks { command: COMMAND, wanted: "columns of a row" });
        }
        let text =
            |at: usize, column| fields.get(at).copied().ok_or(BadReply::Lacks { command: COMMAND, wanted: column });
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

fn value<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, BadReply> {
    text.parse().map_err(|_| BadReply::Value { command: "show servers state", column })
}

fn to_weight(text: &str, column: &'static str) -> Result<Weight, BadReply> {
    Weight::new(value(text, column)?).map_err(|_| BadReply::Value { command: "show servers state", column })
}

/// Reads `show stat <id> 6 -1`. A backend that is disabled has no rows and so no roles.
///
/// # Errors
/// [`BadReply`] if it is not HAProxy's.
pub fn roles(frame: &str) -> Result<Option<Roles>, BadReply> {
    const COMMAND: &str = "show stat";
    const WANTED: [&str; 6] = ["svname", "type", "bck", "tracked", "cookie", "algo"];
    let mut lines = frame.lines();
    let header = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or(BadReply::Lacks { command: COMMAND, wanted: "header" })?;
    // For each column up to the last wanted one, which of those it is: there are a hundred, and 10,000 rows of them.
    let mut columns: Vec<_> = header.split(',').map(|name| WANTED.iter().position(|wanted| *wanted == name)).collect();
    if let Some(wanted) = (0..WANTED.len()).find(|wanted| !columns.contains(&Some(*wanted))) {
        return Err(BadReply::Lacks { command: COMMAND, wanted: WANTED[wanted] });
    }
    columns.truncate(columns.iter().rposition(Option::is_some).map_or(0, |last| last + 1));

    let mut roles = None::<Roles>;
    let mut servers = Vec::new();
    for line in lines {
        let mut fields = [""; WANTED.len()];
        let mut found = 0;
        for (wanted, field) in columns.iter().zip(csv_fields(line)) {
            found += 1;
            if let Some(wanted) = *wanted {
                fields[wanted] = field;
            }
        }
        if found < columns.len() {
            return Err(BadReply::Lacks { command: COMMAND, wanted: "columns of a row" });
        }
        let [server, kind, backup, tracked, cookie, algorithm] = fields;
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
                // A name that no document can hold has no role that matters.
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

/// Reads `show table`: the backends that have a stick table. Whatever else is said, as by a socket that may not ask, has
/// none.
pub fn stick_tables(frame: &str) -> BTreeSet<BackendName> {
    let name = |line: &str| BackendName::new(line.strip_prefix("# table: ")?.split_once(',')?.0).ok();
    frame.lines().filter_map(name).collect()
}

/// The fields of a line of HAProxy's CSV: quoted where they hold a comma or a quote, never across lines.
fn csv_fields(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// Reads the answer to `set server … weight`: empty is success.
///
/// # Errors
/// The [`SetError`].
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
    fn servers_are_read_by_the_names_of_the_columns() {
        let ServersState::Servers(rows) = servers_state(STATE).unwrap() else { panic!() };
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].server, rows[0].weight.get(), rows[0].initial.get()), ("s1", 7, 100));
        assert_eq!((rows[1].op_state, rows[1].admin_state, rows[1].check_status), (0, 8, 6));
        assert_eq!(servers_state("Can't find backend."), Ok(ServersState::NoBackend));
    }

    #[test]
    fn a_state_that_cannot_be_read_is_an_error() {
        assert_eq!(servers_state(""), Err(BadReply::Format));
        assert_eq!(servers_state("2\n# x"), Err(BadReply::Format));
        let renamed = STATE.replace("srv_uweight", "other");
        assert!(matches!(servers_state(&renamed), Err(BadReply::Lacks { wanted: "srv_uweight", .. })));
        let high = STATE.replace(" 7 100 ", " 300 100 ");
        assert!(matches!(servers_state(&high), Err(BadReply::Value { column: "srv_uweight", .. })));
        let short = STATE.replace("127.0.0.1 0 8", "");
        assert!(servers_state(&short).is_err());
    }

    #[test]
    fn frames_are_counted_exactly() {
        let text = "\nNo such server.\n\n\n11 (initial 100)\n\n";
        let found: Vec<&str> = frames(text, 4).unwrap().into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["", "No such server.", "", "11 (initial 100)"]);
        for (text, expected) in [("", 1), ("\n", 2), ("\n\n", 1), ("garbage", 1), ("x\n", 1), ("a\n\nb\n", 2)] {
            assert!(frames(text, expected).is_err(), "{text:?}");
        }
    }

    #[test]
    fn info_tells_the_process() {
        let frame =
            "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nNbproc: 1\nPid: 77\nUptime_sec: 12\nStopping: 0\nnode: x";
        let info = info(frame).unwrap();
        assert_eq!((info.pid, info.uptime, info.stopping, info.version.as_str()), (77, 12, false, "2.6.12-1+deb12u4"));
        assert!(super::info("220 smtp.example ready").is_err());
        assert!(super::info(&frame.replace("Pid: 77", "Pid: x")).is_err());
    }

    #[test]
    fn roles_are_read_past_quoted_fields() {
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
    fn stick_tables_are_told_by_name() {
        let frame = "# table: rate, type: ip, size:1024, used:0\n# table: st:x, type: ip, size:1024, used:7";
        assert_eq!(stick_tables(frame).iter().map(BackendName::as_str).collect::<Vec<_>>(), ["rate", "st:x"]);
        assert!(stick_tables("").is_empty() && stick_tables("Permission denied").is_empty());
    }

    #[test]
    fn backends_are_told_by_name() {
        let names = backends("# name\napp\n<HTTPCLIENT>\nweb:1").unwrap();
        assert_eq!(names.iter().map(BackendName::as_str).collect::<Vec<_>>(), ["app", "web:1"]);
        assert!(backends("Permission denied").is_err() && backends("").is_err());
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(set_weight(""), Ok(()));
        assert_eq!(set_weight("Proxy is disabled."), Err(SetError::Disabled));
        let stat = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.";
        assert_eq!(set_weight(stat), Err(SetError::StaticAlgorithm));
        assert_eq!(set_weight("news"), Err(SetError::Other("news".to_owned())));
    }
}
