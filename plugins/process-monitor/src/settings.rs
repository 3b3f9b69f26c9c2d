//! What the operator can say.

use plugin_sdk::Errno;
use plugin_sdk::prelude::{Deserialize, JsonSchema};

/// Settings of process-monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What is reported: every program that is run ("all"), or only those
    /// that were not expected ("unexpected").
    pub report: ReportSetting,

    /// Programs that are expected: files, directories with all beneath them,
    /// and patterns, all absolute. In patterns `*` and `?` stay within a
    /// name, `**` crosses directories, `[a-z]` and `{a,b}` choose. Left out:
    /// where distributions install programs.
    pub allow: Vec<String>,

    /// What happens to an unexpected program: it runs and is reported
    /// ("alert"), or is refused and reported ("deny").
    pub action: ActionSetting,

    /// The error that a refused caller sees; "EACCES" if left out.
    #[schemars(with = "Errno")]
    pub errno: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let system = ["/bin", "/sbin", "/lib", "/lib64", "/usr", "/opt", "/nix/store", "/snap"];
        Self {
            report: ReportSetting::All,
            allow: system.map(String::from).to_vec(),
            action: ActionSetting::Alert,
            errno: None,
        }
    }
}

/// Which programs are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReportSetting {
    /// Every one.
    All,
    /// Those that were not expected.
    Unexpected,
}

/// What becomes of an unexpected program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionSetting {
    /// It runs and is reported.
    Alert,
    /// It is refused and reported.
    Deny,
}
