use std::collections::BTreeSet;

use super::{Block, Counters, Instance, SlotCounts, Sums, Viewed};
use crate::fleet::NodeName;

impl Counters {
    /// Two statements that cannot both be true, if there are any.
    pub(super) fn contradiction(&self, node: &NodeName) -> Option<String> {
        if self.node != *node {
            return Some(format!("it is of node {}", self.node));
        }
        let mut names = BTreeSet::new();
        let once = self.backends.iter().map(|counted| &counted.backend).chain(&self.lacks);
        if let Some(twice) = once.into_iter().find(|name| !names.insert(*name)) {
            return Some(format!("backend {twice} is listed twice"));
        }
        for counted in &self.backends {
            let mut instances = BTreeSet::new();
            if counted.instances.iter().any(|instance| !instances.insert(&instance.name)) {
                return Some(format!("a HAProxy is listed twice for backend {}", counted.backend));
            }
            for instance in &counted.instances {
                if let Some(what) = in_instance(instance, self.at) {
                    return Some(format!("backend {} in HAProxy {}: {what}", counted.backend, instance.name));
                }
            }
        }
        None
    }
}

fn in_instance(instance: &Instance, at: u64) -> Option<String> {
    let mut servers = BTreeSet::new();
    if let Some(twice) = instance.servers.iter().find(|server| !servers.insert(&server.name)) {
        return Some(format!("server {} is listed twice", twice.name));
    }
    let mut views = BTreeSet::new();
    if let Some(twice) = instance.views.iter().find(|view| !views.insert(view.id)) {
        return Some(format!("view {} is listed twice", twice.id));
    }
    instance.views.iter().find_map(|view| in_view(view, at).map(|what| format!("view {}: {what}", view.id)))
}

fn in_view(view: &Viewed, at: u64) -> Option<String> {
    for (row, now) in &view.now {
        if now.usable > now.total {
            return Some(format!("{row} has more usable servers than servers"));
        }
        if !(0.0..=100.0).contains(&now.share) {
            return Some(format!("{row} has a share of {}", now.share));
        }
    }
    if view.blocks.len() > Counters::MAX_BLOCKS || view.slots.len() > Counters::MAX_SLOTS {
        return Some("it has more blocks or slots than there can be".to_owned());
    }
    let mut before: Option<&Block> = None;
    for block in &view.blocks {
        if let Some(what) = in_block(block, before, at) {
            return Some(format!("block {}: {what}", block.k));
        }
        before = Some(block);
    }
    if view.slots.windows(2).any(|pair| pair[0].k >= pair[1].k) {
        return Some("its slots are not in order".to_owned());
    }
    let begins = |k: u64, seconds: u64| k.saturating_mul(seconds).saturating_mul(1000);
    view.slots.iter().find_map(|slot| {
        if begins(slot.k, Counters::SLOT_SECONDS) > at {
            return Some(format!("slot {} has not begun", slot.k));
        }
        let wrong = in_slot(&slot.from).or_else(|| in_slot(&slot.to))?;
        Some(format!("slot {}: {wrong}", slot.k))
    })
}

fn in_block(block: &Block, before: Option<&Block>, at: u64) -> Option<String> {
    if block.k.saturating_add(1).saturating_mul(Counters::BLOCK_SECONDS).saturating_mul(1000) > at {
        return Some("it has not ended".to_owned());
    }
    if let Some(before) = before {
        if before.k >= block.k || block.covers != block.k - before.k {
            return Some(format!("it does not follow block {}", before.k));
        }
        let backwards =
            |(row, sums): (&String, &Sums)| before.sums.get(row).is_some_and(|was| sums.since(*was).is_none());
        if block.sums.iter().any(backwards) || block.unserved < before.unserved {
            return Some("its sums went backwards".to_owned());
        }
    }
    block.sums.iter().find_map(|(row, sums)| in_sums(sums).map(|what| format!("{row}: {what}")))
}

fn in_sums(sums: &Sums) -> Option<&'static str> {
    if sums.completed < sums.answered {
        return Some("more answers than requests that ended");
    }
    if sums.refused.saturating_add(sums.redirected).saturating_add(sums.status_5xx) > sums.answered {
        return Some("more answers by status than answers");
    }
    if sums.errors > sums.requests {
        return Some("more errors than requests");
    }
    (sums.masked > sums.attempts).then_some("more masked attempts than attempts")
}

/// A slot may well have more errors than requests: an answer that began in the slot before breaks off in this one.
fn in_slot(slot: &SlotCounts) -> Option<&'static str> {
    (slot.refused.saturating_add(slot.redirected) > slot.answered).then_some("more answers by status than answers")
}
