//! The vocabulary in which `table/` declares system calls.
//!
//! A declaration is data: it says what an argument is, never how to read it.
//! The readers are in `argument.rs`, the path rules are carried out by the
//! tracer's `resolve.rs`. This module holds no system call and no constant.

/// A system call's declaration.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name as in the manual; empty for a number without a name.
    pub name: &'static str,
    /// The arguments, at most six.
    pub args: &'static [Arg],
    /// What a successful call changes in what the host remembers of a task.
    pub changes: Changes,
}

/// Which of the things that the host remembers of a task a call can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// None.
    Nothing,
    /// Credentials of the caller.
    Credentials,
    /// Working directory, root or mount namespace, also of tasks that share
    /// them (`CLONE_FS`).
    FileSystem,
}

/// One argument.
#[derive(Debug)]
pub struct Arg {
    /// Name as in the manual.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// NULL is a meaning of its own (`Value::Absent`). Where it is not, a NULL
    /// is looked at like any other address: page 0 can be mapped.
    pub optional: bool,
}

/// What an argument is. "Argument N" below is an index into the same call's
/// arguments.
#[derive(Debug)]
pub enum Kind {
    /// C `int` or `pid_t`: 32 bits, signed.
    Int,
    /// C `unsigned int`, `uid_t`, `dev_t`: 32 bits.
    Uint,
    /// C `long`, `off_t`: word size, signed.
    Long,
    /// The 16-bit user and group ids of the oldest i386 calls.
    Ushort,
    /// `size_t`, `unsigned long`: word size.
    Size,
    /// An address that is not looked through.
    Address,
    /// `umode_t`: the kernel looks at 16 bits. Shown in octal.
    Mode,
    /// The `umode_t` of mknod(2): the kind of file has a name.
    NodeMode,
    /// A signal number.
    Signal,
    /// Flags in a C `int` (32 bits).
    Flags(&'static FlagSet),
    /// Flags in a word.
    LongFlags(&'static FlagSet),
    /// A socket option of the level in argument N.
    SocketOption(u8),
    /// A file descriptor.
    Fd,
    /// A directory descriptor or `AT_FDCWD`.
    DirFd,
    /// A file name.
    Path(PathRule),
    /// NUL-terminated text other than a file name, at most this many bytes.
    Text(usize),
    /// NULL-terminated vector of strings.
    Strings,
    /// The same, long and secret: read only for those who ask
    /// ([`crate::event::Event::environment`]).
    Environment,
    /// Data to the kernel; its length is argument N.
    Buffer(u8),
    /// Array of `struct iovec` with data to the kernel; their count is
    /// argument N.
    Vectors(u8),
    /// Pointer to an `int` that holds the room for an address and, afterwards,
    /// the address's length.
    Length,
    /// Socket address to the kernel; its length is argument N.
    SockAddr(u8),
    /// Socket address from the kernel; argument N is its [`Kind::Length`].
    SockAddrOut(u8),
    /// `struct msghdr` to the kernel.
    Message,
    /// `struct msghdr` that the kernel fills (recvmsg).
    MessageOut,
    /// Array of `struct mmsghdr` to the kernel; their count is argument N.
    Messages(u8),
    /// A structure to the kernel.
    Struct(&'static StructSpec),
    /// A structure to the kernel whose size is argument N (openat2, clone3).
    SizedStruct(&'static StructSpec, u8),
    /// An array of descriptors from the kernel (pipe, socketpair): how many.
    FdsOut(u8),
    /// Text from the kernel, as long as the return value says (getcwd,
    /// readlink).
    TextOut,
}

/// How a name leads to a file.
#[derive(Clone, Copy, Debug)]
pub struct PathRule {
    /// Argument that holds the directory descriptor; the working directory
    /// without one.
    pub dirfd: Option<u8>,
    /// Whether a symbolic link in the last place is followed.
    pub follow: Follow,
    /// Flag bit `AT_EMPTY_PATH` that makes an empty name mean `dirfd` itself:
    /// (argument, bit). Bit 0 stands for "always" (readlinkat). Where the
    /// argument is optional, a NULL means `dirfd` itself too.
    pub empty: Option<(u8, u64)>,
}

/// Whether a symbolic link in the last place of a name is followed.
#[derive(Clone, Copy, Debug)]
pub enum Follow {
    /// As stat(2).
    Always,
    /// As lstat(2), unlink(2).
    Never,
    /// Unless this bit of argument N is set (`AT_SYMLINK_NOFOLLOW`).
    Unless(u8, u64),
    /// Only if this bit of argument N is set (`AT_SYMLINK_FOLLOW`).
    If(u8, u64),
    /// As open(2) with its flags in argument N: not with `O_NOFOLLOW`, nor
    /// with `O_CREAT|O_EXCL`.
    Open(u8),
    /// As openat2(2) with its `struct open_how` in argument N.
    OpenHow(u8),
}

/// Names for bits and constants.
#[derive(Debug)]
pub struct FlagSet {
    /// Bits that hold one value out of several: (mask, names of values).
    /// Looked at first, in order.
    pub fields: &'static [Field],
    /// Bits of their own. A name of several bits comes before its parts.
    pub bits: &'static [(u64, &'static str)],
    /// The same set on `AArch64`, where that has other numbers.
    pub aarch64: Option<&'static FlagSet>,
}

/// A part of a flag word that holds one of several values (`O_ACCMODE`).
#[derive(Debug)]
pub struct Field {
    /// Where in the word.
    pub mask: u64,
    /// Names of values; a value without a name is shown in hexadecimal.
    pub values: &'static [(u64, &'static str)],
    /// Shown after the bits, as strace shows the signal of clone(2).
    pub last: bool,
}

/// A structure's numbers.
#[derive(Debug)]
pub struct StructSpec {
    /// Name in C, without `struct`.
    pub name: &'static str,
    /// Fields in order, little endian.
    pub fields: &'static [StructField],
    /// Every field is a C `long`: half as wide and half as far in on i386.
    pub longs: bool,
}

/// A number in a structure.
#[derive(Debug)]
pub struct StructField {
    /// Name in C.
    pub name: &'static str,
    /// Offset in bytes on 64-bit architectures.
    pub offset: u16,
    /// Size in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// How to show it.
    pub show: Show,
}

/// How a number is shown.
#[derive(Debug)]
pub enum Show {
    /// Decimal, signed at the field's size.
    Signed,
    /// Decimal.
    Unsigned,
    /// Hexadecimal.
    Hex,
    /// Octal, as file modes.
    Octal,
    /// Named.
    Flags(&'static FlagSet),
}

impl StructSpec {
    /// Bytes up to the end of the last field, on 64-bit architectures.
    pub fn size(&self) -> usize {
        self.fields.iter().map(|field| field.offset as usize + field.size as usize).max().unwrap_or(0)
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static StructField> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl FlagSet {
    /// The set as architecture `arch` numbers it.
    pub fn on(&'static self, arch: super::Arch) -> &'static Self {
        match self.aarch64 {
            Some(set) if arch == super::Arch::Aarch64 => set,
            _ => self,
        }
    }

    /// Names the flags of `value`, `|` between them; what has no name in
    /// hexadecimal.
    pub fn describe(&self, value: u64) -> String {
        let mut rest = value;
        let mut first = String::new();
        let mut last = String::new();
        for field in self.fields {
            let part = value & field.mask;
            rest &= !field.mask;
            let text = if field.last { &mut last } else { &mut first };
            match field.values.iter().find(|(number, _)| number & field.mask == part) {
                Some((_, name)) => push(text, name),
                None if part != 0 => push(text, &format!("{part:#x}")),
                None => {}
            }
        }
        for &(bits, name) in self.bits {
            if bits != 0 && rest & bits == bits {
                rest &= !bits;
                push(&mut first, name);
            }
        }
        if rest != 0 {
            push(&mut first, &format!("{rest:#x}"));
        }
        if !last.is_empty() {
            push(&mut first, &last);
        }
        if first.is_empty() { "0".into() } else { first }
    }
}

fn push(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('|');
    }
    text.push_str(name);
}

impl Spec {
    /// Index of the argument with this name.
    pub fn argument(&self, name: &str) -> Option<usize> {
        self.args.iter().position(|arg| arg.name == name)
    }

    /// Index of the argument that is an environment.
    pub fn environment(&self) -> Option<usize> {
        self.args.iter().position(|arg| matches!(arg.kind, Kind::Environment))
    }
}
