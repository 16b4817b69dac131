use super::*;

fn file(json: &str) -> Result<PlanFile, Problem> {
    serde_json::from_str(json)
        .map_err(|error| Problem::of_parser(json, None, error.to_string().split(" at line").next().unwrap()))
}

fn plan(json: &str) -> Result<Plan, Problem> {
    file(json)?.resolve()
}

#[track_caller]
fn refused(json: &str) -> String {
    plan(json).unwrap_err().to_string()
}

/// The plan of the documentation.
const EXAMPLE: &str = r#"{
    "mode": "auto", "protocol": "http",
    "step": [{"share": 10, "bake": "30m"}, {"share": 50, "bake": "1h", "approve": true, "must_exclude": 4}],
    "check": {
        "errors": {"ratio": 1.5, "floor": 0.0002, "slo": 0.001, "burst": 1},
        "latency": {"use": "slow_requests", "labels": {"from": "blue-cluster", "to": "green-cluster"}, "slo": 0.01, "warm_up": "2m"}
    },
    "window": {"allow": ["Mon-Thu 09:00-16:00"], "timezone": "Europe/Paris"},
    "on": {"regression": "rollback"}
}"#;

#[test]
fn the_example_is_valid_and_complete() {
    let plan = plan(EXAMPLE).unwrap();
    assert_eq!((plan.mode, plan.protocol, plan.steps.len()), (Some(Mode::Auto), Protocol::Http, 2));
    assert_eq!(plan.steps[0].must_exclude, None, "only the last step up to 50 % excludes by default");
    assert_eq!(plan.errors, Limits::ERRORS);
    assert_eq!(plan.counted, Limits::default_others());
    let latency = &plan.named["latency"];
    assert!((latency.limits.floor - 0.004).abs() < 1e-12 && latency.limits.burst == 2);
    assert_eq!(plan.check_names().collect::<Vec<_>>(), ["errors", "masked", "redirected", "refused", "latency"]);
    let judge = plan.judge(Mode::Auto);
    assert_eq!((judge.horizon, judge.steps, judge.others.len()), (2 * 5400 / 10, 2, 4));
    let guard = plan.judge(Mode::Guard);
    assert_eq!((guard.horizon, guard.steps), (GUARD_HORIZON, 0));
}

#[test]
fn a_plan_is_stored_with_everything_written_out_and_read_back_the_same() {
    let plans = Preset::ALL.map(|preset| preset.plan(Protocol::Http)).into_iter();
    let tcp = Preset::Quick.plan(Protocol::Tcp);
    for plan in plans.chain([plan(EXAMPLE).unwrap(), tcp, Plan::without_steps(Protocol::Grpc)]) {
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.len() < 2000, "{}", text.len());
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "{text}");
    }
}

#[test]
fn the_presets_are_those_of_the_documentation() {
    let steps = |preset: Preset| {
        let plan = preset.plan(Protocol::Http);
        plan.steps.iter().map(|step| format!("{} {}", step.share.percent(), step.bake)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(steps(Preset::Demo), "10 20s, 50 20s, 95 20s, 100 20s");
    assert_eq!(steps(Preset::Quick), "10 5m, 50 5m, 95 5m, 100 5m");
    assert_eq!(steps(Preset::Careful), "1 30m, 5 30m, 10 30m, 25 30m, 50 30m, 95 30m, 100 30m");
    assert_eq!(steps(Preset::Day), "10 1d, 95 1d, 100 5m");
    let excludes = |preset: Preset| {
        let plan = preset.plan(Protocol::Http);
        plan.steps.iter().filter(|step| step.must_exclude.is_some()).map(|step| step.share.thousandths()).sum::<u32>()
    };
    assert_eq!(Preset::ALL.map(excludes), [0, 0, 50_000, 10_000]);
    assert_eq!("quick".parse(), Ok(Preset::Quick));
    assert_eq!("carefull".parse::<Preset>().unwrap_err().remedy, "did you mean `careful`?");
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    assert_eq!(refused(r#"{"stepp":[]}"#), "unknown key `stepp`; did you mean `step`?");
    assert_eq!(refused(r#"{"step":[{"shre":1}]}"#), "unknown key `shre`; did you mean `share`?");
    assert_eq!(
        refused(r#"{"check":{"errors":{"x":1}}}"#),
        "unknown key `x`; write one of `ratio`, `floor`, `slo`, `burst`, `max_share`, `use`, `labels`, `warm_up`"
    );
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let step = |tail: &str| format!(r#"{{"step":[{{"share":10,"bake":"1h"}},{tail}]}}"#);
    let cases = [
        (r#"{"mode":"auto"}"#.to_owned(), "`mode`: mode auto has no steps; add [[step]] sections"),
        (step(r#"{"bake":"1h"}"#), "step 2, `share`: is missing; write the percent, such as `share = 10`"),
        (step(r#"{"share":50}"#), "step 2, `bake`: is missing; write how long it is judged, such as `bake = \"30m\"`"),
        (
            step(r#"{"share":10,"bake":"1h"}"#),
            "step 2, `share`: 10 is not above the share before it, 10; let each step raise the share",
        ),
        (step(r#"{"share":50,"bake":"19s"}"#), "step 2, `bake`: 19s is too short; write at least 20s"),
        (
            step(r#"{"share":50,"bake":"31d"}"#),
            "step 2, `bake`: the plan never ends; keep the sum of all bakes within 30d",
        ),
        (
            step(r#"{"share":50,"bake":"1h","must_exclude":1}"#),
            "step 2, `must_exclude`: 1 cannot be excluded; write a ratio from 1.5 to 100, or 0 to turn it off",
        ),
        (
            r#"{"check":{"erors":{}}}"#.to_owned(),
            "[check.erors], `use`: unknown check `erors`; did you mean `errors`? A check of a metrics system needs `use`",
        ),
        (
            r#"{"check":{"errors":{"ratio":0.5}}}"#.to_owned(),
            "[check.errors], `ratio`: 0.5 is out of range; write a number from 1 to 100",
        ),
        (
            r#"{"check":{"errors":{"labels":{"a":"b"}}}}"#.to_owned(),
            "[check.errors], `labels`: is only for named checks; remove it",
        ),
        (
            r#"{"check":{"l":{"use":"x","labels":{"a":"b\"}"}}}}"#.to_owned(),
            "[check.l], `labels`: `b\"}` is not allowed; write 1 to 64 of the characters A-Z a-z 0-9 _ . -",
        ),
        (
            r#"{"protocol":"tcp","check":{"refused":{}}}"#.to_owned(),
            "[check.refused], `ratio`: HAProxy has no such answers in this protocol; remove the section",
        ),
        (
            r#"{"window":{"allow":[]}}"#.to_owned(),
            "[window], `allow`: the window never opens, so the plan never ends; write ranges such as \"Mon-Thu 09:00-16:00\", or remove [window]",
        ),
        (
            r#"{"mode":"auto","protocol":"grpc","step":[{"share":10,"bake":"1h"}]}"#.to_owned(),
            "`protocol`: HAProxy sees no failed answers of this protocol, so mode auto would be blind; add a named check with `use`, or use mode watch",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(refused(&json), expected, "{json}");
    }
    let many = format!(
        r#"{{"step":[{}]}}"#,
        (1..=21).map(|n| format!(r#"{{"share":{n},"bake":"1h"}}"#)).collect::<Vec<_>>().join(",")
    );
    assert!(refused(&many).contains("21 steps; the maximum is 20"));
}

#[test]
fn values_that_cannot_be_read_are_refused() {
    for json in [
        r#"{"step":[{"share":101,"bake":"1h"}]}"#,
        r#"{"step":[{"share":10,"bake":"1 h"}]}"#,
        r#"{"step":[{"share":10,"bake":60}]}"#,
        r#"{"mode":"automatic"}"#,
        r#"{"window":{"allow":["Mon 16:00-09:00"]}}"#,
        r#"{"on":{"regression":"retry"}}"#,
    ] {
        plan(json).unwrap_err();
    }
}

#[test]
fn a_problem_has_the_line_of_its_key() {
    let text = "mode = \"auto\"\n\n[[step]]   # one\nshare = 10\nbake = \"1h\"\n[[step]]\n  share = 5\nbake = \"1h\"\n\n[check.errors]\nratio = 0.1\n[window]\n";
    let line = |place| Problem::new(place, "", "").in_text(text).line;
    assert_eq!(line(Place::Key("mode")), Some(1));
    assert_eq!(line(Place::Step(0, "share")), Some(4));
    assert_eq!(line(Place::Step(1, "share")), Some(7));
    assert_eq!(line(Place::Step(1, "must_exclude")), Some(6), "the head of its section");
    assert_eq!(line(Place::Step(2, "share")), None);
    assert_eq!(line(Place::Check("errors".to_owned(), "ratio")), Some(11));
    assert_eq!(line(Place::Section("window", "allow")), Some(12));
    assert_eq!(line(Place::Plan), None);
    let unknown = Problem::of_parser(
        text,
        Some(text.find("ratio").unwrap()),
        "unknown field `raito`, expected `ratio` or `floor`",
    );
    assert_eq!(unknown.to_string(), "line 11: unknown key `raito`; did you mean `ratio`?");
}

#[test]
fn a_check_that_the_controller_does_not_have_gets_a_suggestion() {
    let plan = plan(EXAMPLE).unwrap();
    assert_eq!(plan.known_checks(["slow_requests", "orders"].into_iter()), Ok(()));
    let problem = plan.known_checks(["slow_request", "orders"].into_iter()).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "[check.latency], `use`: the controller has no check `slow_requests`; did you mean `slow_request`?"
    );
    assert!(plan.known_checks(std::iter::empty()).unwrap_err().remedy.contains("has no named checks"));
}

#[test]
fn spans_are_numbers_with_a_unit() {
    for (text, seconds) in [("20s", 20), ("5m", 300), ("24h", 86_400), ("2d", 172_800), ("90s", 90)] {
        assert_eq!(text.parse(), Ok(Span::from_seconds(seconds)));
    }
    assert_eq!(Span::from_seconds(86_400).to_string(), "1d");
    assert_eq!(Span::from_seconds(90).to_string(), "90s");
    assert_eq!(Span::from_seconds(0).to_string(), "0s");
    for text in ["", "5", "m", "-5m", "5 m", "5min", "1h30m", "1.5h", "99999999999999999999d", "5m\n", "٥m"] {
        assert_eq!(text.parse::<Span>(), Err(InvalidSpan), "{text:?}");
    }
}

#[test]
fn windows_are_days_and_hours() {
    let open = |range: &str, day, minute| range.parse::<Range>().unwrap().contains(LocalTime { day, minute });
    assert!(open("Mon-Thu 09:00-16:00", 3, 9 * 60) && !open("Mon-Thu 09:00-16:00", 3, 16 * 60));
    assert!(!open("Mon-Thu 09:00-16:00", 4, 10 * 60));
    assert!(
        open("Sat-Mon 00:00-24:00", 0, 0) && open("Sat-Mon 00:00-24:00", 6, 1439) && !open("Sat-Mon 00:00-24:00", 1, 0)
    );
    assert!(open("fri 09:00-12:00", 4, 600));
    for text in [
        "",
        "Mon",
        "Mon 9:00-16:00",
        "Mon-Tues 09:00-16:00",
        "Mon 16:00-16:00",
        "Mon 09:00-24:01",
        "Mon 09:60-10:00",
        "Mon 09:00",
    ] {
        assert_eq!(text.parse::<Range>(), Err(InvalidRange), "{text:?}");
    }
    for text in ["Mon-Thu 09:00-16:00", "Fri 09:00-12:00", "Sat-Mon 00:00-24:00"] {
        assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
    }
}

/// Measured medians of the reference, in seconds, for 100 requests a second and 0.05 % errors of `from`.
#[test]
fn a_plan_says_what_it_would_see() {
    let plan = plan(r#"{"step":[{"share":10,"bake":"30m"},{"share":50,"bake":"30m"}]}"#).unwrap();
    let sight = sight(&plan, Traffic { per_second: 100.0, error_rate: 0.0005 });
    let [ten, fifty] = &sight.steps[..] else { panic!("two steps") };
    assert!((ten.requests - 18_000.0).abs() < 1.0 && ten.reachable && !sight.above_slo);
    let near = |seconds: Option<f64>, measured: f64| {
        let seconds = seconds.expect("it is found");
        assert!(seconds > measured / 2.0 && seconds < measured * 2.0, "{seconds} s, measured {measured} s");
    };
    near(ten.one_percent, 80.0);
    near(ten.five_times, 720.0);
    near(ten.excluded, 485.0);
    near(fifty.one_percent, 90.0);
}

#[test]
fn steps_that_cannot_reach_300_requests_are_left_out() {
    let plan = Preset::Careful.plan(Protocol::Http);
    let (fitted, left) = plan.fitted(Traffic { per_second: 1.0, error_rate: 0.0005 });
    let percents = |steps: &[Step]| steps.iter().map(|step| step.share.percent()).collect::<Vec<_>>();
    assert_eq!((percents(&left), percents(&fitted.steps)), (vec![1.0, 5.0], vec![10.0, 25.0, 50.0, 95.0, 100.0]));
    assert!(sight(&plan, Traffic { per_second: 1.0, error_rate: 0.002 }).above_slo);
}

#[test]
fn a_wrong_value_gets_the_right_one_and_a_wrong_form_a_complete_plan() {
    let of = |message: &str| Problem::of_parser("", None, message);
    let typo = of("unknown variant `rolback`, expected `rollback` or `hold`");
    assert_eq!((typo.what.as_str(), typo.remedy.as_str()), ("unknown value `rolback`", "did you mean `rollback`?"));
    let other = of("unknown variant `x`, expected one of `watch`, `guard`, `auto`");
    assert_eq!(other.remedy, "write one of `watch`, `guard`, `auto`");
    let form = of("a share is a number from 0 to 100");
    assert!(form.remedy.contains("`weightctl rollout lint --help`"), "{form}");
}
