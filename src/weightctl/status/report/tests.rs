use super::*;

fn shown(json: &str) -> String {
    let status: Status = serde_json::from_str(json).unwrap();
    anstream::adapter::strip_str(&text(&status, None)).to_string()
}

const FOLLOWING: &str = r#"{
  "version": "0.1.0", "node": "lb1", "mode": "enforce", "uptime_seconds": 7384.2,
  "instances": [{
    "name": "edge", "address": "unix:/run/haproxy/admin.sock", "root": "weightd/", "converged": false,
    "consul": {"address": "http://127.0.0.1:8500", "state": "following", "reason": null, "index": 42,
               "last_read_age_seconds": 3.4, "empty": false, "filtered": false},
    "haproxy": {"state": "up", "reason": null, "version": "2.6.12", "pid": 1234},
    "backends": [
      {"backend": "app1", "state": "converged", "reasons": [], "shares_exact": true, "orphaned": false, "drift_corrections": 0,
       "observed_age_seconds": 0.2, "servers": [
         {"server": "blue", "desired": 90, "accepted": 90, "observed": 90, "usable": true, "share": 90},
         {"server": "green", "desired": 10, "accepted": 10, "observed": 10, "usable": true, "share": 10}]},
      {"backend": "app2", "state": "guarded", "orphaned": false, "drift_corrections": 2, "observed_age_seconds": 75,
       "reasons": [{"reason": "guarded", "detail": "no server would be usable and above 0", "remedy": "bring green up"}],
       "servers": [
         {"server": "blue", "desired": 0, "accepted": 100, "observed": 100, "usable": true, "share": 66.66666666666667},
         {"server": "green", "desired": 100, "accepted": 0, "observed": 0, "usable": false}]},
      {"backend": "app3", "state": "unmatched", "servers": [{"server": "blue", "desired": 1, "usable": false}],
       "reasons": [{"reason": "unmatched", "detail": "this HAProxy has no such backend", "remedy": ""}]},
      {"backend": "app4", "state": "rejected", "orphaned": true, "servers": [],
       "reasons": [{"reason": "rejected", "detail": "weights is \u001b[31mempty", "remedy": "name the servers"}]}],
    "stray": [{"key": "weightd/weights/a b", "reason": "the backend's name cannot be", "remedy": "delete the key"}],
    "stray_total": 3
  }]
}"#;

const HELD: &str = r#"{
  "version": "0.1.0", "node": "lb1", "mode": "observe", "uptime_seconds": 12, "something_new": [1],
  "instances": [{
    "name": "edge", "address": "tcp:127.0.0.1:9999", "root": "weightd/", "converged": false,
    "consul": {"address": "http://127.0.0.1:8500", "state": "held", "reason": "unreachable",
               "detail": "Consul at http://127.0.0.1:8500 cannot be reached", "remedy": "see whether the agent runs",
               "held_seconds": 3700, "index": 42, "last_read_age_seconds": 90000},
    "haproxy": {"state": "down", "reason": "no_socket", "detail": "no such file", "remedy": "check `stats socket`"},
    "backends": [{"backend": "app1", "state": "pending", "would": "set server app1/blue weight 9",
                  "servers": [{"server": "blue", "desired": 9, "accepted": 9, "observed": 1, "usable": true}]}]
  }]
}"#;

#[test]
fn the_report_of_a_host_that_follows_consul() {
    insta::assert_snapshot!(shown(FOLLOWING), @r"
    weightd 0.1.0 on lb1, mode enforce, up 2 h 3 min

    edge unix:/run/haproxy/admin.sock, root weightd/: not converged
      Consul   following  http://127.0.0.1:8500, index 42, last answer 3 s ago
      HAProxy  up         version 2.6.12, pid 1234

      BACKEND  SERVER  DESIRED  ACCEPTED  OBSERVED   SHARE  STATE
      app1     blue         90        90        90     90%  converged
      app1     green        10        10        10     10%
      app2     blue          0       100       100  ~66.7%  guarded, drift corrected 2 times, read 1 min 15 s ago
      app2     green       100         0         0      0%  server not usable
      app3     blue          1         -         -       -  unmatched
      app4     -             -         -         -       -  rejected, orphaned

      app2: guarded: no server would be usable and above 0
        hint: bring green up
      app3: unmatched: this HAProxy has no such backend
      app4: rejected: weights is \u{1b}[31mempty
        hint: name the servers
      key weightd/weights/a b: the backend's name cannot be
        hint: delete the key
      2 more such keys
    ");
}

#[test]
fn the_report_of_a_host_that_holds_its_weights() {
    insta::assert_snapshot!(shown(HELD), @"
    weightd 0.1.0 on lb1, mode observe, up 12 s

    edge tcp:127.0.0.1:9999, root weightd/: not converged
      Consul   held       http://127.0.0.1:8500, index 42, last answer 1 d 1 h ago, held for 1 h 1 min
               unreachable: Consul at http://127.0.0.1:8500 cannot be reached
                 hint: see whether the agent runs
      HAProxy  down
               no_socket: no such file
                 hint: check `stats socket`

      BACKEND  SERVER  DESIRED  ACCEPTED  OBSERVED  SHARE  STATE
      app1     blue          9         9         1     0%  pending

      app1: would send: set server app1/blue weight 9
    ");
}

#[test]
fn a_missing_field_of_another_version_is_no_error() {
    insta::assert_snapshot!(shown(r#"{"instances":[{"backends":[{}]}]}"#), @"
    weightd  on , up less than 1 s

     , root : not converged
      Consul   unknown    
      HAProxy  unknown

      BACKEND  SERVER  DESIRED  ACCEPTED  OBSERVED  SHARE  STATE
      ?        -             -         -         -      -  unknown
    ");
}

#[test]
fn a_duration_has_at_most_two_units() {
    let spans = [0.3, 59.9, 61.0, 7384.0, 90_061.0, -1.0, f64::NAN];
    assert_eq!(
        spans.map(span),
        ["less than 1 s", "59 s", "1 min 1 s", "2 h 3 min", "1 d 1 h", "?", "?"].map(str::to_owned)
    );
}

#[test]
fn a_pause_of_all_backends_is_shown_once() {
    let backend = r#"{"backend": "app", "state": "paused", "paused": {"for_seconds": 90, "by": "bob"}, "servers": [],
        "reasons": [{"reason": "paused", "detail": "by request", "remedy": "resume"}]}"#;
    let node = |paused: &str| {
        shown(&format!(r#"{{"instances": [{{"name": "edge", "paused": {paused}, "backends": [{backend}]}}]}}"#))
    };
    let all = node(r#"{"for_seconds": 3600, "by": "alice\u001b", "reason": "works"}"#);
    for words in
        ["weightd  paused     for 1 h 0 min, by alice\\u{1b}, works", "weightctl resume", "paused, 1 min 30 s left"]
    {
        assert!(all.contains(words), "{words}\n{all}");
    }
    assert!(!all.contains("app: paused"), "{all}");
    let one = node("null");
    assert!(one.contains("app: paused: by request") && !one.contains("weightd  paused"), "{one}");
}

#[test]
fn an_override_shows_when_it_alarms_and_that_it_has_expired() {
    let node = |over: &str| {
        let backend = format!(r#"{{"backend": "app", "state": "overridden", "overridden": {over}, "servers": []}}"#);
        shown(&format!(r#"{{"instances": [{{"name": "edge", "backends": [{backend}]}}]}}"#))
    };
    let running = node(r#"{"for_seconds": 90, "by": "bob"}"#);
    assert!(running.contains("overridden, override alarms in 1 min 30 s"), "{running}");
    let expired = node(r#"{"for_seconds": 0, "expired": true}"#);
    assert!(expired.contains("overridden, override expired"), "{expired}");
}
