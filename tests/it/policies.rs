//! The policies in `consul/`: each one allows its task and nothing else. Without one of its rules, the effect is the
//! one in its comments.

mod controller;
mod keys;
mod rollouts;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    common::{backend, becomes, consul_is, document, key, lines, put, reason, stays},
    harness::{
        Consul, Haproxy, Weightd,
        consul::Options,
        eventually,
        weightd::{Settings, weightctl},
    },
};

/// The text of a policy file.
fn text(name: &str) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("consul").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The rules of a policy, without comments.
fn rules(name: &str) -> anyhow::Result<Vec<String>> {
    let text = text(name)?;
    let rules = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(rules.map(str::to_owned).collect())
}

/// A Consul with default policy `deny`, and `app1` and `app10` with 90/10.
async fn consul() -> anyhow::Result<Consul> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    put(&consul, "app1", 90, 10).await?;
    put(&consul, "app10", 90, 10).await?;
    Ok(consul)
}

#[tokio::test]
async fn consul_accepts_each_policy_file() -> anyhow::Result<()> {
    let consul = consul().await?;
    for (name, code) in [("node.hcl", 4), ("reader.hcl", 4), ("page.hcl", 4), ("operator.hcl", 0), ("team-app1.hcl", 0)]
    {
        consul.http().set_policy("file", &text(name)?).await?;
        let token = consul.http().new_token("file").await?;
        ends(&consul, &token, 0, "get app1", "").await?;
        ends(&consul, &token, code, "set app1 blue=80 --yes", "").await?;
    }
    Ok(())
}

/// Gives the policy `name` these rules, for all tokens with it.
async fn set(consul: &Consul, name: &str, rules: &[String]) -> anyhow::Result<()> {
    consul.http().set_policy(name, &rules.join("\n")).await
}

/// A token with these rules and no others.
async fn token(consul: &Consul, name: &str, rules: &[String]) -> anyhow::Result<String> {
    set(consul, name, rules).await?;
    consul.http().new_token(name).await
}

/// Runs weightctl with this token and expects its exit code. Its stderr must contain `word`.
async fn ends(consul: &Consul, token: &str, code: i32, arguments: &str, word: &str) -> anyhow::Result<String> {
    let address = consul.address();
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("CONSUL_HTTP_TOKEN", token)];
    let output = weightctl(&environment, &arguments.split_whitespace().collect::<Vec<_>>()).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "`{arguments}`: {} instead of {code}: {stderr}", output.status);
    ensure!(stderr.contains(word), "`{arguments}`: no {word} in {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

const READ_ALL: &str = r#"the token needs key_prefix "weightd/weights/" { policy = "read" }"#;
const READ: &str = r#"the token needs key "weightd/weights/app1" { policy = "read" }"#;
const WRITE: &str = r#"the token needs key "weightd/weights/app1" { policy = "write" }"#;

#[tokio::test]
async fn a_node_follows_with_its_policy_and_holds_its_weights_without_each_rule() -> anyhow::Result<()> {
    let (consul, haproxy) = tokio::try_join!(consul(), async { Haproxy::start(&backend("app1", 0, 100)).await })?;
    let rules = node_rules(&consul).await?;
    ensure!(rules.len() == 6, "this test and the next ones know six rules: {rules:?}");
    let token = token(&consul, "node", &rules).await?;
    let mut weightd = Settings::without_haproxy(&consul.address())
        .haproxy("haproxy", &haproxy.address())
        .env("CONSUL_HTTP_TOKEN", &token)
        .start()
        .await?;
    becomes(&haproxy, "app1", 90, 10).await?;
    put(&consul, "app1", 80, 20).await?;
    becomes(&haproxy, "app1", 80, 20).await?;
    // The token may not write.
    ends(&consul, &token, 4, "set app1 blue=1 --yes", WRITE).await?;

    set(&consul, "node", &[]).await?;
    // A query that was sent with the rule still returns one change. The next query is without the rule.
    put(&consul, "app1", 70, 30).await?;
    becomes(&haproxy, "app1", 70, 30).await?;
    put(&consul, "app1", 60, 40).await?;
    reason(&weightd, "app1", "orphaned").await?;
    consul_is(&weightd, "following", None).await?;
    assert_eq!(
        lines(&weightd, &[" WARN", "the prefix has no key, or the token may not read any key below it"]).len(),
        1
    );
    stays(&haproxy, "app1", 70, 30).await?;
    haproxy.set_weight_by_hand("app1", "green", 99).await?;
    haproxy.until_weights("app1", &[("blue", 70), ("green", 30)], Duration::from_secs(20)).await?;

    // The blocked query was sent without the rule and is not cancelled. weightd sends a plain read on its timer, or
    // after a SIGHUP.
    set(&consul, "node", &rules).await?;
    weightd.program().signal(Signal::HUP)?;
    becomes(&haproxy, "app1", 60, 40).await?;

    // A deleted token is another case.
    consul.http().delete_token(&token).await?;
    put(&consul, "app1", 50, 50).await?;
    consul_is(&weightd, "held", Some("denied")).await?;
    stays(&haproxy, "app1", 60, 40).await?;
    assert!(!weightd.log().contains(&token));
    Ok(())
}

/// The rules of the node `lb1`, whose agent is that of `consul`.
async fn node_rules(consul: &Consul) -> anyhow::Result<Vec<String>> {
    let agent = consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Config"]["NodeName"].take();
    let agent = agent.as_str().context("no name of the agent")?;
    let rules = rules("node.hcl")?.into_iter();
    Ok(rules.map(|rule| rule.replace("NODE-OF-AGENT", agent).replace("NODE", "lb1")).collect())
}

#[tokio::test]
async fn the_fleet_sees_a_node_with_its_policy_and_not_without_each_rule() -> anyhow::Result<()> {
    let (consul, haproxy) = tokio::try_join!(consul(), async { Haproxy::start(&backend("app1", 0, 100)).await })?;
    let rules = node_rules(&consul).await?;
    let token = token(&consul, "node", &rules).await?;
    let own = consul.http().with_token(&token);
    let start = async || {
        let settings = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &haproxy.address());
        settings.env("CONSUL_HTTP_TOKEN", &token).start().await
    };
    let fleet_is = async |weightd: &Weightd, state: &str, remedy: &str| {
        eventually(Duration::from_secs(20), &format!("it is {state}"), async || {
            let fleet = weightd.status().await?["fleet"][0].take();
            ensure!(fleet["state"] == state, "{fleet}");
            ensure!(fleet["remedy"].as_str().unwrap_or_default().contains(remedy), "no {remedy} in {fleet}");
            Ok(())
        })
        .await
    };
    for (missing, state) in [("/nodes/", "denied"), ("session ", "denied"), ("/inventory/", "published")] {
        let (without, with): (Vec<_>, Vec<_>) = rules.iter().cloned().partition(|rule| rule.contains(missing));
        ensure!(without.len() == 1, "{missing}: {without:?}");
        set(&consul, "node", &with).await?;
        consul.delete_tree("weightd/inventory/").await?;
        let mut weightd = start().await?;
        becomes(&haproxy, "app1", 90, 10).await?;
        let rule = if missing == "session " { r#"session "NODE""# } else { without[0].as_str() };
        fleet_is(&weightd, state, rule).await?;
        assert_eq!(lines(&weightd, &[" WARN", "the token may not"]).len(), 1, "{}", weightd.log());
        // Everything comes when the rule does.
        set(&consul, "node", &rules).await?;
        eventually(Duration::from_secs(20), "both keys are there", async || {
            for kind in ["nodes", "inventory"] {
                ensure!(consul.get(&format!("weightd/{kind}/lb1")).await?.is_some(), "no {kind}");
            }
            Ok(())
        })
        .await?;
        fleet_is(&weightd, "published", "").await?;
        weightd.stop().await?;
    }
    // It writes for no other node, and nothing else.
    for path in [
        "nodes/lb10",
        "inventory/lb10",
        "counters/lb10",
        "observe/_",
        "observe/app1/1",
        "nodes/",
        "weights/app1",
        "history/app1",
        "freeze",
        "expect",
    ] {
        let answer = own.request(Method::PUT, &format!("kv/weightd/{path}")).body("1").send().await?;
        assert_ne!(answer.status(), 200, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_reports_on_observed_backends_with_its_policy_and_not_without_each_rule() -> anyhow::Result<()> {
    let (consul, haproxy) = tokio::try_join!(consul(), async { Haproxy::start(&backend("app1", 0, 100)).await })?;
    consul.put("weightd/observe/_", "").await?;
    let rules = node_rules(&consul).await?;
    let token = token(&consul, "node", &rules).await?;
    for missing in ["/observe/", "/counters/"] {
        let (without, with): (Vec<_>, Vec<_>) = rules.iter().cloned().partition(|rule| rule.contains(missing));
        ensure!(without.len() == 1, "{missing}: {without:?}");
        set(&consul, "node", &with).await?;
        let settings = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &haproxy.address());
        let mut weightd = settings.env("CONSUL_HTTP_TOKEN", &token).start().await?;
        consul.put("weightd/observe/app1/1", format!(r#"{{"v":1,"by":"{missing}"}}"#)).await?;
        eventually(Duration::from_secs(20), "the status names the rule", async || {
            let fleet = weightd.status().await?["fleet"][0].take();
            let counters = &fleet["counters"];
            ensure!(counters["state"] == "denied" && fleet["state"] == "published", "{fleet}");
            ensure!(counters["remedy"].as_str().unwrap_or_default().contains(&without[0]), "{counters}");
            Ok(())
        })
        .await?;
        assert_eq!(lines(&weightd, &[" WARN", "the token may not report"]).len(), 1, "{}", weightd.log());
        // The weights do not depend on it.
        put(&consul, "app1", 80, 20).await?;
        becomes(&haproxy, "app1", 80, 20).await?;
        ensure!(consul.get("weightd/counters/lb1").await?.is_none(), "without {missing}");
        set(&consul, "node", &rules).await?;
        let mut polls = 0;
        eventually(Duration::from_secs(60), "the report is there", async || {
            // An observer renews its key from time to time.
            if polls % 100 == 0 {
                consul.put("weightd/observe/app1/1", json!({ "v": 1, "by": polls.to_string() }).to_string()).await?;
            }
            polls += 1;
            ensure!(consul.get("weightd/counters/lb1").await?.is_some(), "no report");
            Ok(())
        })
        .await?;
        weightd.stop().await?;
        put(&consul, "app1", 90, 10).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_rule_of_the_fleet_the_commands_say_which_part_is_missing() -> anyhow::Result<()> {
    /// A command, its exit code, and a word of what it prints.
    type Case = (&'static str, i32, &'static str);

    let consul = consul().await?;
    // A history that leads back, and the keys of both freezes.
    for arguments in ["set app1 blue=70 --yes", "freeze app1 -m x", "unfreeze app1", "freeze -m x", "unfreeze"] {
        let output = consul.weightctl(&arguments.split(' ').collect::<Vec<_>>()).await?;
        ensure!(output.status.success(), "{arguments}: {output:?}");
    }
    let parts: [(&str, &[Case]); 6] = [
        (
            "/history/",
            &[
                ("set app1 blue=N --yes", 0, "the history has no entry for this write"),
                ("history app1", 4, "weightd/history/app1"),
                ("rollback app1 --step --yes", 4, "weightd/history/app1"),
            ],
        ),
        (
            "/freeze/",
            &[
                ("set app1 blue=N --yes", 0, "the freeze of this backend was not checked"),
                ("freeze app1 -m x", 4, "weightd/freeze/app1"),
            ],
        ),
        (
            "/freeze\"",
            &[
                ("set app1 blue=N --yes", 0, "the freeze of all backends was not checked"),
                ("freeze -m x", 4, "weightd/freeze"),
            ],
        ),
        ("/nodes/", &[("set app1 blue=N --yes", 0, "")]),
        ("/inventory/", &[("set app1 blue=N --yes", 0, "")]),
        ("/expect", &[("set app1 blue=N --yes", 0, "")]),
    ];
    let mut weight = 0;
    for file in ["team-app1.hcl", "operator.hcl"] {
        let rules = rules(file)?;
        let token = token(&consul, "parts", &rules).await?;
        ends(&consul, &token, 0, "freeze app1 -m x", "frozen").await?;
        ends(&consul, &token, 7, "set app1 blue=1 --yes", "").await?;
        ends(&consul, &token, 0, "unfreeze app1", "").await?;
        ends(&consul, &token, 0, "history app1", "").await?;
        for (missing, commands) in parts {
            let with: Vec<_> = rules.iter().filter(|rule| !rule.contains(missing)).cloned().collect();
            ensure!(with.len() + 1 == rules.len(), "{file} has one rule for {missing}: {rules:?}");
            set(&consul, "parts", &with).await?;
            for (command, code, word) in commands {
                weight += 1;
                let said = ends(&consul, &token, *code, &command.replace('N', &weight.to_string()), word).await;
                said.with_context(|| format!("{file} without {missing}"))?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_check_accepts_a_team_an_operator_and_a_reader() -> anyhow::Result<()> {
    let consul = consul().await?;
    for (file, arguments) in [("team-app1.hcl", ""), ("operator.hcl", ""), ("reader.hcl", " --read-only")] {
        let token = token(&consul, "checked", &rules(file)?).await?;
        let said = ends(&consul, &token, 0, &format!("check{arguments}"), "").await;
        said.with_context(|| file.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_changes_every_backend_and_none_without_the_rule() -> anyhow::Result<()> {
    let consul = consul().await?;
    let rules = rules("operator.hcl")?;
    ensure!(rules[0].contains("/weights/"), "{rules:?}");
    let token = token(&consul, "operator", &rules).await?;
    for arguments in [
        "list",
        "get app1",
        "set app1 blue=80 green=20 --yes",
        "set app10 blue=80 green=20 --yes",
        "set new blue=1 green=1 --yes --create",
        "release new --yes",
    ] {
        ends(&consul, &token, 0, arguments, "").await?;
    }
    consul.put("weightd/weights/leaves/blue", "1").await?;
    ends(&consul, &token, 0, "set leaves blue=2 --yes", "").await?;
    ends(&consul, &token, 0, "release leaves --yes", "").await?;

    // A token that may only read.
    set(&consul, "operator", &[rules[0].replace("write", "read")]).await?;
    for arguments in ["list", "get app1", "set app1 blue=70 --dry-run"] {
        ends(&consul, &token, 0, arguments, "").await?;
    }
    ends(&consul, &token, 4, "set app1 blue=70 --yes", WRITE).await?;
    ends(&consul, &token, 4, "release app1 --yes", WRITE).await?;

    set(&consul, "operator", &[]).await?;
    let before = consul.index("weightd/").await?;
    ends(&consul, &token, 4, "list", READ_ALL).await?;
    for arguments in ["get app1", "set app1 blue=70 --yes", "set app1 blue=70 --yes --create", "release app1 --yes"] {
        ends(&consul, &token, 4, arguments, READ).await?;
    }
    assert_eq!(consul.index("weightd/").await?, before, "nothing was written");
    Ok(())
}

#[tokio::test]
async fn a_team_changes_only_its_own_backend() -> anyhow::Result<()> {
    let consul = consul().await?;
    let rules = rules("team-app1.hcl")?;
    let token = token(&consul, "team", &rules).await?;
    ends(&consul, &token, 0, "set app1 blue=80 green=20 --yes", "").await?;
    ends(&consul, &token, 0, "get app1", "").await?;
    let listed = ends(&consul, &token, 0, "list", "").await?;
    assert!(listed.contains("app1 ") && !listed.contains("app10"), "{listed}");

    // Also not a backend with a similar name, with any command.
    let before = consul.get(&key("app10")).await?;
    consul.put("weightd/weights/app1-admin/blue", "1").await?;
    for other in ["app10", "app1-admin", "app"] {
        for verb in ["get NAME", "set NAME blue=1 --yes", "set NAME blue=1 --yes --create", "release NAME --yes"] {
            let rule = format!(r#"the token needs key "weightd/weights/{other}" {{ policy = "read" }}"#);
            ends(&consul, &token, 4, &verb.replace("NAME", other), &rule).await?;
        }
    }
    assert_eq!(consul.get(&key("app10")).await?, before);
    // Also not with another client than weightctl.
    let own = consul.http().with_token(&token);
    for path in ["kv/weightd/weights/app10", "kv/weightd/weights/app1-admin/blue", "kv/weightd/weights/"] {
        let answer = own.request(reqwest::Method::PUT, path).body("1").send().await?;
        assert_ne!(answer.status(), 200, "{path}");
    }

    // The same with leaves.
    consul.delete(&key("app1")).await?;
    for (server, weight) in [("blue", "90"), ("green", "10")] {
        consul.put(&format!("weightd/weights/app1/{server}"), weight).await?;
    }
    ends(&consul, &token, 0, "set app1 blue=80 green=20 --yes", "").await?;
    assert_eq!(consul.get("weightd/weights/app1/blue").await?.as_deref(), Some(&b"80"[..]));
    ends(&consul, &token, 0, "get app1", "").await?;
    ends(&consul, &token, 0, "release app1 --yes", "").await?;
    assert_eq!(consul.get("weightd/weights/app1/blue").await?, None);
    Ok(())
}

#[tokio::test]
async fn a_team_needs_both_of_its_rules() -> anyhow::Result<()> {
    let consul = consul().await?;
    let rules = rules("team-app1.hcl")?;
    let of_weights = rules.into_iter().filter(|rule| rule.contains("/weights/")).collect::<Vec<_>>();
    let [document_rule, leaves_rule] =
        <[String; 2]>::try_from(of_weights).map_err(|rules| anyhow::anyhow!("{rules:?}"))?;
    let token = token(&consul, "team", &[]).await?;

    // Without the rule of the document.
    set(&consul, "team", std::slice::from_ref(&leaves_rule)).await?;
    ends(&consul, &token, 4, "get app1", READ).await?;
    for arguments in ["set app1 blue=1 --yes", "release app1 --yes"] {
        ends(&consul, &token, 4, arguments, READ).await?;
    }
    // Without the rule of the leaves, a document can be used.
    set(&consul, "team", std::slice::from_ref(&document_rule)).await?;
    ends(&consul, &token, 0, "get app1", "").await?;
    ends(&consul, &token, 0, "set app1 blue=80 green=20 --yes", "").await?;

    consul.delete(&key("app1")).await?;
    consul.put("weightd/weights/app1/blue", "90").await?;
    // Leaves cannot be read.
    ends(&consul, &token, 7, "get app1", "app1").await?;
    ends(&consul, &token, 7, "set app1 blue=1 --yes", "--create").await?;
    ends(&consul, &token, 7, "release app1 --yes", "app1").await?;
    // Leaves cannot be written without the rule of the document: the transaction must check that there is no document.
    set(&consul, "team", std::slice::from_ref(&leaves_rule)).await?;
    ends(&consul, &token, 0, "get app1", "").await?;
    ends(&consul, &token, 4, "set app1 blue=1 --yes", r#"key_prefix "weightd/weights/app1/" { policy = "write" }"#)
        .await?;
    ends(&consul, &token, 4, "release app1 --yes", WRITE).await?;
    assert_eq!(consul.get("weightd/weights/app1/blue").await?.as_deref(), Some(&b"90"[..]));

    // A single shorter rule would open another backend.
    set(&consul, "team", &[r#"key_prefix "weightd/weights/app1" { policy = "write" }"#.to_owned()]).await?;
    ends(&consul, &token, 0, "set app10 blue=1 --yes", "").await?;
    assert_ne!(consul.get(&key("app10")).await?.as_deref(), Some(document(90, 10).as_bytes()));
    Ok(())
}
