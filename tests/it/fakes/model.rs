//! A small model of HAProxy: the answers of its runtime API and the resulting weights. Pure.
//!
//! It also checks its client: [`Model::violations`] lists the lines that a correct client never sends.

use std::{collections::BTreeMap, fmt::Write as _};

/// The maximum length of a line in bytes, with LF.
const MAX_LINE: usize = 4096;

/// The columns of `show servers state` in HAProxy 2.6.
const COLUMNS: &str = "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
    bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
    srv_agent_addr srv_agent_port";

/// A server.
#[derive(Debug, Clone)]
pub struct Server {
    /// `srv_name`.
    pub name: String,
    /// `srv_uweight`.
    pub weight: u16,
    /// `srv_iweight`.
    pub initial: u16,
    /// `srv_op_state`: 0 stopped, 2 running.
    pub op_state: u8,
    /// `srv_admin_state`: 0 for none.
    pub admin_state: u32,
    /// `srv_check_status`: 0 to 2 before the first result.
    pub check_status: u8,
    /// `srv_check_state`: 4 with a health check.
    pub check_state: u16,
    /// `srv_agent_state`: 4 with an agent-check.
    pub agent_state: u16,
    /// `srvrecord`.
    pub srv_record: Option<&'static str>,
    /// `srv_time_since_last_change`, in seconds.
    pub last_change: u64,
    /// `srv_id`.
    pub id: u32,
    /// `bck`.
    pub backup: bool,
    /// The answer to a set, and whether the set has its effect.
    pub quirk: Option<(&'static str, bool)>,
    /// The weight in the last answer to the client.
    shown: Option<u16>,
    /// The weight of the client's last raise.
    raised_to: Option<u16>,
}

impl Server {
    /// A server that has been running for a long time.
    fn new(name: &str, weight: u16, id: u32) -> Self {
        Self {
            name: name.to_owned(),
            weight,
            initial: weight,
            op_state: 2,
            admin_state: 0,
            check_status: 6,
            check_state: 4,
            agent_state: 0,
            srv_record: None,
            last_change: 1000,
            id,
            backup: false,
            quirk: None,
            shown: None,
            raised_to: None,
        }
    }
}

/// A backend.
#[derive(Debug, Clone)]
pub struct Backend {
    /// `balance`.
    pub algorithm: &'static str,
    /// Whether the algorithm accepts only 0 and the configured weight.
    pub is_static: bool,
    /// `disabled`.
    pub disabled: bool,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Whether an answer showed the algorithm.
    algorithm_shown: bool,
}

/// A HAProxy process.
#[derive(Debug, Clone)]
pub struct Model {
    /// `Pid`.
    pub pid: u32,
    /// `Uptime_sec`.
    pub uptime: u64,
    /// `Stopping`.
    pub stopping: bool,
    /// `Nbproc`.
    pub processes: u32,
    /// The level of the socket.
    pub level: &'static str,
    /// The backends by name.
    pub backends: BTreeMap<String, Backend>,
    /// The columns of `show servers state`. Unknown columns have the value `x`.
    pub columns: String,
    /// All received lines.
    pub lines: Vec<String>,
    /// The lines that a correct client would not send.
    pub violations: Vec<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            pid: 77,
            uptime: 100,
            stopping: false,
            processes: 1,
            level: "admin",
            backends: BTreeMap::new(),
            columns: COLUMNS.to_owned(),
            lines: Vec::new(),
            violations: Vec::new(),
        }
    }
}

impl Model {
    /// A model with one backend.
    pub fn with(name: &str, algorithm: &'static str, servers: &[(&str, u16)]) -> Self {
        Self::default().and(name, algorithm, servers)
    }

    /// Adds a backend. `source` and `static-rr` are static, as in HAProxy by default.
    #[must_use]
    pub fn and(mut self, name: &str, algorithm: &'static str, servers: &[(&str, u16)]) -> Self {
        let servers = servers.iter().zip(1..).map(|((name, weight), id)| Server::new(name, *weight, id));
        let backend = Backend {
            algorithm,
            is_static: matches!(algorithm, "source" | "static-rr"),
            disabled: false,
            servers: servers.collect(),
            algorithm_shown: false,
        };
        self.backends.insert(name.to_owned(), backend);
        self
    }

    /// A server.
    pub fn server(&mut self, backend: &str, server: &str) -> &mut Server {
        let found = self.backends.get_mut(backend).and_then(|b| b.servers.iter_mut().find(|s| s.name == server));
        found.unwrap_or_else(|| panic!("the fake has no {backend}/{server}"))
    }

    /// `add server` and `enable server`: the server gets the lowest free id.
    pub fn add_server(&mut self, backend: &str, name: &str, weight: u16) {
        let servers = &mut self.backends.get_mut(backend).expect("the fake has that backend").servers;
        let id = (1..=u32::MAX).find(|id| servers.iter().all(|server| server.id != *id)).expect("there is a free id");
        servers.push(Server { last_change: 0, ..Server::new(name, weight, id) });
    }

    /// `del server`.
    pub fn remove_server(&mut self, backend: &str, name: &str) {
        self.backends.get_mut(backend).expect("the fake has that backend").servers.retain(|server| server.name != name);
    }

    /// The weights of a backend, in the order of its servers.
    pub fn weights(&self, backend: &str) -> Vec<u16> {
        self.backends[backend].servers.iter().map(|s| s.weight).collect()
    }

    /// A reload: a new process with the configured weights.
    pub fn reload(&mut self) {
        self.pid += 1;
        self.uptime = 0;
        for backend in self.backends.values_mut() {
            backend.algorithm_shown = false;
            for server in &mut backend.servers {
                server.weight = server.initial;
                (server.shown, server.raised_to) = (None, None);
            }
        }
    }

    /// Resets the record of the client's raises: the desired state has changed, so the client may drop a failed raise.
    pub fn desired_changed(&mut self) {
        self.backends.values_mut().flat_map(|b| &mut b.servers).for_each(|s| s.raised_to = None);
    }

    /// Whether any received line contains this text.
    pub fn received(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// The answer to all lines of one connection.
    pub fn answer(&mut self, received: &str) -> String {
        let line = received.strip_suffix('\n').unwrap_or_else(|| {
            self.violations.push(format!("no LF at the end of {received:?}"));
            received
        });
        if line.contains('\n') {
            self.violations.push(format!("more than one line on a connection: {received:?}"));
        }
        if received.len() > MAX_LINE {
            self.violations.push(format!("a line of {} bytes", received.len()));
        }
        self.lines.push(line.to_owned());
        let mut lowered = BTreeMap::new();
        line.split(';').map(|command| self.frame(command, &mut lowered)).collect()
    }

    /// The answer to one command. `lowered` collects the backends that this connection has lowered already.
    fn frame(&mut self, command: &str, lowered: &mut BTreeMap<String, String>) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        let text = match words[..] {
            ["show", "info"] => self.info(),
            ["show", "cli", "level"] => format!("{}\n", self.level),
            ["show", "table"] => String::new(),
            ["show", "stat", id, "6", "-1"] => self.stat(id),
            ["show", "servers", "state", backend] => self.state(backend),
            ["set", "server", path, "weight", weight] => {
                let Some((backend, server)) = path.split_once('/') else { return self.unknown_command(command) };
                let Some(weight) = plain(weight) else { return self.unknown_command(command) };
                self.set(backend, server, weight, lowered)
            }
            _ => return self.unknown_command(command),
        };
        text + "\n"
    }

    fn unknown_command(&mut self, command: &str) -> String {
        self.violations.push(format!("unknown command: {command:?}"));
        "Unknown command.\n\n\n".to_owned()
    }

    fn info(&self) -> String {
        let Self { pid, uptime, processes, .. } = self;
        format!(
            "Name: HAProxy\nVersion: 2.6.12\nNbthread: 2\nNbproc: {processes}\nProcess_num: 1\nPid: {pid}\n\
             Uptime_sec: {uptime}\nStopping: {}\nnode: lb1\n",
            u8::from(self.stopping)
        )
    }

    /// Finds a backend by its id only: its name could be the name of a frontend.
    fn stat(&mut self, id: &str) -> String {
        const HEADER: &str = "# pxname,svname,qcur,bck,status,type,desc,tracked,cookie,algo,\n";
        let name = self.backends.keys().find(|name| self.id(name).to_string() == id).cloned();
        let Some((name, backend)) = name.and_then(|name| self.backends.get_mut(&name).map(|backend| (name, backend)))
        else {
            return "No such proxy.\n".to_owned();
        };
        backend.algorithm_shown = true;
        let mut text = HEADER.to_owned();
        if !backend.disabled {
            for Server { name: server, backup, .. } in &backend.servers {
                let _ = writeln!(text, "{name},{server},0,{},UP,2,\"a, \"\"b\"\"\",,,,", u8::from(*backup));
            }
            let _ = writeln!(text, "{name},BACKEND,0,0,UP,1,,,,{},", backend.algorithm);
        }
        text
    }

    /// `be_id`: the position among the backends, after two frontends.
    fn id(&self, name: &str) -> usize {
        3 + self.backends.keys().take_while(|other| *other != name).count()
    }

    fn state(&mut self, name: &str) -> String {
        let id = self.id(name);
        let Some(backend) = self.backends.get_mut(name) else { return "Can't find backend.\n".to_owned() };
        let mut text = format!("1\n# {}\n", self.columns);
        for server in &mut backend.servers {
            server.shown = Some(server.weight);
            let value = |column: &str| match column {
                "be_id" => id.to_string(),
                "be_name" => name.to_owned(),
                "srv_name" => server.name.clone(),
                "srv_addr" => "127.0.0.1".to_owned(),
                "srv_op_state" => server.op_state.to_string(),
                "srv_admin_state" => server.admin_state.to_string(),
                "srv_uweight" => server.weight.to_string(),
                "srv_iweight" => server.initial.to_string(),
                "srv_check_status" => server.check_status.to_string(),
                "srv_id" => server.id.to_string(),
                "srv_port" => "1".to_owned(),
                "srv_time_since_last_change" => server.last_change.to_string(),
                "srv_agent_state" => server.agent_state.to_string(),
                "srvrecord" => server.srv_record.unwrap_or("-").to_owned(),
                "srv_check_state" => server.check_state.to_string(),
                _ => "x".to_owned(),
            };
            let row: Vec<String> = self.columns.split_whitespace().map(value).collect();
            text += &(row.join(" ") + "\n");
        }
        text
    }

    fn set(&mut self, name: &str, server: &str, to: u16, lowered: &mut BTreeMap<String, String>) -> String {
        self.judge(name, server, to, lowered);
        if to > 256 {
            return "Absolute weight can only be between 0 and 256 inclusive.\n".to_owned();
        }
        if self.level != "admin" {
            return "Permission denied\n".to_owned();
        }
        let Some(backend) = self.backends.get_mut(name) else { return "No such backend.\n".to_owned() };
        let (is_static, disabled) = (backend.is_static, backend.disabled);
        let Some(server) = backend.servers.iter_mut().find(|s| s.name == server) else {
            return "No such server.\n".to_owned();
        };
        if let Some((answer, has_effect)) = server.quirk {
            if has_effect {
                server.weight = to;
            }
            return answer.to_owned();
        }
        if disabled || self.stopping {
            return "Proxy is disabled.\n".to_owned();
        }
        if is_static && to != 0 && to != server.initial {
            return "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n".to_owned();
        }
        server.weight = to;
        String::new()
    }

    /// Records what a correct client would not send.
    fn judge(&mut self, name: &str, server: &str, to: u16, lowered: &mut BTreeMap<String, String>) {
        let mut wrong = Vec::new();
        if to > 256 {
            wrong.push(format!("{name}/{server}: a weight of {to}"));
        }
        let Some(backend) = self.backends.get_mut(name) else { return };
        let dynamic =
            backend.algorithm_shown && matches!(backend.algorithm, "roundrobin" | "leastconn" | "first" | "random");
        let Some(at) = backend.servers.iter().position(|s| s.name == server) else { return };
        match backend.servers[at].shown {
            // A client may write to a process that it has not read yet, but it must not stop a server there.
            None if to > 0 => {}
            None => wrong.push(format!("{name}/{server}: set to 0 before it was read")),
            Some(shown) if to > shown => {
                backend.servers[at].raised_to = Some(to);
                if let Some(before) = lowered.get(name) {
                    wrong.push(format!("{name}/{server}: raised after {before} was lowered"));
                }
            }
            Some(shown) if to < shown => {
                lowered.insert(name.to_owned(), server.to_owned());
                backend.servers[at].raised_to = None;
                let open = backend
                    .servers
                    .iter()
                    .find(|s| s.raised_to.is_some_and(|to| s.shown.is_none_or(|shown| shown < to)));
                if let (0, false, Some(open)) = (to, dynamic, open) {
                    wrong.push(format!("{name}/{server}: set to 0 before the raise of {} was read back", open.name));
                }
            }
            Some(_) => wrong.push(format!("{name}/{server}: set to {to}, which it was shown to be")),
        }
        self.violations.extend(wrong);
    }
}

/// Parses a number in its canonical form: digits, no sign, no leading zero.
fn plain(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number: &u16| number.to_string() == text)
}
