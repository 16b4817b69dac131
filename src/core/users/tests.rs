use proptest::prelude::*;

use super::*;
use crate::model::{ServerName, Weight};

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn bucket(name: &str, salt: Option<&str>, id: &str) -> u32 {
    let salt = salt.map(|salt| Salt::new(salt).unwrap());
    Bucket::of(&backend(name), salt.as_ref(), &user(id)).get()
}

fn weights(servers: &[(&str, u32)]) -> Weights {
    let weight = |number: u32| Weight::parse(&number.to_string()).unwrap();
    servers.iter().map(|(server, number)| (ServerName::new(server).unwrap(), weight(*number))).collect()
}

fn sides(servers: &[(&str, u32)], to: &[&str]) -> Result<Sides, NoSides> {
    let to: Vec<_> = to.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect();
    Sides::new(&weights(servers), &to)
}

#[test]
fn the_hash_has_the_published_vectors_of_xxhash32() {
    for (text, seed, hash) in [
        ("", 0, 0x02cc_5d05_u32),
        ("a", 0, 0x550d_7456),
        ("abc", 0, 0x32d1_53ff),
        ("Nobody inspects the spammish repetition", 0, 0xe229_3b2f),
    ] {
        assert_eq!(XxHash32::oneshot(seed, text.as_bytes()), hash, "{text:?}");
    }
}

/// Recorded from HAProxy 2.6.12; tests/it/sticky.rs compares 2,000 users with the HAProxy under test.
#[test]
fn buckets_are_those_of_haproxy() {
    for (id, app, salted, shop) in [
        ("alice", 2565, 9258, 4725),
        ("bob", 511, 7975, 2750),
        ("carol", 1993, 169, 9399),
        ("zoë@example.org", 8037, 6780, 7834),
        ("a%20b", 8448, 2469, 1309),
        ("4f1c2b9a-6d1f-4c1e-9a41-2f3b6d7c8e90", 5931, 7463, 589),
    ] {
        let found = [bucket("app", None, id), bucket("app", Some("2026-12"), id), bucket("shop", None, id)];
        assert_eq!(found, [app, salted, shop], "{id}");
    }
}

#[test]
fn backend_and_salt_change_the_draw() {
    let draws = [
        bucket("app", None, "alice"),
        bucket("shop", None, "alice"),
        bucket("app", Some("2026-12"), "alice"),
        bucket("app", Some("2027-01"), "alice"),
    ];
    for (number, draw) in draws.iter().enumerate() {
        assert!(!draws[..number].contains(draw), "{draws:?}");
    }
    assert_eq!(bucket("app", Some("s"), "x"), bucket("app", None, "s/x"), "as concat(/s/,txn.wd_id) does it");
    for wrong in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
        assert_eq!(Salt::new(wrong), Err(InvalidSalt), "{wrong:?}");
    }
}

#[test]
fn an_id_is_what_a_header_can_hold_and_is_never_shown_by_accident() {
    assert_eq!(UserId::new(""), Err(InvalidUserId::Empty));
    assert_eq!(UserId::new("a\tb"), Err(InvalidUserId::Control));
    assert_eq!(UserId::new(&"x".repeat(4097)), Err(InvalidUserId::TooLong(4097)));
    assert_eq!(user("zoë@example.org=1; x").reveal(), "zoë@example.org=1; x");
    assert_eq!(format!("{:?}", user("alice")), "UserId(hidden)");
}

#[test]
fn a_side_is_the_servers_that_match() {
    let found = sides(&[("blue", 90), ("green", 5), ("green2", 5)], &["green*"]).unwrap();
    assert_eq!((found.weight(), found.percent()), ((10, 100), Some(10.0)));
    let names: Vec<_> = found.from.keys().map(ServerName::as_str).collect();
    assert_eq!(names, ["blue"]);
    let unmatched = sides(&[("a", 1), ("b", 1)], &["green*"]).unwrap_err();
    assert_eq!(unmatched.to_string(), "`green*` matches no server; the servers are `a`, `b`");
    let all = sides(&[("green", 1), ("green2", 1)], &["green*"]).unwrap_err();
    assert_eq!(all.to_string(), "every server is on this side; the servers are `green`, `green2`");
    assert!(sides(&[("blue", 1), ("green", 1)], &["green", "grey"]).is_err());
}

#[test]
fn the_buckets_on_a_side_are_counted() {
    for (blue, green) in [(0, 0), (1, 0), (0, 1), (90, 10), (2, 1), (256, 1), (19, 3)] {
        let sides = sides(&[("blue", blue), ("green", green)], &["green"]).unwrap();
        let on_to = (0..Bucket::COUNT).filter(|bucket| sides.of(Bucket(*bucket)) == Side::To).count();
        assert_eq!(sides.buckets(), on_to as u64, "{blue} {green}");
    }
}

#[test]
fn the_limits_are_nobody_and_everybody() {
    let last = Bucket(Bucket::COUNT - 1);
    for (blue, green, first_is, last_is) in [
        (100, 0, Side::From, Side::From),
        (0, 100, Side::To, Side::To),
        (256, 1, Side::To, Side::From),
        (1, 256, Side::To, Side::From),
        (0, 0, Side::From, Side::From),
    ] {
        let sides = sides(&[("blue", blue), ("green", green)], &["green"]).unwrap();
        assert_eq!((sides.of(Bucket(0)), sides.of(last)), (first_is, last_is), "{blue}/{green}");
    }
    assert_eq!(sides(&[("blue", 0), ("green", 0)], &["green"]).unwrap().percent(), None);
}

#[test]
fn a_user_is_on_the_side_from_the_share_above_on() {
    let alice = Bucket::of(&backend("app"), None, &user("alice"));
    assert!((alice.above() - 25.65).abs() < 1e-9, "{}", alice.above());
    let at = |green| sides(&[("blue", 100 - green), ("green", green)], &["green"]).unwrap().of(alice);
    assert_eq!((at(25), at(26)), (Side::From, Side::To));
}

proptest! {
    #[test]
    fn who_is_on_the_side_stays_there_when_its_part_rises(
        bucket in 0..Bucket::COUNT,
        (green, all) in (0..=200u32).prop_flat_map(|all| (0..=all, Just(all))),
    ) {
        let at = |green| sides(&[("blue", all - green), ("green", green)], &["green"]).unwrap().of(Bucket(bucket));
        if at(green) == Side::To && green < all {
            prop_assert_eq!(at(green + 1), Side::To);
        }
    }

    #[test]
    fn the_threshold_in_percent_is_exact(bucket in 0..Bucket::COUNT, green in 0..=100u32) {
        let sides = sides(&[("blue", 100 - green), ("green", green)], &["green"]).unwrap();
        let above = sides.percent().unwrap() > Bucket(bucket).above();
        prop_assert_eq!(sides.of(Bucket(bucket)) == Side::To, above);
    }
}
