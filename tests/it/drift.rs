//! What somebody else changes in HAProxy is put right, counted, and not fought over.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    common::{SOON, backend, becomes, converged, instance, is, lines, metric, put, reason, servers, state},
    harness::{Haproxy, Weightd, always, eventually, weightd::Settings},
};

/// Changes a weight by hand, and waits until it was corrected.
async fn corrected(haproxy: &Haproxy, weightd: &Weightd, weight: u32, number: u64) -> anyhow::Result<()> {
    haproxy.set_weight_by_hand("app", "green", weight).await?;
    // The resync comes every second, give or take a tenth.
    haproxy.until_weights("app", &[("blue", 100), ("green", 0)], Duration::from_secs(5)).await?;
    eventually(SOON, "it is counted", async || {
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
    // What nobody manages is nobody's drift.
    haproxy.set_weight_by_hand("other", "green", 50).await?;
    always(Duration::from_secs(2), "it is left alone", async || is(&haproxy, "other", 1, 50).await).await
}

#[tokio::test]
async fn the_third_correction_makes_it_contended_and_slow_but_a_new_document_acts_at_once() -> anyhow::Result<()> {
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
    always(Duration::from_secs(3), "it is not fought over", async || is(&haproxy, "app", 100, 30).await).await?;
    state(&weightd, "app", "contended").await?;
    assert_eq!(instance(&weightd, 0).await?["converged"], false);
    // Another backend is another matter.
    haproxy.set_weight_by_hand("other", "green", 30).await?;
    becomes(&haproxy, "other", 100, 0).await?;

    put(&consul, "app", 80, 20).await?;
    haproxy.until_weights("app", &[("blue", 80), ("green", 20)], Duration::from_secs(3)).await?;
    state(&weightd, "app", "contended").await?;
    // A new process begins anew.
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 80, 20).await?;
    state(&weightd, "app", "converged").await.map(drop)
}
