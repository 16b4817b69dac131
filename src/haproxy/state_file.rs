//! Writes the server-state file that HAProxy reads at start (`server-state-file` with `load-server-state-from-file`).
//!
//! Pure. The file sets weights and, as far as the format permits, nothing else: each server is running, has no
//! administrative state, and keeps the address of the configuration.

use std::fmt::Write as _;

use weightd_core::model::{BackendName, ServerName, Weight};

/// The row of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// `be_id`. HAProxy finds rows by name. If the id differs, it only logs a notice.
    pub backend_id: u32,
    /// `be_name`.
    pub backend: &'a BackendName,
    /// `srv_id`.
    pub server_id: u32,
    /// `srv_name`.
    pub server: &'a ServerName,
    /// `srv_uweight`: the weight after the start.
    pub weight: Weight,
    /// `srv_iweight`: HAProxy applies the weight of the row only if this equals the configured weight.
    pub initial: Weight,
    /// `srv_port`. HAProxy uses this port instead of the configured one. Unlike the address, the format cannot omit it.
    pub port: u16,
}

/// The 20 columns that every version reads. HAProxy 2.2 rejects more columns, and later versions accept 20.
const HEADER: &str = "\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord
";

/// Returns the text of the file.
pub fn render<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> String {
    let mut text = HEADER.to_owned();
    for Row { backend_id, backend, server_id, server, weight, initial, port } in rows {
        // Running (2), no administrative state (0), no completed check (1, 0). HAProxy derives the health from
        // "running".
        let written = writeln!(
            text,
            "{backend_id} {backend} {server_id} {server} - 2 0 {weight} {initial} 0 1 0 0 0 0 0 0 - {port} -"
        );
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_sets_the_weight_and_keeps_the_configured_address() {
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
        assert!(text.ends_with('\n'), "HAProxy treats a file with an unterminated line as damaged");
        assert_eq!(render([]).lines().count(), 2);
    }
}
