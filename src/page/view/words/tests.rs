use super::*;

const NB: char = '\u{a0}';

#[test]
fn rates_have_two_digits_that_count_and_none_without_requests() {
    let cases = [
        (0, 0, "no data"),
        (0, 10, "0_%"),
        (47, 2480, "1.9_%"),
        (4, 7524, "0.053_%"),
        (1, 2, "50_%"),
        (1, 1, "100_%"),
        (1, 1000, "0.1_%"),
        (1, 1_000_000_000, "under_0.001_%"),
    ];
    for (errors, requests, shown) in cases {
        assert_eq!(rate(errors, requests), shown.replace('_', &NB.to_string()), "{errors} of {requests}");
    }
}

#[test]
fn numbers_and_times_are_short() {
    assert_eq!(percent(12.5).replace(NB, "_"), "12.5_%");
    assert_eq!(percent(100.0).replace(NB, "_"), "100_%");
    assert_eq!(
        (count(0), count(999), count(33_812), count(1_000_000)),
        ("0".into(), "999".into(), "33,812".into(), "1,000,000".into())
    );
    assert_eq!((about(8_249.0), about(0.4), about(45.6)), ("8,200".to_owned(), "0".to_owned(), "46".to_owned()));
    assert_eq!((clock(768), clock(1800), clock(3723)), ("12:48".to_owned(), "30:00".to_owned(), "1:02:03".to_owned()));
    let lengths = [
        (0, "0_s"),
        (20, "20_s"),
        (60, "1_min"),
        (90, "90_s"),
        (300, "5_min"),
        (12_600, "3_h 30_min"),
        (86_400, "24_h"),
        (172_800, "2_d"),
    ];
    for (seconds, shown) in lengths {
        assert_eq!(length(seconds).replace(NB, "_"), shown);
    }
}

#[test]
fn a_time_of_another_day_has_its_day() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let now = at("2026-11-26T14:31:40Z");
    assert_eq!(when(at("2026-11-26T14:05:12Z"), now), "14:05:12");
    assert_eq!(when(at("2026-11-03T09:12:00Z"), now), "3 Nov 09:12");
    assert_eq!(when(at("2025-12-31T23:59:59Z"), now), "31 Dec 2025 23:59");
}
