//! The process that answers: new ones, old ones, and several at once.

use super::*;

const SHIFT: [(&str, u16); 2] = [("blue", 0), ("green", 100)];

fn model() -> Model {
    Model::with("app", "roundrobin", &[("blue", 100), ("green", 0)])
}

#[tokio::test]
async fn another_pid_and_an_uptime_that_goes_back_are_new_processes() -> anyhow::Result<()> {
    for same_pid in [false, true] {
        let mut rig = Rig::start(model())?;
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_weights("app", &[0, 100]).await?;
        for seen in 2..5 {
            rig.haproxy.model(|m| {
                m.uptime = 100;
                m.reload();
                m.pid -= u32::from(same_pid);
                // The first process of a container has the same pid as the one before it.
                m.uptime = 99 - seen;
            });
            rig.until_weights("app", &[0, 100]).await?;
            assert_eq!(rig.session(|session| session.processes.seen), seen);
        }
        // Weights that a reload resets are no drift.
        assert_eq!(rig.session(|session| session.backends["app"].drift_corrections), 0);
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_between_the_reading_and_the_set_is_corrected_by_the_next_line() -> anyhow::Result<()> {
    for algorithm in ["roundrobin", "hdr"] {
        // In the observed state, only blue must be lowered: green has its weight. In the next process it does not.
        let mut rig = Rig::start(Model::with("app", algorithm, &[("blue", 100), ("green", 0)]))?;
        rig.haproxy.model(|m| m.server("app", "green").weight = 100);
        let mut reloaded = false;
        rig.haproxy.script(move |line, model| {
            if line.starts_with("set server app/blue weight 0") && !std::mem::replace(&mut reloaded, true) {
                // The fake judges by its last answer, but this process gave none. The client is not at fault.
                let known = model.violations.len();
                model.reload();
                let answer = model.answer(line);
                model.violations.truncate(known);
                return Some(Reply::text(answer));
            }
            None
        });
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_weights("app", &[0, 100]).await?;
        let lines = rig.haproxy.model(|m| m.lines.clone());
        let set = lines.iter().position(|line| line.starts_with("set server app/blue weight 0")).unwrap_or_default();
        assert!(lines[set + 1].starts_with("set server app/green weight 100"), "{lines:#?}");
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_of_an_old_process_is_not_used() -> anyhow::Result<()> {
    let mut rig = Rig::start(model())?;
    rig.desire(&[("app", &weights(&[("blue", 90), ("green", 10)]))])?;
    rig.until_weights("app", &[90, 10]).await?;
    rig.haproxy.model(|m| m.stopping = true);
    let asked = rig.haproxy.model(|m| m.lines.len());
    rig.desire(&[("app", &weights(&SHIFT))])?;
    eventually(SOON, "the document was read", async || {
        ensure!(!rig.converged(), "converged");
        Ok(())
    })
    .await?;
    always(A_WHILE, "nothing is set in an old process", async || {
        ensure!(rig.haproxy.model(|m| m.weights("app")) == [90, 10]);
        ensure!(!rig.haproxy.model(|m| m.received("weight 0")));
        ensure!(!rig.converged(), "converged");
        Ok(())
    })
    .await?;
    let asked = rig.haproxy.model(|m| m.lines.len()) - asked;
    assert!(asked < 120, "{asked} requests in {A_WHILE:?}");
    rig.haproxy.model(|m| {
        m.reload();
        m.stopping = false;
    });
    rig.until_weights("app", &[0, 100]).await?;
    rig.end().await
}

#[tokio::test]
async fn several_processes_behind_one_socket_are_refused_with_a_reason() -> anyhow::Result<()> {
    let mut rig = Rig::start(Model { processes: 2, ..model() })?;
    rig.desire(&[("app", &weights(&SHIFT))])?;
    rig.until_down("nbproc").await?;
    always(A_WHILE, "nothing is set", async || {
        ensure!(!rig.haproxy.model(|m| m.received("set server")));
        Ok(())
    })
    .await?;
    rig.haproxy.model(|m| {
        m.reload();
        m.processes = 1;
    });
    rig.until_weights("app", &[0, 100]).await?;
    rig.end().await
}

#[tokio::test]
async fn a_socket_with_a_low_level_is_reported_and_nothing_is_sent() -> anyhow::Result<()> {
    for level in ["operator", "user", "Permission denied"] {
        let mut rig = Rig::start(Model { level, ..model() })?;
        rig.desire(&[("app", &weights(&SHIFT))])?;
        rig.until_down("not_admin").await?;
        always(A_WHILE, "nothing is set", async || {
            ensure!(!rig.haproxy.model(|m| m.received("set server")));
            Ok(())
        })
        .await?;
        rig.haproxy.model(|m| {
            m.reload();
            m.level = "admin";
        });
        rig.until_weights("app", &[0, 100]).await?;
        rig.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_that_is_deleted_and_added_is_unmatched_and_matched() -> anyhow::Result<()> {
    let mut rig = Rig::start(Model::default())?;
    rig.desire(&[("app", &weights(&SHIFT))])?;
    eventually(SOON, "it is unmatched", async || {
        ensure!(rig.reasons("app") == ["unmatched_backend"], "{:?}", rig.reasons("app"));
        ensure!(rig.converged(), "which is normal");
        Ok(())
    })
    .await?;
    rig.haproxy.model(|m| {
        let lines = std::mem::take(&mut m.lines);
        *m = Model { pid: 78, lines, ..model() };
    });
    rig.until_weights("app", &[0, 100]).await?;
    rig.end().await
}
