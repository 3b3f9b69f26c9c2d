//! Error numbers by name (errno(3)).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};

/// An error number, in the numbering that all of the host's architectures
/// share (`include/uapi/asm-generic/errno.h`).
///
/// In settings it is a name:
///
/// ```
/// use plugin_sdk::Errno;
///
/// assert_eq!("EACCES".parse(), Ok(Errno::EACCES));
/// assert_eq!(Errno::EACCES.to_string(), "EACCES");
/// assert!("EWHATEVER".parse::<Errno>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($number:literal $name:ident)*) => {
        #[allow(missing_docs, reason = "errno(3) documents them")]
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
        }

        /// Every name, in the order of the numbers; then the other names of
        /// some of them.
        const NAMES: &[(&str, u16)] = &[$((stringify!($name), $number),)* ("EWOULDBLOCK", 11), ("EDEADLOCK", 35), ("ENOTSUP", 95)];
    };
}

errnos! {
    1 EPERM 2 ENOENT 3 ESRCH 4 EINTR 5 EIO 6 ENXIO 7 E2BIG 8 ENOEXEC 9 EBADF 10 ECHILD 11 EAGAIN 12 ENOMEM
    13 EACCES 14 EFAULT 15 ENOTBLK 16 EBUSY 17 EEXIST 18 EXDEV 19 ENODEV 20 ENOTDIR 21 EISDIR 22 EINVAL
    23 ENFILE 24 EMFILE 25 ENOTTY 26 ETXTBSY 27 EFBIG 28 ENOSPC 29 ESPIPE 30 EROFS 31 EMLINK 32 EPIPE 33 EDOM
    34 ERANGE 35 EDEADLK 36 ENAMETOOLONG 37 ENOLCK 38 ENOSYS 39 ENOTEMPTY 40 ELOOP 42 ENOMSG 43 EIDRM
    44 ECHRNG 45 EL2NSYNC 46 EL3HLT 47 EL3RST 48 ELNRNG 49 EUNATCH 50 ENOCSI 51 EL2HLT 52 EBADE 53 EBADR
    54 EXFULL 55 ENOANO 56 EBADRQC 57 EBADSLT 59 EBFONT 60 ENOSTR 61 ENODATA 62 ETIME 63 ENOSR 64 ENONET
    65 ENOPKG 66 EREMOTE 67 ENOLINK 68 EADV 69 ESRMNT 70 ECOMM 71 EPROTO 72 EMULTIHOP 73 EDOTDOT 74 EBADMSG
    75 EOVERFLOW 76 ENOTUNIQ 77 EBADFD 78 EREMCHG 79 ELIBACC 80 ELIBBAD 81 ELIBSCN 82 ELIBMAX 83 ELIBEXEC
    84 EILSEQ 85 ERESTART 86 ESTRPIPE 87 EUSERS 88 ENOTSOCK 89 EDESTADDRREQ 90 EMSGSIZE 91 EPROTOTYPE
    92 ENOPROTOOPT 93 EPROTONOSUPPORT 94 ESOCKTNOSUPPORT 95 EOPNOTSUPP 96 EPFNOSUPPORT 97 EAFNOSUPPORT
    98 EADDRINUSE 99 EADDRNOTAVAIL 100 ENETDOWN 101 ENETUNREACH 102 ENETRESET 103 ECONNABORTED 104 ECONNRESET
    105 ENOBUFS 106 EISCONN 107 ENOTCONN 108 ESHUTDOWN 109 ETOOMANYREFS 110 ETIMEDOUT 111 ECONNREFUSED
    112 EHOSTDOWN 113 EHOSTUNREACH 114 EALREADY 115 EINPROGRESS 116 ESTALE 117 EUCLEAN 118 ENOTNAM 119 ENAVAIL
    120 EISNAM 121 EREMOTEIO 122 EDQUOT 123 ENOMEDIUM 124 EMEDIUMTYPE 125 ECANCELED 126 ENOKEY 127 EKEYEXPIRED
    128 EKEYREVOKED 129 EKEYREJECTED 130 EOWNERDEAD 131 ENOTRECOVERABLE 132 ERFKILL 133 EHWPOISON
}

impl Errno {
    /// The name, such as `EACCES`; none for a number without one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// A text that names no errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownErrno(String);

impl fmt::Display for UnknownErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such errno: {:?}; give a name from errno(3), such as \"EACCES\"", self.0)
    }
}

impl std::error::Error for UnknownErrno {}

impl FromStr for Errno {
    type Err = UnknownErrno;

    fn from_str(text: &str) -> Result<Self, UnknownErrno> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, number)| Errno(*number)).ok_or_else(|| UnknownErrno(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Errno {
    fn schema_name() -> Cow<'static, str> {
        "Errno".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        json_schema!({ "type": "string", "description": "Name of an error number (errno(3))", "enum": names })
    }
}
