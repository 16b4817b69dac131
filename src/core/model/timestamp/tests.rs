use proptest::prelude::*;

use super::*;

#[test]
fn known_times_are_shown_and_read() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_255_200, "2026-11-21T10:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (END - 1, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(Timestamp::from_seconds(seconds).to_string(), text);
        assert_eq!(text.parse(), Ok(Timestamp(seconds)));
    }
    assert_eq!(Timestamp::from_seconds(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
}

#[test]
fn offsets_and_fractions_are_read() {
    let utc: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    for text in ["2026-11-21T12:00:00+02:00", "2026-11-21T04:30:00.123456-05:30", "2026-11-21 10:00:00z"] {
        assert_eq!(text.parse(), Ok(utc), "{text}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T10:00:00.Z",
        "2026-11-21T10:00:00+2:00",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "+026-11-21T10:00:00Z",
        "2026-11-21T10:00:00Zx",
        "ä026-11-21T10:00:00Z",
    ] {
        assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_the_same(seconds in 0..END) {
        let time = Timestamp::from_seconds(seconds);
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        let json = serde_json::to_string(&time).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }

    #[test]
    fn no_text_panics(text in ".{0,30}") {
        let _ = text.parse::<Timestamp>();
    }
}
