//! Typed views of a call's arguments.
//!
//! A view unites the calls that do the same (`open`, `openat`, `openat2`,
//! `creat`), so that a plugin says what it means once. Nobody counts
//! arguments. Views borrow from the event and allocate nothing; what asks
//! the host says so.

mod files;
mod memory;
mod network;
mod programs;
mod system;

pub use files::{Chmod, Chown, Link, Mkdir, Open, Rename, Symlink, Truncate, Unlink};
pub use memory::{Map, Protect, RemoteMemory};
pub use network::{Bind, Connect, Destination, Send, Socket};
pub use programs::{Exec, Ids, Kill, Ptrace, SetIds};
pub use system::{Module, Mount, Namespaces};

/// Declares a view as a reference to its call.
macro_rules! view {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<'c> {
            call: &'c crate::Call<'c>,
        }
    };
}
use view;
