//! A server-state file, as HAProxy reads it when it starts: `server-state-file` with `load-server-state-from-file`.
//!
//! Pure. Says weights and, as far as its format permits, nothing else: servers run, nobody administers them, their
//! addresses are the configuration's.

use std::fmt::Write as _;

use weightd_core::model::{BackendName, ServerName, Weight};

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// `be_id`. HAProxy looks rows up by names, and only notes that ids differ.
    pub backend_id: u32,
    /// `be_name`.
    pub backend: &'a BackendName,
    /// `srv_id`.
    pub server_id: u32,
    /// `srv_name`.
    pub server: &'a ServerName,
    /// `srv_uweight`: the weight to begin with.
    pub weight: Weight,
    /// `srv_iweight`: HAProxy takes the row's weight only if this is the configured weight still.
    pub initial: Weight,
    /// `srv_port`. The format has no way to leave it to the configuration, as an address can be left: what stands here
    /// is what HAProxy uses.
    pub port: u16,
}

/// The twenty columns that each version reads; 2.2 refuses more, and later ones take that many.
const HEADER: &str = "\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord
";

/// The file.
pub fn render<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> String {
    let mut text = HEADER.to_owned();
    for Row { backend_id, backend, server_id, server, weight, initial, port } in rows {
        // Running (2), not administered (0); no check has ended (1, 0), and its health is what running means.
        let written = writeln!(
            text,
            "{backend_id} {backend} {server_id} {server} - 2 0 {weight} {initial} 0 1 0 0 0 0 0 0 - {port} -"
        );
        debug_assert!(written.is_ok(), "a string takes it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_haproxy_reads_and_leaves_the_address_to_the_configuration() {
        let (backend, server) = (BackendName::new("app").unwrap(), ServerName::new("blue").unwrap());
        let weight = |number| Weight::new(number).unwrap();
        let row = Row {
            backend_id: 3,
            backend: &backend,
            server_id: 1,
            server: &server,
            weight: weight(90),
            initial: weight(0),
            port: 8080,
        };
        let text = render([row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1");
        assert_eq!(lines[2], "3 app 1 blue - 2 0 90 0 0 1 0 0 0 0 0 0 - 8080 -");
        assert_eq!(lines[1].split(' ').count() - 1, lines[2].split(' ').count());
        assert_eq!(lines.len(), 3);
        assert!(text.ends_with('\n'), "HAProxy takes a line without an end for a damaged file");
        assert_eq!(render([]).lines().count(), 2);
    }
}
