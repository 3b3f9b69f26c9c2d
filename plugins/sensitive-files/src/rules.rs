//! Settings → rules that can be asked.

use plugin_sdk::OneOrMany;
use plugin_sdk::glob::{Glob, PathSet, Relation};
use plugin_sdk::prelude::*;

use crate::defaults::DEFAULTS;
use crate::settings::{AccessSetting, ActionSetting, RuleSettings};

/// What counts as reading. A file that gets another name can be read under
/// that one.
pub(crate) const READS: Access = Access::READ.or(Access::EXECUTE).or(Access::ALIAS);

/// What counts as writing.
pub(crate) const WRITES: Access =
    Access::WRITE.or(Access::CREATE).or(Access::DELETE).or(Access::ATTRIBUTES).or(Access::ALIAS).or(Access::COVER);

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// What it guards against, out of [`READS`] and [`WRITES`].
    pub(crate) against: Access,
    /// What a refused caller sees; none if the rule only reports.
    pub(crate) deny: Option<Errno>,
}

/// All rules, by path.
#[derive(Debug)]
pub(crate) struct Rules {
    all: Vec<Rule>,
    patterns: Vec<String>,
    set: PathSet<Entry>,
}

/// What stands behind a path in the set.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: usize,
    pattern: usize,
}

/// A rule that a path and an access fall under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) pattern: &'r str,
}

impl Rules {
    /// Checks everything, so that the operator sees all problems at once.
    pub(crate) fn new(settings: &OneOrMany<RuleSettings>) -> Result<Self, Vec<Issue>> {
        let mut rules = Self { all: Vec::new(), patterns: Vec::new(), set: PathSet::default() };
        let mut issues = Vec::new();
        if settings.items.is_empty() {
            issues.push(Issue::at(
                "",
                "the list has no rule: nothing would be guarded; leave the settings out for the built-in list",
            ));
        }
        for (index, item) in settings.items.iter().enumerate() {
            rules.add(&settings.pointer(index), item, &mut issues);
        }
        if issues.is_empty() { Ok(rules) } else { Err(issues) }
    }

    fn add(&mut self, pointer: &str, item: &RuleSettings, issues: &mut Vec<Issue>) {
        let errno = match item.errno.as_deref().map(str::parse) {
            None => Errno::EACCES,
            Some(Ok(errno)) => errno,
            Some(Err(unknown)) => {
                issues.push(Issue::at(format!("{pointer}/errno"), unknown.to_string()));
                Errno::EACCES
            }
        };
        let deny = (item.action == ActionSetting::Deny).then_some(errno);
        let Some(paths) = &item.paths else {
            for (access, paths) in DEFAULTS {
                let rule = self.rule(item.access.unwrap_or(*access), deny);
                for path in *paths {
                    self.path(rule, path).unwrap_or_else(|error| unreachable!("built-in {path}: {error}"));
                }
            }
            return;
        };
        if paths.is_empty() {
            let message = "names no path: the rule would guard nothing; leave it out for the built-in list";
            issues.push(Issue::at(format!("{pointer}/paths"), message));
        }
        let rule = self.rule(item.access.unwrap_or(AccessSetting::Any), deny);
        for (index, path) in paths.iter().enumerate() {
            if let Err(error) = self.path(rule, path) {
                issues.push(Issue::at(format!("{pointer}/paths/{index}"), format!("{path:?}: {error}")));
            }
        }
    }

    fn rule(&mut self, access: AccessSetting, deny: Option<Errno>) -> usize {
        let against = match access {
            AccessSetting::Read => READS,
            AccessSetting::Write => WRITES,
            AccessSetting::Any => READS.or(WRITES),
        };
        self.all.push(Rule { against, deny });
        self.all.len() - 1
    }

    fn path(&mut self, rule: usize, path: &str) -> Result<(), plugin_sdk::glob::GlobError> {
        let glob: Glob = path.parse()?;
        self.set.insert(&glob, Entry { rule, pattern: self.patterns.len() });
        self.patterns.push(path.to_owned());
        Ok(())
    }

    /// All rules, in the operator's order.
    pub(crate) fn all(&self) -> &[Rule] {
        &self.all
    }

    /// True if some rule guards against this.
    pub(crate) fn any_against(&self, access: Access) -> bool {
        self.all.iter().any(|rule| rule.against.any(access))
    }

    /// The rules that a path falls under: all that it lies within, and, if
    /// `from_above`, all that it lies above. Each rule once, in order.
    pub(crate) fn matching(&self, path: &str, access: Access, from_above: bool) -> Vec<Match<'_>> {
        let mut found: Vec<Entry> = Vec::new();
        self.set.relations(path, |relation, entry| {
            let counts = relation == Relation::Within || from_above;
            if counts && self.all[entry.rule].against.any(access) {
                found.push(*entry);
            }
        });
        // Of several patterns of a rule the first in the settings is named.
        found.sort_unstable_by_key(|entry| (entry.rule, entry.pattern));
        found.dedup_by_key(|entry| entry.rule);
        let rule = |entry: &Entry| Match { rule: &self.all[entry.rule], pattern: &self.patterns[entry.pattern] };
        found.iter().map(rule).collect()
    }
}
