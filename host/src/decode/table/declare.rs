//! The words that declarations are written with.

pub(super) use crate::decode::flags;
pub(super) use crate::decode::spec::{Changes, Follow, PathRule, Spec};
pub(super) use crate::decode::structs;

use crate::decode::spec::{Arg, FlagSet, Kind, StructSpec};

pub(super) const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
pub(super) const AT_SYMLINK_FOLLOW: u64 = 0x400;
pub(super) const AT_EMPTY_PATH: u64 = 0x1000;

/// A call that changes nothing that the host remembers of a task.
pub(super) const fn call(name: &'static str, args: &'static [Arg]) -> Spec {
    Spec { name, args, changes: Changes::Nothing }
}

impl Spec {
    pub(super) const fn changing(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }
}

impl Arg {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, optional: false }
    }

    /// NULL means something.
    pub(super) const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A name from the working directory.
pub(super) const fn cwd(follow: Follow) -> PathRule {
    PathRule { dirfd: None, follow, empty: None }
}

/// A name from the directory in argument `dirfd`.
pub(super) const fn at(dirfd: u8, follow: Follow) -> PathRule {
    PathRule { dirfd: Some(dirfd), follow, empty: None }
}

impl PathRule {
    /// With `bit` of argument `flags` an empty name means the directory.
    pub(super) const fn or_empty(mut self, flags: u8, bit: u64) -> Self {
        self.empty = Some((flags, bit));
        self
    }
}

/// As most calls with `AT_*` flags: `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`
/// in argument `flags`.
pub(super) const fn at_flags(dirfd: u8, flags: u8) -> PathRule {
    at(dirfd, Follow::Unless(flags, AT_SYMLINK_NOFOLLOW)).or_empty(flags, AT_EMPTY_PATH)
}

macro_rules! kinds {
    ($($word:ident $kind:ident;)*) => {
        $(pub(super) const fn $word(name: &'static str) -> Arg { Arg::new(name, Kind::$kind) })*
    };
}

kinds! {
    int Int; uint Uint; ushort Ushort; long Long; size Size; address Address; mode Mode; node_mode NodeMode; signal Signal;
    fd Fd; dirfd DirFd; strings Strings; environment Environment; length Length; message Message; message_out MessageOut; text_out TextOut;
}

macro_rules! kinds_with {
    ($($word:ident $kind:ident($parameter:ident: $type:ty);)*) => {
        $(pub(super) const fn $word(name: &'static str, $parameter: $type) -> Arg { Arg::new(name, Kind::$kind($parameter)) })*
    };
}

kinds_with! {
    path Path(rule: PathRule);
    text Text(limit: usize);
    flags Flags(set: &'static FlagSet);
    long_flags LongFlags(set: &'static FlagSet);
    socket_option SocketOption(level: u8);
    buffer Buffer(length: u8);
    vectors Vectors(count: u8);
    sockaddr SockAddr(length: u8);
    sockaddr_out SockAddrOut(length: u8);
    messages Messages(count: u8);
    structure Struct(spec: &'static StructSpec);
    fds_out FdsOut(count: u8);
}

pub(super) const fn sized(name: &'static str, spec: &'static StructSpec, size: u8) -> Arg {
    Arg::new(name, Kind::SizedStruct(spec, size))
}
