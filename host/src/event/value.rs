//! Decoded arguments. Names and data stay bytes, as Linux has them; text is
//! made of them only for a reader.

use bstr::BString;

use super::SocketAddress;

/// One decoded argument. The cases are those of `value` in `wit/plugin.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A signed number, narrowed as the kernel narrows it.
    Int(i64),
    /// An unsigned number, size, address or identifier.
    Uint(u64),
    /// Flags or a named constant.
    Flags(u64),
    /// A file descriptor or `AT_FDCWD`.
    Fd(i32),
    /// A file name as the tracee passed it.
    Path(BString),
    /// Other text.
    Text(BString),
    /// A vector of strings, such as argv.
    Strings(Strings),
    /// The caller's data.
    Bytes {
        /// What was read.
        data: BString,
        /// There was more.
        truncated: bool,
    },
    /// A socket address.
    Address(SocketAddress),
    /// What sendmsg or sendmmsg sends.
    Messages(Vec<Message>),
    /// The numbers of a structure.
    Structure(Vec<Field>),
    /// A NULL pointer.
    Absent,
    /// A pointer to what cannot be decoded.
    Unreadable(Defect),
    /// Anything else, in readable form.
    Other(String),
}

/// A vector of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// The strings that were read.
    pub items: Vec<BString>,
    /// There were more.
    pub truncated: bool,
}

/// A number of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As in the kernel's header.
    pub name: std::borrow::Cow<'static, str>,
    /// Sign-extended if the field is signed.
    pub value: u64,
}

/// One `struct msghdr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Destination, if named.
    pub address: Option<SocketAddress>,
    /// First bytes of the data.
    pub data: BString,
    /// There was more data.
    pub truncated: bool,
    /// Descriptors passed with `SCM_RIGHTS`.
    pub descriptors: Vec<i32>,
}

/// Why an argument could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Defect {
    /// Not mapped, or not readable.
    Fault,
    /// No terminating NUL within the kernel's limit.
    Unterminated,
    /// A length or structure that the kernel's rules exclude.
    Malformed,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPath {
    /// Absolute, from the root of the tracee's mount namespace.
    pub path: BString,
    /// How far the resolution came.
    pub state: PathState,
}

/// How far a resolution came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathState {
    /// The object exists and this is its name.
    Exists,
    /// Its directory exists, it does not.
    Missing,
    /// It cannot be followed; the path is the name made absolute as text.
    Unresolved,
    /// The host cannot follow it, the kernel perhaps can; the path is empty.
    Unknown,
}
