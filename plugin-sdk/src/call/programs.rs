//! Views of calls on processes: programs, signals, tracing, credentials.

use super::view;
use crate::Call;
use crate::bindings::tracegate::plugin::types::{ResolvedPath, StringList, Value};
use crate::known::Known as K;
use crate::paths::PathArgument;

view! {
    /// `execve`, `execveat`.
    Exec
}

impl<'c> Exec<'c> {
    /// The program. Asks the host where the name leads.
    pub fn path(&self) -> ResolvedPath {
        self.argument().resolved()
    }

    /// The name as the tracee passed it; none if it could not be read.
    pub fn raw_path(&self) -> Option<&'c str> {
        self.argument().raw()
    }

    /// The path argument.
    pub fn argument(&self) -> PathArgument<'c> {
        PathArgument::new(self.call, self.first())
    }

    /// The new program's arguments, as far as they were read.
    pub fn argv(&self) -> &'c [String] {
        self.call.strings(self.first() + 1)
    }

    /// The new program's environment, `NAME=VALUE` each, as far as the host
    /// can read it; none if it cannot, and in a replay if it was not recorded.
    /// Asks the host, and needs to be granted `environment`.
    ///
    /// ```
    /// use plugin_sdk::testing::Event;
    ///
    /// let preloads = |event: &plugin_sdk::Entry<'_>| match event.exec().unwrap().environment() {
    ///     // What was not read could be anything.
    ///     Some(read) => read.truncated || read.items.iter().any(|item| item.starts_with("LD_PRELOAD=")),
    ///     None => true,
    /// };
    /// assert!(Event::execve("/bin/id", ["id"]).environment(["LD_PRELOAD=/tmp/x.so"]).as_entry(preloads));
    /// assert!(!Event::execve("/bin/id", ["id"]).as_entry(preloads));
    /// ```
    pub fn environment(&self) -> Option<StringList> {
        self.call.source().environment()
    }

    /// True if [`argv`](Self::argv) is all of it.
    pub fn argv_is_complete(&self) -> bool {
        match self.call.value(self.first() + 1) {
            Some(Value::Strings(list)) => !list.truncated,
            Some(Value::Absent) => true,
            _ => false,
        }
    }

    /// `AT_*` flags of `execveat`; 0 for `execve`.
    pub fn flags(&self) -> u64 {
        if self.first() == 1 { self.call.number(4) } else { 0 }
    }

    fn first(self) -> u8 {
        u8::from(self.call.known() == Some(K::Execveat))
    }
}

view! {
    /// `kill`, `tkill`, `tgkill`, `rt_sigqueueinfo`, `rt_tgsigqueueinfo`,
    /// `pidfd_send_signal`.
    Kill
}

impl Kill<'_> {
    /// Process or thread; as in kill(2), 0 and negative numbers mean groups.
    /// None for a pidfd, whose process is not known by number.
    pub fn target(&self) -> Option<i32> {
        match self.call.known() {
            Some(K::Tgkill | K::RtTgsigqueueinfo) => Some(self.call.int(1)),
            Some(K::PidfdSendSignal) => None,
            _ => Some(self.call.int(0)),
        }
    }

    /// The signal; 0 only asks whether the target is there.
    pub fn signal(&self) -> u64 {
        let argument = match self.call.known() {
            Some(K::Tgkill | K::RtTgsigqueueinfo) => 2,
            _ => 1,
        };
        self.call.int(argument) as u64
    }
}

view! {
    /// `ptrace`.
    Ptrace
}

impl Ptrace<'_> {
    /// `PTRACE_ATTACH` and so on.
    pub fn request(&self) -> u64 {
        self.call.number(0)
    }

    /// The tracee.
    pub fn target(&self) -> i32 {
        self.call.int(1)
    }
}

/// The kind of ids that a call sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// User ids.
    User,
    /// Group ids.
    Group,
    /// Supplementary groups.
    Groups,
}

view! {
    /// `setuid`, `setreuid`, `setresuid`, `setfsuid`, their group
    /// counterparts, and `setgroups`.
    SetIds
}

impl SetIds<'_> {
    /// What kind of ids it sets.
    pub fn kind(&self) -> Ids {
        match self.call.known() {
            Some(
                K::Setuid
                | K::Setreuid
                | K::Setresuid
                | K::Setfsuid
                | K::Setuid32
                | K::Setreuid32
                | K::Setresuid32
                | K::Setfsuid32,
            ) => Ids::User,
            Some(K::Setgroups | K::Setgroups32) => Ids::Groups,
            _ => Ids::Group,
        }
    }

    /// The ids asked for, in the order of the call; -1, which leaves an id
    /// as it is, is left out. Empty for `setgroups`.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let count = match self.call.known() {
            Some(K::Setgroups | K::Setgroups32) => 0,
            Some(K::Setreuid | K::Setregid | K::Setreuid32 | K::Setregid32) => 2,
            Some(K::Setresuid | K::Setresgid | K::Setresuid32 | K::Setresgid32) => 3,
            _ => 1,
        };
        (0..count).map(|argument| self.call.int(argument) as u32).filter(|id| *id != u32::MAX)
    }

    /// True if it asks to become root (user or group 0).
    pub fn to_root(&self) -> bool {
        self.ids().any(|id| id == 0)
    }
}

impl Call<'_> {
    /// A call that runs a program.
    ///
    /// ```
    /// use plugin_sdk::testing::Event;
    ///
    /// Event::execve("/bin/sh", ["sh", "-c", "id"]).as_entry(|event| {
    ///     assert_eq!(event.exec().unwrap().argv()[2], "id");
    /// });
    /// ```
    pub fn exec(&self) -> Option<Exec<'_>> {
        matches!(self.known()?, K::Execve | K::Execveat).then_some(Exec { call: self })
    }

    /// A call that sends a signal.
    pub fn kill(&self) -> Option<Kill<'_>> {
        matches!(
            self.known()?,
            K::Kill | K::Tkill | K::Tgkill | K::RtSigqueueinfo | K::RtTgsigqueueinfo | K::PidfdSendSignal
        )
        .then_some(Kill { call: self })
    }

    /// A call of `ptrace`.
    pub fn ptrace(&self) -> Option<Ptrace<'_>> {
        (self.known()? == K::Ptrace).then_some(Ptrace { call: self })
    }

    /// A call that sets user or group ids.
    pub fn set_ids(&self) -> Option<SetIds<'_>> {
        matches!(
            self.known()?,
            K::Setuid
                | K::Setreuid
                | K::Setresuid
                | K::Setfsuid
                | K::Setgid
                | K::Setregid
                | K::Setresgid
                | K::Setfsgid
                | K::Setgroups
                | K::Setuid32
                | K::Setreuid32
                | K::Setresuid32
                | K::Setfsuid32
                | K::Setgid32
                | K::Setregid32
                | K::Setresgid32
                | K::Setfsgid32
                | K::Setgroups32
        )
        .then_some(SetIds { call: self })
    }
}
