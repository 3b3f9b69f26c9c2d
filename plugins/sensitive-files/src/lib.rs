//! Guards files: who reads or writes them, and by whatever call, is refused
//! or reported.
//!
//! Judged is the file that a name leads to, not the name. Every call that
//! reaches a file by name is covered, and those that would give a guarded
//! file another name, or reach files without showing one, are treated as
//! reaching for it. README.md has the settings and the reasons.
//!
//! What never happens here: a look at the file system. What a name leads to
//! is the host's word.

mod defaults;
mod judge;
mod overlay;
mod rules;
mod settings;
mod subscribe;

use plugin_sdk::OneOrMany;
use plugin_sdk::prelude::*;

use rules::Rules;
use settings::RuleSettings;

/// The plugin: its rules, which do not change.
#[derive(Debug)]
pub struct SensitiveFiles {
    rules: Rules,
}

impl Plugin for SensitiveFiles {
    const NAME: &str = "sensitive-files";
    const SUMMARY: &str = "Refuses or reports reading and writing of files by path";
    type Settings = OneOrMany<RuleSettings>;

    fn configure(settings: Self::Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        let rules = Rules::new(&settings)?;
        let subscription = subscribe::to(&rules);
        Ok((Self { rules }, subscription))
    }

    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        judge::judge(&self.rules, event)
    }
}

plugin_sdk::export!(SensitiveFiles);

#[cfg(test)]
mod tests;
