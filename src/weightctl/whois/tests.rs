use super::*;
use crate::documents::stored::tests::stored;

fn args(words: &[&str]) -> Args {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let line: Line = clap::Parser::try_parse_from([&["whois"], words].concat()).unwrap();
    line.args
}

fn answer(words: &[&str]) -> Answer {
    let args = args(words);
    let sides = Sides::new(&unique(&args.weights).unwrap(), &args.of).unwrap();
    Answer::new(&args, &users(&args.users).unwrap(), sides, None)
}

fn shown(words: &[&str]) -> String {
    let answer = answer(words);
    format!("{}{}", anstream::adapter::strip_str(&answer.table()), answer.summary())
}

#[test]
fn users_as_a_table() {
    insta::assert_snapshot!(shown(&["app", "alice", "bob", "--weights", "blue=90,green=10"]), @r"
    USER   SIDE   green ABOVE  BUCKET
    alice  blue        25.65%    2565
    bob    green        5.11%     511
    app: green has 10 of 100 in the given weights: 10% of the users
    ");
    insta::assert_snapshot!(
        shown(&["app", "alice", "--weights", "a=10,b=10,green1=10,green2=5", "--of", "green1,green2", "--salt", "s"]),
        @r"
    USER   SIDE           green1,green2 ABOVE  BUCKET
    alice  green1,green2               16.36%    1636
    app: green1,green2 has 15 of 35 in the given weights: 42.9% of the users
    "
    );
    insta::assert_snapshot!(shown(&["app", "\u{202e}x", "--weights", "a=0,b=0,c=0,d=0,green=0"]), @r"
    USER       SIDE      green ABOVE  BUCKET
    \u{202e}x  a,b,c,+1       68.16%    6816
    app: all weights are 0 in the given weights
    ");
}

#[test]
fn users_as_json() {
    let answer = answer(&["app", "alice", "--weights", "blue=90,green=10"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer).unwrap(), @r#"
    {
      "backend": "app",
      "salt": null,
      "index": null,
      "to": {
        "servers": {
          "green": 10
        },
        "weight": 10
      },
      "from": {
        "servers": {
          "blue": 90
        },
        "weight": 90
      },
      "share": 10.0,
      "users": [
        {
          "user": "alice",
          "side": "from",
          "bucket": 2565,
          "above": 25.65
        }
      ]
    }
    "#);
}

#[test]
fn only_a_document_with_weights_has_sides() {
    let of = |keys: &[(&str, &str)]| weights_of(&stored(keys)).map_err(|failure| failure.exit);
    assert_eq!(of(&[("app", r#"{"weights":{"blue":1}}"#)]).unwrap().len(), 1);
    assert_eq!(of(&[("app/blue", "1"), ("app/green", "2")]).unwrap().len(), 2);
    assert_eq!(of(&[("app", r#"{"release":true}"#)]), Err(Exit::Refused));
    assert_eq!(of(&[("app", "50%")]), Err(Exit::Failure));
}

#[test]
fn blank_lines_are_no_users_and_an_error_names_the_line_and_not_the_id() {
    let ids = lines("alice\r\n\nbob\n").unwrap();
    assert_eq!(ids.iter().map(UserId::reveal).collect::<Vec<_>>(), ["alice", "bob"]);
    let failure = lines("alice\nsecret\u{7}\n").unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(
        failure.error.to_string(),
        "the id of line 2 contains a control character, which no HTTP header can have"
    );
    assert_eq!(users(&["ok".to_owned(), String::new()]).unwrap_err().error.to_string(), "the id of user 2 is empty");
}
