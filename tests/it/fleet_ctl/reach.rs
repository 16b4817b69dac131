//! Before it writes, a verb says what is known of the nodes; without an answer, it says why and writes.

use anyhow::ensure;

use super::{Node, fleet, run, run_with};
use crate::{
    common::{backend, document, key},
    harness::{Consul, consul},
};

#[tokio::test]
async fn a_write_says_how_many_nodes_follow_and_which_are_not_as_desired() -> anyhow::Result<()> {
    let (consul, nodes) = fleet(2).await?;
    run(&consul, "set app1 blue=90 green=10 --yes --wait").await?.expect(0, &[])?;
    let said = run(&consul, "set app1 green=20 --dry-run -o json").await?;
    let said = said.expect(0, &["nodes: 2 follow; as desired before the change\n"])?;
    ensure!(said.json()?["nodes"]["has"] == 2, "{said:?}");

    let third = Node::start_with(&consul, "lb3", &backend("other", 9, 1), |settings| settings).await?;
    third.says(&consul, r#","lacks"]"#).await?;
    nodes[1].local(&["pause", "app1", "--for", "10m"]).await?;
    nodes[1].says(&consul, "paused").await?;
    let said = run(&consul, "set app1 green=30 --yes").await?;
    let words = "nodes: 3 follow; 1 as desired before the change; without app1: lb3; not as desired: lb2 (paused)\n";
    said.expect(0, &[words, "written: app1"])?;
    // The wait speaks of the nodes itself.
    let said = run(&consul, "set app1 green=40 --yes --wait").await?.expect(3, &["lb2 (paused)"])?;
    ensure!(!said.err.contains("nodes: "), "{said:?}");
    run(&consul, "rollback app1 --dry-run").await?.expect(0, &["nodes: 3 follow;"])?;
    // A host without weightd does not follow, nor does one of which only the inventory knows.
    run(&consul, "node expect 6").await?.expect(0, &[])?;
    consul.put("weightd/inventory/lb4", r#"{"v":1,"node":"lb4","machine":"m","mode":"enforce"}"#).await?;
    let said = run(&consul, "set app1 green=40 --force --dry-run -o json").await?;
    let said = said.expect(0, &["nodes: 3 follow; expected but never reported: 2;", "lb4 (missing)"])?.json()?;
    ensure!((&said["nodes"]["counted"], &said["nodes"]["follows"]) == (&6.into(), &3.into()), "{said}");
    run(&consul, "set new1 blue=1 --yes --create")
        .await?
        .expect(0, &["which of them have new1 shows after the write"])?;
    Ok(())
}

#[tokio::test]
async fn a_write_without_nodes_or_without_the_right_to_read_them_says_so() -> anyhow::Result<()> {
    let consul = Consul::start_with(consul::Options { acl: true, ..Default::default() }).await?;
    consul.put(&key("app1"), document(90, 10)).await?;
    run(&consul, "set app1 green=20 --yes").await?.expect(0, &["nodes: none reports"])?;
    let rules =
        r#"key "weightd/weights/app1" { policy = "write" } key_prefix "weightd/weights/app1/" { policy = "write" }"#;
    consul.http().set_policy("team", rules).await?;
    let token = consul.http().new_token("team").await?;
    let said = run_with(&consul, Some(&token), "set app1 green=30 --yes").await?;
    let words = ["note: what the nodes have is not known", r#"key_prefix "weightd/"#, "written: app1"];
    said.expect(0, &words).map(drop)
}
