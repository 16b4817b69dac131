//! One change, alone and among many backends: from the write in Consul to the weight in HAProxy.

use crate::{
    Options, peer,
    setup::{self, Other, Setup, Shape},
    stats::Samples,
    table::{Goal, Report, Row},
};

/// One change of the only backend, which has two servers.
pub async fn alone(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let peers = peer::of(report);
    let shape = Shape::new(1, 2);
    let mut others = vec![Other::FloorThatLooks];
    others.extend(peers);
    others.extend(setup::template().map(Other::Reloading));
    others.extend(options.against.clone().map(Other::Weightd));
    let mut setup = Setup::start(shape, &others).await?;
    report.notes.append(&mut setup.notes);
    let rounds = options.rounds.unwrap_or(2000);
    measure("one-change", &mut setup, shape, rounds, report)?;
    // The other kind, which weightd looks at HAProxy for before it acts.
    setup.share = setup::all_or_nothing;
    setup.sides.retain(|side| ["weightd", "floor", "looks"].contains(&side.name));
    measure("one-change to 0", &mut setup, shape, rounds.div_ceil(4), report)
}

/// One change among many backends of ten servers.
pub async fn among(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for backends in options.backends.clone().unwrap_or_else(|| vec![10, 100, 1000, 5000]) {
        let shape = Shape::new(backends, 10);
        let mut setup = Setup::start(shape, &[]).await?;
        measure(&format!("among {backends}"), &mut setup, shape, options.rounds.unwrap_or(300), report)?;
    }
    Ok(())
}

fn measure(case: &str, setup: &mut Setup, shape: Shape, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut times = vec![Samples::default(); setup.sides.len()];
    let mut lost = vec![0_u32; setup.sides.len()];
    let mut order = (0..setup.sides.len()).collect::<Vec<_>>();
    for round in 0..rounds + rounds.min(10) {
        fastrand::shuffle(&mut order);
        for &side in &order {
            let time = setup.change(side, fastrand::usize(..shape.backends))?;
            match time {
                None => lost[side] += 1,
                // The first few find everything cold.
                Some(time) if round >= rounds.min(10) => times[side].push(time),
                Some(_) => {}
            }
        }
    }
    let by_name = |name| setup.sides.iter().position(|side| side.name == name);
    let peer = by_name("peer");
    let absent = case == "one-change" && peer.is_none();
    let row = |figure: &str, goal: Option<Goal>, of: &dyn Fn(&Samples) -> Option<f64>| {
        let row = Row::new(case, figure, "ms").weightd(of(&times[0])).floor(of(&times[1]));
        let row = row.peer(peer.and_then(|peer| of(&times[peer])));
        let row = if absent { row.without_peer() } else { row };
        match goal {
            Some(goal) => row.goal(goal),
            None => row,
        }
    };
    report.rows([
        row("p50", Some(Goal::TimesFloor(1.2)), &|times| times.percentile(50.0)),
        row("p90", None, &|times| times.percentile(90.0)),
        row("p99", Some(Goal::TimesFloor(2.0)), &|times| times.percentile(99.0)),
        row("max", None, &Samples::max),
    ]);
    for (side, name) in [("looks", "a floor that looks"), ("other", "the other weightd")] {
        let Some(times_there) = by_name(side).map(|side| &times[side]) else { continue };
        report.rows([50.0, 99.0].map(|percent| {
            let row = Row::new(case, &format!("p{percent}, floor: {name}"), "ms");
            row.weightd(times[0].percentile(percent)).floor(times_there.percentile(percent))
        }));
    }
    if let Some(side) = by_name("peer that reloads") {
        let row = |figure: &str, unit| Row::new(case, &format!("{figure}, peer: with a reload"), unit);
        report.rows([
            row("p50", "ms").weightd(times[0].percentile(50.0)).peer(times[side].percentile(50.0)),
            row("p99", "ms").weightd(times[0].percentile(99.0)).peer(times[side].percentile(99.0)),
            row("lost", "changes").weightd(f64::from(lost[0])).peer(f64::from(lost[side])),
        ]);
    }
    let lost_row = Row::new(case, &format!("lost of {rounds}"), "changes");
    let lost_row = lost_row.weightd(f64::from(lost[0])).floor(f64::from(lost[1])).goal(Goal::AtMost(0.0));
    report.rows([lost_row.peer(peer.map(|peer| f64::from(lost[peer])))]);
    report.expect(lost[0] == 0, || format!("{case}: weightd lost {} changes", lost[0]));
    for wrong in setup.differences()? {
        // What the peer loses is its figure, not our failure.
        report.expect(wrong.starts_with("peer"), || format!("{case}: at the end {wrong}"));
    }
    Ok(())
}
