//! Parses the counters of one backend: the answer to `show stat <id> 6 -1`. Pure functions over text.

use weightd_core::{
    fleet::{counters::Protocol, counting::Levels},
    model::ServerName,
};

use super::{csv::Columns, reply::BadReply};

/// The counters of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// `pxname`.
    pub backend: String,
    /// `mode`.
    pub protocol: Protocol,
    /// `algo`.
    pub algorithm: String,
    /// Whether `cookie` names one.
    pub cookie: bool,
    /// `econ` of the backend's row.
    pub connect_errors: u64,
    /// `scur` of the backend's row without those of its servers: requests that are at no server.
    pub unassigned: u64,
    /// Whether a request has waited in a queue of the backend or of a server: `qmax`.
    pub queued: bool,
    /// Whether a server has a `maxconn`: `slim`.
    pub maxconn: bool,
    /// The servers, in HAProxy's order. One with a name that no document can have is left out.
    pub servers: Vec<ServerStat>,
}

/// The counters of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStat {
    /// `svname`.
    pub name: ServerName,
    /// What never falls within a process, and the sessions.
    pub levels: Levels,
    /// `rtime`, in milliseconds.
    pub rtime: u64,
    /// `rate`.
    pub rate: u64,
    /// `chkdown`.
    pub downs: u64,
    /// Whether it has a `guid`, by which HAProxy may load its counters at start.
    pub preloaded: bool,
}

const COMMAND: &str = "show stat";

/// The columns of text, then those of numbers.
const TEXTS: [&str; 6] = ["pxname", "svname", "type", "mode", "algo", "cookie"];
const NUMBERS: [&str; 19] = [
    "scur",
    "stot",
    "lbtot",
    "cli_abrt",
    "srv_abrt",
    "econ",
    "eresp",
    "wretr",
    "wredis",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "rtime",
    "rate",
    "chkdown",
    "qmax",
];
/// `slim` is empty for a server without a limit; `guid` exists since HAProxy 3.0.
const OPTIONAL: [&str; 2] = ["slim", "guid"];
const WANTED: usize = TEXTS.len() + NUMBERS.len() + OPTIONAL.len();

/// Parses the answer to `show stat <id> 6 -1`. Returns none where there is no row of the backend: it is disabled, or a
/// worker of HAProxy 2.2 that leaves has answered.
///
/// # Errors
/// [`BadReply`] if a column is missing, or the format is not HAProxy's.
pub fn stat(frame: &str) -> Result<Option<Stat>, BadReply> {
    let mut lines = frame.lines();
    let columns = Columns::of(lines.next(), wanted(), TEXTS.len() + NUMBERS.len())?;

    let mut backend = None;
    let (mut servers, mut queued, mut maxconn) = (Vec::new(), false, false);
    for line in lines {
        let row = Row::new(&columns.fields(line)?);
        let [name, server, kind, mode, algorithm, cookie] = row.texts;
        match kind {
            "1" => {
                backend = Some(Stat {
                    backend: name.to_owned(),
                    protocol: match mode {
                        "http" => Protocol::Http,
                        "tcp" => Protocol::Tcp,
                        _ => Protocol::Unknown,
                    },
                    algorithm: algorithm.to_owned(),
                    cookie: !cookie.is_empty(),
                    connect_errors: row.number("econ")?,
                    unassigned: row.number("scur")?,
                    queued: row.number("qmax")? > 0,
                    maxconn: false,
                    servers: Vec::new(),
                });
            }
            "2" => {
                let [slim, guid] = row.optional;
                queued |= row.number("qmax")? > 0;
                maxconn |= !matches!(slim, "" | "0");
                // Two servers of one name cannot be told apart; HAProxy itself takes the first.
                let name = ServerName::new(server).ok().filter(|name| !known(&servers, name));
                if let Some(name) = name {
                    servers.push(row.server(name, !guid.is_empty())?);
                }
            }
            _ => {}
        }
    }
    let at_servers = servers.iter().map(|server| server.levels.sessions).sum();
    Ok(backend.map(|backend: Stat| Stat {
        queued: queued || backend.queued,
        unassigned: backend.unassigned.saturating_sub(at_servers),
        maxconn,
        servers,
        ..backend
    }))
}

/// The wanted columns: the texts, the numbers, then those that may be absent.
fn wanted() -> [&'static str; WANTED] {
    let mut wanted = [""; WANTED];
    for (column, name) in wanted.iter_mut().zip(TEXTS.iter().chain(&NUMBERS).chain(&OPTIONAL)) {
        *column = name;
    }
    wanted
}

fn known(servers: &[ServerStat], name: &ServerName) -> bool {
    servers.iter().any(|server| server.name == *name)
}

/// The wanted fields of a row.
struct Row<'a> {
    texts: [&'a str; TEXTS.len()],
    numbers: [&'a str; NUMBERS.len()],
    optional: [&'a str; OPTIONAL.len()],
}

impl<'a> Row<'a> {
    fn new(fields: &[&'a str; WANTED]) -> Self {
        let (texts, rest) = fields.split_at(TEXTS.len());
        let (numbers, optional) = rest.split_at(NUMBERS.len());
        Self {
            texts: std::array::from_fn(|at| texts[at]),
            numbers: std::array::from_fn(|at| numbers[at]),
            optional: std::array::from_fn(|at| optional[at]),
        }
    }

    /// A number; 0 where the field is empty, as in the row of another kind.
    fn number(&self, column: &'static str) -> Result<u64, BadReply> {
        let at = NUMBERS.iter().position(|name| *name == column);
        let text = at.map_or("", |at| self.numbers[at]);
        if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| BadReply::Value { command: COMMAND, column }) }
    }

    fn server(&self, name: ServerName, preloaded: bool) -> Result<ServerStat, BadReply> {
        Ok(ServerStat {
            name,
            levels: Levels {
                sessions: self.number("scur")?,
                attempts: self.number("stot")?,
                balanced: self.number("lbtot")?,
                client_aborts: self.number("cli_abrt")?,
                server_aborts: self.number("srv_abrt")?,
                connect_errors: self.number("econ")?,
                response_errors: self.number("eresp")?,
                retries: self.number("wretr")?,
                redispatches: self.number("wredis")?,
                answers: [
                    self.number("hrsp_1xx")?,
                    self.number("hrsp_2xx")?,
                    self.number("hrsp_3xx")?,
                    self.number("hrsp_4xx")?,
                    self.number("hrsp_5xx")?,
                    self.number("hrsp_other")?,
                ],
            },
            rtime: self.number("rtime")?,
            rate: self.number("rate")?,
            downs: self.number("chkdown")?,
            preloaded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,econ,eresp,wretr,wredis,chkdown,type,rate,lbtot,\
        hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,cli_abrt,srv_abrt,last_chk,rtime,mode,algo,cookie,";

    fn frame(rows: &[&str]) -> String {
        [&[HEADER], rows].concat().join("\n")
    }

    #[test]
    fn counters_are_found_by_the_name_of_their_column() {
        let stat = stat(&frame(&[
            "app,blue,0,0,1,9,,100,2,3,4,5,6,2,7,90,0,80,1,2,3,0,8,9,\"a, b\",12,http,,b,",
            "app,BACKEND,0,0,3,9,200,100,5,3,4,5,6,1,7,90,0,80,1,2,3,0,8,9,,12,http,roundrobin,SRV,",
        ]));
        let stat = stat.unwrap().unwrap();
        assert_eq!(
            (stat.backend.as_str(), stat.protocol, stat.algorithm.as_str()),
            ("app", Protocol::Http, "roundrobin")
        );
        assert_eq!((stat.cookie, stat.connect_errors, stat.queued, stat.maxconn), (true, 5, false, false));
        assert_eq!(stat.unassigned, 2);
        let [blue] = &stat.servers[..] else { panic!("{:?}", stat.servers) };
        let expected = Levels {
            attempts: 100,
            balanced: 90,
            sessions: 1,
            client_aborts: 8,
            server_aborts: 9,
            connect_errors: 2,
            response_errors: 3,
            retries: 4,
            redispatches: 5,
            answers: [0, 80, 1, 2, 3, 0],
        };
        assert_eq!((blue.levels, blue.rtime, blue.rate, blue.downs, blue.preloaded), (expected, 12, 7, 6, false));
    }

    #[test]
    fn a_limit_and_a_queue_are_noticed() {
        let stat = stat(&frame(&[
            "app,blue,0,3,,,20,,,,,,,2,,,,,,,,,,,,,tcp,,,",
            "app,BACKEND,0,0,,,,,,,,,,1,,,,,,,,,,,,,tcp,,,",
        ]));
        let stat = stat.unwrap().unwrap();
        assert_eq!((stat.queued, stat.maxconn, stat.protocol), (true, true, Protocol::Tcp));
        assert_eq!(stat.servers[0].levels, Levels::default(), "an empty field is 0");
    }

    #[test]
    fn a_disabled_backend_has_no_rows() {
        assert_eq!(stat(&frame(&[])), Ok(None));
    }

    #[test]
    fn a_missing_column_or_a_broken_row_is_no_data() {
        let error = stat(&frame(&[]).replace("lbtot", "other")).unwrap_err();
        assert_eq!(error, BadReply::Missing { command: COMMAND, wanted: "lbtot" });
        assert!(stat(&frame(&["app,blue,0,0,1"])).is_err());
        assert!(stat(&frame(&["app,blue,0,0,x,,,,,,,,,2,,,,,,,,,,,,,http,,,"])).is_err());
        assert!(stat("Permission denied").is_err());
    }
}
