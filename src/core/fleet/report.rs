use std::{collections::BTreeMap, time::Duration};

use super::{Cut, How, InstanceReport, Mode, NodeName, NodeReport, Out, Recent};
use crate::model::{BackendName, Moment, Timestamp};

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub node: NodeName,
    /// The version of weightd with its commit.
    pub version: String,
    /// Whether it enforces.
    pub mode: Mode,
    /// The machine.
    pub machine: String,
    /// Random for this start.
    pub incarnation: String,
}

/// How one HAProxy stands with the document of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It was decided and read back; also a release, which sets nothing.
    Set,
    /// This HAProxy has no such backend.
    Lacks,
    /// It is not as desired: a word, such as `guarded`.
    Not(String),
}

/// What belongs to one answer of Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is that of a plain GET, and not of a blocking query.
    pub plain: bool,
    /// Whether Consul said that it hid keys.
    pub filtered: bool,
    /// When it came.
    pub now: Moment,
    /// The same by Consul's time.
    pub at: Option<Timestamp>,
}

/// What a node knows of the documents of one root, from which its report is built.
///
/// Reports of different roots share nothing: each follows the documents of its own root, on the HAProxy instances that follow it.
#[derive(Debug)]
pub struct Report {
    identity: Identity,
    instances: Vec<InstanceReport>,
    documents: BTreeMap<BackendName, Document>,
    /// Whether a plain GET has completed in this session.
    confirmed: bool,
    applied: Option<u64>,
    filtered: bool,
}

#[derive(Debug, Default)]
struct Document {
    /// Its index in the last answer; none if it was not there.
    index: Option<u64>,
    /// When it came with that index.
    came: Moment,
    /// The same by Consul's time.
    came_at: Option<Timestamp>,
    /// How each HAProxy stands, by name, and with which index.
    stands: BTreeMap<String, (u64, Stand)>,
    /// When a HAProxy last withdrew what it said, and the same by Consul's time.
    withdrawn: Option<(Moment, Option<Timestamp>)>,
    /// The last decision that was complete.
    decided: Option<(u64, How)>,
    /// Since when it is not as desired.
    out_since: Option<Timestamp>,
}

impl Document {
    /// Since when its stand is unknown, if it is: since it came, or since a HAProxy withdrew what it said.
    fn unknown_since(&self) -> (Moment, Option<Timestamp>) {
        self.withdrawn.filter(|(at, _)| *at > self.came).unwrap_or((self.came, self.came_at))
    }
}

impl Report {
    /// How long it may be unknown how a document stands before the report shows it as pending. A change that takes less is
    /// one write, and a difference that is corrected in less is none.
    pub const PENDING_AFTER: Duration = Duration::from_secs(1);

    /// A report of nothing. `instances` are the HAProxy instances that follow this root.
    pub fn new(identity: Identity, instances: Vec<InstanceReport>) -> Self {
        Self { identity, instances, documents: BTreeMap::new(), confirmed: false, applied: None, filtered: false }
    }

    /// A new session: what the old one knew may be of another Consul, so that nothing is reported of documents until a
    /// plain GET has completed.
    pub fn new_session(&mut self) {
        self.confirmed = false;
        self.applied = None;
        for document in self.documents.values_mut() {
            document.decided = None;
        }
    }

    /// A HAProxy changed; one of another name is ignored.
    pub fn instance(&mut self, now: InstanceReport) {
        if let Some(known) = self.instances.iter_mut().find(|known| known.name == now.name) {
            *known = now;
        }
    }

    /// Consul answered with these documents and their `ModifyIndex`.
    pub fn answer<'a>(&mut self, documents: impl IntoIterator<Item = (&'a BackendName, u64)>, answer: Answer) {
        let Answer { plain, filtered, now, at } = answer;
        self.confirmed |= plain;
        self.filtered = filtered;
        let mut before: BTreeMap<BackendName, u64> = BTreeMap::new();
        for (name, document) in &mut self.documents {
            if let Some(index) = document.index.take() {
                before.insert(name.clone(), index);
            }
        }
        let (mut highest, mut backwards) = (0, false);
        for (name, index) in documents {
            highest = highest.max(index);
            let document = self.documents.entry(name.clone()).or_default();
            let known = before.remove(name);
            if known != Some(index) {
                document.came = now;
                document.came_at = at;
            }
            backwards |= known.is_some_and(|known| index < known);
            if document.decided.as_ref().is_some_and(|(decided, _)| index < *decided) {
                document.decided = None;
            }
            document.index = Some(index);
        }
        // A rebuilt or restored Consul: the old index proves nothing about its documents.
        if backwards || self.applied.is_some_and(|applied| highest < applied) {
            self.applied = None;
        }
        self.settle();
    }

    /// One HAProxy decided about the document of that index and read it back, or says why not. `at` is Consul's time.
    pub fn stands(&mut self, instance: &str, backend: &BackendName, index: u64, stand: Stand, at: Option<Timestamp>) {
        let document = self.documents.entry(backend.clone()).or_default();
        document.stands.insert(instance.to_owned(), (index, stand));
        let summed = match document.index {
            Some(_) => how(&self.instances, document),
            None => last_stand(&self.instances, document),
        };
        match summed {
            Some(How::Not(_)) => document.out_since = document.out_since.or(at),
            Some(How::Set | How::Lacks) => document.out_since = None,
            None => {}
        }
        // Only this document: a reading of all backends calls this for each.
        if let (Some(index), Some(how)) = (document.index, how(&self.instances, document)) {
            document.decided = Some((index, how));
        }
    }

    /// It is unknown how one HAProxy stands with the document: it was not decided, or its weights differ. What it said before
    /// stands no more. Returns whether that is new. `at` is Consul's time.
    pub fn withdraw(&mut self, instance: &str, backend: &BackendName, now: Moment, at: Option<Timestamp>) -> bool {
        let Some(document) = self.documents.get_mut(backend) else { return false };
        let was_known = how(&self.instances, document).is_some();
        let withdrawn = document.stands.remove(instance).is_some();
        if withdrawn && was_known {
            document.withdrawn = Some((now, at));
        }
        withdrawn
    }

    /// When the report changes by time alone: when a document becomes one that is pending.
    pub fn next_change(&self, now: Moment) -> Option<Moment> {
        let pending = self
            .documents
            .values()
            .filter(|document| document.index.is_some() && how(&self.instances, document).is_none());
        pending.map(|document| document.unknown_since().0 + Self::PENDING_AFTER).filter(|due| *due > now).min()
    }

    /// What the node says now.
    pub fn value(&mut self, now: Moment) -> NodeReport {
        let overdue = |document: &Document| now.since(document.unknown_since().0) >= Self::PENDING_AFTER;
        let pending = || How::Not("pending".to_owned());
        let mut report = NodeReport {
            node: self.identity.node.clone(),
            version: self.identity.version.clone(),
            mode: self.identity.mode,
            machine: self.identity.machine.clone(),
            incarnation: self.identity.incarnation.clone(),
            instances: self.instances.clone(),
            applied_index: None,
            recent: Vec::new(),
            out: Vec::new(),
            lacks: Vec::new(),
            backends: 0,
            filtered: self.filtered,
            cut: Cut::default(),
        };
        if !self.confirmed {
            return report;
        }
        let (mut complete, mut highest) = (true, None);
        let mut recent = Vec::new();
        for (name, document) in &self.documents {
            let decided = how(&self.instances, document);
            let Some(index) = document.index else {
                // Its key is gone. What it left behind is shown only where a HAProxy says that it matters.
                if let Some(How::Not(reason)) = last_stand(&self.instances, document) {
                    report.out.push(Out { backend: name.clone(), reason, since: document.out_since });
                }
                continue;
            };
            report.backends += 1;
            highest = highest.max(Some(index));
            let (shown, since) = match decided {
                Some(how) => (Some((index, how)), document.out_since),
                None if overdue(document) => {
                    (Some((index, pending())), document.out_since.or(document.unknown_since().1))
                }
                None => {
                    complete = false;
                    (document.decided.clone(), document.out_since)
                }
            };
            match &shown {
                Some((_, How::Not(reason))) => {
                    report.out.push(Out { backend: name.clone(), reason: reason.clone(), since });
                }
                Some((_, How::Lacks)) => report.lacks.push(name.clone()),
                Some((_, How::Set)) | None => {}
            }
            recent.push((index, shown.map(|(index, how)| Recent { backend: name.clone(), index, how })));
        }
        if complete && highest.is_some() {
            self.applied = highest;
        }
        report.applied_index = self.applied;
        recent.sort_unstable_by_key(|(index, _)| std::cmp::Reverse(*index));
        report.recent = recent.into_iter().take(NodeReport::MAX_RECENT).filter_map(|(_, recent)| recent).collect();
        report.recent.sort_by_key(|recent| std::cmp::Reverse(recent.index));
        report
    }

    /// Keeps the decisions that are complete, and drops what nothing refers to any more.
    fn settle(&mut self) {
        let instances = &self.instances;
        self.documents.retain(|_, document| {
            if let (Some(index), Some(how)) = (document.index, how(instances, document)) {
                document.decided = Some((index, how));
            }
            document.index.is_some() || matches!(last_stand(instances, document), Some(How::Not(_)))
        });
    }
}

/// How a document stands on all HAProxy instances; none while one of them has not decided about its present index.
fn how(instances: &[InstanceReport], document: &Document) -> Option<How> {
    let index = document.index?;
    let at_index = |instance: &InstanceReport| {
        document.stands.get(&instance.name).filter(|(at, _)| *at == index).map(|(_, stand)| stand)
    };
    summed(instances.iter().map(at_index))
}

/// How a backend stood at last, whatever the index.
fn last_stand(instances: &[InstanceReport], document: &Document) -> Option<How> {
    let stands = instances.iter().filter_map(|instance| document.stands.get(&instance.name));
    summed(stands.map(|(_, stand)| Some(stand)))
}

fn summed<'a>(stands: impl Iterator<Item = Option<&'a Stand>>) -> Option<How> {
    let (mut any, mut all_lack, mut all_known) = (false, true, true);
    for stand in stands {
        any = true;
        match stand {
            // A reason is final, whatever the other HAProxy instances decide.
            Some(Stand::Not(reason)) => return Some(How::Not(reason.clone())),
            Some(Stand::Set) => all_lack = false,
            Some(Stand::Lacks) => {}
            None => all_known = false,
        }
    }
    match (any && all_known, all_lack) {
        (true, true) => Some(How::Lacks),
        (true, false) => Some(How::Set),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests;
