use super::*;

#[test]
fn the_plan_in_the_help_is_valid() {
    let (_, rest) = A_PLAN.split_once("can be left out:\n").unwrap();
    let (text, _) = rest.split_once("\n\n").unwrap();
    let plan = parse_plan(text).unwrap();
    assert_eq!(steps(&plan), "10 % 30m, 50 % 1h after an approval; 90m in all");
    assert!(plan.window.is_some());
}

#[test]
fn a_percentage_out_of_range_is_named_as_one() {
    assert_eq!(percent("0.5"), Ok(0.5));
    assert_eq!(percent("200"), Err("write a percentage from 0 to 100, such as 0.5"));
    assert_eq!(rate("-1"), Err("write a number, such as 200 or 0.5"));
}
