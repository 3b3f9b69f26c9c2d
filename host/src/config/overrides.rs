//! What the command line says of plugins by their names, which may be known
//! only when the plugins are loaded.

use std::collections::{BTreeMap, BTreeSet};

use crate::plugin::{Capability, Mode, OnError};
use crate::trust::Digest;

/// By the plugins' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// JSON texts.
    pub settings: BTreeMap<String, String>,
    /// Whether denials are carried out.
    pub modes: BTreeMap<String, Mode>,
    /// What becomes of calls that it fails to judge.
    pub on_errors: BTreeMap<String, OnError>,
    /// What it may use.
    pub grants: BTreeMap<String, BTreeSet<Capability>>,
    /// The only component that is run.
    pub pins: BTreeMap<String, Digest>,
}

impl Overrides {
    /// A name that none of these plugins has.
    pub fn unused<'a>(&'a self, names: &BTreeSet<&str>) -> Option<&'a str> {
        let all = self.settings.keys().chain(self.modes.keys()).chain(self.on_errors.keys());
        let mut all = all.chain(self.grants.keys()).chain(self.pins.keys());
        all.find(|name| !names.contains(name.as_str())).map(String::as_str)
    }
}
