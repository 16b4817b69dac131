//! The policy of the controller: what goes on without each of its rules, and what it says.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use weightd::{
    consul::{Client, Settings, TokenSource},
    documents::{
        Documents, DocumentsError,
        lead::{Lead, Led},
    },
};
use weightd_core::{
    desired::PatternShare,
    model::BackendName,
    rollout::{Phase, Spec, State, Transaction, digest},
};

use super::{consul, rules, token};
use crate::{
    common::key,
    harness::{Consul, always, eventually, rolloutd},
};

const STATE: &str = "weightd/rollouts/state/app1";
/// Longer than a leader waits for evidence and logs that it may not read.
const SOON: Duration = Duration::from_secs(25);

/// What becomes of a rollout that a person aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// Nothing: nobody leads, or the leader does nothing.
    Nothing,
    /// It is taken back.
    TakenBack,
    /// It is taken back, and the history has no entry for that.
    TakenBackWithoutHistory,
}

/// For each rule: a part of it, what becomes of the rollout without it, and what the log must say.
const CASES: [(&str, Becomes, &str); 15] = [
    ("\"weightd/controller\"", Becomes::Nothing, r#"the token needs: key "weightd/controller" { policy = "write" }"#),
    ("session ", Becomes::Nothing, r#"the token needs: session "NODE-OF-AGENT" { policy = "write" }"#),
    ("/rollouts/spec/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/rollouts/spec/""#),
    ("/rollouts/request/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/rollouts/request/""#),
    ("/rollouts/approval/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/rollouts/approval/""#),
    ("/rollouts/state/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/rollouts/state/""#),
    ("/rollouts/evidence/", Becomes::TakenBack, r#"the token needs: key_prefix "weightd/rollouts/evidence/""#),
    ("/rollouts/log/", Becomes::TakenBack, r#"the token needs: key_prefix "weightd/rollouts/log/""#),
    ("/weights/", Becomes::Nothing, "the token may not read any key below it prefix=weightd/weights/"),
    ("/history/", Becomes::TakenBackWithoutHistory, "back at 0 %"),
    ("\"weightd/freeze\"", Becomes::Nothing, r#"the token needs: key_prefix "weightd/freeze""#),
    ("/nodes/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/nodes/""#),
    ("/inventory/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/inventory/""#),
    ("/observe/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/observe/""#),
    ("/counters/", Becomes::Nothing, r#"the token needs: key_prefix "weightd/counters/""#),
];

/// Makes a rollout bake at 10 %, and a person abort it.
async fn bake(consul: &Consul, id: &str) -> anyhow::Result<()> {
    let document = json!({"v": 1, "split": {"blue": 90, "green": 10}, "by": "rolloutd for ada"});
    consul.put(&key("app1"), document.to_string()).await?;
    let index = consul.index(&key("app1")).await?;
    let spec = json!({
        "v": 1, "id": id, "to": ["green"], "from": ["blue"], "back": 0, "mode": "auto", "regression": "rollback",
        "by": "ada", "plan": {"step": [{"share": 10, "bake": "5m"}, {"share": 50, "bake": "5m"}]},
        "at": "2026-11-21T10:00:00Z"
    })
    .to_string();
    let state = json!({
        "v": 1, "id": id, "spec": digest(spec.as_bytes()), "seq": 7, "phase": "bake", "step": 1, "mode": "auto",
        "share": 10, "back": 0, "document": index, "since": "2026-11-21T10:00:00Z"
    });
    let request = json!({"v": 1, "id": format!("{id}-asks"), "verb": "abort", "rollout": id, "at": 7, "by": "bob"});
    consul.delete("weightd/history/app1").await?;
    consul.put("weightd/rollouts/spec/app1", spec).await?;
    consul.put("weightd/rollouts/request/app1", request.to_string()).await?;
    consul.put(STATE, state.to_string()).await
}

async fn phase(consul: &Consul) -> anyhow::Result<String> {
    let state: Value = serde_json::from_slice(&consul.get(STATE).await?.context("no state")?)?;
    Ok(state["phase"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_rule_of_the_controller_is_needed_and_it_says_which_one_is_missing() -> anyhow::Result<()> {
    let consul = consul().await?;
    let agent = consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Config"]["NodeName"].take();
    let agent = agent.as_str().context("no name of the agent")?;
    let all: Vec<_> = rules("controller.hcl")?.into_iter().map(|rule| rule.replace("NODE-OF-AGENT", agent)).collect();
    // The freeze of one backend stops only an advance: the next test.
    ensure!(all.len() == CASES.len() + 1, "{all:?}");
    for (number, (without, becomes, says)) in CASES.into_iter().enumerate() {
        bake(&consul, &format!("r{number}")).await?;
        let with: Vec<_> = all.iter().filter(|rule| !rule.contains(without)).cloned().collect();
        ensure!(with.len() + 1 == all.len(), "one rule for {without}: {all:?}");
        let secret = token(&consul, "controller", &with).await?;
        let mut rolloutd = rolloutd::Settings::new(&consul, "one").env("CONSUL_HTTP_TOKEN", &secret).start().await?;
        let said = eventually(SOON, says, async || {
            let log = rolloutd.log();
            ensure!(log.replace("\\\"", "\"").contains(says), "{log}");
            Ok(())
        });
        said.await.with_context(|| format!("without {without}"))?;
        if becomes == Becomes::Nothing {
            always(Duration::from_secs(1), "nothing is taken back", async || {
                let phase = phase(&consul).await?;
                ensure!(phase == "bake", "without {without}: {phase}\n{}", rolloutd.log());
                Ok(())
            })
            .await?;
        } else {
            eventually(SOON, "it is taken back", async || {
                let phase = phase(&consul).await?;
                ensure!(phase == "rolled_back", "without {without}: {phase}\n{}", rolloutd.log());
                Ok(())
            })
            .await?;
            let history = consul.get("weightd/history/app1").await?.is_some();
            ensure!(history == (becomes == Becomes::TakenBack), "without {without}: history {history}");
        }
        let (status, ready) = rolloutd.get("/ready").await?;
        let serves = becomes != Becomes::Nothing || without == "/weights/";
        ensure!((status == 200) == serves, "without {without}: {status} {ready}");
        rolloutd.stop().await?;
    }
    Ok(())
}

/// More traffic: the only transaction that a freeze stops. With all rules but that of the freeze of one backend, nobody knows
/// whether one is frozen.
#[tokio::test]
async fn without_the_right_to_read_the_freeze_of_a_backend_a_leader_gives_it_no_more_traffic() -> anyhow::Result<()> {
    let consul = consul().await?;
    bake(&consul, "r1").await?;
    let agent = consul.http().json(Method::GET, "agent/self", &Value::Null).await?["Config"]["NodeName"].take();
    let agent = agent.as_str().context("no name of the agent")?;
    let all: Vec<_> = rules("controller.hcl")?.into_iter().map(|rule| rule.replace("NODE-OF-AGENT", agent)).collect();
    let with: Vec<_> = all.iter().filter(|rule| !rule.contains("\"weightd/freeze/\"")).cloned().collect();
    ensure!(with.len() + 1 == all.len(), "{all:?}");
    let frozen = json!({"v": 1, "frozen": {"by": "carol"}}).to_string();
    let (without, whole) = (token(&consul, "without", &with).await?, token(&consul, "whole", &all).await?);
    let denied = |led: &Result<Led, DocumentsError>| match led {
        Err(DocumentsError::Write { rule, source, .. }) => {
            rule.contains(r#"key "weightd/freeze/app1" { policy = "write" }"#) && source.to_string().contains("denied")
        }
        _ => false,
    };
    for there in [true, false] {
        if there {
            consul.put("weightd/freeze/app1", frozen.clone()).await?;
        } else {
            consul.delete("weightd/freeze/app1").await?;
        }
        let led = advance(&consul, &without).await?;
        ensure!(denied(&led), "frozen: {there}: {led:?}");
    }
    consul.put("weightd/freeze/app1", frozen).await?;
    let led = advance(&consul, &whole).await?;
    ensure!(matches!(led, Ok(Led::Conflict)), "it is frozen: {led:?}");
    consul.put("weightd/freeze/app1", "{}").await?;
    let led = advance(&consul, &whole).await?;
    ensure!(matches!(led, Ok(Led::Applied(_))), "{led:?}");
    Ok(())
}

/// A leader with this token gives green 50 %.
async fn advance(consul: &Consul, secret: &str) -> anyhow::Result<Result<Led, DocumentsError>> {
    let token = TokenSource::Value(secret.to_owned().into());
    let client = Client::new(Settings { address: consul.address().parse()?, token, ..Settings::default() })?;
    let session = client.create_session("controller").await?;
    ensure!(client.acquire("weightd/controller", b"{}".to_vec(), &session).await?, "another one leads");
    let index = async |key: &str| consul.index(&format!("weightd/{key}")).await;
    let leader = Lead {
        session: session.clone(),
        backend: BackendName::new("app1")?,
        spec: Some(index("rollouts/spec/app1").await?),
        request: index("rollouts/request/app1").await?,
        state: index("rollouts/state/app1").await?,
        approval: None,
        has_leaves: false,
    };
    let spec = consul.get("weightd/rollouts/spec/app1").await?.context("no spec")?;
    let before = State::parse(&consul.get(STATE).await?.context("no state")?, 1)?;
    let share = PatternShare::from_thousandths(50_000).context("a share")?;
    let transaction = Transaction {
        attempt: 1,
        state: State { seq: 8, phase: Phase::Shift, step: 2, share, document: None, ..before },
        write: Some(share),
        document: Some(index("weights/app1").await?),
        obeys_freeze: true,
        ends: false,
    };
    let client = Arc::new(client);
    let documents = Documents::sharing(Arc::clone(&client), &"weightd/".parse()?);
    let led = documents.lead(&leader, &Spec::parse(&spec)?, &transaction, "2026-11-21T10:00:00Z".parse()?).await;
    client.destroy_session(&session).await?;
    Ok(led)
}
