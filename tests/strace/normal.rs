//! What legitimately differs between two runs of one program, made equal.
//! Everything here has its reason; what is not here must be equal.

use std::collections::HashMap;

use super::compare::{Call, Outcome, declaration};

/// Names with a random part: what stands before it, and its length. They are
/// replaced by numbers in order of their appearance, so that it still has to
/// be the same one of several temporary files that is renamed or deleted.
const RANDOM_NAMES: [(&str, usize, &str); 6] = [
    ("/tmp/cc", 6, "gcc: files between its stages"),
    ("/tmp_obj_", 6, "git: an object being written"),
    ("/tmp_pack_", 6, "git: a pack being written"),
    ("/tmp_idx_", 6, "git: the index of a pack being written"),
    ("/tmp_rev_", 6, "git: the reverse index of a pack being written"),
    ("/.git/t", 6, "git: tries whether the file system has symbolic links"),
];

/// Names, and arguments of programs, with the id of a process: what stands before and after it.
const NAMES_WITH_ID: [(&str, &str, &str); 2] = [
    ("/.tmp-", "-", "git: a pack being written"),
    ("--keep=fetch-pack ", " on ", "git: who keeps a pack from being deleted"),
];

/// Makes the calls of one run comparable with those of another.
pub struct Normalizer {
    /// Task → its place in the tree of tasks.
    places: HashMap<i32, String>,
    /// Random name → its number.
    random: HashMap<String, usize>,
}

impl Normalizer {
    pub fn new(tree: &[(String, i32)]) -> Self {
        Self { places: tree.iter().map(|(place, tid)| (*tid, place.clone())).collect(), random: HashMap::new() }
    }

    /// The calls of a task. Tasks must be given in the order of the tree.
    pub fn normal(&mut self, calls: &[Call]) -> Vec<Call> {
        let mut normal: Vec<Call> = Vec::new();
        for call in calls.iter().filter(|call| !is_restart(call)) {
            let call = self.call(call.clone().arranged());
            if creates_exclusively(&call) {
                while normal.pop_if(|before| is_draw(before)).is_some() {}
            }
            normal.push(call);
        }
        for children in normal.chunk_by_mut(|one, next| waits_for_any(one) && waits_for_any(next)) {
            children.sort_by_key(|call| match &call.outcome {
                Outcome::Value(id) if waits_for_any(call) => id.clone(),
                _ => String::new(),
            });
        }
        normal
    }

    fn call(&mut self, mut call: Call) -> Call {
        let declared = declaration(&call.name).unwrap_or_default();
        for (position, (name, _)) in declared.iter().enumerate() {
            let takes_id = Call::takes_id(name);
            let Some(argument) = call.arguments.get_mut(position) else { break };
            if takes_id {
                *argument = self.id(argument);
            } else if argument.contains('"') {
                *argument = self.names(argument);
            }
            if call.name == "getsockname" && *name == "addr" {
                *argument = without_port(argument);
            }
        }
        if call.gives_id()
            && let Outcome::Value(id) = &mut call.outcome
        {
            *id = self.id(id);
        }
        call
    }

    /// The id of a task, as its place in the tree. Ids outside of the tree
    /// are those of the tracer and its ancestors.
    fn id(&self, text: &str) -> String {
        let Ok(id) = text.parse::<i32>() else { return text.to_owned() };
        let sign = if id < -1 { "-" } else { "" };
        match self.places.get(&id.abs()) {
            Some(place) => format!("{sign}task {place}"),
            None if matches!(id, -1..=1) => text.to_owned(),
            None => format!("{sign}a task outside"),
        }
    }

    fn names(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (before, length, _) in RANDOM_NAMES {
            let mut from = 0;
            while let Some(found) = text[from..].find(before) {
                let start = from + found + before.len();
                from = start;
                let is_random = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if let Some(part) = text.get(start..start + length).filter(|part| is_random(part)) {
                    let next = self.random.len();
                    let number = *self.random.entry(format!("{before}{part}")).or_insert(next);
                    text.replace_range(start..start + length, &format!("<{number}>"));
                }
            }
        }
        for (before, after, _) in NAMES_WITH_ID {
            let Some((head, rest)) = text.split_once(before) else { continue };
            let Some((id, tail)) = rest.split_once(after) else { continue };
            if let Some(place) = id.parse().ok().and_then(|id: i32| self.places.get(&id)) {
                text = format!("{head}{before}<{place}>{after}{tail}");
            }
        }
        text
    }
}

/// A call that a signal interrupted before it did anything, and that the
/// kernel starts again. When a signal comes is a matter of time.
fn is_restart(call: &Call) -> bool {
    matches!(&call.outcome, Outcome::Errno(name) if name.starts_with("ERESTART"))
}

/// For a temporary name glibc makes a number of 64 bits from the time. If it
/// is beyond the last multiple of 62^10, one time in 23, it asks the kernel
/// for another (`try_tempname_len`), right before it creates the file.
fn is_draw(call: &Call) -> bool {
    call.name == "getrandom" && call.arguments.get(1..) == Some(&["8".into(), "GRND_NONBLOCK".into()])
}

fn creates_exclusively(call: &Call) -> bool {
    call.name == "openat" && call.arguments.get(2).is_some_and(|flags| flags.contains("O_CREAT|O_EXCL"))
}

/// A shell waits for whichever child of a pipeline ends next, which is a
/// matter of time. Of calls in a row the order is not looked at.
fn waits_for_any(call: &Call) -> bool {
    call.name == "wait4"
        && call.arguments.first().is_some_and(|pid| pid == "-1")
        && matches!(call.outcome, Outcome::Value(_))
}

/// The port that the kernel chose for a client's side of a connection.
fn without_port(address: &str) -> String {
    let Some((before, rest)) = address.split_once("_port=htons(") else { return address.to_owned() };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    format!("{before}_port=htons(…{}", &rest[digits..])
}
