//! The program that runs is the one that was judged.
//!
//! execve(2) names a file; the kernel may run another: the interpreter of its
//! `#!` line, or what a name has come to lead to meanwhile; and the first
//! instruction is that of the ELF interpreter which the program names. The task
//! stops once more before it. What is different then is judged again, and
//! killed if it is refused. A dynamic loader in its usual place is not judged
//! again: whoever may run programs may run it.

use std::cell::LazyCell;
use std::sync::Arc;

use bstr::{BString, ByteSlice as _};
use libc::pid_t;

use super::Engine;
use crate::decode::Arch;
use crate::event::{Argument, Call, Event, Kind, ResolvedPath, Strings, Value};
use crate::tracer::arch::Registers;
use crate::tracer::initial_stack;
use crate::tracer::memory::TraceeMemory;
use crate::tracer::procfs::{self, Program};
use crate::tracer::resolve;
use crate::tracer::sys;
use crate::tracer::traits::Traits;

impl Engine<'_> {
    /// Compares the program that a task has just begun with the call that was
    /// allowed.
    pub(super) fn verify_program(&mut self, tid: pid_t, registers: &Registers, running: Program, judged: &Arc<Event>) {
        let Some(call) = judged.call() else { return };
        let Some(index) = Traits::of(call.arch, call.nr).executes() else { return };
        let Program { exe, argv } = &running;
        let another = judged.path(index).is_none_or(|path| path.path != *exe);
        // An interpreter has the script's name among its arguments.
        let same_argv = match call.arguments.get(index + 1).map(|argument| &argument.value) {
            Some(Value::Strings(Strings { items, truncated: false })) if !another => items == argv || argv.is_empty(),
            _ => true,
        };
        let (pointer, narrow) = registers.stack();
        let environment = LazyCell::new(|| initial_stack::environment(&TraceeMemory(tid), pointer, narrow));
        let same_environment = judged.asked_environment().is_none_or(|judged| {
            let now = environment.as_ref();
            now.is_some_and(|now| now.items.starts_with(&judged.items) && (judged.truncated || now == judged))
        });
        // The first instruction is the ELF interpreter's, if there is one.
        let first = self.task(tid).file_at(tid, registers.instruction());
        let loader = first.filter(|(loader, _)| loader != exe && !is_usual(loader));
        let loader = loader.map(|(loader, inode)| resolve::mapped(tid, loader.as_bstr(), inode));
        let again = (another || !same_argv || !same_environment).then(|| self.task(tid).linked(tid, "exe"));
        // An interpreter may have been handed the open file that it is to run.
        let handed = if another { given_descriptor(tid, registers) } else { None };
        let handed = handed.map(|fd| self.task(tid).linked(tid, &format!("fd/{fd}")));
        for program in again.into_iter().chain(loader).chain(handed) {
            if self.judge_again(tid, call, index, program, argv.clone(), environment.clone()) {
                return sys::signal_thread(self.task(tid).pid, tid, libc::SIGKILL);
            }
        }
    }

    /// Whether `program` with these arguments and this environment is refused in
    /// place of what was judged.
    fn judge_again(
        &mut self,
        tid: pid_t,
        call: &Call,
        index: usize,
        program: ResolvedPath,
        argv: Vec<BString>,
        environment: Option<Strings>,
    ) -> bool {
        let mut arguments = call.arguments.clone();
        arguments[index] = Argument::captured(Value::Path(program.path.clone()), Some(program), None);
        if let Some(given) = arguments.get_mut(index + 1) {
            *given = Argument::new(Value::Strings(Strings { items: argv, truncated: false }));
        }
        if let Some(given) = call.spec.environment().and_then(|index| arguments.get_mut(index)) {
            *given = Argument::of_environment(given.value.clone(), environment);
        }
        let call = Call { arch: call.arch, nr: call.nr, registers: call.registers, spec: call.spec, arguments };
        let event = Arc::new(self.event(tid, Kind::Entry(call)));
        self.handler.judge(&event).is_some()
    }
}

/// The descriptor of what the interpreter of a program was given to read, though
/// it may not be allowed to itself (flags `O` and `C` of `binfmt_misc`,
/// Documentation/admin-guide/binfmt-misc.rst): at the end of a chain of `#!`
/// lines it can be a program that nobody has judged.
fn given_descriptor(tid: pid_t, registers: &Registers) -> Option<i32> {
    procfs::given_descriptor(tid, Arch::from_audit(registers.call().audit, 0) == Some(Arch::X86))
}

/// A dynamic loader where distributions have it: `/lib64/ld-linux-x86-64.so.2`,
/// `/usr/lib/ld-musl-aarch64.so.1` and their like.
fn is_usual(loader: &BString) -> bool {
    let (directory, name) = loader.split_at(loader.rfind_byte(b'/').map_or(0, |slash| slash + 1));
    let system = [&b"/lib"[..], b"/usr/lib"].iter().any(|place| directory.starts_with(place));
    system && name.starts_with(b"ld-")
}
