use super::*;

const AT: u64 = 1_795_722_436;

fn vector(value: &str) -> String {
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{AT}.201,"{value}"]}}]}}}}"#
    )
}

fn word(status: u16, body: &str) -> &'static str {
    number(status, body.as_bytes(), AT).expect_err(body).word()
}

#[test]
fn one_number_of_the_time_asked_for_is_an_answer() {
    for body in [
        vector("17.5"),
        // VictoriaMetrics: the time is an integer, and there are statistics.
        format!(
            r#"{{"status":"success","isPartial":false,"data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":[{AT},"17.5"]}}]}},"stats":{{"seriesFetched":"1","executionTimeMsec":0}}}}"#
        ),
        format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{AT},"17.5"]}}}}"#),
        // Infos are harmless.
        vector("17.5").replace(r#"{"status""#, r#"{"infos":["PromQL info: metric might not be a counter"],"status""#),
    ] {
        assert_eq!(number(200, body.as_bytes(), AT), Ok(17.5), "{body}");
    }
}

#[test]
fn each_shape_that_is_not_one_number_has_its_own_reason() {
    let data = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
    let series = format!(r#"{{"metric":{{}},"value":[{AT},"1"]}}"#);
    let cases = [
        (200, data(r#"{"resultType":"vector","result":[]}"#), "empty"),
        (200, data(&format!(r#"{{"resultType":"vector","result":[{series},{series}]}}"#)), "series"),
        (200, data(r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}]}"#), "shape"),
        (200, data(r#"{"resultType":"string","result":[1,"str"]}"#), "shape"),
        (200, data(r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}"#), "shape"),
        (200, vector("NaN"), "not_a_number"),
        (200, vector("+Inf"), "not_a_number"),
        (200, vector("-Inf"), "not_a_number"),
        (200, vector("many"), "not_a_number"),
        (200, vector("1").replace("{\"status", "{\"isPartial\":true,\"status"), "partial"),
        (
            200,
            vector("1").replace("{\"status", "{\"warnings\":[\"remote_read: connection refused\"],\"status"),
            "warning",
        ),
        (
            200,
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL warning: bucket label \"le\" is missing"]}"#
                .to_owned(),
            "warning",
        ),
        (200, vector("1").replace(&AT.to_string(), "1795722400"), "other_time"),
        (400, r#"{"status":"error","errorType":"bad_data","error":"1:1: parse error"}"#.to_owned(), "query"),
        (422, r#"{"status":"error","errorType":"422","error":"cannot parse"}"#.to_owned(), "query"),
        (422, r#"{"status":"error","errorType":"execution","error":"many-to-many"}"#.to_owned(), "query"),
        (503, r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#.to_owned(), "slow"),
        (500, r#"{"status":"error","errorType":"internal","error":"disk"}"#.to_owned(), "failed"),
        (200, r#"{"status":"error","errorType":"internal","error":"disk"}"#.to_owned(), "failed"),
        (500, vector("1"), "failed"),
        (404, "404 page not found".to_owned(), "text"),
        (400, "unsupported path requested: \"/api/v1/queri\"".to_owned(), "text"),
        (200, "<html>Sign in</html>".to_owned(), "text"),
        (200, String::new(), "text"),
        (200, r#"{"status":"success"}"#.to_owned(), "text"),
        (200, data(r#"{"resultType":"vector","result":7}"#), "text"),
        (401, "Unauthorized".to_owned(), "denied"),
        (401, String::new(), "denied"),
        (403, "{}".to_owned(), "denied"),
        (302, "<a href=\"/login\">Found</a>".to_owned(), "redirect"),
    ];
    for (status, body, expected) in cases {
        assert_eq!(word(status, &body), expected, "{body}");
    }
}

#[test]
fn a_long_text_of_a_source_is_cut() {
    let error = number(502, "x".repeat(5000).as_bytes(), AT).unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    let error = number(502, b"\x1b[31mred\n", AT).unwrap_err();
    assert!(!error.to_string().contains('\x1b'), "{error}");
}

#[test]
fn extrapolated_counts_are_rounded() {
    let counted = |total, bad| counts(total, bad).map(|Counts { n, e }| (n, e));
    assert_eq!(counted(5894.5, 58.7), Ok((5895, 59)));
    assert_eq!(counted(0.0, 0.0), Ok((0, 0)));
    assert_eq!(counted(10.0, -0.4), Ok((10, 0)), "a difference of two extrapolated counts");
    assert_eq!(counted(10.4, 10.6), Ok((10, 10)), "one too many by rounding");
}

#[test]
fn counts_that_cannot_be_true_are_no_data() {
    let word = |total, bad| counts(total, bad).unwrap_err().word();
    assert_eq!(word(10.0, 12.0), "contradiction");
    assert_eq!(word(10.0, -3875.0), "negative");
    assert_eq!(word(-1.0, 0.0), "negative");
    assert_eq!(word(f64::NAN, 0.0), "not_a_number");
    assert_eq!(word(1e300, 0.0), "not_a_number");
}

#[test]
fn a_sample_is_stale_after_two_scrapes_and_ten_seconds() {
    let end = 1_000;
    assert_eq!(fresh(999.9, end, 15), Ok(()));
    assert_eq!(fresh(960.0, end, 15), Ok(()));
    assert_eq!(fresh(959.0, end, 15), Err(NoData::Stale(41)));
    assert_eq!(fresh(1_003.0, end, 15), Ok(()), "a clock that is a little ahead");
    assert_eq!(fresh(0.0, end, 15).unwrap_err().word(), "stale");
}

#[test]
fn counts_that_are_not_of_the_traffic_of_haproxy_are_no_data() {
    let counts = |to, from| Cell { to: Counts { n: to, e: 0 }, from: Counts { n: from, e: 0 } };
    assert_eq!(agrees(&counts(100, 900), &counts(100, 900)), Ok(()));
    assert_eq!(agrees(&counts(120, 1080), &counts(100, 900)), Ok(()));
    assert_eq!(agrees(&counts(0, 900), &counts(10, 900)), Ok(()), "few requests");
    let differs = NoData::Differs { side: Side::To, counted: 121, haproxy: 100 };
    assert_eq!(agrees(&counts(121, 900), &counts(100, 900)), Err(differs));
    assert_eq!(agrees(&counts(100, 0), &counts(100, 900)).unwrap_err().word(), "differs", "a dead exporter");
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = NoData::WORDS.into_iter().collect();
    assert_eq!(words.len(), NoData::WORDS.len());
}
