//! Parts of haproxy.cfg for the tests. `haproxy/global.cfg` comes before them.

use std::{fmt::Write as _, path::Path};

/// A frontend on 127.0.0.1 with one backend. The header `x-weights` of an answer contains the weights in force.
pub fn frontend(port: u16, backend: &str) -> String {
    format!(
        "frontend f_{backend}\n\
         \x20   bind 127.0.0.1:{port}\n\
         \x20   http-response set-header x-weights \"%[srv_uweight({backend}/blue)]/%[srv_uweight({backend}/green)]\"\n\
         \x20   default_backend {backend}\n"
    )
}

/// A backend with servers (name, port, configured weight). `lines` precede the servers; each server has `options`.
pub fn backend(name: &str, lines: &[&str], servers: &[(&str, u16, u16)], options: &str) -> String {
    let mut text = format!("backend {name}\n");
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    for (server, port, weight) in servers {
        let _ = writeln!(text, "    server {server} 127.0.0.1:{port} weight {weight} {options}");
    }
    text
}

/// The lines of docs/state-file.md for a server-state file. They start a new section `defaults`.
pub fn state_file(file: &Path) -> String {
    format!(
        "global\n    server-state-file {}\n\
         defaults\n    load-server-state-from-file global\n    mode http\n    timeout connect 2s\n\
         \x20   timeout client 10s\n    timeout server 10s\n    option idle-close-on-response\n",
        file.display()
    )
}
