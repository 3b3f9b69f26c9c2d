//! What the operator can say.

use plugin_sdk::Errno;
use plugin_sdk::prelude::{Deserialize, JsonSchema};

/// One rule: which files, from what, and what then.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSettings {
    /// Files, directories and patterns, all absolute. A path stands for
    /// itself and, if it is a directory, for everything beneath it. In
    /// patterns `*` and `?` stay within a name, `**` crosses directories,
    /// `[a-z]` and `{a,b}` choose. Left out: the built-in list of
    /// credentials and system secrets.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub paths: Option<Vec<String>>,

    /// What is guarded against: reading, writing, or any of the two (the
    /// default). Writing includes making, removing, renaming, and changing
    /// owner, mode and attributes.
    #[schemars(with = "AccessSetting")]
    pub access: Option<AccessSetting>,

    /// What happens: "deny" (the default) refuses the call and reports it,
    /// "alert" only reports it.
    pub action: ActionSetting,

    /// The error that a refused caller sees; "EACCES" if left out. "ENOENT"
    /// makes it look as if there were no such file.
    #[schemars(with = "Errno")]
    pub errno: Option<String>,
}

/// What a rule guards against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessSetting {
    /// Reading contents, listing a directory, running as a program.
    Read,
    /// Changing contents, names or attributes.
    Write,
    /// Both.
    Any,
}

/// What becomes of a call that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionSetting {
    /// It is refused and reported.
    #[default]
    Deny,
    /// It runs and is reported.
    Alert,
}
