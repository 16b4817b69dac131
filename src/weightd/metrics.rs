//! Counters and their text form. Names and labels are stable; the README lists them.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use weightd_core::{
    backend::Cause,
    reasons,
    wire::status::{LinkState, ProcessState, Status, Word},
};

/// One HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByInstance {
    haproxy: String,
}

/// One HAProxy and a word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    haproxy: String,
    reason: String,
}

/// One root of keys. All HAProxy instances that follow the same one share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoot {
    root: String,
}

/// One root and a word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRootReason {
    root: String,
    reason: String,
}

/// One HAProxy and why a weight was set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhy {
    haproxy: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    commit: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    weight_changes: Family<ByWhy, Counter>,
    haproxy_errors: Family<ByReason, Counter>,
    haproxy_processes: Family<ByInstance, Counter>,
    persist_errors: Family<ByInstance, Counter>,
    sync: Family<ByInstance, Histogram>,
    drift_corrections: Family<ByInstance, Counter>,
    consul_requests: Family<ByRoot, Counter>,
    consul_errors: Family<ByRootReason, Counter>,
    consul_up: Family<ByRoot, Gauge>,
    consul_read_age: Family<ByRoot, FloatGauge>,
    consul_index: Family<ByRoot, Gauge>,
    haproxy_up: Family<ByInstance, Gauge>,
    converged: Family<ByInstance, Gauge>,
    backends: Family<ByInstance, Gauge>,
    backend_reasons: Family<ByReason, Gauge>,
    paused_backends: Family<ByInstance, Gauge>,
    rejected_keys: Family<ByInstance, Gauge>,
    observe_only: Gauge,
    reload_successful: Gauge,
}

/// From half a millisecond to what a storm or a slow Consul makes of it.
const SYNC_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("weightd");
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), commit: crate::COMMIT }).set(1);
        registry.register("build_info", "1, with the version and the commit as labels", build);
        macro_rules! register {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                registry.register($name, $help, Clone::clone(&metric));
                metric
            }};
        }
        let sync: Family<ByInstance, Histogram> = Family::new_with_constructor(|| Histogram::new(SYNC_BUCKETS));
        registry.register_with_unit(
            "sync",
            "From Consul's answer to a weight read back from HAProxy, for changed documents",
            Unit::Seconds,
            sync.clone(),
        );
        let consul_read_age: Family<ByRoot, FloatGauge> = Family::default();
        registry.register_with_unit(
            "consul_last_read_age",
            "How old the last good answer of Consul is; +Inf before the first",
            Unit::Seconds,
            consul_read_age.clone(),
        );
        let weight_changes = register!("weight_changes", "Weights set and read back, by why");
        let drift_corrections =
            register!("drift_corrections", "Times a backend was corrected that something else had changed");
        let haproxy_errors = register!("haproxy_errors", "Exchanges with HAProxy that failed, by reason");
        let haproxy_processes = register!("haproxy_processes", "HAProxy processes seen: one more for each reload");
        let persist_errors = register!("state_persist_errors", "Times the state could not be written to disk");
        let consul_requests = register!("consul_requests", "Requests sent to Consul");
        let consul_errors = register!("consul_errors", "Requests to Consul without a usable answer, by reason");
        let consul_up = register!("consul_up", "1 while Consul gives usable answers");
        let consul_index = register!("consul_index", "X-Consul-Index of the last good answer");
        let haproxy_up = register!("haproxy_up", "1 while HAProxy answers and its weights can be set");
        let converged = register!("converged", "1 while every weight is as Consul says");
        let backends = register!("backends", "Backends that are managed");
        let backend_reasons = register!("backend_reasons", "Backends by reason for not being simply as Consul says");
        let paused_backends = register!("paused_backends", "Managed backends that are paused");
        let rejected_keys = register!("rejected_keys", "Keys in Consul that are rejected, backends and stray keys");
        let reload_successful: Gauge = Gauge::default();
        // What was read at the start was good.
        reload_successful.set(1);
        registry.register(
            "config_last_reload_successful",
            "0 if the configuration that SIGHUP asked for could not be used",
            reload_successful.clone(),
        );
        let observe_only = register!("observe_only", "1 in mode observe, in which nothing is ever set");
        Self {
            registry,
            weight_changes,
            haproxy_errors,
            haproxy_processes,
            persist_errors,
            sync,
            drift_corrections,
            consul_requests,
            consul_errors,
            consul_up,
            consul_read_age,
            consul_index,
            haproxy_up,
            converged,
            backends,
            backend_reasons,
            paused_backends,
            rejected_keys,
            observe_only,
            reload_successful,
        }
    }

    /// The configuration was read again, or could not be.
    pub fn reloaded(&self, successful: bool) {
        self.reload_successful.set(i64::from(successful));
    }

    /// A weight was set and read back.
    pub fn weight_changed(&self, haproxy: &str, cause: Cause) {
        self.weight_changes.get_or_create(&ByWhy { haproxy: haproxy.to_owned(), why: cause.as_str() }).inc();
    }

    /// A changed document took this long from Consul's answer to HAProxy's read-back.
    pub fn synced(&self, haproxy: &str, after: Duration) {
        self.sync.get_or_create(&by(haproxy)).observe(after.as_secs_f64());
    }

    /// The state could not be written.
    pub fn persist_failed(&self, haproxy: &str) {
        self.persist_errors.get_or_create(&by(haproxy)).inc();
    }

    /// Everything in the text format of `OpenMetrics`, with the gauges from `status`.
    ///
    /// # Errors
    /// [`std::fmt::Error`], which does not happen in memory.
    pub fn text(&self, status: &Status) -> Result<String, std::fmt::Error> {
        self.observe_only.set(i64::from(status.mode == "observe"));
        for instance in &status.instances {
            let name = by(&instance.name);
            let (consul, haproxy) = (&instance.consul, &instance.haproxy);
            // What has not happened yet is a 0, not an absence: otherwise its first time shows no increase.
            drop(self.persist_errors.get_or_create(&name));
            // Instances that follow one root share its series.
            let root = ByRoot { root: instance.root.clone() };
            catch_up(&self.consul_requests.get_or_create(&root), consul.requests);
            for (reason, count) in &consul.errors {
                let label = ByRootReason { root: instance.root.clone(), reason: reason.to_string() };
                catch_up(&self.consul_errors.get_or_create(&label), *count);
            }
            self.consul_up.get_or_create(&root).set(i64::from(consul.state == LinkState::Following));
            self.consul_read_age.get_or_create(&root).set(consul.last_read_age_seconds.unwrap_or(f64::INFINITY));
            self.consul_index.get_or_create(&root).set(i64::try_from(consul.index).unwrap_or(i64::MAX));
            self.haproxy_up.get_or_create(&name).set(i64::from(haproxy.state == ProcessState::Up));
            for (reason, count) in &haproxy.errors {
                let label = by_reason(&instance.name, reason);
                catch_up(&self.haproxy_errors.get_or_create(&label), *count);
            }
            self.converged.get_or_create(&name).set(i64::from(instance.converged));
            let managed = instance.backends.iter().filter(|b| b.desired.is_some());
            let paused = managed.clone().filter(|b| b.paused.is_some());
            self.paused_backends.get_or_create(&name).set(i64::try_from(paused.count()).unwrap_or(i64::MAX));
            self.backends.get_or_create(&name).set(i64::try_from(managed.count()).unwrap_or(i64::MAX));
            catch_up(&self.haproxy_processes.get_or_create(&name), haproxy.processes_seen);
            catch_up(&self.drift_corrections.get_or_create(&name), instance.drift_corrections);
            for reason in reasons::WORDS {
                let with = instance.backends.iter().filter(|b| b.reasons.iter().any(|r| r.reason == reason)).count();
                let label = by_reason(&instance.name, &Word::Borrowed(reason));
                self.backend_reasons.get_or_create(&label).set(i64::try_from(with).unwrap_or(i64::MAX));
            }
            let rejected =
                instance.backends.iter().filter(|b| b.reasons.iter().any(|r| r.reason == "rejected")).count();
            let rejected = rejected + instance.stray_total;
            self.rejected_keys.get_or_create(&name).set(i64::try_from(rejected).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn by(haproxy: &str) -> ByInstance {
    ByInstance { haproxy: haproxy.to_owned() }
}

fn by_reason(haproxy: &str, reason: &Word) -> ByReason {
    ByReason { haproxy: haproxy.to_owned(), reason: reason.to_string() }
}

/// Raises a counter to what was counted elsewhere.
fn catch_up(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
