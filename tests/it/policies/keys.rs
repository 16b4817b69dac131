//! Which keys each policy opens, and that it opens no others.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;

use super::{consul, node_rules, rules, token};

#[tokio::test]
async fn the_other_policies_open_the_keys_of_the_fleet_that_they_name_and_no_others() -> anyhow::Result<()> {
    const KEYS: [&str; 27] = [
        "weights/app1",
        "weights/app10",
        "history/app1",
        "history/app10",
        "freeze",
        "freeze/app1",
        "expect",
        "nodes/lb1",
        "inventory/lb1",
        "observe/_",
        "observe/app1/1",
        "observe/app10/1",
        "counters/lb1",
        "rollouts/spec/app1",
        "rollouts/spec/app10",
        "rollouts/request/app1",
        "rollouts/request/app10",
        "rollouts/approval/app1",
        "rollouts/approval/app10",
        "rollouts/state/app1",
        "rollouts/state/app10",
        "rollouts/evidence/app1",
        "rollouts/evidence/app10",
        "rollouts/log/app1",
        "rollouts/log/app10",
        "controller",
        "plans/own",
    ];
    /// The keys of the rollout of app1.
    const OWN: &str = "rollouts/spec/app1 rollouts/request/app1 rollouts/approval/app1 rollouts/state/app1 \
                       rollouts/evidence/app1 rollouts/log/app1 controller";
    let consul = consul().await?;
    for key in KEYS {
        consul.put(&format!("weightd/{key}"), "{}").await?;
    }
    let node = node_rules(&consul).await?.join(" ");
    consul.http().set_policy("node", &node).await?;
    let session = consul.http().with_token(&consul.http().new_token("node").await?);
    let session = session.json(Method::PUT, "session/create", &json!({ "TTL": "10s" })).await?["ID"].take();
    let session = session.as_str().context("no session")?;
    let all = KEYS.join(" ");
    let fleet = "weights/app1 weights/app10 history/app1 history/app10 freeze freeze/app1 expect nodes/lb1 \
                 inventory/lb1 counters/lb1";
    let rollouts = KEYS.iter().copied().filter(|key| key.starts_with("rollouts/"));
    let reading = format!("{fleet} {} controller plans/own", rollouts.collect::<Vec<_>>().join(" "));
    let told = ["spec", "request", "state", "evidence", "log"];
    let told = told.map(|kind| format!("rollouts/{kind}/app1 rollouts/{kind}/app10"));
    let shown = format!(
        "weights/app1 weights/app10 history/app1 history/app10 freeze freeze/app1 expect nodes/lb1 inventory/lb1 {} controller",
        told.join(" ")
    );
    let team = format!(
        "weights/app1 history/app1 freeze freeze/app1 expect nodes/lb1 inventory/lb1 observe/_ observe/app1/1 \
         counters/lb1 plans/own {OWN}"
    );
    for (file, reads, writes) in [
        (
            "operator.hcl",
            all.as_str(),
            "weights/app1 weights/app10 history/app1 history/app10 freeze freeze/app1 expect inventory/lb1 observe/_ \
             observe/app1/1 observe/app10/1 rollouts/spec/app1 rollouts/spec/app10 rollouts/request/app1 \
             rollouts/request/app10 rollouts/approval/app1 rollouts/approval/app10 plans/own",
        ),
        (
            "team-app1.hcl",
            team.as_str(),
            "weights/app1 history/app1 freeze/app1 observe/_ observe/app1/1 rollouts/spec/app1 rollouts/request/app1",
        ),
        ("approver-app1.hcl", OWN, "rollouts/approval/app1"),
        ("reader.hcl", reading.as_str(), ""),
        ("page.hcl", shown.as_str(), ""),
    ] {
        let http = consul.http().with_token(&token(&consul, "other", &rules(file)?).await?);
        for key in KEYS {
            for (method, allowed) in [(Method::GET, reads), (Method::PUT, writes)] {
                let answer = http.request(method.clone(), &format!("kv/weightd/{key}")).body("{}").send().await?;
                let expected = if allowed.split(' ').any(|name| name == key) { 200 } else { 403 };
                assert_eq!(answer.status().as_u16(), expected, "{file}: {method} {key}");
            }
        }
        // Nobody but the node ends its session.
        let answer = http.request(Method::PUT, &format!("session/destroy/{session}")).send().await?;
        assert_eq!(answer.status(), 403, "{file}");
    }
    Ok(())
}
