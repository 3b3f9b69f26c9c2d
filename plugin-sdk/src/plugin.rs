//! The trait that a plugin implements, and the way from the component's
//! exports to it.
//!
//! What never happens here: a decision. Hooks are called and their answers
//! handed on as they are.

use std::cell::OnceCell;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::exports::tracegate::plugin as exports;
use crate::bindings::tracegate::plugin::types as wit;
use crate::{Alert, Call, Entry, Exit, Issue, ProcessEvent, Subscription, Verdict, settings};

/// A Tracegate plugin.
///
/// The host makes one instance, configures it once, and then calls its hooks
/// one at a time. It may throw an instance away (after a trap or a call that
/// took too long) and make another: what must outlive that belongs in
/// [`state`](crate::state).
///
/// ```
/// use plugin_sdk::constants::PTRACE_ATTACH;
/// use plugin_sdk::{Entry, Errno, Issue, NoSettings, Plugin, Subscription, Verdict, arg, entry};
///
/// /// Keeps processes from attaching to each other.
/// struct NoAttach;
///
/// impl Plugin for NoAttach {
///     const NAME: &str = "no-attach";
///     const SUMMARY: &str = "Refuses PTRACE_ATTACH";
///     type Settings = NoSettings;
///
///     fn configure(_: NoSettings) -> Result<(Self, Subscription), Vec<Issue>> {
///         Ok((NoAttach, Subscription::gate().on(entry("ptrace").when(arg(0).eq(PTRACE_ATTACH)))))
///     }
///
///     fn on_entry(&mut self, _: &Entry) -> Verdict {
///         Verdict::deny(Errno::EPERM)
///     }
/// }
///
/// plugin_sdk::export!(NoAttach);
/// # fn main() {}
/// ```
pub trait Plugin: Sized + 'static {
    /// What the operator calls it by: letters, digits and hyphens.
    const NAME: &'static str;

    /// One line on what it does.
    const SUMMARY: &'static str;

    /// Its settings; [`NoSettings`](crate::NoSettings) if it has none. The
    /// doc comments of its fields become the schema's descriptions. It must
    /// accept `{}`, which is what a plugin gets that the operator gave none.
    type Settings: DeserializeOwned + JsonSchema;

    /// Makes the plugin from its settings and says what it wants to see.
    ///
    /// # Errors
    /// All that is wrong in the settings, not only the first problem.
    fn configure(settings: Self::Settings) -> Result<(Self, Subscription), Vec<Issue>>;

    /// Judges a call before it runs. Called for subscribed entries only.
    fn on_entry(&mut self, event: &Entry<'_>) -> Verdict {
        let _ = event;
        Verdict::allow()
    }

    /// Sees a call's result. Called for subscribed exits only.
    fn on_exit(&mut self, event: &Exit<'_>) -> Vec<Alert> {
        let _ = event;
        Vec::new()
    }

    /// Sees a process come, change its program, or go. Called for subscribed
    /// process events only.
    fn on_process(&mut self, event: &ProcessEvent<'_>) -> Vec<Alert> {
        let _ = event;
        Vec::new()
    }
}

/// A plugin that [`export!`](crate::export) gave a place for its instance.
#[doc(hidden)]
pub trait Exported: Plugin {
    const VERSION: &'static str;

    /// Lends out the place where the configured instance is kept.
    fn with<R>(f: impl FnOnce(&mut Option<Self>) -> R) -> R;
}

/// Makes this type the component's plugin. One line in a crate of type
/// `cdylib`; see [`Plugin`]. The plugin's version is that of its crate.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        // The exports that wit-bindgen writes are `unsafe extern "C"`
        // functions with names that only a Wasm linker takes.
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::core::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::core::option::Option::None) };
            }
            impl $crate::plugin::Exported for $plugin {
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");

                fn with<R>(f: impl ::core::ops::FnOnce(&mut ::core::option::Option<Self>) -> R) -> R {
                    INSTANCE.with_borrow_mut(f)
                }
            }
            type Component = $crate::plugin::Exports<$plugin>;
    $crate::bindings::export_bindings!(Component with_types_in $crate::bindings);
        };
    };
}

/// The component's exports for a plugin.
#[doc(hidden)]
pub struct Exports<P>(PhantomData<P>);

impl<P: Exported> exports::lifecycle::Guest for Exports<P> {
    fn describe() -> wit::Description {
        settings::description::<P>(P::VERSION)
    }

    fn configure(settings: String) -> Result<wit::Subscription, Vec<Issue>> {
        report_panics();
        let (plugin, subscription) = settings::parse(&settings).and_then(P::configure)?;
        P::with(|place| *place = Some(plugin));
        Ok(subscription.into_wit())
    }
}

impl<P: Exported> exports::syscall_entry::Guest for Exports<P> {
    fn check(header: wit::Header, arguments: Vec<wit::Value>, event: &wit::Event) -> Verdict {
        let entry = Entry(Call::new(header, &arguments, event));
        P::with(|plugin| configured(plugin).on_entry(&entry))
    }
}

impl<P: Exported> exports::syscall_exit::Guest for Exports<P> {
    fn observe(header: wit::Header, arguments: Vec<wit::Value>, outcome: i64, event: &wit::Event) -> Vec<Alert> {
        let exit = Exit { call: Call::new(header, &arguments, event), outcome };
        P::with(|plugin| configured(plugin).on_exit(&exit))
    }
}

impl<P: Exported> exports::process_events::Guest for Exports<P> {
    fn observe(
        seq: u64,
        time_ns: u64,
        pid: u32,
        tid: u32,
        change: wit::ProcessEvent,
        event: &wit::Event,
    ) -> Vec<Alert> {
        let event = ProcessEvent { seq, time_ns, pid, tid, change, source: event, process: OnceCell::new() };
        P::with(|plugin| configured(plugin).on_process(&event))
    }
}

fn configured<P>(plugin: &mut Option<P>) -> &mut P {
    plugin.as_mut().expect("the host calls configure before any hook")
}

/// Sends a panic's message to the host's log; the trap that follows would
/// not say it.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
}
