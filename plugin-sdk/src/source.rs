//! Where an event's lazy answers come from.
//!
//! In a plugin it is the host's `event` resource, in a test an event written
//! in code or read from a trace. The views in [`crate::call`] cannot tell.
//!
//! A component imports each function that it could call, and asks for what
//! they need. So in one the resource is called directly: behind a table of
//! methods all of them would be used.

use crate::bindings::tracegate::plugin::types::Event;

/// What an event is asked of.
#[cfg(target_arch = "wasm32")]
pub(crate) type Asked = Event;

/// What an event is asked of.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Asked = dyn Source;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::Source;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use super::Event;
    use crate::bindings::tracegate::plugin::types::{Process, ResolvedPath, StringList};

    /// The methods of the `event` resource; see `wit/plugin.wit`.
    pub(crate) trait Source {
        fn syscall(&self) -> String;
        fn argument_name(&self, argument: u8) -> Option<String>;
        fn describe(&self, argument: u8) -> String;
        fn process(&self) -> Process;
        fn path(&self, argument: u8) -> Option<ResolvedPath>;
        fn path_bytes(&self, argument: u8) -> Option<Vec<u8>>;
        fn raw(&self, argument: u8) -> Option<Vec<u8>>;
        fn descriptor(&self, argument: u8) -> Option<String>;
        fn environment(&self) -> Option<StringList>;
        fn duration_ns(&self) -> u64;
    }

    impl Source for Event {
        fn syscall(&self) -> String {
            Event::syscall(self)
        }
        fn argument_name(&self, argument: u8) -> Option<String> {
            Event::argument_name(self, argument)
        }
        fn describe(&self, argument: u8) -> String {
            Event::describe(self, argument)
        }
        fn process(&self) -> Process {
            Event::process(self)
        }
        fn path(&self, argument: u8) -> Option<ResolvedPath> {
            Event::path(self, argument)
        }
        fn path_bytes(&self, argument: u8) -> Option<Vec<u8>> {
            Event::path_bytes(self, argument)
        }
        fn raw(&self, argument: u8) -> Option<Vec<u8>> {
            Event::raw(self, argument)
        }
        fn descriptor(&self, argument: u8) -> Option<String> {
            Event::descriptor(self, argument)
        }
        fn environment(&self) -> Option<StringList> {
            Event::environment(self)
        }
        fn duration_ns(&self) -> u64 {
            Event::duration_ns(self)
        }
    }
}
