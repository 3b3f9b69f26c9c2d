//! The plugins that the host brings along, and how they run when none is
//! named.

use crate::config::Profile;
use crate::recording::Mode;

/// A plugin inside the host's own executable.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// As in `builtin:NAME`.
    pub name: &'static str,
    /// The component.
    pub component: &'static [u8],
    /// How it runs in a profile.
    pub mode: Mode,
    /// Its settings in each profile of which it is a member, JSON.
    profiles: &'static [(Profile, &'static str)],
}

impl Builtin {
    /// Its settings in a profile; none if it is no member.
    pub fn settings_in(&self, profile: Profile) -> Option<&'static str> {
        self.profiles.iter().find(|(member, _)| *member == profile).map(|(_, settings)| *settings)
    }

    /// Whether these are its settings in some profile.
    pub fn brings(&self, settings: &str) -> bool {
        self.profiles.iter().any(|(_, own)| *own == settings)
    }
}

/// All of them, in the order in which they are asked.
pub static BUILTINS: &[Builtin] = &[
    Builtin {
        name: "sensitive-files",
        component: include_bytes!("../../../plugins/dist/sensitive-files.wasm"),
        mode: Mode::Enforce,
        profiles: &[(Profile::Minimal, "{}"), (Profile::Balanced, "{}"), (Profile::Aggressive, "{}")],
    },
    Builtin {
        name: "process-monitor",
        component: include_bytes!("../../../plugins/dist/process-monitor.wasm"),
        mode: Mode::Monitor,
        profiles: &[(Profile::Balanced, r#"{"report": "unexpected"}"#), (Profile::Aggressive, r#"{"report": "all"}"#)],
    },
];

pub(super) fn names() -> String {
    BUILTINS.iter().map(|builtin| builtin.name).collect::<Vec<_>>().join(", ")
}
