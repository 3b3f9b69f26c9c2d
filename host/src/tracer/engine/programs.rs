//! The program that runs is the one that was judged.
//!
//! execve(2) names a file; the kernel may run another: the interpreter of its
//! `#!` line, or what a name has come to lead to meanwhile. It stops once more
//! before the first instruction of the new program. What is different then is
//! judged again, and killed if it is refused.

use std::sync::Arc;

use bstr::BString;
use libc::pid_t;

use super::Engine;
use crate::event::{Argument, Call, Event, Kind, PathState, ResolvedPath, Value};
use crate::tracer::{procfs, resolve, sys, traits::Traits};

impl Engine<'_> {
    /// Compares the program that `tid` has just begun with the call that was
    /// allowed.
    pub(super) fn verify_program(&mut self, tid: pid_t, judged: &Arc<Event>) {
        let Some(call) = judged.call() else { return };
        let Some(index) = Traits::of(call.arch, call.nr).executes() else { return };
        let exe = resolve::read_link(libc::AT_FDCWD, &resolve::proc_path(tid, "exe")).unwrap_or_default();
        let argv = procfs::process(tid).argv;
        let is_script = judged.path(index).is_none_or(|path| path.path != exe);
        // An interpreter has the script's name among its arguments.
        let same_argv = match call.arguments.get(index + 1).map(|argument| &argument.value) {
            Some(Value::Strings { items, truncated: false }) if !is_script => *items == argv || argv.is_empty(),
            _ => true,
        };
        if !is_script && same_argv {
            return;
        }
        let mut arguments = call.arguments.clone();
        let resolved = ResolvedPath { path: exe.clone(), state: PathState::Exists };
        arguments[index] = Argument::captured(Value::Path(exe), Some(resolved), None);
        if let Some(given) = arguments.get_mut(index + 1) {
            *given = Argument::new(Value::Strings {
                items: argv.into_iter().map(BString::from).collect(),
                truncated: false,
            });
        }
        let call = Call { arch: call.arch, nr: call.nr, registers: call.registers, spec: call.spec, arguments };
        let event = Arc::new(self.event(tid, Kind::Entry(call)));
        if self.handler.judge(&event).is_some() {
            sys::signal_thread(self.task(tid).pid, tid, libc::SIGKILL);
        }
    }
}
