//! A weight that another program changes in HAProxy is corrected and counted. weightd does not compete with that
//! program endlessly.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    common::{SOON, backend, becomes, converged, instance, is, lines, metric, put, reason, servers, state},
    harness::{Haproxy, Weightd, always, eventually, weightd::Settings},
};

/// Changes a weight by hand, and waits until weightd has corrected it.
async fn corrected(haproxy: &Haproxy, weightd: &Weightd, weight: u32, number: u64) -> anyhow::Result<()> {
    haproxy.set_weight_by_hand("app", "green", weight).await?;
    // The resync interval is 1 s ± 10 %.
    haproxy.until_weights("app", &[("blue", 100), ("green", 0)], Duration::from_secs(5)).await?;
    eventually(SOON, "the correction is counted", async || {
        let app = weightd.backend("app").await?;
        ensure!(app["drift_corrections"] == number, "{app}");
        Ok(())
    })
    .await?;
    assert_eq!(metric(weightd, "weightd_drift_corrections_total", "").await?, number);
    Ok(())
}

#[tokio::test]
async fn a_hand_edit_is_corrected_within_the_resync_and_counted() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&(backend("app", 0, 100) + &backend("other", 1, 2))).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    put(&consul, "app", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    corrected(&haproxy, &weightd, 33, 1).await?;
    assert_eq!(metric(&weightd, "weightd_weight_changes_total", ",why=\"drift\"").await?, 1);
    let words = ["weight set", "backend=app", "server=green", "from=33", "to=0", "why=drift"];
    assert_eq!(lines(&weightd, &words).len(), 1, "{}", weightd.log());
    // A change of a backend without a document is no drift.
    haproxy.set_weight_by_hand("other", "green", 50).await?;
    always(Duration::from_secs(2), "the weight is not changed", async || is(&haproxy, "other", 1, 50).await).await
}

#[tokio::test]
async fn the_third_correction_makes_a_backend_contended_but_a_new_document_is_applied_at_once() -> anyhow::Result<()> {
    let (consul, mut haproxy) = servers(&(backend("app", 0, 100) + &backend("other", 0, 100))).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    put(&consul, "app", 100, 0).await?;
    put(&consul, "other", 100, 0).await?;
    becomes(&haproxy, "app", 100, 0).await?;
    becomes(&haproxy, "other", 100, 0).await?;
    converged(&weightd).await?;
    for number in 1..=3 {
        corrected(&haproxy, &weightd, 30, number).await?;
    }
    reason(&weightd, "app", "contended").await?;
    assert!(weightd.logs_contain(&[" WARN", "reason=contended", "hint=", "backend=app"]), "{}", weightd.log());
    assert_eq!(metric(&weightd, "weightd_backend_reasons", ",reason=\"contended\"").await?, 1);

    haproxy.set_weight_by_hand("app", "green", 30).await?;
    always(Duration::from_secs(3), "weightd does not correct it endlessly", async || {
        is(&haproxy, "app", 100, 30).await
    })
    .await?;
    state(&weightd, "app", "contended").await?;
    assert_eq!(instance(&weightd, 0).await?["converged"], false);
    // Another backend is not affected.
    haproxy.set_weight_by_hand("other", "green", 30).await?;
    becomes(&haproxy, "other", 100, 0).await?;

    put(&consul, "app", 80, 20).await?;
    haproxy.until_weights("app", &[("blue", 80), ("green", 20)], Duration::from_secs(3)).await?;
    state(&weightd, "app", "contended").await?;
    // A new HAProxy process resets the count.
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 80, 20).await?;
    state(&weightd, "app", "converged").await.map(drop)
}
