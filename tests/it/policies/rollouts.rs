//! The policies of rollouts: who starts them, who approves, and the controller.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{consul, ends, rules, set, token};
use crate::{
    common::{A_WHILE, backend, becomes},
    harness::{Haproxy, always, eventually, rolloutd, weightd::Settings},
};

#[tokio::test]
async fn without_a_rule_of_rollouts_the_commands_name_it() -> anyhow::Result<()> {
    let consul = consul().await?;
    let start = "rollout start app1 --to green --mode watch --yes";
    let approve = "rollout approve app1 --yes";
    let pause = "rollout pause app1";
    let cases = [
        ("team-app1.hcl", "/rollouts/spec/", start),
        ("team-app1.hcl", "/rollouts/request/", start),
        ("team-app1.hcl", "/rollouts/state/", pause),
        ("team-app1.hcl", "/rollouts/evidence/", pause),
        ("team-app1.hcl", "/rollouts/log/", pause),
        ("team-app1.hcl", "/rollouts/approval/", pause),
        ("team-app1.hcl", "/controller", start),
        ("team-app1.hcl", "/plans/", "rollout start app1 --to green --plan own --yes"),
        ("operator.hcl", "/rollouts/spec/", start),
        ("operator.hcl", "/rollouts/request/", start),
        ("operator.hcl", "/rollouts/approval/", approve),
        ("operator.hcl", "/rollouts/state/", pause),
        ("operator.hcl", "/rollouts/evidence/", pause),
        ("operator.hcl", "/rollouts/log/", pause),
        ("operator.hcl", "/controller", start),
        ("approver-app1.hcl", "/rollouts/approval/", approve),
        ("approver-app1.hcl", "/rollouts/spec/", approve),
        ("approver-app1.hcl", "/rollouts/state/", approve),
        ("approver-app1.hcl", "/rollouts/evidence/", approve),
        ("approver-app1.hcl", "/rollouts/request/", approve),
        ("approver-app1.hcl", "/rollouts/log/", approve),
        ("approver-app1.hcl", "/controller", "rollout status app1"),
    ];
    for file in ["team-app1.hcl", "operator.hcl", "approver-app1.hcl"] {
        let rules = rules(file)?;
        let token = token(&consul, "rollouts", &rules).await?;
        // With all rules, the rollout can be started by whom it belongs to, and withdrawn.
        if file != "approver-app1.hcl" {
            ends(&consul, &token, 0, start, "nobody leads").await?;
            ends(&consul, &token, 0, "rollout abort app1 --yes", "withdrawn").await?;
        }
        for (_, missing, command) in cases.iter().filter(|case| case.0 == file) {
            let with: Vec<_> = rules.iter().filter(|rule| !rule.contains(missing)).cloned().collect();
            ensure!(with.len() + 1 == rules.len(), "{file} has one rule for {missing}: {rules:?}");
            set(&consul, "rollouts", &with).await?;
            // An approval needs something to approve.
            let state = r#"{"v":1,"id":"r1","spec":"s","seq":1,"phase":"bake","step":1,"mode":"auto","share":10,"back":0,
                            "since":"2026-11-21T10:00:00Z"}"#;
            consul.delete("weightd/rollouts/spec/app1").await?;
            if *command == start {
                consul.delete("weightd/rollouts/state/app1").await?;
            } else {
                consul.put("weightd/rollouts/state/app1", state).await?;
            }
            let key = missing.trim_matches('/');
            let said = ends(&consul, &token, 4, command, key).await;
            said.with_context(|| format!("{file} without {missing}"))?;
        }
        consul.delete("weightd/rollouts/state/app1").await?;
    }
    // A team does not approve its own steps.
    let token = token(&consul, "rollouts", &rules("team-app1.hcl")?).await?;
    let state = r#"{"v":1,"id":"r1","spec":"s","seq":1,"phase":"bake","step":1,"mode":"auto","share":10,"back":0,
                    "since":"2026-11-21T10:00:00Z"}"#;
    consul.put("weightd/rollouts/state/app1", state).await?;
    let rule = r#"key "weightd/rollouts/approval/app1" { policy = "write" }"#;
    ends(&consul, &token, 4, approve, rule).await?;
    // Without the right to read, a change says what it does not know.
    let with: Vec<_> = rules("team-app1.hcl")?.into_iter().filter(|rule| !rule.contains("/rollouts/")).collect();
    set(&consul, "rollouts", &with).await?;
    ends(&consul, &token, 0, "set app1 blue=33 --yes", "whether a rollout of app1 runs is not known").await?;
    Ok(())
}

#[tokio::test]
async fn a_controller_runs_rollouts_with_its_policy_and_not_without_each_rule() -> anyhow::Result<()> {
    let (consul, haproxy) = tokio::try_join!(consul(), async { Haproxy::start(&backend("app1", 0, 100)).await })?;
    consul.put("weightd/observe/_", "{}").await?;
    let node = super::node_rules(&consul).await?;
    let node = token(&consul, "node", &node).await?;
    let settings = Settings::without_haproxy(&consul.address()).haproxy("haproxy", &haproxy.address());
    let _weightd = settings.set("node", "lb1").env("CONSUL_HTTP_TOKEN", &node).start().await?;
    becomes(&haproxy, "app1", 90, 10).await?;
    let agent = consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Config"]["NodeName"].take();
    let agent = agent.as_str().context("no name of the agent")?;
    let all: Vec<_> = rules("controller.hcl")?.into_iter().map(|rule| rule.replace("NODE-OF-AGENT", agent)).collect();
    let spec = |id: &str| {
        json!({"v": 1, "id": id, "to": ["green"], "from": ["blue"], "back": 10, "mode": "watch", "plan": {},
               "regression": "rollback", "by": "ada", "at": "2026-11-21T10:00:00Z"})
        .to_string()
    };
    let state = async || {
        let value = consul.get("weightd/rollouts/state/app1").await?.context("there is no state")?;
        anyhow::Ok(serde_json::from_slice::<Value>(&value)?)
    };
    for missing in ["/controller", "session ", "/rollouts/spec/", "/rollouts/state/", ""] {
        consul.put("weightd/rollouts/request/app1", "{}").await?;
        consul.put("weightd/rollouts/spec/app1", spec("r1")).await?;
        let with: Vec<_> = all.iter().filter(|rule| missing.is_empty() || !rule.contains(missing)).cloned().collect();
        ensure!(missing.is_empty() || with.len() + 1 == all.len(), "one rule for {missing}: {all:?}");
        let secret = token(&consul, "controller", &with).await?;
        let mut rolloutd = rolloutd::Settings::new(&consul, "one").env("CONSUL_HTTP_TOKEN", &secret).start().await?;
        if missing.is_empty() {
            eventually(Duration::from_secs(60), "the rollout is judged", async || {
                let state = state().await?;
                ensure!(state["phase"] == "preflight" || state["phase"] == "bake", "{state}");
                let evidence = consul.get("weightd/rollouts/evidence/app1").await?;
                ensure!(evidence.is_some(), "no evidence: {state}");
                Ok(())
            })
            .await
            .with_context(|| rolloutd.log())?;
        } else {
            always(A_WHILE, "no rollout begins", async || {
                ensure!(state().await.is_err(), "without {missing}: {}", rolloutd.log());
                Ok(())
            })
            .await?;
        }
        rolloutd.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_team_sees_its_own_rollout_among_all() -> anyhow::Result<()> {
    let consul = consul().await?;
    let token = token(&consul, "rollouts", &rules("team-app1.hcl")?).await?;
    // Without a rollout there is nothing that it may list.
    ends(&consul, &token, 4, "rollout status", r#"key_prefix "weightd/rollouts/spec/""#).await?;
    ends(&consul, &token, 0, "rollout start app1 --to green --mode watch --yes", "").await?;
    // Nobody has approved anything, and Consul does not say so to this token.
    let shown = ends(&consul, &token, 0, "rollout status", "ACLs hide rollouts").await?;
    ensure!(shown.contains("app1") && shown.contains("not begun"), "{shown}");
    Ok(())
}
