//! Compares two runs of a program, one as the host recorded it and one as
//! strace did.
//!
//! Tasks are matched by order of creation in the tree of tasks, calls by
//! their order within a task, arguments by the host's declaration of the call:
//!
//! | argument | compared |
//! |---|---|
//! | numbers, descriptors | as numbers |
//! | flags, constants, modes, signals | text, so their names and their order too |
//! | file names, other text, argv and envp | text, so its quoting too |
//! | socket addresses | text, without padding |
//! | structures to the kernel | the fields that both show, at least one |
//! | descriptors, text and addresses from the kernel | text, if the call succeeded |
//! | lengths of addresses | as the kernel found them; strace shows `[before => after]` |
//! | data to the kernel | text, if strace shows it as data and not as what it means |
//! | addresses, and what is behind those that the host only shows as such | whether it is NULL |
//!
//! What is not compared beyond that is in [`NOT_COMPARED`], what varies from
//! run to run in [`normal`](super::normal). A result is compared as a whole,
//! value or errno, except for those in [`RESULTS_THAT_VARY`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use host::decode::{Arch, Kind};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::normal::Normalizer;
use super::parse::{before_arrow, fields, items, number, unquote, without_comments};

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Vec<String>,
    pub outcome: Outcome,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not return.
    None,
    Value(String),
    Errno(String),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Code(String),
    Signal(String),
}

/// What a task did.
#[derive(Debug, Default)]
pub struct Thread {
    pub calls: Vec<Call>,
    /// In order of their creation.
    pub children: Vec<i32>,
    pub end: Option<End>,
}

/// What all tasks of a program did.
#[derive(Debug)]
pub struct Run {
    pub threads: HashMap<i32, Thread>,
    pub root: i32,
}

impl Run {
    pub fn new(threads: HashMap<i32, Thread>) -> Self {
        let mut roots: Vec<i32> = threads.keys().copied().collect();
        roots.retain(|tid| !threads.values().any(|thread| thread.children.contains(tid)));
        assert_eq!(roots.len(), 1, "one task must be the ancestor of all others: {roots:?} are without a parent");
        Self { root: roots[0], threads }
    }

    /// All tasks, parents before children, with their places in the tree.
    pub fn tree(&self) -> Vec<(String, i32)> {
        let mut tree = Vec::new();
        let mut rest = vec![("0".to_owned(), self.root)];
        while let Some((place, tid)) = rest.pop() {
            let children = self.threads.get(&tid).map_or(&[][..], |thread| &thread.children);
            rest.extend(children.iter().enumerate().rev().map(|(index, child)| (format!("{place}.{index}"), *child)));
            tree.push((place, tid));
        }
        tree
    }
}

/// Arguments that are not compared though both show something, and why.
const NOT_COMPARED: [(&str, &str, &str); 4] = [
    ("fcntl", "arg", "strace shows what the address or flags of some commands mean; numbers are compared"),
    ("prctl", "arg2", "strace shows what it means by option; numbers are compared"),
    ("ioctl", "argp", "an address for some requests and a number for others"),
    ("ioctl", "request", "the host has names for the most telling requests only; those are compared"),
];

/// Arguments that only one of the two shows at the end of a list.
const LAST_SHOWN_BY_US_ALONE: [(&str, &str); 10] = [
    // Without O_CREAT or O_TMPFILE nobody looks at the mode.
    ("open", "mode"),
    ("openat", "mode"),
    // Only devices have a number.
    ("mknod", "dev"),
    ("mknodat", "dev"),
    // Commands without an argument.
    ("fcntl", "arg"),
    ("ioctl", "argp"),
    // Options without as many arguments.
    ("prctl", "arg2"),
    ("prctl", "arg3"),
    ("prctl", "arg4"),
    ("prctl", "arg5"),
];

/// Calls whose result is not the same in two runs: only success or errno is
/// compared.
const RESULTS_THAT_VARY: [(&str, &str); 6] = [
    ("brk", "an address"),
    ("mmap", "an address"),
    ("mremap", "an address"),
    ("shmat", "an address"),
    ("rt_sigreturn", "what the interrupted call left in the register"),
    ("times", "a time"),
];

/// Calls whose result is the id of a process or thread.
const RESULTS_THAT_ARE_IDS: [&str; 14] = [
    "fork",
    "vfork",
    "clone",
    "clone3",
    "wait4",
    "getpid",
    "gettid",
    "getppid",
    "getpgid",
    "getpgrp",
    "getsid",
    "setsid",
    "set_tid_address",
    "waitpid",
];

/// Arguments that are the id of a process or thread.
const ARGUMENTS_THAT_ARE_IDS: [&str; 4] = ["pid", "tid", "tgid", "pgid"];

/// Fields of structures (clone3's) that are addresses.
const ADDRESSES_IN_STRUCTURES: [&str; 6] = ["pidfd", "child_tid", "parent_tid", "stack", "tls", "set_tid"];

/// What was compared.
#[derive(Debug, Default)]
pub struct Tally {
    pub tasks: usize,
    pub calls: usize,
    /// Arguments whose values were compared.
    pub values: usize,
    /// Arguments of which only was compared whether they are NULL.
    pub addresses: usize,
    /// Call and argument → how often it was not compared.
    pub skipped: BTreeMap<String, usize>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, calls, values, addresses, skipped } = self;
        write!(f, "{tasks:3} tasks {calls:5} calls {values:6} arguments, {addresses:5} NULL or not")?;
        if !skipped.is_empty() {
            let skipped: Vec<String> = skipped.iter().map(|(what, times)| format!("{what} {times}×")).collect();
            write!(f, ", not compared: {}", skipped.join(", "))?;
        }
        Ok(())
    }
}

/// Compares the runs; answers what was compared and all differences.
pub fn compare(program: &str, ours: &Run, theirs: &Run) -> (Tally, Vec<String>) {
    let mut comparison = Comparison { program, tally: Tally::default(), differences: Vec::new() };
    let (our_tree, their_tree) = (ours.tree(), theirs.tree());
    let places = |tree: &[(String, i32)]| tree.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>();
    if places(&our_tree) != places(&their_tree) {
        comparison.differs("all", "tasks", &places(&our_tree).join(" "), &places(&their_tree).join(" "));
    }
    let (mut our_names, mut their_names) = (Normalizer::new(&our_tree), Normalizer::new(&their_tree));
    let their_tids: HashMap<&str, i32> = their_tree.iter().map(|(place, tid)| (place.as_str(), *tid)).collect();
    let nothing = Thread::default();
    for (place, our_tid) in &our_tree {
        let Some(their_tid) = their_tids.get(place.as_str()) else { continue };
        let ours = ours.threads.get(our_tid).unwrap_or(&nothing);
        let theirs = theirs.threads.get(their_tid).unwrap_or(&nothing);
        comparison.tally.tasks += 1;
        comparison.calls(place, &our_names.normal(&ours.calls), &their_names.normal(&theirs.calls));
        if ours.end != theirs.end {
            comparison.differs(place, "end", &format!("{:?}", ours.end), &format!("{:?}", theirs.end));
        }
    }
    (comparison.tally, comparison.differences)
}

struct Comparison<'a> {
    program: &'a str,
    tally: Tally,
    differences: Vec<String>,
}

/// What comparing two arguments came to.
enum Verdict {
    Same,
    /// Both addresses, or both NULL.
    SameNullness,
    Differ,
    NotCompared,
}

impl From<bool> for Verdict {
    fn from(same: bool) -> Self {
        if same { Self::Same } else { Self::Differ }
    }
}

impl Comparison<'_> {
    fn differs(&mut self, task: &str, what: &str, ours: &str, theirs: &str) {
        let program = self.program;
        self.differences.push(format!("{program}, task {task}, {what}:\n    ours   {ours}\n    strace {theirs}"));
    }

    fn calls(&mut self, task: &str, ours: &[Call], theirs: &[Call]) {
        let names = |calls: &[Call]| calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>();
        for step in capture_diff_slices(Algorithm::Myers, &names(ours), &names(theirs)) {
            if let DiffOp::Equal { old_index, new_index, len } = step {
                for offset in 0..len {
                    self.call(task, old_index + offset, &ours[old_index + offset], &theirs[new_index + offset]);
                }
                continue;
            }
            let (ours_at, theirs_at) = (step.old_range(), step.new_range());
            for index in ours_at.clone() {
                self.differs(task, &format!("call {index}"), &ours[index].to_string(), "(no such call here)");
            }
            for index in theirs_at {
                self.differs(
                    task,
                    &format!("call {}", ours_at.start),
                    "(no such call here)",
                    &theirs[index].to_string(),
                );
            }
        }
    }

    fn call(&mut self, task: &str, index: usize, ours: &Call, theirs: &Call) {
        self.tally.calls += 1;
        let what = format!("call {index}");
        let varies = RESULTS_THAT_VARY.iter().any(|(name, _)| *name == ours.name);
        let same = match (&ours.outcome, &theirs.outcome) {
            (Outcome::Value(_), Outcome::Value(_)) if varies => true,
            (Outcome::Value(ours), Outcome::Value(theirs)) => same_number(ours, theirs),
            (ours, theirs) => ours == theirs,
        };
        if !same {
            self.differs(task, &format!("{what}, result"), &ours.to_string(), &theirs.to_string());
        }
        let Some(declared) = declaration(&ours.name) else { return };
        let succeeded = matches!(ours.outcome, Outcome::Value(_));
        for (position, (name, kind)) in declared.iter().enumerate() {
            let ours_shown = ours.arguments.get(position).map_or("", String::as_str);
            let Some(theirs_shown) = theirs.arguments.get(position).filter(|text| !text.is_empty()) else {
                if !LAST_SHOWN_BY_US_ALONE.contains(&(&ours.name, name)) && ours.name != "clone" {
                    self.differs(task, &format!("{what}, argument {name}"), &ours.to_string(), &theirs.to_string());
                }
                continue;
            };
            match argument(&ours.name, name, kind, succeeded, (ours_shown, theirs_shown)) {
                Verdict::Same => self.tally.values += 1,
                Verdict::SameNullness => self.tally.addresses += 1,
                Verdict::NotCompared => {
                    *self.tally.skipped.entry(format!("{} {name}", ours.name)).or_default() += 1;
                }
                Verdict::Differ => {
                    let (ours, theirs) = (format!("{ours_shown}  in {ours}"), format!("{theirs_shown}  in {theirs}"));
                    self.differs(task, &format!("{what}, argument {name}"), &ours, &theirs);
                }
            }
        }
        if theirs.arguments.len() > declared.len() {
            self.differs(task, &format!("{what}, number of arguments"), &ours.to_string(), &theirs.to_string());
        }
    }
}

/// Names and kinds of a call's arguments; `None` if the host has no
/// declaration of it.
pub fn declaration(call: &str) -> Option<Vec<(&'static str, &'static Kind)>> {
    let arch = Arch::NATIVE;
    let number = arch.number(call).filter(|number| arch.declares(*number))?;
    Some(arch.spec(number).args.iter().map(|arg| (arg.name, &arg.kind)).collect())
}

fn argument(call: &str, name: &str, kind: &Kind, succeeded: bool, (ours, theirs): (&str, &str)) -> Verdict {
    let is_null = |text: &str| matches!(text, "NULL" | "0");
    let nullness = || {
        if is_null(ours) == is_null(theirs) { Verdict::SameNullness } else { Verdict::Differ }
    };
    let loose = NOT_COMPARED.iter().any(|(known, argument, _)| (*known, *argument) == (call, name));
    if loose && (ours.starts_with("0x") || number(theirs).is_none() && !theirs.starts_with('"')) && ours != theirs {
        return Verdict::NotCompared;
    }
    match kind {
        Kind::Int | Kind::Uint | Kind::Ushort | Kind::Long | Kind::Size | Kind::Fd | Kind::DirFd => {
            same_number(ours, theirs).into()
        }
        Kind::Mode | Kind::NodeMode | Kind::Signal | Kind::Flags(_) | Kind::LongFlags(_) | Kind::SocketOption(_) => {
            (ours == without_comments(theirs)).into()
        }
        // A name that is longer than the kernel takes is unreadable to the host; strace shows its beginning.
        Kind::Path(_) if ours.starts_with("0x") && theirs.ends_with("\"...") => Verdict::NotCompared,
        Kind::Path(_) | Kind::Text(_) | Kind::Strings | Kind::Environment => (ours == theirs).into(),
        Kind::SockAddr(_) => address(ours, theirs).into(),
        Kind::SockAddrOut(_) if succeeded => address(ours, theirs).into(),
        Kind::FdsOut(_) | Kind::TextOut if succeeded => (ours == theirs).into(),
        Kind::FdsOut(_) | Kind::TextOut | Kind::SockAddrOut(_) | Kind::MessageOut | Kind::Address => nullness(),
        Kind::Length => {
            let found = items(theirs).and_then(|items| items.first().map(|item| format!("[{}]", before_arrow(item))));
            (ours == found.as_deref().unwrap_or(theirs)).into()
        }
        Kind::Buffer(_) | Kind::Vectors(_) => data(ours, theirs),
        Kind::Struct(_) | Kind::SizedStruct(..) => structure(ours, before_arrow(&without_comments(theirs))).into(),
        Kind::Message => message(ours, theirs),
        Kind::Messages(_) => Verdict::NotCompared,
    }
}

fn same_number(ours: &str, theirs: &str) -> bool {
    ours == theirs || number(ours).is_some_and(|number_| Some(number_) == number(theirs))
}

/// Data is quoted by both, or an array of `int` to strace.
fn data(ours: &str, theirs: &str) -> Verdict {
    if theirs.starts_with('"') || !ours.starts_with('"') {
        return (ours == theirs).into();
    }
    let Some([item]) = items(theirs).as_deref().map(|items| <[&str; 1]>::try_from(items).unwrap_or([""])) else {
        return Verdict::NotCompared;
    };
    match (number(item), unquote(ours).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())) {
        (Some(number), Some(bytes)) => (number == i128::from(i32::from_ne_bytes(bytes))).into(),
        _ => Verdict::NotCompared,
    }
}

fn structure(ours: &str, theirs: &str) -> bool {
    if !ours.starts_with('{') {
        return ours == theirs;
    }
    let pair = times(theirs);
    let theirs = pair.as_deref().unwrap_or(theirs);
    // A structure of one number is that number to strace.
    if let (Some([(_, ours)]), Some([theirs])) = (fields(ours).as_deref(), items(theirs).as_deref()) {
        return same_number(ours, theirs);
    }
    let (Some(ours), Some(theirs)) = (fields(ours), fields(theirs)) else { return false };
    let mut any = false;
    let all = ours.iter().all(|(name, ours)| {
        let Some((_, theirs)) = theirs.iter().find(|(other, _)| name == other) else { return true };
        any = true;
        if ADDRESSES_IN_STRUCTURES.contains(name) {
            return (number(ours) == Some(0)) == (number(theirs) == Some(0));
        }
        same_number(ours, theirs)
    });
    any && all
}

/// Socket addresses: all that the host shows. Of some families strace shows
/// more: padding that is not zero.
fn address(ours: &str, theirs: &str) -> bool {
    let (Some(mine), Some(others)) = (fields(ours), fields(theirs)) else { return ours == theirs };
    let shown = others.into_iter().filter(|(name, _)| *name != "nl_pad");
    mine.into_iter().eq(shown)
}

/// The pair of times of utimensat(2) as one structure.
fn times(text: &str) -> Option<String> {
    let pair = items(text)?;
    let [access, modification] = pair.as_slice() else { return None };
    let one = |prefix: &str, time: &str| match time {
        "UTIME_NOW" => format!("{prefix}.tv_nsec={}", libc::UTIME_NOW),
        "UTIME_OMIT" => format!("{prefix}.tv_nsec={}", libc::UTIME_OMIT),
        _ => fields(time)
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| format!("{prefix}.{name}={value}"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    Some(format!("{{{}, {}}}", one("atime", access), one("mtime", modification)))
}

/// The address of a message, and its data if strace shows that as such.
fn message(ours: &str, theirs: &str) -> Verdict {
    let (Some(ours), Some(theirs)) = (fields(ours), fields(theirs)) else { return (ours == theirs).into() };
    let find = |fields: &[(&str, &str)], name: &str| {
        fields.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
    };
    let name = |fields: &[(&str, &str)]| find(fields, "msg_name").unwrap_or_default();
    if !address(&name(&ours), &name(&theirs)) {
        return Verdict::Differ;
    }
    let vectors = find(&theirs, "msg_iov").unwrap_or_default();
    let parts: Option<Vec<Vec<u8>>> = items(&vectors)
        .unwrap_or_default()
        .into_iter()
        .map(|vector| unquote(fields(vector)?.iter().find(|(name, _)| *name == "iov_base")?.1))
        .collect();
    match (parts, find(&ours, "msg_data").as_deref().and_then(unquote)) {
        (Some(theirs), Some(ours)) => (theirs.concat() == ours).into(),
        _ => Verdict::Same,
    }
}

impl Call {
    /// Puts strace's arguments into the places of the declaration.
    pub fn arranged(mut self) -> Self {
        // clone(2) has its arguments in another order on other architectures,
        // so strace gives them names.
        if self.name == "clone" && self.arguments.first().is_some_and(|first| first.starts_with("child_stack=")) {
            let places = ["flags", "child_stack", "parent_tid", "child_tidptr", "tls"];
            let mut arranged = vec![String::new(); places.len()];
            for argument in &self.arguments {
                let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
                if let Some(place) = places.iter().position(|place| *place == name) {
                    value.clone_into(&mut arranged[place]);
                }
            }
            self.arguments = arranged;
        }
        self
    }

    /// Whether argument `name` is the id of a task.
    pub fn takes_id(name: &str) -> bool {
        ARGUMENTS_THAT_ARE_IDS.contains(&name)
    }

    /// Whether the result is the id of a task.
    pub fn gives_id(&self) -> bool {
        RESULTS_THAT_ARE_IDS.contains(&self.name.as_str())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match &self.outcome {
            Outcome::None => "?",
            Outcome::Value(text) | Outcome::Errno(text) => text,
        };
        write!(f, "{}({}) = {result}", self.name, self.arguments.join(", "))
    }
}

/// Name of a signal, as strace gives it at the end of a process.
pub fn signal_name(number: i64) -> String {
    let known = nix::sys::signal::Signal::try_from(number as i32);
    known.map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lines: [&[(&str, &[&str], &str)]; 2]) -> Run {
        let thread = |calls: &[(&str, &[&str], &str)], children: &[i32]| Thread {
            calls: calls
                .iter()
                .map(|(name, arguments, result)| Call {
                    name: (*name).to_owned(),
                    arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
                    outcome: match result.strip_prefix('E') {
                        Some(_) => Outcome::Errno((*result).to_owned()),
                        None => Outcome::Value((*result).to_owned()),
                    },
                })
                .collect(),
            children: children.to_vec(),
            end: Some(End::Code("0".into())),
        };
        Run::new(HashMap::from([(70, thread(lines[0], &[71])), (71, thread(lines[1], &[]))]))
    }

    /// What the comparison finds if strace saw a parent do this, and the host
    /// that.
    fn differences(ours: &[(&str, &[&str], &str)], theirs: &[(&str, &[&str], &str)]) -> usize {
        let child: (&str, &[&str], &str) = ("chdir", &["\"/\""], "0");
        compare("test", &run([ours, &[child]]), &run([theirs, &[child]])).1.len()
    }

    #[test]
    fn no_difference_is_overlooked() {
        let open: (&str, &[&str], &str) = ("openat", &["AT_FDCWD", "\"a\"", "O_RDONLY"], "3");
        let stat: (&str, &[&str], &str) = ("stat", &["\"a\"", "0x7f00"], "ENOENT");
        assert_eq!(differences(&[open, stat], &[open, stat]), 0);
        assert_eq!(differences(&[open], &[open, stat]), 1, "a call is missing");
        assert_eq!(differences(&[open, stat, stat], &[open, stat]), 1, "a call too many");
        assert_eq!(differences(&[stat, open], &[open, stat]), 2, "another order");
        for other in [
            ("openat", &["AT_FDCWD", "\"b\"", "O_RDONLY"][..], "3"),
            ("openat", &["4", "\"a\"", "O_RDONLY"], "3"),
            ("openat", &["AT_FDCWD", "\"a\"", "O_RDONLY|O_CLOEXEC"], "3"),
            ("openat", &["AT_FDCWD", "\"a\"", "O_RDONLY"], "4"),
            ("openat", &["AT_FDCWD", "\"a\"", "O_RDONLY"], "EACCES"),
            ("openat", &["AT_FDCWD", "\"a\""], "3"),
        ] {
            assert_eq!(differences(&[other], &[open]), 1, "{other:?}");
        }
        assert_eq!(differences(&[("stat", &["\"a\"", "NULL"], "ENOENT")], &[stat]), 1, "NULL is no address");
    }

    #[test]
    fn tasks_are_matched_by_their_place() {
        let exit: (&str, &[&str], &str) = ("chdir", &["\"/\""], "0");
        let ours = run([&[], &[exit]]);
        let mut theirs = run([&[], &[exit]]);
        theirs.threads.remove(&71);
        theirs.threads.get_mut(&70).unwrap().children.clear();
        assert_eq!(compare("test", &ours, &theirs).1.len(), 1, "a task that only we saw");
        theirs = run([&[], &[exit]]);
        theirs.threads.get_mut(&71).unwrap().end = Some(End::Signal("SIGKILL".into()));
        assert_eq!(compare("test", &ours, &theirs).1.len(), 1, "another end");
    }
}
