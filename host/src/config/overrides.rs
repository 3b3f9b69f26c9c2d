//! What the command line says of plugins by their names, which may be known
//! only when the plugins are loaded.

use std::collections::{BTreeMap, BTreeSet};

use super::Running;
use crate::plugin::Capability;
use crate::trust::Digest;

/// By the plugins' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// JSON texts.
    pub settings: BTreeMap<String, String>,
    /// How it runs, as far as that is said.
    pub running: BTreeMap<String, Running>,
    /// What it may use.
    pub grants: BTreeMap<String, BTreeSet<Capability>>,
    /// The only component that is run.
    pub pins: BTreeMap<String, Digest>,
    /// A version below the highest that was ever run is accepted.
    pub rollbacks: BTreeSet<String>,
}

impl Overrides {
    /// A name that none of these plugins has.
    pub fn unused<'a>(&'a self, names: &BTreeSet<&str>) -> Option<&'a str> {
        let all = self.settings.keys().chain(self.running.keys()).chain(self.grants.keys());
        let mut all = all.chain(self.pins.keys()).chain(&self.rollbacks);
        all.find(|name| !names.contains(name.as_str())).map(String::as_str)
    }
}
