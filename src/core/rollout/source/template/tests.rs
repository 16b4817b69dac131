use proptest::prelude::*;

use super::*;

fn given<'a>(backend: &'a BackendName, side: Side, labels: &'a BTreeMap<String, String>) -> Given<'a> {
    Given { backend, side, labels, window: 60 }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn query(template: &str, side: Side, pairs: &[(&str, &str)]) -> Result<String, MissingValue> {
    let backend = BackendName::new("web.shop").unwrap();
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    template.query(&given(&backend, side, &labels(pairs)))
}

#[test]
fn each_side_gets_its_own_value() {
    let template = r#"sum(increase(requests_total{app="$backend", cluster="$label", region='$region'}[$window]))"#;
    let pairs = [("from", "blue"), ("to", "green"), ("region", "eu-1")];
    let expected = r#"sum(increase(requests_total{app="web.shop", cluster="green", region='eu-1'}[60s]))"#;
    assert_eq!(query(template, Side::To, &pairs).unwrap(), expected);
    assert_eq!(query(template, Side::From, &pairs).unwrap(), expected.replace("green", "blue"));
}

#[test]
fn the_newest_sample_is_that_of_the_first_selector() {
    let backend = BackendName::new("web").unwrap();
    let pairs = labels(&[("to", "green")]);
    for (template, expected) in [
        (r#"sum(increase(a{c="$label"}[$window]))"#, r#"max(timestamp(a{c="green"}))"#),
        (r#"increase({__name__="a", c="$label"}[$window])"#, r#"max(timestamp({__name__="a", c="green"}))"#),
        (
            r#"sum(increase(a:b{c=~"$label"}[$window])) - sum(increase(d{c="$label"}[$window]))"#,
            r#"max(timestamp(a:b{c=~"green"}))"#,
        ),
    ] {
        let template = Template::parse(template).unwrap();
        assert_eq!(template.newest(&given(&backend, Side::To, &pairs)).unwrap(), expected);
    }
}

#[test]
fn a_dot_of_a_value_stands_for_itself_in_a_regular_expression() {
    let template = r#"sum(increase(a{pod=~"$label-.*$", b!~'$backend'}[$window]))"#;
    let expected = r#"sum(increase(a{pod=~"v1[.]2-.*$", b!~'web[.]shop'}[60s]))"#;
    assert_eq!(query(template, Side::To, &[("to", "v1.2")]).unwrap(), expected);
}

#[test]
fn a_name_outside_the_quotes_of_a_matcher_is_refused() {
    let error = |template: &str| Template::parse(template).expect_err(template);
    let not_quoted = |name: &str| InvalidTemplate::NotQuoted(name.to_owned());
    let not_matcher = |name: &str| InvalidTemplate::NotMatcher(name.to_owned());
    for (template, expected) in [
        (r"sum(increase(a{cluster=$label}[$window]))", not_quoted("label")),
        (r#"sum(increase($label{c="$label"}[$window]))"#, not_quoted("label")),
        ("$backend", not_quoted("backend")),
        (r#"sum by ($region) (increase(a{c="$label"}[$window]))"#, not_quoted("region")),
        (r#"label_replace(increase(a{c="$label"}[$window]), "x", "$region", "y", "z")"#, not_matcher("region")),
        (r#"increase({"$label"}[$window])"#, not_matcher("label")),
        (r#"increase(a{"$label"="x"}[$window])"#, not_matcher("label")),
        (r#"increase(a{x="\"", c=$label}[$window])"#, not_quoted("label")),
        (r"increase(a{x='\\', c=$label}[$window])", not_quoted("label")),
        (r"increase(a{x=`\`, c=$label}[$window])", not_quoted("label")),
        (r#"increase(a{c="$from"}[$window])"#, InvalidTemplate::OneSide("from".to_owned())),
        (r#"increase(a{c="${label}"}[$window])"#, InvalidTemplate::Dollar),
    ] {
        assert_eq!(error(template), expected, "{template}");
    }
}

#[test]
fn a_query_that_would_count_something_else_is_refused() {
    let error = |template: &str| Template::parse(template).expect_err(template);
    for (template, expected) in [
        (" \n", InvalidTemplate::Empty),
        (r#"sum(increase(a{c="x"}[$window]))"#, InvalidTemplate::NoLabel),
        (r#"sum(a{c="$label"})"#, InvalidTemplate::NoWindow),
        (r#"sum(increase(a{c="$label"}[5m]))"#, InvalidTemplate::Range),
        (r#"sum(increase(a{c="$label"}[$window:15s]))"#, InvalidTemplate::Range),
        (r#"sum(max_over_time((a{c="$label"} > 1)[$window]))"#, InvalidTemplate::Range),
        (r#"sum(a{c="$label"}) * $window"#, InvalidTemplate::Range),
        (r#"sum(increase(a{c="$label", d="$window"}[$window]))"#, InvalidTemplate::Range),
        (r#"sum(increase(a{c="$label"}[$window] offset 1m))"#, InvalidTemplate::Shifted("offset")),
        (r#"sum(increase(a{c="$label"}[$window] @ 1))"#, InvalidTemplate::Shifted("@")),
        (r#"sum(rate(a{c="$label"}[$window]))"#, InvalidTemplate::NoCounts("rate")),
        (r#"sum(increase(a{c="$label"}[$window]))) "#, InvalidTemplate::Unbalanced(')')),
        (r#"sum(increase(a{c="$label"}[$window])"#, InvalidTemplate::Unbalanced('(')),
        (r#"sum(increase(a{c="$label}[$window]))"#, InvalidTemplate::Unclosed('"')),
        ("increase(a{c=\"$label\"}[$window]) # \"", InvalidTemplate::Comment),
        ("increase(a{c=\"$label\"}[$window])\u{0}", InvalidTemplate::Control),
    ] {
        assert_eq!(error(template), expected, "{template}");
    }
    assert_eq!(error(&"x".repeat(Template::MAX_LEN + 1)), InvalidTemplate::TooLong);
}

#[test]
fn a_value_that_tries_to_leave_its_quotes_is_refused() {
    let template = r#"sum(increase(a{c="$label"}[$window]))"#;
    for value in ["", "x\"}) or vector(0) #", "x\\", "a b", "x'", "x`", "ä", "a*", "a|b", "a:b", &"x".repeat(65)] {
        assert_eq!(query(template, Side::To, &[("to", value)]), Err(MissingValue::Invalid("to".to_owned())), "{value}");
    }
    let missing = query(template, Side::From, &[("to", "green")]).unwrap_err();
    assert_eq!(missing.to_string(), "the plan gives no label `from`, which the query needs");
}

proptest! {
    #[test]
    fn no_value_changes_the_structure_of_a_query(value in "\\PC{0,70}", quote in "[\"'`]", operator in "(=|!=|=~|!~)") {
        let template = format!("sum(increase(a{{c{operator}{quote}$label{quote}}}[$window]))");
        if let Ok(query) = query(&template, Side::To, &[("to", &value)]) {
            let inside = query.split(&quote).collect::<Vec<_>>();
            prop_assert_eq!(inside.len(), 3, "{}", query);
            prop_assert_eq!(inside[0], format!("sum(increase(a{{c{operator}"));
            prop_assert_eq!(inside[2], "}[60s]))");
            prop_assert!(!inside[1].contains('\\'), "{}", query);
        }
    }

    #[test]
    fn no_text_makes_the_parser_fail_in_another_way(text in "[a-z$\"'`\\\\(){}\\[\\]=~!#@ ]{0,60}") {
        let _either = Template::parse(&text);
    }
}
