//! Sets that are refused, have no effect, or have an unclear answer: only the read-back is evidence.

use super::*;

const SHIFT: [(&str, u16); 2] = [("blue", 0), ("green", 100)];

fn model(algorithm: &'static str) -> Model {
    Model::with("app", algorithm, &[("blue", 100), ("green", 0)])
}

#[tokio::test]
async fn a_shift_on_a_dynamic_algorithm_is_one_line() -> anyhow::Result<()> {
    let mut rig = Rig::start(model("roundrobin"))?;
    rig.desire(&[("app", &weights(&SHIFT))])?;
    rig.until_weights("app", &[0, 100]).await?;
    let set = "set server app/green weight 100;set server app/blue weight 0;show servers state app";
    assert_eq!(
        rig.haproxy.model(|m| m.lines.iter().filter(|l| l.contains("set server")).cloned().collect::<Vec<_>>()),
        [set]
    );
    rig.end().await
}

#[tokio::test]
async fn a_shift_on_an_algorithm_that_may_be_static_is_two_lines() -> anyhow::Result<()> {
    // Neither `hdr` nor a missing algorithm is known to be dynamic.
    for algorithm in ["hdr", "unknown", ""] {
        let mut rig = Rig::start(model(algorithm))?;
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_weights("app", &[0, 100]).await?;
        let sets =
            rig.haproxy.model(|m| m.lines.iter().filter(|l| l.contains("set server")).cloned().collect::<Vec<_>>());
        assert_eq!(
            sets,
            [
                "set server app/green weight 100;show servers state app",
                "set server app/blue weight 0;show servers state app"
            ]
        );
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_static_algorithm_keeps_its_weights_and_is_not_retried_endlessly() -> anyhow::Result<()> {
    for algorithm in ["source", "static-rr"] {
        let mut rig = Rig::start(model(algorithm))?;
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_heard("set server app/green weight 100").await?;
        rig.never_converges("app", &[100, 0]).await?;
        assert_eq!(rig.reasons("app"), ["unsupported"]);
        let sets = rig.haproxy.model(|m| m.lines.iter().filter(|l| l.contains("set server")).count());
        assert_eq!(sets, 1, "a static algorithm stays static");
        assert!(!rig.haproxy.model(|m| m.received("app/blue weight 0")));
        // A new process may have another algorithm.
        rig.haproxy.model(|m| {
            m.reload();
            m.backends.get_mut("app").expect("the reason is reported").is_static = false;
        });
        rig.until_weights("app", &[0, 100]).await?;
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_raise_without_effect_is_never_followed_by_a_zero() -> anyhow::Result<()> {
    // HAProxy reports success, or an unknown text, and does nothing.
    for answer in ["", "Something new.\n", "Weight is being changed.\n"] {
        let mut rig = Rig::start(model("hdr"))?;
        rig.haproxy.model(|m| m.server("app", "green").quirk = Some((answer, false)));
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_heard("set server app/green weight 100").await?;
        rig.never_converges("app", &[100, 0]).await?;
        assert!(!rig.haproxy.model(|m| m.received("app/blue weight 0")));
        let sets = rig.haproxy.model(|m| m.lines.iter().filter(|l| l.contains("set server")).count());
        assert!((2..=20).contains(&sets), "retried at each resync: {sets}");
        rig.haproxy.model(|m| m.server("app", "green").quirk = None);
        rig.until_weights("app", &[0, 100]).await?;
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_set_with_an_effect_counts_whatever_the_answer_is() -> anyhow::Result<()> {
    for (algorithm, reasons) in [("roundrobin", &[][..]), ("hdr", &["hash"])] {
        let mut rig = Rig::start(model(algorithm))?;
        rig.haproxy.model(|m| {
            m.server("app", "green").quirk = Some(("Weight set, have a nice day.\n", true));
            m.server("app", "blue").quirk = Some(("No such server.\n", true));
        });
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_weights("app", &[0, 100]).await?;
        assert_eq!(rig.reasons("app"), reasons);
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_reported_and_retried() -> anyhow::Result<()> {
    for answer in ["Permission denied\n", "Proxy is disabled.\n", "No such server.\n", "No such backend.\n", "What?\n"]
    {
        let mut rig = Rig::start(model("roundrobin").and("other", "roundrobin", &[("a", 1)]))?;
        rig.haproxy.model(|m| m.server("app", "green").quirk = Some((answer, false)));
        rig.desire(&[("app", &weights(&[("green", 50)])), ("other", &weights(&[("a", 7)]))])?;
        rig.until_heard("set server app/green weight 50").await?;
        rig.never_converges("app", &[100, 0]).await?;
        assert!(rig.reasons("app").iter().any(|reason| reason == "refused"), "{answer:?}: {:?}", rig.reasons("app"));
        assert_eq!(rig.haproxy.model(|m| m.weights("other")), [7], "the others are set");
        assert_eq!(rig.down(), None);
        rig.haproxy.model(|m| m.server("app", "green").quirk = None);
        rig.until_weights("app", &[100, 50]).await?;
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_disabled_backend_is_reported_and_the_others_are_set() -> anyhow::Result<()> {
    let mut rig = Rig::start(model("roundrobin").and("other", "roundrobin", &[("a", 1)]))?;
    rig.haproxy.model(|m| m.backends.get_mut("app").expect("the reason is reported").disabled = true);
    rig.desire(&[("app", &weights(&SHIFT)), ("other", &weights(&[("a", 7)]))])?;
    rig.until_heard("set server app/green weight 100").await?;
    rig.never_converges("app", &[100, 0]).await?;
    assert!(rig.reasons("app").iter().any(|reason| reason == "refused"));
    assert_eq!(rig.haproxy.model(|m| m.weights("other")), [7]);
    rig.end().await
}

#[tokio::test]
async fn a_lost_answer_to_a_set_is_replaced_by_a_read_back() -> anyhow::Result<()> {
    for runs in [true, false] {
        let mut rig = Rig::start(model("hdr"))?;
        let mut lost = 0;
        rig.haproxy.script(move |line, model| {
            if !line.contains("set server") || lost == 3 {
                return None;
            }
            lost += 1;
            if runs {
                model.answer(line);
            }
            Some(Reply::Closed)
        });
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_weights("app", &[0, 100]).await?;
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn hundreds_of_servers_are_sent_in_lines_within_haproxys_limit() -> anyhow::Result<()> {
    for algorithm in ["roundrobin", "hdr"] {
        let names: Vec<String> = (0..500).map(|n| format!("a-server-with-a-long-name-{n:03}")).collect();
        let servers = names.iter().enumerate().map(|(n, s)| (s.as_str(), if n % 2 == 0 { 100 } else { 0 }));
        let servers: Vec<(&str, u16)> = servers.collect();
        let shifted: Vec<_> = servers.iter().map(|(s, w)| (*s, 100 - w)).collect();
        let mut rig = Rig::start(Model::with("a-backend-with-a-long-name", algorithm, &servers))?;
        rig.desire(&[("a-backend-with-a-long-name", &weights(&shifted))])?;
        let expected: Vec<u16> = shifted.iter().map(|(_, w)| *w).collect();
        rig.until_weights("a-backend-with-a-long-name", &expected).await?;
        assert!(
            rig.haproxy.model(|m| m.lines.iter().map(String::len).max()) > Some(3000),
            "lines are as long as possible"
        );
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_writer_that_reverts_every_line_at_once_causes_no_busy_loop() -> anyhow::Result<()> {
    for algorithm in ["roundrobin", "hdr"] {
        let mut rig = Rig::start(model(algorithm))?;
        rig.haproxy.script(|line, model| {
            // After every set, another writer changes the weight before the read-back.
            let (set, read_back) = line.strip_prefix("set server app/").and_then(|rest| rest.split_once(';'))?;
            let other = if set.starts_with("blue") { "green" } else { "blue" };
            let answer = model.answer(&format!("set server app/{set}\n"));
            let weight = &mut model.server("app", other).weight;
            *weight = if *weight == 55 { 56 } else { 55 };
            Some(Reply::text(answer + &model.answer(read_back)))
        });
        rig.desire(&[("app", &weights(&[("blue", 100), ("green", 30)]))])?;
        rig.until_heard("set server app/").await?;
        let before = rig.haproxy.model(|m| m.lines.len());
        tokio::time::sleep(A_WHILE).await;
        let lines = rig.haproxy.model(|m| m.lines.len()) - before;
        assert!(lines < 200, "{lines} lines in {A_WHILE:?}");
        rig.stop.cancel();
        tokio::time::timeout(SOON, &mut rig.task).await??;
    }
    Ok(())
}
