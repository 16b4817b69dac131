use serde_json::json;
use weightd_core::rollout::{State, log::Log};

use super::*;

/// A rollout that bakes, with a long log.
fn read() -> RolloutRead {
    let state: State = serde_json::from_value(json!({
        "id": "r2", "spec": "s", "seq": 1, "phase": "bake", "step": 1, "mode": "auto", "share": 10, "back": 0,
        "latched": "slo", "since": "2026-11-21T10:00:00Z"
    }))
    .unwrap();
    let event = |rollout: &str, detail: String| json!({"rollout": rollout, "at": "2026-11-21T10:00:00Z", "what": "advanced", "detail": detail});
    let older = (0..5).map(|at| event("r1", format!("of the earlier one: {at}")));
    let events: Vec<_> = older.chain((0..12).map(|at| event("r2", format!("event {at}")))).collect();
    let log = Log::parse(json!({"v": 1, "events": events}).to_string().as_bytes()).unwrap();
    RolloutRead {
        state: KeyRead { index: 1, value: Some(Ok(state)) },
        log: Some(KeyRead { index: 1, value: Some(Ok(log)) }),
        ..RolloutRead::default()
    }
}

fn drawn(height: usize) -> String {
    let app = BackendName::new("app1").unwrap();
    screen(&app, &read(), &KeyRead::default(), "2026-11-21T10:01:00Z".parse().unwrap(), 80, height)
}

#[test]
fn a_screen_shows_the_newest_events_of_this_rollout_that_fit() {
    let tall = drawn(60);
    assert_eq!(tall.matches("advanced").count(), EVENTS, "{tall}");
    assert!(!tall.contains("earlier one") && tall.contains("event 11"), "{tall}");
    let low = drawn(16);
    assert!(low.lines().count() < 16 && low.contains("event 11") && !low.contains("event 5"), "{low}");
    // No room: what it does now is more important.
    let lowest = drawn(8);
    assert!(!lowest.contains("event") && lowest.contains("phase"), "{lowest}");
}

#[test]
fn a_screen_says_what_a_person_must_do() {
    let screen = drawn(60);
    assert!(screen.contains("slo: the SLO is broken") && screen.contains("resume or abort it"), "{screen}");
}
