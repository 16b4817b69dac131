//! The ways in which a wait could end with 0 too early, with real servers: none does.

use std::time::Duration;

use anyhow::ensure;

use super::{Node, REPORTED, fleet, run, run_with};
use crate::{
    common::{SOON, backend, document, key},
    harness::{Consul, Haproxy, consul::Options, eventually, weightd::Settings},
};

#[tokio::test]
async fn a_document_that_is_hidden_from_a_node_is_not_done() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    let own = |node: &str| {
        format!(
            r#"key "weightd/nodes/{node}" {{ policy = "write" }} key "weightd/inventory/{node}" {{ policy = "write" }}
            session_prefix "" {{ policy = "write" }} agent_prefix "" {{ policy = "read" }}"#
        )
    };
    let all = format!(r#"{} key_prefix "weightd/weights/" {{ policy = "read" }}"#, own("lb1"));
    let some = format!(r#"{} key_prefix "weightd/weights/other" {{ policy = "read" }}"#, own("lb2"));
    for (name, rules) in [("all", &all), ("some", &some)] {
        consul.http().set_policy(name, rules).await?;
    }
    let (all, some) = (consul.http().new_token("all").await?, consul.http().new_token("some").await?);
    consul.put(&key("other"), document(1, 1)).await?;
    let body = backend("app1", 9, 1);
    let sees = |settings: Settings| settings.env("CONSUL_HTTP_TOKEN", &all);
    let _sees = Node::start_with(&consul, "lb1", &body, sees).await?;
    let blind = |settings: Settings| settings.env("CONSUL_HTTP_TOKEN", &some);
    let _blind = Node::start_with(&consul, "lb2", &body, blind).await?;
    let said = run(&consul, "set app1 blue=90 green=10 --yes --create --wait --timeout 4s").await?;
    ensure!(said.err.contains("1 of 2 nodes have app1"), "{said:?}");
    let said = said.expect(3, &[])?;
    ensure!(said.err.contains("lb2 (silent)") || said.err.contains("lb2 (not_read)"), "{said:?}");

    // A user who may not read what the nodes say is told which rule is missing.
    consul.http().set_policy("writer", r#"key_prefix "weightd/weights/" { policy = "write" }"#).await?;
    let writer = consul.http().new_token("writer").await?;
    let denied = run_with(&consul, Some(&writer), "set app1 green=20 --yes --wait --timeout 4s").await?;
    denied.expect(4, &[r#"key_prefix "weightd/nodes/" { policy = "read" }"#, "app1 is written with index"])?;
    run_with(&consul, Some(&writer), "status").await?.expect(4, &[r#"key_prefix "weightd/nodes/""#])?;
    run_with(&consul, Some(&writer), "diff").await?.expect(4, &[r#"key_prefix "weightd/nodes/""#])?;

    // Without the right for the inventory, the rest is shown. Nobody can say that no node is missing.
    let rules = r#"key_prefix "weightd/nodes/" { policy = "read" } key_prefix "weightd/weights/" { policy = "write" }"#;
    consul.http().set_policy("writer", rules).await?;
    run(&consul, "set other blue=1 green=1 --yes").await?.expect(0, &[])?;
    for verb in ["status", "node list", "diff"] {
        let said = run_with(&consul, Some(&writer), verb).await?;
        let word = if verb == "status" { "other    blue=1 green=1" } else { "lb" };
        let rule = r#"the token needs key_prefix "weightd/inventory/" { policy = "read" }"#;
        let code = said.code;
        ensure!([3, 4, 8].contains(&code), "{said:?}");
        said.expect(code, &[word, "off: weightd/inventory/: ", rule, "off: weightd/expect: "])?;
    }
    let json = run_with(&consul, Some(&writer), "status -o json").await?.json()?;
    ensure!(json["off"][0]["key"] == "weightd/inventory/", "{json}");
    Ok(())
}

#[tokio::test]
async fn a_rebuilt_consul_is_not_done() -> anyhow::Result<()> {
    let (mut consul, mut nodes) = fleet(2).await?;
    // The index of the write is higher than what the new Consul reaches.
    for number in 0..200 {
        consul.put("elsewhere", number.to_string()).await?;
    }
    nodes[1].haproxy.stop().await?;
    nodes[1].says(&consul, r#""up":false"#).await?;
    let before = consul.index(&key("app1")).await?;
    let wait = {
        let address = consul.address();
        async move {
            let arguments = ["set", "app1", "blue=90", "green=10", "--yes", "--create", "--wait", "--timeout", "15s"];
            let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_CONFIG", "/nonexistent")];
            crate::harness::weightd::weightctl(&environment, &arguments).await
        }
    };
    let new_consul = async {
        nodes[0].has_newer(&consul, before).await?;
        consul.kill().await?;
        consul.start_again().await?;
        // What is desired is back, by another write, and now both nodes have it.
        nodes[1].haproxy.start_again().await?;
        consul.put(&key("app1"), document(90, 10)).await
    };
    let (output, rebuilt) = tokio::join!(wait, new_consul);
    rebuilt?;
    let output = output?;
    let code = output.status.code();
    ensure!(code == Some(5) || code == Some(3), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_list_that_is_cut_is_not_done_while_haproxy_is_down() -> anyhow::Result<()> {
    let (consul, mut nodes) = fleet(1).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --create --wait").await?.expect(0, &[])?;
    for number in 0..1000 {
        consul.put(&key(&format!("other-{number:04}")), document(1, 1)).await?;
    }
    // app1 is older than all that the report names, and everything but app1 is in its cut lists.
    nodes[0].says(&consul, r#""cut":{"#).await?;
    nodes[0].says(&consul, r#""backends":1001"#).await?;
    let cut = run(&consul, "set app1 green=10 --yes --wait --timeout 2s").await?;
    cut.expect(3, &["nothing to change", "lb1 (cut)"])?;
    nodes[0].haproxy.stop().await?;
    nodes[0].says(&consul, r#""up":false"#).await?;
    let down = run(&consul, "set app1 green=10 --yes --wait --timeout 2s").await?;
    ensure!(down.code == 3, "{down:?}");
    Ok(())
}

#[tokio::test]
async fn two_instances_with_two_roots_are_judged_each_by_its_own() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    let body = backend("app1", 9, 1);
    let (mut first, second) = tokio::try_join!(Haproxy::start(&body), Haproxy::start(&body))?;
    let settings = Settings::without_haproxy(&consul.address()).set("reconcile.resync", "1s");
    let _weightd = settings
        .instance(&[("name", "a"), ("address", &first.address()), ("root", "first/")])
        .instance(&[("name", "b"), ("address", &second.address()), ("root", "second/")])
        .start()
        .await?;
    let set = "set app1 blue=90 green=10 --yes --create --wait --timeout 5s";
    for root in ["first/", "second/"] {
        consul.put(&format!("{root}weights/app1"), document(9, 1)).await?;
        eventually(REPORTED, "the node reports", async || {
            let report = consul.get(&format!("{root}nodes/lb1")).await?.unwrap_or_default();
            ensure!(String::from_utf8_lossy(&report).contains(r#""set"]"#), "{}", String::from_utf8_lossy(&report));
            Ok(())
        })
        .await?;
        run(&consul, &format!("{set} --root {root}")).await?.expect(0, &["done: 1 of 1"])?;
    }
    first.stop().await?;
    let down = run(&consul, "set app1 green=20 --yes --wait --timeout 3s --root first/").await?;
    down.expect(3, &["lb1 (down)"])?;
    run(&consul, "set app1 green=20 --yes --wait --timeout 5s --root second/").await?.expect(0, &[])?;
    Ok(())
}

#[tokio::test]
async fn a_document_that_was_replaced_meanwhile_is_a_conflict() -> anyhow::Result<()> {
    let (consul, mut nodes) = fleet(2).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --create --wait").await?.expect(0, &[])?;
    nodes[1].haproxy.stop().await?;
    let replace = async {
        let first = &nodes[0];
        first.haproxy.until_weights("app1", &[("green", 20)], SOON).await?;
        run(&consul, "set app1 green=30 --yes --by bob").await?.expect(0, &[])
    };
    let wait = run(&consul, "set app1 green=20 --yes --wait --timeout 15s");
    let start = tokio::time::Instant::now();
    let (said, replaced) = tokio::join!(wait, replace);
    replaced?;
    said?.expect(5, &["another writer replaced app1", "blue=90 green=30", "by bob at 20"])?;
    ensure!(start.elapsed() < Duration::from_secs(12), "it waited for the time limit");
    Ok(())
}

#[tokio::test]
async fn without_consul_it_is_unknown() -> anyhow::Result<()> {
    let (mut consul, mut nodes) = fleet(2).await?;
    nodes[1].haproxy.stop().await?;
    let before = consul.index(&key("app1")).await?;
    let address = consul.address();
    let arguments = ["set", "app1", "blue=90", "green=10", "--yes", "--create", "--wait", "--timeout", "6s"];
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_CONFIG", "/nonexistent")];
    let wait = crate::harness::weightd::weightctl(&environment, &arguments);
    let kill = async {
        // The write was read back, and the wait has begun.
        nodes[0].has_newer(&consul, before).await?;
        consul.kill().await
    };
    let (output, killed) = tokio::join!(wait, kill);
    killed?;
    let output = output?;
    ensure!(output.status.code() == Some(6), "{output:?}");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(err.contains("Consul does not answer") && err.contains("unknown whether the nodes have it"), "{err}");
    Ok(())
}
