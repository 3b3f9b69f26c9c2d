//! One call → one verdict.

use plugin_sdk::call::Mount;
use plugin_sdk::constants::{MS_BIND, MS_MOVE};
use plugin_sdk::prelude::*;
use plugin_sdk::{PathArgument, Value};

use crate::overlay;
use crate::rules::{Match, READS, Rule, Rules, WRITES};

/// Judges a call. Every rule that matches reports; the first that denies
/// decides the errno.
pub(crate) fn judge(rules: &Rules, event: &Entry<'_>) -> Verdict {
    let mut answer = Answer { event, verdict: Verdict::allow() };
    for path in event.paths() {
        judge_path(rules, path, &mut answer);
    }
    match event.syscall() {
        "mount" => {
            if let Some(mount) = event.mount() {
                judge_overlay(rules, mount, &mut answer);
            }
        }
        "fsconfig" => judge_option(rules, event, &mut answer),
        "open_by_handle_at" => {
            answer.bypass(rules, Severity::High, Errno::EACCES, "opens a file by handle, which has no name");
        }
        "ioctl" => answer.bypass(
            rules,
            Severity::High,
            Errno::EPERM,
            "asks a file system for files without their names, or under others",
        ),
        "fanotify_init" => {
            answer.bypass(rules, Severity::High, Errno::EPERM, "asks for descriptors of files that others open");
        }
        // Whatever the new root: the old one, and every guarded file in it,
        // goes by another name afterwards.
        "pivot_root" => answer.bypass(rules, Severity::High, Errno::EPERM, "gives the whole tree another name"),
        // EPERM is what `sysctl kernel.io_uring_disabled` gives: programs
        // know it and go on without.
        "io_uring_setup" => answer.bypass(
            rules,
            Severity::Low,
            Errno::EPERM,
            "sets up an io_uring, whose operations on files are no system calls",
        ),
        _ => {}
    }
    answer.verdict
}

fn judge_path(rules: &Rules, path: PathArgument<'_>, answer: &mut Answer<'_, '_>) {
    let access = path.access().and(READS | WRITES);
    if access.is_empty() {
        return;
    }
    let resolved = path.resolved();
    if resolved.is_unknown() {
        return answer.unknown(rules, access);
    }
    if resolved.path.is_empty() {
        // Nothing is known of a name that cannot be read. The kernel will not
        // read it either, unless another thread is quick: fail closed. A
        // descriptor that is not open harms nobody.
        if path.defect().is_some() {
            answer.unknown(rules, access);
        }
        return;
    }
    let matches = rules.matching(&resolved.path, access, reaches_down(access, answer.event));
    for found in matches {
        answer.guarded(found, access, &resolved.path, path.raw());
    }
}

/// True if the access to a directory touches what is beneath it: it gets
/// another name, something is mounted over it, or another takes its place.
/// Removing, making, changing or listing a directory does not.
fn reaches_down(access: Access, event: &Entry<'_>) -> bool {
    access.any(Access::ALIAS | Access::COVER)
        || (access.any(Access::CREATE) && access.any(Access::DELETE))
        || event.symlink().is_some()
}

/// The directories of an overlay show their files where it is mounted.
fn judge_overlay(rules: &Rules, mount: Mount<'_>, answer: &mut Answer<'_, '_>) {
    let is_stacked = mount.is_new() && mount.flags() & (MS_BIND | MS_MOVE) == 0;
    // A type that cannot be read could be this one.
    if !is_stacked || mount.kind().is_some_and(|kind| !kind.starts_with("overlay")) {
        return;
    }
    match mount.data() {
        Some(options) => overlay::directories(options).for_each(|directory| judge_layer(rules, directory, answer)),
        None => answer.unknown(rules, Access::ALIAS),
    }
}

/// The same by `fsconfig(fs_fd, cmd, key, value, aux)`.
fn judge_option(rules: &Rules, event: &Entry<'_>, answer: &mut Answer<'_, '_>) {
    let [_, _, key, value, ..] = event.arguments() else { return };
    match (key, value) {
        (Value::Absent, _) => {}
        (Value::Text(key), _) if !overlay::names_directories(key) => {}
        (Value::Text(_), Value::Text(value) | Value::RawPath(value)) => {
            overlay::values(value).for_each(|directory| judge_layer(rules, directory, answer));
        }
        _ => answer.unknown(rules, Access::ALIAS),
    }
}

fn judge_layer(rules: &Rules, directory: &str, answer: &mut Answer<'_, '_>) {
    if !overlay::is_plain(directory) {
        return answer.unknown(rules, Access::ALIAS);
    }
    for found in rules.matching(directory, Access::ALIAS, true) {
        answer.guarded(found, Access::ALIAS, directory, Some(directory));
    }
}

/// A verdict in the making.
struct Answer<'a, 'e> {
    event: &'a Entry<'e>,
    verdict: Verdict,
}

impl Answer<'_, '_> {
    /// A guarded file is reached.
    fn guarded(&mut self, found: Match<'_>, access: Access, path: &str, raw: Option<&str>) {
        let touched = access.and(found.rule.against);
        // What both reads and writes (opening for both, renaming) is writing.
        let writes = touched.any(WRITES);
        let verb = if writes { "write" } else { "read" };
        let alert = Alert::new(if writes { "sensitive-write" } else { "sensitive-read" })
            .severity(severity(found.rule))
            .message(format!("{} asks to {verb} {path} ({})", self.event.caller(), self.event.syscall()))
            .field("path", path)
            .field("raw_path", raw.unwrap_or_default())
            .field("access", access)
            .field("pattern", found.pattern);
        self.add(found.rule.deny, alert);
    }

    /// A name that could be any.
    fn unknown(&mut self, rules: &Rules, access: Access) {
        let rules: Vec<&Rule> = rules.all().iter().filter(|rule| rule.against.any(access)).collect();
        self.unnamed(&rules, None, None, "names a file in a way that cannot be followed");
    }

    /// A call that reaches files without naming them.
    fn bypass(&mut self, rules: &Rules, severity: Severity, errno: Errno, what: &str) {
        let rules: Vec<&Rule> = rules.all().iter().collect();
        self.unnamed(&rules, Some(severity), Some(errno), what);
    }

    /// One alert for all rules, for none is meant in particular.
    fn unnamed(&mut self, rules: &[&Rule], grade: Option<Severity>, errno: Option<Errno>, what: &str) {
        let Some(first) = rules.iter().find(|rule| rule.deny.is_some()).or(rules.first()) else { return };
        let alert = Alert::new("sensitive-bypass").severity(grade.unwrap_or(severity(first))).message(format!(
            "{} {what} ({})",
            self.event.caller(),
            self.event.syscall()
        ));
        self.add(first.deny.map(|own| errno.unwrap_or(own)), alert);
    }

    fn add(&mut self, deny: Option<Errno>, alert: Alert) {
        if let (Some(errno), false) = (deny, self.verdict.is_deny()) {
            self.verdict.action = Verdict::deny(errno).action;
        }
        self.verdict.alerts.push(alert);
    }
}

fn severity(rule: &Rule) -> Severity {
    if rule.deny.is_some() { Severity::High } else { Severity::Medium }
}
