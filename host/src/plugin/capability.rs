//! What a plugin may use beyond the events themselves.
//!
//! A component can call nothing that it does not import, and its imports name
//! each function. So what a plugin asks for is read from the component, and
//! nobody has to take its word.

use std::collections::BTreeSet;
use std::fmt;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// An ability that the operator grants.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Keep values beyond its own memory (`state`)
    State,
    /// Learn where file descriptors lead (`event.descriptor`)
    Descriptors,
    /// See the exact bytes behind arguments (`event.raw`)
    Memory,
    /// See the environment of programs that are executed (`event.environment`)
    Environment,
}

/// Capability, its word, and the import that asks for it: an interface, or a
/// function of one.
const ALL: [(Capability, &str, &str, Option<&str>); 4] = [
    (Capability::State, "state", "tracegate:plugin/state", None),
    (Capability::Descriptors, "descriptors", "tracegate:plugin/types", Some("[method]event.descriptor")),
    (Capability::Memory, "memory", "tracegate:plugin/types", Some("[method]event.raw")),
    (Capability::Environment, "environment", "tracegate:plugin/types", Some("[method]event.environment")),
];

impl Capability {
    /// Every one.
    pub fn all() -> BTreeSet<Self> {
        ALL.iter().map(|(capability, ..)| *capability).collect()
    }

    /// Those that a component asks for.
    pub(super) fn asked_by(component: &Component, engine: &Engine) -> BTreeSet<Self> {
        let ty = component.component_type();
        let imports: Vec<(String, ComponentItem)> =
            ty.imports(engine).map(|(name, item)| (name.to_owned(), item.ty)).collect();
        let asks = |interface: &str, function: Option<&str>| {
            imports.iter().any(|(name, item)| {
                let this = name.split('@').next() == Some(interface);
                this && match (item, function) {
                    (ComponentItem::ComponentInstance(instance), Some(function)) => {
                        instance.get_export(engine, function).is_some()
                    }
                    _ => true,
                }
            })
        };
        let asked = ALL.iter().filter(|(_, _, interface, function)| asks(interface, *function));
        asked.map(|(capability, ..)| *capability).collect()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = ALL.iter().find(|(capability, ..)| capability == self).map_or("", |(_, word, ..)| word);
        f.write_str(word)
    }
}

/// Capabilities in one line.
pub fn listed(capabilities: &BTreeSet<Capability>) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
