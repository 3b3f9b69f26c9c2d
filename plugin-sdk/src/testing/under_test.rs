//! A plugin as the host would run it.

use super::Event;
use crate::bindings::tracegate::plugin::types::{Description, Phase};
use crate::{Alert, Issue, Plugin, Subscription, Verdict, settings};

/// A configured plugin. What it is asked goes through its subscription, so a
/// rule that misses a call shows in a test.
#[derive(Debug)]
pub struct PluginUnderTest<P> {
    plugin: P,
    subscription: Subscription,
}

impl<P: Plugin> PluginUnderTest<P> {
    /// Configures the plugin with these settings.
    ///
    /// # Panics
    /// If the settings are wrong, with all issues.
    #[track_caller]
    pub fn new(settings: serde_json::Value) -> Self {
        Self::try_new(settings).unwrap_or_else(|issues| {
            let list: Vec<String> = issues.iter().map(ToString::to_string).collect();
            panic!("{} does not take these settings:\n{}", P::NAME, list.join("\n"))
        })
    }

    /// Configures the plugin with these settings.
    ///
    /// # Errors
    /// What the plugin says is wrong in them. The host checks settings
    /// against the plugin's schema before; this does not.
    pub fn try_new(settings: serde_json::Value) -> Result<Self, Vec<Issue>> {
        let (plugin, subscription) = settings::parse(&settings.to_string()).and_then(P::configure)?;
        Ok(Self { plugin, subscription })
    }

    /// The issues of settings that are wrong, as `pointer: message`.
    pub fn issues(settings: serde_json::Value) -> Vec<String> {
        Self::try_new(settings).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    /// What the plugin says of itself; the version is not known natively.
    pub fn describe() -> Description {
        settings::description::<P>("0.0.0")
    }

    /// What the plugin wants to see.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// The plugin itself.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// True if the plugin subscribed to this event.
    pub fn asks(&self, event: &Event) -> bool {
        match (&event.phase, &event.change) {
            (Some(phase), _) => self.subscription.matches(&event.syscall, *phase, &event.header),
            (None, Some(change)) => {
                use crate::{ProcessChange as Change, ProcessEventKind as Kind};
                self.subscription.processes().contains(&match change {
                    Change::Forked(_) => Kind::Fork,
                    Change::Executed(_) => Kind::Exec,
                    Change::Exited(_) => Kind::Exit,
                })
            }
            (None, None) => false,
        }
    }

    /// The plugin's answer to an event of any kind; "allow" if it did not
    /// subscribe to it.
    pub fn check(&mut self, event: &Event) -> Verdict {
        if !self.asks(event) {
            return Verdict::allow();
        }
        match event.phase {
            Some(Phase::Entry) => event.as_entry(|entry| self.plugin.on_entry(entry)),
            Some(Phase::Exit) => told(event.as_exit(|exit| self.plugin.on_exit(exit))),
            None => told(event.as_process(|process| self.plugin.on_process(process))),
        }
    }

    /// The plugin's alerts about an event of any kind.
    pub fn alerts(&mut self, event: &Event) -> Vec<Alert> {
        self.check(event).alerts
    }
}

fn told(alerts: Vec<Alert>) -> Verdict {
    Verdict { alerts, ..Verdict::allow() }
}
