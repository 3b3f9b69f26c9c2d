//! Events written in code.

use std::collections::BTreeMap;

use crate::bindings::tracegate::plugin::types::{
    ExecInfo, ForkInfo, Header, PathState, Phase, Process, ProcessEvent as Change, ResolvedPath, StringList, Value,
};
use crate::event::{Call, Entry, Exit, ProcessEvent};
use crate::known;
use crate::source::Source;
use crate::{ExitStatus, SocketAddress};

/// A pointer that a tracee might pass.
pub(super) const POINTER: u64 = 0x7fff_0000_1000;

/// An event: a call's entry or exit, or a process event.
///
/// Made by a function named for the call ([`Event::openat`], …) or
/// [`Event::call`], then adjusted. Unless told otherwise it happens on
/// x86-64 in process 1000 running `/usr/bin/test` as root in `/`, every name
/// leads to the file of that name, and that file exists.
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) phase: Option<Phase>,
    pub(crate) change: Option<Change>,
    pub(crate) header: Header,
    pub(crate) syscall: String,
    pub(crate) arguments: Vec<Value>,
    pub(crate) names: Vec<String>,
    pub(crate) texts: Vec<String>,
    pub(crate) process: Process,
    /// What was said of the file behind an argument.
    pub(crate) paths: BTreeMap<u8, Override>,
    pub(crate) bytes: BTreeMap<u8, Vec<u8>>,
    pub(crate) raw: BTreeMap<u8, Vec<u8>>,
    pub(crate) descriptors: BTreeMap<i32, String>,
    pub(crate) environment: Option<StringList>,
    pub(crate) outcome: i64,
    pub(crate) duration_ns: u64,
    /// All is known: nothing is worked out from the raw name.
    pub(crate) recorded: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Override {
    pub(crate) path: Option<String>,
    pub(crate) state: Option<PathState>,
}

fn process() -> Process {
    Process {
        pid: 1000,
        parent: 1,
        start_time: 4242,
        exe: "/usr/bin/test".into(),
        comm: "test".into(),
        argv: vec!["test".into()],
        cwd: "/".into(),
        uid: 0,
        euid: 0,
        suid: 0,
        fsuid: 0,
        gid: 0,
        egid: 0,
        sgid: 0,
        fsgid: 0,
        capabilities: 0,
        container: None,
    }
}

impl Event {
    /// A call by name, with its decoded arguments in the order of the manual
    /// page. Registers follow from the arguments.
    ///
    /// ```
    /// use plugin_sdk::testing::Event;
    /// use plugin_sdk::Value;
    ///
    /// Event::call("fchmod", [Value::Fd(3), Value::Uint(0o4755)]);
    /// ```
    pub fn call(syscall: &str, arguments: impl IntoIterator<Item = Value>) -> Self {
        let arguments: Vec<Value> = arguments.into_iter().collect();
        let mut registers = [0; 6];
        for (register, value) in registers.iter_mut().zip(&arguments) {
            *register = match value {
                Value::Int(number) => *number as u64,
                Value::Uint(number) | Value::Flags(number) => *number,
                // An int in a register: the upper half is zero.
                Value::Fd(fd) => u64::from(*fd as u32),
                Value::Absent => 0,
                _ => POINTER,
            };
        }
        let [a0, a1, a2, a3, a4, a5] = registers;
        let nr = known::number(syscall);
        let header = Header {
            seq: 1,
            time_ns: 1_700_000_000_000_000_000,
            nr: nr.unwrap_or(u32::MAX),
            arch: known::X86_64,
            pid: 1000,
            tid: 1000,
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
        };
        Self {
            phase: Some(Phase::Entry),
            change: None,
            header,
            syscall: syscall.to_owned(),
            arguments,
            names: Vec::new(),
            texts: Vec::new(),
            process: process(),
            paths: BTreeMap::new(),
            bytes: BTreeMap::new(),
            raw: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            environment: None,
            outcome: 0,
            duration_ns: 0,
            recorded: false,
        }
    }

    pub(crate) fn change(change: Change) -> Self {
        Self { phase: None, change: Some(change), ..Self::call("", []) }
    }

    /// The process made a child process.
    pub fn forked(child: u32) -> Self {
        Self::change(Change::Forked(ForkInfo { child, thread: false }))
    }

    /// The process made a thread.
    pub fn thread(child: u32) -> Self {
        Self::change(Change::Forked(ForkInfo { child, thread: true }))
    }

    /// The process runs a new program: `exe`, with `argv`.
    pub fn executed<'a>(exe: &str, argv: impl IntoIterator<Item = &'a str>) -> Self {
        let mut event = Self::change(Change::Executed(ExecInfo { previous_exe: "/usr/bin/test".into() })).exe(exe);
        event.process.argv = argv.into_iter().map(String::from).collect();
        event
    }

    /// The process is gone.
    pub fn exited(status: ExitStatus) -> Self {
        Self::change(Change::Exited(status))
    }

    /// Turns a call's entry into its exit, with this return value.
    #[must_use]
    pub fn returning(mut self, outcome: i64) -> Self {
        self.phase = Some(Phase::Exit);
        self.outcome = outcome;
        self
    }

    /// Sets the time that the call took.
    #[must_use]
    pub fn duration_ns(mut self, duration: u64) -> Self {
        self.duration_ns = duration;
        self
    }

    /// Sets the flags of a call that has some.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn flags(mut self, flags: u64) -> Self {
        for (index, value) in self.arguments.iter_mut().enumerate() {
            match value {
                Value::Flags(old) => {
                    *old = flags;
                    self.set_register(index, flags);
                    return self;
                }
                Value::Structure(fields) => {
                    if let Some(field) = fields.iter_mut().find(|field| field.name == "flags") {
                        field.value = flags;
                        return self;
                    }
                }
                _ => {}
            }
        }
        panic!("{} has no flags", self.syscall)
    }

    /// Sets an argument register, without its decoded value.
    ///
    /// # Panics
    /// If `index` is above 5.
    #[must_use]
    pub fn register(mut self, index: usize, value: u64) -> Self {
        self.set_register(index, value);
        self
    }

    fn set_register(&mut self, index: usize, value: u64) {
        let header = &mut self.header;
        let registers =
            [&mut header.a0, &mut header.a1, &mut header.a2, &mut header.a3, &mut header.a4, &mut header.a5];
        *registers.into_iter().nth(index).expect("a call has six argument registers") = value;
    }

    /// Sets the directory that a relative name starts from, by descriptor.
    ///
    /// # Panics
    /// If the call takes no descriptor.
    #[must_use]
    pub fn dirfd(mut self, fd: i32, directory: &str) -> Self {
        let first = self.arguments.iter().position(|value| matches!(value, Value::Fd(_)));
        let index = first.unwrap_or_else(|| panic!("{} takes no descriptor", self.syscall));
        self.arguments[index] = Value::Fd(fd);
        self.set_register(index, u64::from(fd as u32));
        self.descriptors.insert(fd, directory.to_owned());
        self
    }

    /// Sets what a file descriptor refers to.
    #[must_use]
    pub fn descriptor(mut self, fd: i32, target: &str) -> Self {
        self.descriptors.insert(fd, target.to_owned());
        self
    }

    /// Sets the environment that the call gives to a program.
    #[must_use]
    pub fn environment<'a>(mut self, items: impl IntoIterator<Item = &'a str>) -> Self {
        let items = items.into_iter().map(String::from).collect();
        self.environment = Some(StringList { items, truncated: false });
        self
    }

    /// Sets where the call's first name leads.
    #[must_use]
    pub fn resolved(self, path: &str) -> Self {
        let argument = self.first_path();
        self.resolved_at(argument, path)
    }

    /// Sets where the name in argument `argument` leads.
    #[must_use]
    pub fn resolved_at(mut self, argument: u8, path: &str) -> Self {
        self.paths.entry(argument).or_default().path = Some(path.to_owned());
        self
    }

    /// Says how far the resolution of the call's first name came.
    #[must_use]
    pub fn state(mut self, state: PathState) -> Self {
        let argument = self.first_path();
        self.paths.entry(argument).or_default().state = Some(state);
        self
    }

    fn first_path(&self) -> u8 {
        let first = self.arguments.iter().position(|value| matches!(value, Value::RawPath(_) | Value::Unreadable(_)));
        first.unwrap_or_else(|| panic!("{} has no path", self.syscall)) as u8
    }

    /// Sets who makes the call: real, effective, saved and file-system user.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        (self.process.uid, self.process.euid, self.process.suid, self.process.fsuid) = (uid, uid, uid, uid);
        self
    }

    /// Sets the running executable, and comm by its name.
    #[must_use]
    pub fn exe(mut self, exe: &str) -> Self {
        let name = exe.rsplit('/').next().unwrap_or(exe);
        self.process.comm = name.chars().take(15).collect();
        exe.clone_into(&mut self.process.exe);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: &str) -> Self {
        cwd.clone_into(&mut self.process.cwd);
        self
    }

    /// Sets process and thread id.
    #[must_use]
    pub fn pid(mut self, pid: u32) -> Self {
        (self.header.pid, self.header.tid, self.process.pid) = (pid, pid, pid);
        self
    }

    /// Sets the parent's process id.
    #[must_use]
    pub fn parent(mut self, parent: u32) -> Self {
        self.process.parent = parent;
        self
    }

    /// Changes whatever else there is to know of the process.
    #[must_use]
    pub fn process(mut self, change: impl FnOnce(&mut Process)) -> Self {
        change(&mut self.process);
        self
    }

    /// Name of the system call; empty for a process event.
    pub fn syscall(&self) -> &str {
        &self.syscall
    }

    /// Number within the trace; 1 for events written in code.
    pub fn seq(&self) -> u64 {
        self.header.seq
    }

    /// Entry or exit of a call; none for a process event.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Shows the event as a plugin's `on_entry` sees it.
    pub fn as_entry<R>(&self, f: impl FnOnce(&Entry<'_>) -> R) -> R {
        f(&Entry(Call::new(self.header, &self.arguments, self)))
    }

    /// Shows the event as a plugin's `on_exit` sees it.
    pub fn as_exit<R>(&self, f: impl FnOnce(&Exit<'_>) -> R) -> R {
        f(&Exit { call: Call::new(self.header, &self.arguments, self), outcome: self.outcome })
    }

    /// Shows the event as a plugin's `on_process` sees it.
    ///
    /// # Panics
    /// If it is a call.
    pub fn as_process<R>(&self, f: impl FnOnce(&ProcessEvent<'_>) -> R) -> R {
        let change = self.change.clone().expect("the event is a process event");
        let Header { seq, time_ns, pid, tid, .. } = self.header;
        f(&ProcessEvent { seq, time_ns, pid, tid, change, source: self, process: std::cell::OnceCell::new() })
    }

    /// Where a name leads if nothing else was said: made absolute as text.
    fn lexical(&self, argument: u8) -> Option<String> {
        let Value::RawPath(raw) = self.arguments.get(usize::from(argument))? else { return None };
        let before = argument.checked_sub(1).and_then(|index| self.arguments.get(usize::from(index)));
        let directory = match before {
            Some(Value::Fd(fd)) if *fd >= 0 => self.descriptors.get(fd)?,
            _ => &self.process.cwd,
        };
        let mut parts = Vec::new();
        let start = if raw.starts_with('/') { "" } else { directory };
        for part in start.split('/').chain(raw.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                _ => parts.push(part),
            }
        }
        Some(format!("/{}", parts.join("/")))
    }
}

impl Source for Event {
    fn syscall(&self) -> String {
        self.syscall.clone()
    }

    fn argument_name(&self, argument: u8) -> Option<String> {
        self.names.get(usize::from(argument)).cloned()
    }

    fn describe(&self, argument: u8) -> String {
        let index = usize::from(argument);
        match (self.texts.get(index), self.arguments.get(index)) {
            (Some(text), _) => text.clone(),
            (None, Some(value)) => format!("{value:?}"),
            (None, None) => String::new(),
        }
    }

    fn process(&self) -> Process {
        self.process.clone()
    }

    fn path(&self, argument: u8) -> Option<ResolvedPath> {
        let said = self.paths.get(&argument);
        let path = match said.and_then(|said| said.path.clone()) {
            Some(path) => path,
            None if self.recorded => return None,
            None => match self.arguments.get(usize::from(argument))? {
                Value::RawPath(_) => self.lexical(argument).unwrap_or_default(),
                Value::Unreadable(_) => String::new(),
                _ => return None,
            },
        };
        let state = said.and_then(|said| said.state);
        let usual = if path.is_empty() { PathState::Unresolved } else { PathState::Exists };
        Some(ResolvedPath { path, state: state.unwrap_or(usual) })
    }

    fn path_bytes(&self, argument: u8) -> Option<Vec<u8>> {
        let exact = self.bytes.get(&argument).cloned();
        exact.or_else(|| Source::path(self, argument).map(|resolved| resolved.path.into_bytes()))
    }

    fn raw(&self, argument: u8) -> Option<Vec<u8>> {
        if let Some(bytes) = self.raw.get(&argument) {
            return Some(bytes.clone());
        }
        match self.arguments.get(usize::from(argument))? {
            Value::RawPath(text) | Value::Text(text) => Some(text.clone().into_bytes()),
            Value::Bytes(bytes) => Some(bytes.data.clone()),
            _ => None,
        }
    }

    fn descriptor(&self, argument: u8) -> Option<String> {
        match self.arguments.get(usize::from(argument))? {
            Value::Fd(fd) => self.descriptors.get(fd).cloned(),
            _ => None,
        }
    }

    fn environment(&self) -> Option<StringList> {
        self.environment.clone()
    }

    fn duration_ns(&self) -> u64 {
        self.duration_ns
    }
}

/// An address for [`Event::connect`] and the like: `192.0.2.1:443`,
/// `[::1]:53`, `unix:/run/x.sock`, `unix:@abstract`.
pub(super) fn address(text: &str) -> SocketAddress {
    if let Some(name) = text.strip_prefix("unix:") {
        return match name.strip_prefix('@') {
            Some(name) => SocketAddress::UnixAbstract(name.to_owned()),
            None if name.is_empty() => SocketAddress::UnixUnnamed,
            None => SocketAddress::UnixPath(name.to_owned()),
        };
    }
    let address = text.parse::<std::net::SocketAddr>();
    address.unwrap_or_else(|_| panic!("{text:?} is not ADDRESS:PORT, unix:PATH or unix:@NAME")).into()
}
