//! From HAProxy's answers to a reading of one backend. No I/O and no clock.

use weightd_core::{
    fleet::{
        counters::{Flag, Health, Mark, ServerNow},
        counting::{ProcessId, Reading, ServerReading},
    },
    observed::{self, Observed, Owner, Server},
};

use crate::haproxy::{Info, stat::Stat};

/// A reading. A server that only one of the two answers has was added or deleted between them: it waits for the next one.
pub(super) fn reading(process: ProcessId, info: &Info, observed: &Observed, stat: Stat, stick_table: bool) -> Reading {
    let mut flags = Vec::new();
    for (flag, is) in [(Flag::Cookie, stat.cookie), (Flag::StickTable, stick_table), (Flag::Maxconn, stat.maxconn)] {
        if is {
            flags.push(flag);
        }
    }
    let servers = stat.servers.into_iter().filter_map(|counted| {
        let server = observed.servers.iter().find(|server| server.name == counted.name)?;
        Some(ServerReading {
            now: now(server),
            levels: counted.levels,
            rtime: counted.rtime,
            rate: counted.rate,
            downs: counted.downs,
            preloaded: counted.preloaded,
        })
    });
    Reading {
        process,
        version: info.version.clone(),
        protocol: stat.protocol,
        algorithm: stat.algorithm,
        flags,
        connect_errors: stat.connect_errors,
        unassigned: stat.unassigned,
        queued: stat.queued,
        servers: servers.collect(),
    }
}

fn now(server: &Server) -> ServerNow {
    let health = match server.health {
        observed::Health::Up | observed::Health::Unproven(Some(true)) => Health::Up,
        observed::Health::Down | observed::Health::Unproven(Some(false)) => Health::Down,
        observed::Health::Unproven(None) => Health::Unknown,
    };
    let marks = [
        (Mark::Maint, server.administered && !server.drain && !server.slot),
        (Mark::Drain, server.drain),
        (Mark::Slot, server.slot),
        (Mark::Backup, server.backup),
        (Mark::Starting, server.starting),
        (Mark::Agent, server.owner == Some(Owner::AgentCheck)),
        (Mark::Srv, server.owner == Some(Owner::SrvRecord)),
    ];
    ServerNow {
        name: server.name.clone(),
        weight: server.weight,
        initial: server.initial,
        health,
        marks: marks.into_iter().filter(|(_, is)| *is).map(|(mark, _)| mark).collect(),
    }
}
