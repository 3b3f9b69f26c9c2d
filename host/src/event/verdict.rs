//! What a plugin answers to an event.
//!
//! An [`Answer`] is a plain value: it can be compared, recorded and replayed.
//! This module never carries an answer out; whether a denial is enforced is
//! the dispatcher's business.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// The whole answer of one plugin to one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What shall become of the call.
    pub action: Action,
    /// What a person should see.
    pub alerts: Vec<Alert>,
    /// Why the plugin failed to answer by itself: a trap, its time or memory
    /// used up, an errno that does not exist. `action` is then what the
    /// plugin's failure policy says.
    pub fault: Option<String>,
}

impl Answer {
    /// The answer that says nothing.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Whether there is anything in it to tell: a denial, an alert, a fault.
    pub fn matters(&self) -> bool {
        self.action != Action::Allow || !self.alerts.is_empty() || self.fault.is_some()
    }
}

/// What shall become of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It may run.
    #[default]
    Allow,
    /// It does not run, and its caller sees this errno.
    Deny(Errno),
}

/// An errno that a denied call may return: 1 to 133.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

impl Errno {
    /// `EACCES`, what a denial returns unless its rule says otherwise.
    pub const EACCES: Self = Self(13);
    /// `EPERM`
    pub const EPERM: Self = Self(1);
    /// `ESRCH`
    pub const ESRCH: Self = Self(3);
    /// `EBADF`
    pub const EBADF: Self = Self(9);
    /// `EFAULT`
    pub const EFAULT: Self = Self(14);
    /// `EINVAL`
    pub const EINVAL: Self = Self(22);
    /// `ENOPROTOOPT`
    pub const ENOPROTOOPT: Self = Self(92);
    /// The highest number in use, `EHWPOISON`.
    const LAST: u16 = 133;

    /// The errno of this number; `None` if Linux has none such.
    ///
    /// ```
    /// use host::event::Errno;
    /// assert_eq!(Errno::new(13), Some(Errno::EACCES));
    /// assert_eq!(Errno::new(0), None);
    /// assert_eq!(Errno::new(134), None);
    /// ```
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= Self::LAST { Some(Self(number)) } else { None }
    }

    /// Its number, positive.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The name of an errno as the kernel returns it, also of those that only
    /// a tracer sees (`ERESTARTSYS`, include/linux/errno.h).
    pub fn name_of(number: i32) -> Option<&'static str> {
        const KERNEL: [(i32, &str); 6] = [
            (512, "ERESTARTSYS"),
            (513, "ERESTARTNOINTR"),
            (514, "ERESTARTNOHAND"),
            (515, "ENOIOCTLCMD"),
            (516, "ERESTART_RESTARTBLOCK"),
            (524, "ENOTSUPP"),
        ];
        if let Some((_, name)) = KERNEL.iter().find(|(known, _)| *known == number) {
            return Some(name);
        }
        errno_names().get(usize::try_from(number).ok()?).copied().flatten()
    }
}

/// Index: errno → its name.
fn errno_names() -> &'static [Option<&'static str>; Errno::LAST as usize + 1] {
    use std::sync::OnceLock;
    static NAMES: OnceLock<[Option<&'static str>; Errno::LAST as usize + 1]> = OnceLock::new();
    NAMES.get_or_init(|| {
        std::array::from_fn(|number| {
            let errno = nix::errno::Errno::from_raw(number as i32);
            // The enumeration's own spelling is the manual's.
            (errno as i32 == number as i32 && number != 0)
                .then(|| -> &'static str { Box::leak(format!("{errno:?}").into_boxed_str()) })
        })
    })
}

impl fmt::Display for Errno {
    /// The manual's name, or the number where there is none (41, 58).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::name_of(i32::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A text that names no errno.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no errno: give a name such as EACCES, or a number from 1 to 133")]
pub struct UnknownErrno(String);

impl FromStr for Errno {
    type Err = UnknownErrno;

    /// Accepts a name (`EACCES`, and the aliases `EWOULDBLOCK`, `EDEADLOCK`
    /// and `ENOTSUP`) or a number.
    fn from_str(text: &str) -> Result<Self, UnknownErrno> {
        let name = match text {
            "EWOULDBLOCK" => "EAGAIN",
            "EDEADLOCK" => "EDEADLK",
            "ENOTSUP" => "EOPNOTSUPP",
            other => other,
        };
        errno_names()
            .iter()
            .position(|known| *known == Some(name))
            .and_then(|number| Self::new(number as u16))
            .or_else(|| Self::new(name.parse().ok()?))
            .ok_or_else(|| UnknownErrno(text.to_owned()))
    }
}

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Errno;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an errno, such as \"EACCES\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Errno, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Something that a person should see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Stable identifier of the rule that matched.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Further facts, name and text, in the plugin's order. In JSON an object.
    #[serde(default, serialize_with = "write_fields", deserialize_with = "read_fields")]
    pub fields: Vec<(String, String)>,
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual.
    Low,
    /// Should be looked at.
    Medium,
    /// Probably an attack or a breach of policy.
    High,
    /// Must be looked at now.
    Critical,
}

impl Severity {
    /// In lower case, as in alerts and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn write_fields<S: Serializer>(fields: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for (name, text) in fields {
        map.serialize_entry(name, text)?;
    }
    map.end()
}

/// More fields than this are refused when read: an alert is for people.
const MOST_FIELDS: usize = 4096;

fn read_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object of texts")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(entry) = map.next_entry()? {
                if fields.len() == MOST_FIELDS {
                    return Err(A::Error::custom(format_args!("more than {MOST_FIELDS} fields in an alert")));
                }
                fields.push(entry);
            }
            Ok(fields)
        }
    }
    deserializer.deserialize_map(Fields)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn errno_names_and_numbers_agree() {
        for number in 1..=133 {
            let errno = Errno::new(number).unwrap();
            assert_eq!(errno.to_string().parse::<Errno>().unwrap(), errno);
        }
        assert_eq!(Errno::EACCES.to_string(), "EACCES");
        assert_eq!("EWOULDBLOCK".parse::<Errno>().unwrap().raw(), 11);
        assert_eq!("95".parse::<Errno>().unwrap().to_string(), "EOPNOTSUPP");
        for wrong in ["", "EFOO", "0", "134", "-1", "eacces", "UnknownErrno"] {
            assert!(wrong.parse::<Errno>().is_err(), "{wrong}");
        }
        assert_eq!(Errno::name_of(512), Some("ERESTARTSYS"));
        assert_eq!(Errno::name_of(0), None);
        assert_eq!(Errno::name_of(-13), None);
    }

    #[test]
    fn alert_fields_keep_order_and_doubles() {
        let alert = Alert {
            rule: "r".into(),
            severity: Severity::High,
            message: "m".into(),
            fields: vec![("z".into(), "1".into()), ("a".into(), "2".into()), ("z".into(), "3".into())],
        };
        let text = serde_json::to_string(&alert).unwrap();
        assert_eq!(text, r#"{"rule":"r","severity":"high","message":"m","fields":{"z":"1","a":"2","z":"3"}}"#);
        assert_eq!(serde_json::from_str::<Alert>(&text).unwrap(), alert);
    }
}
