//! If a share differs from the weights, status shows the reason, and the log has it once per HAProxy process.

use anyhow::ensure;

use crate::{
    common::{SOON, becomes, converged, lines, metric, put, reason, servers},
    harness::{config, eventually, weightd::Settings},
};

/// One backend for each reason, with the reason's code.
const INEXACT: [(&str, &str, &[&str], &str); 6] = [
    ("least", "leastconn", &["balance leastconn"], ""),
    ("fills", "first", &["balance first"], ""),
    ("hashed", "hash", &["balance hdr(X-User)", "hash-type consistent"], ""),
    ("asked", "agent_check", &["balance roundrobin"], "agent-check agent-port 9 agent-inter 60s"),
    ("cookies", "cookie", &["balance roundrobin", "cookie SRV insert indirect nocache"], "cookie x"),
    ("sticks", "stick_table", &["balance roundrobin", "stick-table type ip size 1k expire 1m", "stick on src"], ""),
];

fn body(name: &str, lines: &[&str], options: &str) -> String {
    config::backend(name, lines, &[("blue", 9, 100), ("green", 9, 0)], options)
}

#[tokio::test]
async fn inexact_shares_are_logged_once_per_process_and_do_not_prevent_convergence() -> anyhow::Result<()> {
    let mut all: String = INEXACT.iter().map(|(name, _, lines, options)| body(name, lines, options)).collect();
    all += &body("plain", &["balance roundrobin"], "");
    let (consul, mut haproxy) = servers(&all).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    let names = || INEXACT.iter().map(|(name, ..)| *name).chain(["plain"]);
    for name in names() {
        put(&consul, name, 90, 10).await?;
    }
    for (name, word, ..) in INEXACT {
        reason(&weightd, name, word).await?;
    }
    becomes(&haproxy, "plain", 90, 10).await?;
    converged(&weightd).await?;
    for (name, word, ..) in INEXACT {
        let status = weightd.backend(name).await?;
        assert_eq!(
            (status["state"].as_str(), status["reasons"].as_array().map(Vec::len)),
            (Some("converged"), Some(1))
        );
        assert_eq!(metric(&weightd, "weightd_backend_reasons", &format!(",reason=\"{word}\"")).await?, 1);
        assert_eq!(lines(&weightd, &["hint=", &format!("reason={word}"), &format!("backends={name}")]).len(), 1);
    }
    assert_eq!(weightd.backend("plain").await?["reasons"].as_array().map(Vec::len), Some(0));

    haproxy.reload_again().await?;
    for (_, word, ..) in INEXACT {
        eventually(SOON, "it is logged again for another process", async || {
            let logged = lines(&weightd, &[&format!("reason={word}")]);
            ensure!(logged.len() == 2, "{logged:#?}");
            Ok(())
        })
        .await?;
    }

    // Without the cause, the shares are exact.
    haproxy.reload(&names().map(|name| body(name, &["balance roundrobin"], "")).collect::<String>()).await?;
    eventually(SOON, "all shares are exact", async || {
        for name in names() {
            let status = weightd.backend(name).await?;
            ensure!(status["reasons"].as_array().is_some_and(Vec::is_empty), "{status}");
        }
        Ok(())
    })
    .await?;
    assert!(lines(&weightd, &["reason no longer applies"]).is_empty(), "{}", weightd.log());
    converged(&weightd).await
}

#[tokio::test]
async fn a_hundred_backends_with_the_same_algorithm_share_one_log_line() -> anyhow::Result<()> {
    let many = |number| body(&format!("app{number:03}"), &["balance leastconn"], "");
    let (consul, haproxy) = servers(&(0..100).map(many).collect::<String>()).await?;
    for number in 0..100 {
        put(&consul, &format!("app{number:03}"), 90, 10).await?;
    }
    let weightd = Settings::new(&consul, &haproxy).start().await?;
    converged(&weightd).await?;
    let logged = lines(&weightd, &["reason=leastconn"]);
    assert_eq!(logged.len(), 1, "{logged:#?}");
    assert!(logged[0].contains("app000, app001, app002, app003, app004 and 95 more"), "{logged:#?}");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_enabled_at_runtime_is_reported() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&body("app", &["balance roundrobin"], "agent-check agent-port 9")).await?;
    haproxy.command("disable agent app/blue;disable agent app/green").await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    put(&consul, "app", 90, 10).await?;
    becomes(&haproxy, "app", 90, 10).await?;
    converged(&weightd).await?;
    assert_eq!(weightd.backend("app").await?["reasons"].as_array().map(Vec::len), Some(0));
    haproxy.command("enable agent app/blue").await?;
    reason(&weightd, "app", "agent_check").await.map(drop)
}
