//! Invalid answers of HAProxy.

use super::*;

fn model() -> Model {
    Model::with("app", "roundrobin", &[("blue", 100), ("green", 0)])
}

/// Breaks all answers after `app` is in force. Expects that the fault is reported, changes no weight, and ends with the
/// script.
async fn survives(
    reason: &str,
    mut broken: impl FnMut(&str, &mut Model) -> Option<Reply> + Send + 'static,
) -> anyhow::Result<()> {
    let mut rig = Rig::start(model())?;
    rig.desire(&[("app", &weights(&[("blue", 90), ("green", 10)]))])?;
    rig.until_weights("app", &[90, 10]).await?;
    rig.haproxy.script(move |line, model| broken(line, model));
    rig.until_down(reason).await?;
    rig.desire(&[("app", &weights(&[("blue", 80), ("green", 20)]))])?;
    // The pause is long enough for every retry.
    always(A_WHILE, "HAProxy stays unusable", async || {
        ensure!(!rig.converged(), "converged");
        ensure!(rig.down() == Some(reason), "{:?}", rig.down());
        Ok(())
    })
    .await?;
    rig.haproxy.clear_script();
    rig.until_up().await?;
    rig.until_weights("app", &[80, 20]).await?;
    rig.end().await
}

#[tokio::test]
async fn an_unknown_text_is_no_answer_of_haproxy() -> anyhow::Result<()> {
    for garbage in ["220 smtp.example ESMTP\r\n", "\n", "", "\n\n\n\n\n\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "x\n\n"]
    {
        survives("not_haproxy", move |_, _| Some(Reply::text(garbage))).await?;
    }
    survives("not_haproxy", |_, _| Some(Reply::Bytes(vec![0xff; 1000]))).await
}

#[tokio::test]
async fn a_truncated_answer_is_invalid() -> anyhow::Result<()> {
    // The command may have been executed or not, wherever the answer is cut.
    for cut in [1, 2, 40, 200] {
        survives("not_haproxy", move |line, model| {
            let answer = model.answer(line);
            Some(Reply::text(&answer[..answer.len() - cut.min(answer.len() - 1)]))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn too_many_or_too_few_frames_are_invalid() -> anyhow::Result<()> {
    survives("not_haproxy", |line, model| Some(Reply::text(model.answer(line) + "\n"))).await?;
    survives("not_haproxy", |line, model| Some(Reply::text(model.answer(line) + "more\n\n"))).await?;
    survives("not_haproxy", |line, model| Some(Reply::text(format!("\n{}", model.answer(line))))).await
}

#[tokio::test]
async fn a_connection_that_closes_at_once_is_no_answer() -> anyhow::Result<()> {
    survives("not_haproxy", |_, _| Some(Reply::Closed)).await
}

#[tokio::test]
async fn an_answer_above_the_size_limit_is_abandoned() -> anyhow::Result<()> {
    survives("too_large", |_, _| Some(Reply::Flood(16 * 1024 * 1024 + 100_000))).await
}

#[tokio::test]
async fn a_missing_column_is_reported() -> anyhow::Result<()> {
    for column in ["srv_uweight", "srv_name", "srv_admin_state", "srv_check_state"] {
        let mut rig = Rig::start(model())?;
        rig.haproxy.model(|m| m.columns = m.columns.replace(column, "srv_other"));
        rig.desire(&[("app", &weights(&[("blue", 0), ("green", 100)]))])?;
        let detail = rig.until_unreadable("app").await?;
        assert!(detail.contains(column), "{detail}");
        assert!(!rig.haproxy.model(|m| m.received("set server")));
        rig.end().await?;
    }
    // Without the roles, it is unknown which servers are backups.
    for column in ["bck", "algo", "tracked"] {
        let mut rig = Rig::start(model())?;
        rig.haproxy.script(move |line, model| {
            let asked = line.contains("show stat");
            asked.then(|| Reply::text(model.answer(line).replace(column, "other")))
        });
        rig.desire(&[("app", &weights(&[("blue", 50), ("green", 50)]))])?;
        let detail = rig.until_unreadable("app").await?;
        assert!(detail.contains(column), "{detail}");
        assert!(!rig.haproxy.model(|m| m.received("set server")));
        rig.haproxy.clear_script();
        rig.until_weights("app", &[50, 50]).await?;
        rig.end().await?;
    }
    Ok(())
}

/// The rows belong to another backend.
#[tokio::test]
async fn an_unreadable_backend_blocks_no_other() -> anyhow::Result<()> {
    let mut rig = Rig::start(model().and("other", "roundrobin", &[("blue", 100), ("green", 0)]))?;
    rig.haproxy.script(|line, model| Some(Reply::Bytes(model.answer(line).replace("3 app ", "3 elsewhere ").into())));
    let both = weights(&[("blue", 40), ("green", 60)]);
    rig.desire(&[("app", &both), ("other", &both)])?;
    rig.until_unreadable("app").await?;
    rig.until_weights_of("other", &[40, 60]).await?;
    assert!(rig.down().is_none() && !rig.converged());
    rig.end().await
}

#[tokio::test]
async fn columns_are_found_by_their_names() -> anyhow::Result<()> {
    let mut rig = Rig::start(model())?;
    rig.haproxy.model(|m| {
        let mut columns: Vec<_> = m.columns.split_whitespace().rev().collect();
        columns.insert(3, "srv_new");
        columns.push("srv_newer");
        m.columns = columns.join(" ");
    });
    rig.desire(&[("app", &weights(&[("blue", 0), ("green", 100)]))])?;
    rig.until_weights("app", &[0, 100]).await?;
    rig.end().await
}

#[tokio::test]
async fn an_answer_in_single_bytes_is_valid() -> anyhow::Result<()> {
    let mut rig = Rig::start(model())?;
    rig.haproxy.script(|line, model| Some(Reply::Slices(model.answer(line).into_bytes())));
    rig.desire(&[("app", &weights(&[("blue", 0), ("green", 100)]))])?;
    rig.until_weights("app", &[0, 100]).await?;
    rig.end().await
}

#[tokio::test]
async fn a_hanging_haproxy_is_abandoned_after_two_seconds_and_asked_again() -> anyhow::Result<()> {
    for open in [false, true] {
        let mut rig = Rig::start(model())?;
        rig.desire(&[("app", &weights(&[("blue", 90), ("green", 10)]))])?;
        rig.until_weights("app", &[90, 10]).await?;
        rig.haproxy.script(move |line, model| {
            let answer = model.answer(line).into_bytes();
            Some(if open { Reply::Open(answer) } else { Reply::Hang })
        });
        let since = Instant::now();
        rig.until_down("timeout").await?;
        assert!(since.elapsed() > Duration::from_millis(1900) && since.elapsed() < Duration::from_secs(4));
        rig.haproxy.clear_script();
        rig.desire(&[("app", &weights(&[("blue", 80), ("green", 20)]))])?;
        rig.until_weights("app", &[80, 20]).await?;
        rig.end().await?;
    }
    Ok(())
}
