//! Reports the programs that processes run, and those that were not
//! expected; refuses the latter if told to.
//!
//! Reports are made when a program *has been* started, so each is true. A
//! refusal has to come before. README.md has the settings.
//!
//! What never happens here: a look at the file system, or at anything that a
//! program does once it runs.

mod report;
mod settings;

use plugin_sdk::PathState;
use plugin_sdk::glob::{Glob, PathSet};
use plugin_sdk::prelude::*;

use settings::{ActionSetting, ReportSetting, Settings};

/// The plugin: what is expected, and what to do about the rest.
#[derive(Debug)]
pub struct ProcessMonitor {
    allow: PathSet<()>,
    report_all: bool,
    deny: Option<Errno>,
}

impl Plugin for ProcessMonitor {
    const NAME: &str = "process-monitor";
    const SUMMARY: &str = "Reports every program that is run, and those that were not expected";
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Subscription), Vec<Issue>> {
        let mut issues = Vec::new();
        let mut allow = PathSet::default();
        for (index, path) in settings.allow.iter().enumerate() {
            match path.parse::<Glob>() {
                Ok(glob) => allow.insert(&glob, ()),
                Err(error) => issues.push(Issue::at(format!("/allow/{index}"), format!("{path:?}: {error}"))),
            }
        }
        let errno = settings.errno.as_deref().map_or(Ok(Errno::EACCES), str::parse).unwrap_or_else(|error| {
            issues.push(Issue::at("/errno", error.to_string()));
            Errno::EACCES
        });
        if !issues.is_empty() {
            return Err(issues);
        }
        let deny = (settings.action == ActionSetting::Deny).then_some(errno);
        // Only a refusal has to keep the caller waiting.
        let subscription = match deny {
            Some(_) => Subscription::gate().on(entries(["execve", "execveat"])),
            None => Subscription::observe(),
        };
        let report_all = settings.report == ReportSetting::All;
        Ok((Self { allow, report_all, deny }, subscription.execs()))
    }

    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        let (Some(exec), Some(errno)) = (event.exec(), self.deny) else { return Verdict::allow() };
        let path = exec.path();
        if self.expects(path.as_str()) {
            return Verdict::allow();
        }
        // Nothing is there to be run, as when a shell tries its PATH. If
        // something turns up between this look and the kernel's, it does not
        // run; if not, the caller sees what it would have seen anyway.
        if path.state != PathState::Exists && exec.argument().defect().is_none() {
            return Verdict::deny(Errno::ENOENT);
        }
        Verdict::deny(errno).alert(report::refused(event, exec, path.as_str()))
    }

    fn on_process(&mut self, event: &ProcessEvent<'_>) -> Vec<Alert> {
        if event.previous_exe().is_none() {
            return Vec::new();
        }
        let process = event.process();
        let mut alerts = Vec::new();
        if self.report_all {
            alerts.push(report::exec(event));
        }
        if !self.expects(&process.exe) {
            alerts.push(report::unexpected(event));
        }
        alerts
    }
}

impl ProcessMonitor {
    /// True if a program of this path is one of those expected. A file that
    /// has been unlinked is not, wherever it was; nor is one in memory only.
    fn expects(&self, exe: &str) -> bool {
        !report::is_deleted(exe) && self.allow.covers(exe)
    }
}

plugin_sdk::export!(ProcessMonitor);

#[cfg(test)]
mod tests;
