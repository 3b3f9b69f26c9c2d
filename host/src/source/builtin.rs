//! The plugins that the host brings along, and how they run when none is
//! named.

use crate::recording::Mode;

/// A plugin inside the host's own executable.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// As in `builtin:NAME`.
    pub name: &'static str,
    /// The component.
    pub component: &'static [u8],
    /// How it runs in the default set.
    pub mode: Mode,
    /// Its settings in the default set, JSON.
    pub settings: &'static str,
}

/// All of them, in the order in which they are asked. Together they are the
/// default set.
pub static BUILTINS: &[Builtin] = &[
    Builtin {
        name: "sensitive-files",
        component: include_bytes!("../../../plugins/dist/sensitive-files.wasm"),
        mode: Mode::Enforce,
        settings: "{}",
    },
    Builtin {
        name: "process-monitor",
        component: include_bytes!("../../../plugins/dist/process-monitor.wasm"),
        mode: Mode::Monitor,
        settings: r#"{"report": "unexpected"}"#,
    },
];

pub(super) fn names() -> String {
    BUILTINS.iter().map(|builtin| builtin.name).collect::<Vec<_>>().join(", ")
}
