//! What a plugin answers: verdicts, alerts, issues.

use std::fmt::{Display, Write};

use crate::bindings::tracegate::plugin::types::{Action, Alert, Issue, Severity, Verdict};
use crate::{Call, Errno};

impl Alert {
    /// An alert of this rule, at [`Severity::Medium`], without a message yet.
    ///
    /// `rule` is a stable identifier, such as `sensitive-read`.
    ///
    /// ```
    /// use plugin_sdk::{Alert, Severity};
    ///
    /// let alert = Alert::new("sensitive-read")
    ///     .severity(Severity::High)
    ///     .message("reads /etc/shadow")
    ///     .field("path", "/etc/shadow");
    /// assert_eq!(alert.rule, "sensitive-read");
    /// ```
    pub fn new(rule: impl Into<String>) -> Self {
        Self { rule: rule.into(), severity: Severity::Medium, message: String::new(), fields: Vec::new() }
    }

    /// Sets how grave it is.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Sets the one sentence that a person reads.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds a further fact.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Display) -> Self {
        let mut text = String::new();
        // Writing to a string does not fail unless `Display` itself does.
        if write!(text, "{value}").is_err() {
            text.push_str("(not shown)");
        }
        self.fields.push((name.into(), text));
        self
    }

    /// The value of a field, for tests.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Verdict {
    /// Let the call run.
    ///
    /// ```
    /// use plugin_sdk::{Alert, Errno, Verdict};
    ///
    /// assert!(!Verdict::allow().is_deny());
    /// assert!(Verdict::deny(Errno::EACCES).alert(Alert::new("refused")).is_deny());
    /// ```
    pub const fn allow() -> Self {
        Self { action: Action::Allow, alerts: Vec::new() }
    }

    /// Do not run the call; the caller sees this errno.
    pub const fn deny(errno: Errno) -> Self {
        Self { action: Action::Deny(errno.0), alerts: Vec::new() }
    }

    /// Adds an alert.
    #[must_use]
    pub fn alert(mut self, alert: Alert) -> Self {
        self.alerts.push(alert);
        self
    }

    /// True if the call shall not run.
    pub const fn is_deny(&self) -> bool {
        matches!(self.action, Action::Deny(_))
    }

    /// The errno of a denial.
    pub const fn errno(&self) -> Option<Errno> {
        match self.action {
            Action::Deny(errno) => Some(Errno(errno)),
            Action::Allow => None,
        }
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self::allow()
    }
}

impl From<Alert> for Verdict {
    /// Lets the call run and raises this alert.
    fn from(alert: Alert) -> Self {
        Self::allow().alert(alert)
    }
}

impl Issue {
    /// A problem at a place in the settings.
    ///
    /// `pointer` is a JSON pointer (RFC 6901), such as `/paths/3`; empty for
    /// the settings as a whole.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pointer.is_empty() {
            write!(f, "settings: {}", self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

/// Who made a call, for an alert's message: `cat[123]`.
pub struct Caller<'c>(pub(crate) &'c Call<'c>);

impl Display for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let process = self.0.process();
        write!(f, "{}[{}]", process.comm, self.0.pid())
    }
}

impl Call<'_> {
    /// Who makes the call, for messages: comm and process id, `cat[123]`.
    pub fn caller(&self) -> Caller<'_> {
        Caller(self)
    }
}
