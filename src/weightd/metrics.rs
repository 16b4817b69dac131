//! The metrics and their text format. Names and labels are stable; docs/metrics.md lists them.

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

/// Label of one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByInstance {
    haproxy: String,
}

/// Labels of one HAProxy and a reason code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    haproxy: String,
    reason: String,
}

/// Label of one root of keys. All HAProxy instances with the same root share one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoot {
    root: String,
}

/// Labels of one root and a reason code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRootReason {
    root: String,
    reason: String,
}

/// Labels of one HAProxy and the cause of a weight change.
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

/// All metrics.
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
    fleet_published: Family<ByRoot, Gauge>,
    fleet_writes: Family<ByRoot, Counter>,
    fleet_errors: Family<ByRootReason, Counter>,
    observed_backends: Family<ByRoot, Gauge>,
    counters_writes: Family<ByRoot, Counter>,
    counters_errors: Family<ByRootReason, Counter>,
    haproxy_up: Family<ByInstance, Gauge>,
    converged: Family<ByInstance, Gauge>,
    backends: Family<ByInstance, Gauge>,
    backend_reasons: Family<ByReason, Gauge>,
    paused_backends: Family<ByInstance, Gauge>,
    rejected_keys: Family<ByInstance, Gauge>,
    observe_only: Gauge,
    reload_successful: Gauge,
}

/// In seconds: from the time of one exchange to the delay of many changes or a slow Consul.
const SYNC_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics with value 0.
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
            "Time from the answer of Consul to the weights read back from HAProxy, for changed documents",
            Unit::Seconds,
            sync.clone(),
        );
        let consul_read_age: Family<ByRoot, FloatGauge> = Family::default();
        registry.register_with_unit(
            "consul_last_read_age",
            "Age of the last usable answer of Consul; +Inf before the first one",
            Unit::Seconds,
            consul_read_age.clone(),
        );
        let weight_changes = register!("weight_changes", "Weights set and read back, by cause");
        let drift_corrections =
            register!("drift_corrections", "Corrections of a backend after another program changed its weights");
        let haproxy_errors = register!("haproxy_errors", "Failed exchanges with HAProxy, by reason");
        let haproxy_processes = register!("haproxy_processes", "HAProxy processes seen; each reload adds one");
        let persist_errors = register!("state_persist_errors", "Failed writes of the state to disk");
        let consul_requests = register!("consul_requests", "Requests sent to Consul");
        let consul_errors = register!("consul_errors", "Requests to Consul without a usable answer, by reason");
        let consul_up = register!("consul_up", "1 while Consul gives usable answers");
        let consul_index = register!("consul_index", "X-Consul-Index of the last usable answer");
        let fleet_published = register!("fleet_published", "1 while the key of this node in Consul is held");
        let fleet_writes = register!("fleet_writes", "Writes of the key of this node and of its inventory entry");
        let fleet_errors =
            register!("fleet_errors", "Requests for the keys of this node without a usable answer, by reason");
        let observed_backends =
            register!("observed_backends", "Backends on which this node reports, because somebody observes them");
        let counters_writes = register!("counters_writes", "Writes of the report on observed backends");
        let counters_errors = register!("counters_errors", "Writes of that report that failed, by reason");
        let haproxy_up = register!("haproxy_up", "1 while HAProxy answers and its weights can be set");
        let converged = register!("converged", "1 while every weight matches Consul");
        let backends = register!("backends", "Managed backends");
        let backend_reasons = register!("backend_reasons", "Backends by the reasons that status shows for them");
        let paused_backends = register!("paused_backends", "Managed backends that are paused");
        let rejected_keys = register!("rejected_keys", "Rejected keys in Consul: backends and stray keys");
        let reload_successful: Gauge = Gauge::default();
        // weightd starts only with a valid configuration.
        reload_successful.set(1);
        registry.register(
            "config_last_reload_successful",
            "0 if the last configuration reload failed",
            reload_successful.clone(),
        );
        let observe_only = register!("observe_only", "1 in mode observe, in which weightd sets no weight");
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
            fleet_published,
            fleet_writes,
            fleet_errors,
            observed_backends,
            counters_writes,
            counters_errors,
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

    /// Records the result of a configuration reload.
    pub fn reloaded(&self, successful: bool) {
        self.reload_successful.set(i64::from(successful));
    }

    /// Counts a weight that was set and read back.
    pub fn weight_changed(&self, haproxy: &str, cause: Cause) {
        self.weight_changes.get_or_create(&ByWhy { haproxy: haproxy.to_owned(), why: cause.as_str() }).inc();
    }

    /// Records the time from the answer of Consul to the read-back from HAProxy for a changed document.
    pub fn synced(&self, haproxy: &str, after: Duration) {
        self.sync.get_or_create(&instance_label(haproxy)).observe(after.as_secs_f64());
    }

    /// Counts a failed write of the state.
    pub fn persist_failed(&self, haproxy: &str) {
        self.persist_errors.get_or_create(&instance_label(haproxy)).inc();
    }

    /// Counts a write of the key of this node or of its inventory entry, below this root.
    pub fn fleet_written(&self, root: &str) {
        self.fleet_writes.get_or_create(&ByRoot { root: root.to_owned() }).inc();
    }

    /// Counts a failed request for the key of this node or for its inventory entry.
    pub fn fleet_failed(&self, root: &str, reason: &str) {
        self.fleet_errors.get_or_create(&ByRootReason { root: root.to_owned(), reason: reason.to_owned() }).inc();
    }

    /// Counts a write of the report on observed backends, below this root.
    pub fn counters_written(&self, root: &str) {
        self.counters_writes.get_or_create(&ByRoot { root: root.to_owned() }).inc();
    }

    /// Counts a write of that report that failed.
    pub fn counters_failed(&self, root: &str, reason: &str) {
        self.counters_errors.get_or_create(&ByRootReason { root: root.to_owned(), reason: reason.to_owned() }).inc();
    }

    /// Returns all metrics in the text format of `OpenMetrics`. The gauges get their values from `status`.
    ///
    /// # Errors
    /// [`std::fmt::Error`], which cannot occur for a string in memory.
    pub fn text(&self, status: &Status) -> Result<String, std::fmt::Error> {
        self.observe_only.set(i64::from(status.mode == "observe"));
        for instance in &status.instances {
            let name = instance_label(&instance.name);
            let (consul, haproxy) = (&instance.consul, &instance.haproxy);
            // Creates the series with 0: the first failure is then visible as an increase.
            drop(self.persist_errors.get_or_create(&name));
            // Instances that follow one root share its series.
            let root = ByRoot { root: instance.root.clone() };
            raise_to(&self.consul_requests.get_or_create(&root), consul.requests);
            for (reason, count) in &consul.errors {
                let label = ByRootReason { root: instance.root.clone(), reason: reason.to_string() };
                raise_to(&self.consul_errors.get_or_create(&label), *count);
            }
            self.consul_up.get_or_create(&root).set(i64::from(consul.state == LinkState::Following));
            self.consul_read_age.get_or_create(&root).set(consul.last_read_age_seconds.unwrap_or(f64::INFINITY));
            self.consul_index.get_or_create(&root).set(i64::try_from(consul.index).unwrap_or(i64::MAX));
            self.haproxy_up.get_or_create(&name).set(i64::from(haproxy.state == ProcessState::Up));
            for (reason, count) in &haproxy.errors {
                let label = reason_label(&instance.name, reason);
                raise_to(&self.haproxy_errors.get_or_create(&label), *count);
            }
            self.converged.get_or_create(&name).set(i64::from(instance.converged));
            let managed = instance.backends.iter().filter(|b| b.desired.is_some());
            let paused = managed.clone().filter(|b| b.paused.is_some());
            self.paused_backends.get_or_create(&name).set(i64::try_from(paused.count()).unwrap_or(i64::MAX));
            self.backends.get_or_create(&name).set(i64::try_from(managed.count()).unwrap_or(i64::MAX));
            raise_to(&self.haproxy_processes.get_or_create(&name), haproxy.processes_seen);
            raise_to(&self.drift_corrections.get_or_create(&name), instance.drift_corrections);
            for reason in reasons::WORDS {
                let with = instance.backends.iter().filter(|b| b.reasons.iter().any(|r| r.reason == reason)).count();
                let label = reason_label(&instance.name, &Word::Borrowed(reason));
                self.backend_reasons.get_or_create(&label).set(i64::try_from(with).unwrap_or(i64::MAX));
            }
            let rejected =
                instance.backends.iter().filter(|b| b.reasons.iter().any(|r| r.reason == "rejected")).count();
            let rejected = rejected + instance.stray_total;
            self.rejected_keys.get_or_create(&name).set(i64::try_from(rejected).unwrap_or(i64::MAX));
        }
        for fleet in &status.fleet {
            let root = ByRoot { root: fleet.root.clone() };
            self.fleet_published.get_or_create(&root).set(i64::from(fleet.state == "published"));
            drop(self.fleet_writes.get_or_create(&root));
            let observed = i64::try_from(fleet.counters.observed).unwrap_or(i64::MAX);
            self.observed_backends.get_or_create(&root).set(observed);
            drop(self.counters_writes.get_or_create(&root));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn instance_label(haproxy: &str) -> ByInstance {
    ByInstance { haproxy: haproxy.to_owned() }
}

fn reason_label(haproxy: &str, reason: &Word) -> ByReason {
    ByReason { haproxy: haproxy.to_owned(), reason: reason.to_string() }
}

/// Raises a counter to the value of another counter.
fn raise_to(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
