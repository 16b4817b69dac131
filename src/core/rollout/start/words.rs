use std::fmt;

use super::Difference;
use crate::{
    desired::{Pattern, PatternShare},
    fleet::NodeName,
    model::{Escaped, ServerName},
    reasons::list,
    rollout::plan::{Problem, Protocol, Step},
};

/// Why a rollout cannot begin.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The backend has no key.
    NoDocument,
    /// The backend is released.
    Released,
    /// Every node rejects the keys of the backend: why.
    Rejected(String),
    /// The backend has one key for each server.
    Leaves,
    /// No server but those of the new side is above 0.
    NoFrom,
    /// A side has no pattern or too many.
    Patterns(&'static str, usize),
    /// A name can be on both sides.
    Overlap(Pattern, Pattern),
    /// A pattern of a side matches no server: the servers.
    Unmatched(&'static str, Pattern, String),
    /// No node answers, and the document does not have the pattern.
    Unknown(Pattern),
    /// The sides have no split.
    NoSplit(&'static str),
    /// The document gives other shares than a split of the sides.
    Differs(Difference),
    /// On these nodes no server of the new side is usable.
    ToUnusable(Vec<NodeName>),
    /// On these nodes no server of the old side is usable.
    FromUnusable(Vec<NodeName>),
    /// HAProxy has the backend in mode tcp, and the plan says http.
    Protocol,
    /// Mode auto sees no failed answers.
    Blind,
    /// Mode auto has no steps.
    NoSteps,
    /// No step raises the present share.
    NoStepAbove(PatternShare),
    /// No step can reach enough requests: requests a second now.
    TooFewRequests(f64),
    /// The plan names a check that the controller does not have.
    Check(Problem),
    /// The old side is above the SLO already. Parts of 1.
    AboveSlo {
        /// Its error rate.
        rate: f64,
        /// The SLO.
        slo: f64,
    },
    /// The SLO should come from the traffic, and there is none.
    NoBaseline,
}

impl Refusal {
    /// The stable word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoDocument => "no_document",
            Self::Released => "released",
            Self::Rejected(_) => "rejected",
            Self::Leaves => "leaves",
            Self::NoFrom => "no_from",
            Self::Patterns(..) => "patterns",
            Self::Overlap(..) => "overlap",
            Self::Unmatched(..) | Self::Unknown(_) => "unmatched",
            Self::NoSplit(_) => "no_split",
            Self::Differs(_) => "differs",
            Self::ToUnusable(_) => "to_unusable",
            Self::FromUnusable(_) => "from_unusable",
            Self::Protocol => "protocol",
            Self::Blind => "blind",
            Self::NoSteps => "no_steps",
            Self::NoStepAbove(_) => "no_step_above",
            Self::TooFewRequests(_) => "too_few_requests",
            Self::Check(_) => "unknown_check",
            Self::AboveSlo { .. } => "above_slo",
            Self::NoBaseline => "no_baseline",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let text = match self {
            Self::NoDocument | Self::Released => {
                "write weights first: `weightctl set --help` shows how to start with `--create`"
            }
            Self::Rejected(_) => "write a valid document first",
            Self::Leaves | Self::Differs(_) => {
                "add --convert to write the split first; the shares change by what is shown here"
            }
            Self::NoFrom => "name the old side with --from",
            Self::Patterns(..) => "use patterns such as 'green-*'",
            Self::Overlap(..) | Self::NoSplit(_) => "let no server be on both sides",
            Self::Unmatched(..) => "check the names of the servers",
            Self::Unknown(_) => "check the name, and wait until the nodes answer",
            Self::ToUnusable(_) => "start the servers of the new side, and wait until HAProxy sees them up",
            Self::FromUnusable(_) => "all requests must be able to go back; start servers of the old side first",
            Self::Protocol => "write `protocol = \"tcp\"` or `protocol = \"grpc\"` into the plan",
            Self::Blind => "add a named check of a metrics system to the plan, or use --mode watch",
            Self::NoSteps => "choose a plan with --plan, such as --plan careful",
            Self::NoStepAbove(_) => "use a plan with a step above the present share",
            Self::TooFewRequests(_) => "use a plan with larger shares and longer bakes, or --mode watch",
            Self::Check(problem) => return problem.remedy.clone(),
            Self::AboveSlo { .. } => "correct the errors first, raise `slo` in the plan, or add --slo-from-baseline",
            Self::NoBaseline => "try again while the backend has traffic",
        };
        text.to_owned()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &[NodeName]| list(nodes.iter().map(NodeName::as_str));
        match self {
            Self::NoDocument => write!(f, "the backend has no document in Consul"),
            Self::Released => write!(f, "the backend is released: weightd does not manage it"),
            Self::Rejected(why) => write!(f, "the keys of the backend are rejected: {}", Escaped(why)),
            Self::Leaves => write!(f, "the backend has one key for each server, and a rollout writes a split"),
            Self::NoFrom => write!(f, "no server is above 0 beside those of the new side"),
            Self::Patterns(side, 0) => write!(f, "side `{side}` has no server"),
            Self::Patterns(side, count) => write!(f, "side `{side}` has {count} names and patterns; the maximum is 64"),
            Self::Overlap(to, from) => write!(f, "a server can be on both sides: `{to}` and `{from}`"),
            Self::Unmatched(side, pattern, servers) => {
                write!(f, "`{pattern}` of side `{side}` matches no server; the servers are {servers}")
            }
            Self::Unknown(pattern) => write!(f, "no node answers, and the document has no `{pattern}`"),
            Self::NoSplit(what) => write!(f, "the sides have no split: {what}"),
            Self::Differs(difference) => write!(f, "{difference}"),
            Self::ToUnusable(nodes) => write!(f, "no server of the new side is usable on {}", names(nodes)),
            Self::FromUnusable(nodes) => write!(f, "no server of the old side is usable on {}", names(nodes)),
            Self::Protocol => write!(f, "HAProxy has the backend in mode tcp, and the plan says http"),
            Self::Blind => {
                write!(f, "HAProxy sees no failed answers of this protocol, so mode auto would be blind")
            }
            Self::NoSteps => write!(f, "mode auto needs a plan with steps"),
            Self::NoStepAbove(back) => {
                write!(f, "the new side has {} % already, and no step is above that", back.percent())
            }
            Self::TooFewRequests(rate) => {
                write!(f, "at {rate:.1} requests a second, no step can reach 300 requests within two bakes")
            }
            Self::Check(problem) => write!(f, "{}", problem.what),
            Self::AboveSlo { rate, slo } => write!(
                f,
                "the old side itself fails {:.3} % of the requests, and the SLO is {:.3} %",
                100.0 * rate,
                100.0 * slo
            ),
            Self::NoBaseline => write!(f, "the SLO cannot come from the traffic: no request was counted"),
        }
    }
}

/// What a person should know before a rollout begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Caution {
    /// These servers are on neither side and serve requests.
    Unnamed(Vec<ServerName>),
    /// These nodes do not answer.
    Silent(Vec<NodeName>),
    /// These nodes have a HAProxy that cannot be read.
    Down(Vec<NodeName>),
    /// No node answers: nothing was checked on them.
    NothingKnown,
    /// Nobody leads, so that the names of the checks are not known.
    ChecksUnknown,
    /// These steps are left out, at these requests a second.
    LeftOut(Vec<Step>, f64),
    /// The SLO is twice the error rate of the old side. Parts of 1.
    SloRaised {
        /// The error rate.
        rate: f64,
        /// The SLO of the plan.
        before: f64,
        /// The SLO now.
        slo: f64,
    },
    /// The old side may be above the SLO: too few requests to say. Parts of 1.
    SloNear {
        /// The error rate.
        rate: f64,
        /// The SLO.
        slo: f64,
        /// The requests that were counted.
        requests: u64,
    },
    /// The judge cannot see something.
    Blind(Blind),
}

/// What the judge cannot see, or sees in another way, in a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// A hash, a table or the sticky snippet gives each user one side.
    Pinned {
        /// Whether a regression holds.
        holds: bool,
    },
    /// A cookie pins users to servers.
    Cookie,
    /// The shares do not follow the weights.
    Leastconn,
    /// Requests may wait in a queue.
    Queue,
    /// HAProxy sees no answers.
    Answers(Protocol),
}

impl Caution {
    /// The stable word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unnamed(_) => "unnamed",
            Self::Silent(_) => "silent",
            Self::Down(_) => "down",
            Self::NothingKnown => "nothing_known",
            Self::ChecksUnknown => "checks_unknown",
            Self::LeftOut(..) => "left_out",
            Self::SloRaised { .. } => "slo_raised",
            Self::SloNear { .. } => "slo_near",
            Self::Blind(Blind::Pinned { .. }) => "pinned",
            Self::Blind(Blind::Cookie) => "cookie",
            Self::Blind(Blind::Leastconn) => "leastconn",
            Self::Blind(Blind::Queue) => "queue",
            Self::Blind(Blind::Answers(_)) => "answers",
        }
    }
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &[NodeName]| list(nodes.iter().map(NodeName::as_str));
        match self {
            Self::Unnamed(servers) => {
                let servers = list(servers.iter().map(ServerName::as_str));
                write!(f, "on neither side, and serves: {servers}; the rollout does not change its weight")
            }
            Self::Silent(nodes) => write!(f, "not checked, because they do not answer: {}", names(nodes)),
            Self::Down(nodes) => write!(f, "not checked, because a HAProxy cannot be read: {}", names(nodes)),
            Self::NothingKnown => write!(f, "no node answers: the servers were not checked"),
            Self::ChecksUnknown => {
                write!(f, "no controller leads: whether it has the named checks of the plan is not known")
            }
            Self::LeftOut(steps, rate) => {
                let steps: Vec<_> = steps.iter().map(|step| format!("{} %", step.share.percent())).collect();
                let steps = list(steps.iter().map(String::as_str));
                write!(
                    f,
                    "left out at {rate:.1} requests a second, because 300 requests would take over two bakes: {steps}"
                )
            }
            Self::SloRaised { rate, before, slo } => write!(
                f,
                "the old side fails {:.3} % of the requests: the SLO is {:.3} % instead of {:.3} %",
                100.0 * rate,
                100.0 * slo,
                100.0 * before
            ),
            Self::SloNear { rate, slo, requests } => write!(
                f,
                "the old side failed {:.3} % of {requests} requests, and the SLO is {:.3} %: too few to say whether it keeps \
                 the SLO",
                100.0 * rate,
                100.0 * slo
            ),
            Self::Blind(blind) => fmt::Display::fmt(blind, f),
        }
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { holds: true } => write!(
                f,
                "users are pinned to sides: the shares are of users, and a regression holds and calls a person"
            ),
            Self::Pinned { holds: false } => write!(
                f,
                "users are pinned to sides: the shares are of users, and a rollback moves users who have used the new side"
            ),
            Self::Cookie => write!(f, "a cookie pins users to servers: they stay on the new side after a rollback"),
            Self::Leastconn => write!(f, "leastconn decides where requests go: the shares follow the weights loosely"),
            Self::Queue => write!(f, "servers have a maxconn: time that requests wait in the queue is not judged"),
            Self::Answers(_) => {
                write!(f, "HAProxy sees connections and no answers: only named checks see failed answers")
            }
        }
    }
}
