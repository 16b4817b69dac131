//! The plans to choose from.

use weightd_core::rollout::plan::{Plan, Preset, Protocol};

use super::super::super::shared::Who;

/// Own plans that are offered.
const MAX_PLANS: usize = 8;
/// The presets that are offered.
const PRESETS: [Preset; 3] = [Preset::Quick, Preset::Careful, Preset::Day];

/// A plan to choose.
#[derive(Debug, Clone)]
pub struct Offered {
    pub(super) name: String,
    of: Of,
}

#[derive(Debug, Clone)]
enum Of {
    Preset(Preset),
    /// An operator's.
    Own(Box<Plan>),
}

impl Offered {
    const fn preset(name: String, preset: Preset) -> Self {
        Self { name, of: Of::Preset(preset) }
    }

    /// The plan: a preset follows what the backend speaks.
    pub(super) fn plan(&self, protocol: Protocol) -> Plan {
        match &self.of {
            Of::Preset(preset) => preset.plan(protocol),
            Of::Own(plan) => Plan::clone(plan),
        }
    }

    /// Whether steps without enough requests are left out.
    pub(super) const fn fits(&self) -> bool {
        matches!(self.of, Of::Preset(_))
    }
}

/// The presets, and the plans of the operators that the person may read. A preset's name is the preset.
pub async fn offered(who: &Who) -> Vec<Offered> {
    let mut plans: Vec<_> = PRESETS.map(|preset| Offered::preset(preset.as_str().to_owned(), preset)).into();
    let documents = &who.person.documents;
    // Without the right there are no own plans to choose.
    let names = documents.plan_names().await.unwrap_or_default();
    let is_own = |name: &String| Preset::ALL.iter().all(|preset| preset.as_str() != name);
    for name in names.into_iter().filter(is_own).take(MAX_PLANS) {
        if let Ok(plan) = documents.plan(&name).await {
            plans.push(Offered { name, of: Of::Own(Box::new(plan)) });
        }
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_follows_the_protocol_and_an_own_plan_does_not() {
        let preset = Offered::preset("careful".to_owned(), Preset::Careful);
        assert_eq!(preset.plan(Protocol::Tcp).protocol, Protocol::Tcp);
        assert_eq!(preset.plan(Protocol::Http).protocol, Protocol::Http);
        let own = Offered { name: "own".to_owned(), of: Of::Own(Box::new(Preset::Day.plan(Protocol::Http))) };
        assert_eq!(own.plan(Protocol::Tcp).protocol, Protocol::Http);
        assert!(preset.fits() && !own.fits());
    }
}
