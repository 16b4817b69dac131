//! The effect of a weight depends on the balance algorithm. No algorithm may cost a request.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::{
    common::{becomes, converged, instance, is, key, lines, metric, put, reason, stays},
    harness::{
        Apps, Consul, Haproxy, Port, Traffic, Weightd, always, config, eventually, traffic::Rate, weightd::Settings,
    },
};

/// One backend per algorithm, with traffic. All traffic goes to blue.
struct Site {
    consul: Consul,
    haproxy: Haproxy,
    apps: Apps,
    traffic: Vec<Traffic>,
    names: Vec<&'static str>,
    _ports: Vec<Port>,
}

impl Site {
    async fn start(algorithms: &[(&'static str, &[&str])]) -> anyhow::Result<Self> {
        let apps = Apps::start().await?;
        let sides = [("blue", apps.blue.port(), 100), ("green", apps.green.port(), 0)];
        let ports = algorithms.iter().map(|_| Port::free()).collect::<Result<Vec<_>, _>>()?;
        let mut body = String::new();
        for ((name, lines), port) in algorithms.iter().zip(&ports) {
            body += &config::frontend(port.number(), name);
            body += &config::backend(name, lines, &sides, "");
        }
        let (consul, haproxy) = tokio::try_join!(Consul::start(), Haproxy::start(&body))?;
        let traffic = ports.iter().map(|port| Traffic::start(port.number(), Rate { kept: 50, fresh: 50 })).collect();
        let names = algorithms.iter().map(|(name, _)| *name).collect();
        Ok(Self { consul, haproxy, apps, traffic, names, _ports: ports })
    }

    async fn put(&self, blue: u32, green: u32) -> anyhow::Result<()> {
        for name in &self.names {
            put(&self.consul, name, blue, green).await?;
        }
        Ok(())
    }

    /// Waits until each backend has answered this many more requests, and fails if a request failed.
    async fn serves(&self) -> anyhow::Result<()> {
        let before = self.traffic.iter().map(Traffic::count).collect::<Vec<_>>();
        for (traffic, before) in self.traffic.iter().zip(&before) {
            eventually(Duration::from_secs(10), "requests are answered", async || {
                let count = traffic.since(before);
                ensure!(count.answered() + count.failed > 50, "{count:?}");
                Ok(())
            })
            .await?;
            traffic.count().expect_no_failure()?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_static_algorithm_is_unsupported_fails_no_request_and_is_not_retried_endlessly() -> anyhow::Result<()> {
    let algorithms: [(&str, &[&str]); 2] = [("source", &["balance source"]), ("static-rr", &["balance static-rr"])];
    let site = Site::start(&algorithms).await?;
    let weightd = Settings::new(&site.consul, &site.haproxy)
        .set("reconcile.resync", "1s")
        .env("WEIGHTD_LOG", "debug")
        .start()
        .await?;
    site.put(0, 100).await?;
    for name in &site.names {
        let reason = reason(&weightd, name, "unsupported").await?;
        assert!(reason["remedy"].as_str().is_some_and(|remedy| remedy.contains("balance roundrobin")), "{reason}");
        let status = weightd.backend(name).await?;
        assert_eq!(status["state"], "unsupported");
        assert!(weightd.logs_contain(&[" WARN", "reason=unsupported", "hint=", &format!("backend={name}")]));
    }
    assert_eq!(metric(&weightd, "weightd_backend_reasons", ",reason=\"unsupported\"").await?, 2);
    assert_eq!(instance(&weightd, 0).await?["converged"], false);

    let refused = lines(&weightd, &["a weight was refused"]).len();
    always(Duration::from_secs(3), "no weight is set to 0 and nothing is retried", async || {
        for name in &site.names {
            is(&site.haproxy, name, 100, 0).await?;
        }
        let now = lines(&weightd, &["a weight was refused"]).len();
        ensure!(now == refused && now <= 2 * site.names.len(), "{now} refusals, {refused} before");
        Ok(())
    })
    .await?;
    assert_eq!(lines(&weightd, &["reason=unsupported"]).len(), 2, "logged once each");
    site.serves().await?;

    // A weight that equals HAProxy's present one is accepted with any algorithm.
    site.put(100, 0).await?;
    converged(&weightd).await
}

#[tokio::test]
async fn weights_that_a_static_algorithm_accepts_are_set_and_a_reload_with_another_algorithm_sets_the_rest()
-> anyhow::Result<()> {
    let site = Site::start(&[("source", &["balance source"])]).await?;
    let weightd = Weightd::start(&site.consul, &site.haproxy).await?;
    put(&site.consul, "source", 50, 50).await?;
    reason(&weightd, "source", "unsupported").await?;
    let sides = [("blue", site.apps.blue.port(), 100), ("green", site.apps.green.port(), 0)];
    let mut haproxy = site.haproxy;
    haproxy.reload(&config::backend("source", &["balance roundrobin"], &sides, "")).await?;
    becomes(&haproxy, "source", 50, 50).await?;
    converged(&weightd).await
}

#[tokio::test]
async fn a_swap_costs_no_request_on_any_dynamic_algorithm() -> anyhow::Result<()> {
    let algorithms: [(&str, &[&str]); 6] = [
        ("roundrobin", &["balance roundrobin"]),
        ("leastconn", &["balance leastconn"]),
        ("first", &["balance first"]),
        ("random", &["balance random"]),
        ("source", &["balance source", "hash-type consistent"]),
        ("uri", &["balance uri", "hash-type consistent"]),
    ];
    let site = Site::start(&algorithms).await?;
    let weightd = Weightd::start(&site.consul, &site.haproxy).await?;
    for (blue, green) in [(0, 100), (100, 0), (0, 256), (50, 50)] {
        site.put(blue, green).await?;
        for name in &site.names {
            becomes(&site.haproxy, name, blue, green).await?;
        }
        site.serves().await?;
    }
    converged(&weightd).await
}

#[tokio::test]
async fn a_weight_is_lowered_to_zero_in_its_own_stage_unless_the_algorithm_is_known_to_be_dynamic() -> anyhow::Result<()>
{
    let algorithms: [(&str, &[&str]); 4] = [
        ("roundrobin", &["balance roundrobin"]),
        ("leastconn", &["balance leastconn"]),
        ("random", &["balance random"]),
        ("source", &["balance source", "hash-type consistent"]),
    ];
    let site = Site::start(&algorithms).await?;
    site.put(0, 100).await?;
    let weightd = Settings::new(&site.consul, &site.haproxy).set("mode", "observe").start().await?;
    let together = "blue 100 → 0, green 0 → 100";
    let apart = "green 0 → 100; then blue 100 → 0";
    for (name, plans) in [
        ("roundrobin", [together, "green 0 → 100, blue 100 → 0"]),
        ("leastconn", [together, "green 0 → 100, blue 100 → 0"]),
        ("random", [apart, apart]),
        ("source", [apart, apart]),
    ] {
        eventually(crate::common::SOON, name, async || {
            let would = weightd.backend(name).await?["would"].take();
            ensure!(plans.iter().any(|plan| would == *plan), "{would}");
            Ok(())
        })
        .await?;
        stays(&site.haproxy, name, 100, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_disabled_backend_that_haproxy_refuses_is_reported() -> anyhow::Result<()> {
    let body = config::backend("app", &["disabled"], &[("blue", 9, 100), ("green", 9, 0)], "")
        + &crate::common::backend("other", 100, 0);
    let (consul, haproxy) = crate::common::servers(&body).await?;
    let weightd = Settings::new(&consul, &haproxy).set("reconcile.resync", "1s").start().await?;
    put(&consul, "app", 50, 50).await?;
    let reason = reason(&weightd, "app", "refused").await?;
    assert!(reason["detail"].as_str().is_some_and(|detail| detail.contains("disabled")), "{reason}");
    // weightd corrects the other backend, and logs nothing twice.
    consul.put(&key("other"), json!({ "weights": { "blue": 9 } }).to_string()).await?;
    becomes(&haproxy, "other", 9, 0).await?;
    stays(&haproxy, "app", 100, 0).await?;
    assert_eq!(lines(&weightd, &["reason=refused"]).len(), 1, "{}", weightd.log());
    Ok(())
}
