//! A function for each of the calls that tests are usually about.
//!
//! Each takes what no test can do without; flags, directory descriptors and
//! resolutions are set afterwards.

use super::Event;
use super::event::{POINTER, address};
use crate::bindings::tracegate::plugin::types::{ByteList, Field, Message, StringList, Value};
use crate::constants::AT_FDCWD;

fn path(path: &str) -> Value {
    Value::RawPath(path.to_owned())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Strings(StringList { items: items.into_iter().map(String::from).collect(), truncated: false })
}

const HERE: Value = Value::Fd(AT_FDCWD);
const NO_FLAGS: Value = Value::Flags(0);

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($parameter:ident: $type:ty),*) [$($value:expr),* $(,)?];)*) => {
        impl Event {
            $($(#[$doc])* pub fn $name($($parameter: $type),*) -> Self {
                Self::call(stringify!($name), [$($value),*])
            })*
        }
    };
}

calls! {
    /// `open` for reading; see [`flags`](Event::flags).
    open(name: &str) [path(name), NO_FLAGS, Value::Uint(0)];
    /// `openat` for reading; see [`flags`](Event::flags) and [`dirfd`](Event::dirfd).
    openat(name: &str) [HERE, path(name), NO_FLAGS, Value::Uint(0)];
    /// `openat2` for reading; see [`flags`](Event::flags) and [`dirfd`](Event::dirfd).
    openat2(name: &str) [HERE, path(name), Value::Structure(vec![
        Field { name: "flags".into(), value: 0 },
        Field { name: "mode".into(), value: 0 },
        Field { name: "resolve".into(), value: 0 },
    ]), Value::Uint(24)];
    /// `creat`.
    creat(name: &str) [path(name), Value::Uint(0o644)];
    /// `truncate`.
    truncate(name: &str, length: i64) [path(name), Value::Int(length)];
    /// `unlink`.
    unlink(name: &str) [path(name)];
    /// `unlinkat`.
    unlinkat(name: &str) [HERE, path(name), NO_FLAGS];
    /// `rmdir`.
    rmdir(name: &str) [path(name)];
    /// `mkdir`.
    mkdir(name: &str) [path(name), Value::Uint(0o755)];
    /// `mkdirat`.
    mkdirat(name: &str) [HERE, path(name), Value::Uint(0o755)];
    /// `rename`.
    rename(from: &str, to: &str) [path(from), path(to)];
    /// `renameat2`; see [`flags`](Event::flags).
    renameat2(from: &str, to: &str) [HERE, path(from), HERE, path(to), NO_FLAGS];
    /// `link`.
    link(from: &str, to: &str) [path(from), path(to)];
    /// `linkat`.
    linkat(from: &str, to: &str) [HERE, path(from), HERE, path(to), NO_FLAGS];
    /// `symlink`.
    symlink(target: &str, name: &str) [text(target), path(name)];
    /// `chmod`.
    chmod(name: &str, mode: u64) [path(name), Value::Uint(mode)];
    /// `fchmod`; see [`descriptor`](Event::descriptor).
    fchmod(fd: i32, mode: u64) [Value::Fd(fd), Value::Uint(mode)];
    /// `chown`.
    chown(name: &str, uid: i64, gid: i64) [path(name), Value::Int(uid), Value::Int(gid)];
    /// `utimensat`, by name.
    utimensat(name: &str) [HERE, path(name), Value::Absent, NO_FLAGS];
    /// `setxattr`.
    setxattr(name: &str, attribute: &str) [path(name), text(attribute), Value::Absent, Value::Uint(0), NO_FLAGS];
    /// `mount`; see [`flags`](Event::flags).
    mount(source: &str, target: &str, kind: &str) [path(source), path(target), text(kind), NO_FLAGS, Value::Absent];
    /// `chdir`.
    chdir(name: &str) [path(name)];
    /// `newfstatat`.
    newfstatat(name: &str) [HERE, path(name), Value::Uint(0), NO_FLAGS];
    /// `socket`.
    socket(family: u64, kind: u64, protocol: i64) [Value::Flags(family), Value::Flags(kind), Value::Int(protocol)];
    /// `connect` to `192.0.2.1:443`, `[::1]:53`, `unix:/run/x.sock` or `unix:@name`.
    connect(to: &str) [Value::Fd(3), Value::Address(address(to)), Value::Uint(16)];
    /// `bind`; address as for [`connect`](Event::connect).
    bind(to: &str) [Value::Fd(3), Value::Address(address(to)), Value::Uint(16)];
    /// `sendto`; address as for [`connect`](Event::connect).
    sendto(to: &str, data: &[u8]) [
        Value::Fd(3),
        Value::Bytes(ByteList { data: data.to_vec(), truncated: false }),
        Value::Uint(data.len() as u64), NO_FLAGS, Value::Address(address(to)), Value::Uint(16),
    ];
    /// `sendmsg`; address as for [`connect`](Event::connect).
    sendmsg(to: &str, data: &[u8]) [
        Value::Fd(3),
        Value::Messages(vec![Message {
            address: Some(address(to)),
            data: ByteList { data: data.to_vec(), truncated: false },
            descriptors: Vec::new(),
        }]),
        NO_FLAGS,
    ];
    /// `kill`.
    kill(pid: i64, signal: i64) [Value::Int(pid), Value::Int(signal)];
    /// `ptrace`.
    ptrace(request: u64, pid: i64) [Value::Flags(request), Value::Int(pid), Value::Uint(0), Value::Uint(0)];
    /// `setuid`.
    setuid(uid: u64) [Value::Uint(uid)];
    /// `mprotect`.
    mprotect(length: u64, protection: u64) [Value::Uint(0x1000), Value::Uint(length), Value::Flags(protection)];
}

impl Event {
    /// `execve`, with an empty environment.
    pub fn execve<'a>(name: &str, argv: impl IntoIterator<Item = &'a str>) -> Self {
        Self::call("execve", [path(name), strings(argv), Value::Uint(POINTER)]).environment([])
    }

    /// `execveat`, with an empty environment.
    pub fn execveat<'a>(name: &str, argv: impl IntoIterator<Item = &'a str>) -> Self {
        Self::call("execveat", [HERE, path(name), strings(argv), Value::Uint(POINTER), NO_FLAGS]).environment([])
    }

    /// `mmap`; see [`descriptor`](Event::descriptor).
    pub fn mmap(length: u64, protection: u64, flags: u64, fd: i32) -> Self {
        let protection = Value::Uint(protection);
        Self::call(
            "mmap",
            [Value::Uint(0), Value::Uint(length), protection, Value::Flags(flags), Value::Fd(fd), Value::Uint(0)],
        )
    }
}
