//! The metrics of the controller and their text format. Names and labels are stable; docs/metrics.md lists them.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use weightd_core::{
    model::Timestamp,
    rollout::{EventKind, Phase},
};

use super::{leader::Seen, sources::Sources, webhooks::Webhooks};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBackend {
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    backend: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWebhook {
    webhook: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    commit: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// All metrics of the controller.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    leads: Gauge,
    follows: Gauge,
    rollouts: Family<ByPhase, Gauge>,
    unreadable: Gauge,
    evidence: Family<ByBackend, FloatGauge>,
    share: Family<ByBackend, FloatGauge>,
    good: Family<ByBackend, Gauge>,
    holding: Family<ByReason, Gauge>,
    events: Family<ByKind, Counter>,
    transactions: Family<ByResult, Counter>,
    tick: FloatGauge,
    answers: Family<BySource, Gauge>,
    deliveries: Family<ByWebhook, Gauge>,
    sources: Arc<Sources>,
    webhooks: Arc<Webhooks>,
}

impl Metrics {
    pub(super) fn new(sources: Arc<Sources>, webhooks: Arc<Webhooks>) -> Self {
        let mut registry = Registry::with_prefix("rolloutd");
        let build = Family::<Build, Gauge>::default();
        registry.register("build_info", "The version of rolloutd", build.clone());
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), commit: crate::COMMIT }).set(1);
        let metrics = Self {
            leads: Gauge::default(),
            follows: Gauge::default(),
            rollouts: Family::default(),
            unreadable: Gauge::default(),
            evidence: Family::default(),
            share: Family::default(),
            good: Family::default(),
            holding: Family::default(),
            events: Family::default(),
            transactions: Family::default(),
            tick: FloatGauge::default(),
            answers: Family::default(),
            deliveries: Family::default(),
            sources,
            webhooks,
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("leader", "Whether this controller leads", self.leads.clone());
        r.register("consul_followed", "Whether the leader can follow Consul", self.follows.clone());
        r.register("rollouts", "Rollouts by phase, ended ones included", self.rollouts.clone());
        r.register("rollouts_unreadable", "Rollouts that this controller cannot read", self.unreadable.clone());
        r.register("evidence", "Evidence against the new side; 100 is a verdict", self.evidence.clone());
        r.register("share_percent", "The share of the new side in the document", self.share.clone());
        r.register_with_unit("good", "Good seconds of the present step", Unit::Seconds, self.good.clone());
        r.register("holding", "1 for each reason why a rollout does not go on", self.holding.clone());
        r.register("events", "What happened in rollouts", self.events.clone());
        r.register("transactions", "Transactions of the leader by their result", self.transactions.clone());
        r.register_with_unit("tick", "How long the last look at all rollouts took", Unit::Seconds, self.tick.clone());
        r.register("source_answers", "Answers of metrics systems since the start, by result", self.answers.clone());
        r.register("webhook_messages", "Messages to webhooks since the start, by result", self.deliveries.clone());
        self
    }

    pub(super) fn event(&self, kind: EventKind) {
        self.events.get_or_create(&ByKind { event: kind.as_str() }).inc();
    }

    pub(super) fn transaction(&self, result: &'static str) {
        self.transactions.get_or_create(&ByResult { result }).inc();
    }

    /// What sources and webhooks count themselves.
    fn outside(&self) {
        let set = |gauge: &Gauge, count: u64| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        for ((source, result), count) in self.sources.results() {
            set(&self.answers.get_or_create(&BySource { source, result }), count);
        }
        for (webhook, deliveries) in self.webhooks.deliveries() {
            let by = |result| ByWebhook { webhook: webhook.clone(), result };
            set(&self.deliveries.get_or_create(&by("sent")), deliveries.sent);
            set(&self.deliveries.get_or_create(&by("failed")), deliveries.failed);
            set(&self.deliveries.get_or_create(&by("dropped")), deliveries.dropped);
        }
    }

    /// The text of /metrics. `seen` is none while this controller does not lead.
    ///
    /// # Errors
    /// Of the formatter.
    pub(super) fn text(&self, seen: Option<&Seen>, now: Timestamp) -> Result<String, std::fmt::Error> {
        self.leads.set(i64::from(seen.is_some()));
        self.follows.set(i64::from(seen.is_some_and(|seen| seen.failed.is_none())));
        for phase in Phase::ALL {
            let count = |seen: &Seen| seen.rollouts.values().filter(|(state, _)| state.phase == phase).count();
            let count = i64::try_from(seen.map_or(0, count)).unwrap_or(i64::MAX);
            self.rollouts.get_or_create(&ByPhase { phase: phase.as_str() }).set(count);
        }
        self.unreadable.set(i64::try_from(seen.map_or(0, |seen| seen.unreadable.len())).unwrap_or(i64::MAX));
        self.evidence.clear();
        self.share.clear();
        self.good.clear();
        self.holding.clear();
        let rollouts = seen.into_iter().flat_map(|seen| &seen.rollouts);
        for (backend, (state, shown)) in rollouts.filter(|(_, (state, _))| !state.phase.is_final()) {
            let by = ByBackend { backend: backend.to_string() };
            self.share.get_or_create(&by).set(state.share.percent());
            if !shown.is_fresh(now) {
                continue;
            }
            self.evidence.get_or_create(&by).set(shown.evidence);
            self.good.get_or_create(&by).set(i64::try_from(shown.good).unwrap_or(i64::MAX));
            for held in &shown.holding {
                let by = ByReason { backend: backend.to_string(), reason: held.word.clone() };
                self.holding.get_or_create(&by).set(1);
            }
        }
        self.outside();
        self.tick.set(seen.map_or(0.0, |seen| seen.took.as_secs_f64()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
