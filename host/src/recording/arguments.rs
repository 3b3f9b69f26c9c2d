//! The decoded arguments of a call, to and from a trace.
//!
//! An argument is written with its type before its value, so that reading
//! needs one pass; the other order (as after `jq -S`) is read too.

use std::borrow::Cow;
use std::fmt;

use bstr::BString;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::encoding::{Base64Ref, Bounded, Bytes, BytesListRef, BytesRef, Signed, Text, Unsigned, Word, WordsRef};
use crate::decode::{describe, describe_strings};
use crate::event::{
    Argument, Call, Defect, Event, Field, Message, PathState, ResolvedPath, SocketAddress, Strings, Value,
};

/// Most strings of a vector, far beyond what the host decodes.
pub(super) const MOST_STRINGS: usize = 65_536;
/// Most messages of a `sendmmsg` (`UIO_MAXIOV`).
const MOST_MESSAGES: usize = 1024;
/// Most descriptors of a message (`SCM_MAX_FD` is 253).
const MOST_DESCRIPTORS: usize = 1024;
/// Most fields of a structure.
const MOST_FIELDS: usize = 256;

/// The arguments of an event's call, to be written.
pub(super) struct ArgumentsRef<'a> {
    pub event: &'a Event,
    pub call: &'a Call,
}

impl Serialize for ArgumentsRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.call.arguments.len()))?;
        for index in 0..self.call.arguments.len() {
            seq.serialize_element(&ArgumentRef { event: self.event, call: self.call, index })?;
        }
        seq.end()
    }
}

struct ArgumentRef<'a> {
    event: &'a Event,
    call: &'a Call,
    index: usize,
}

impl Serialize for ArgumentRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(arg) = self.call.spec.args.get(self.index) {
            map.serialize_entry("name", arg.name)?;
        }
        let is_environment = self.call.spec.environment() == Some(self.index);
        if let Some(environment) = self.event.environment().filter(|_| is_environment) {
            write_value(&mut map, &Value::Strings(environment.clone()))?;
            map.serialize_entry("text", &describe_strings(environment))?;
        } else {
            write_value(&mut map, &self.call.arguments[self.index].value)?;
            map.serialize_entry("text", &describe(self.call, self.index))?;
        }
        if let Some(path) = self.event.path(self.index) {
            map.serialize_entry("path", &PathRef(path))?;
        }
        if let Some(descriptor) = self.event.descriptor(self.index) {
            map.serialize_entry("descriptor", &BytesRef(descriptor))?;
        }
        map.end()
    }
}

/// `"kind"`, `"value"` and, where it is so, `"truncated":true`.
fn write_value<M: SerializeMap>(map: &mut M, value: &Value) -> Result<(), M::Error> {
    let mut is_truncated = false;
    map.serialize_entry("kind", Tag::of(value).name())?;
    match value {
        Value::Int(number) => map.serialize_entry("value", &Signed(*number))?,
        Value::Uint(number) => map.serialize_entry("value", &Unsigned(*number))?,
        Value::Flags(flags) => map.serialize_entry("value", &Word(*flags))?,
        Value::Fd(fd) => map.serialize_entry("value", fd)?,
        Value::Path(bytes) | Value::Text(bytes) => map.serialize_entry("value", &BytesRef(bytes))?,
        Value::Strings(strings) => {
            map.serialize_entry("value", &BytesListRef(&strings.items))?;
            is_truncated = strings.truncated;
        }
        Value::Bytes { data, truncated } => {
            map.serialize_entry("value", &BytesRef(data))?;
            is_truncated = *truncated;
        }
        Value::Address(address) => map.serialize_entry("value", &Base64Ref(&address.data))?,
        Value::Messages(messages) => map.serialize_entry("value", &MessagesRef(messages))?,
        Value::Structure(fields) => {
            map.serialize_entry("value", &WordsRef(fields, |field: &Field| (&field.name, field.value)))?;
        }
        Value::Absent => {}
        Value::Unreadable(defect) => map.serialize_entry("value", defect)?,
        Value::Other(text) => map.serialize_entry("value", text)?,
    }
    if is_truncated {
        map.serialize_entry("truncated", &true)?;
    }
    Ok(())
}

struct PathRef<'a>(&'a ResolvedPath);

impl Serialize for PathRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("path", &BytesRef(&self.0.path))?;
        map.serialize_entry("state", &self.0.state)?;
        map.end()
    }
}

struct MessagesRef<'a>(&'a [Message]);

impl Serialize for MessagesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(MessageRef))
    }
}

struct MessageRef<'a>(&'a Message);

impl Serialize for MessageRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(address) = &self.0.address {
            map.serialize_entry("address", &Base64Ref(&address.data))?;
        }
        map.serialize_entry("data", &BytesRef(&self.0.data))?;
        if self.0.truncated {
            map.serialize_entry("truncated", &true)?;
        }
        map.serialize_entry("descriptors", &self.0.descriptors)?;
        map.end()
    }
}

/// The cases of [`Value`], as named in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Int,
    Uint,
    Flags,
    Fd,
    Path,
    Text,
    Strings,
    Bytes,
    Address,
    Messages,
    Structure,
    Absent,
    Unreadable,
    Other,
}

impl Tag {
    const NAMES: [(Self, &'static str); 14] = [
        (Self::Int, "int"),
        (Self::Uint, "uint"),
        (Self::Flags, "flags"),
        (Self::Fd, "fd"),
        (Self::Path, "path"),
        (Self::Text, "text"),
        (Self::Strings, "strings"),
        (Self::Bytes, "bytes"),
        (Self::Address, "address"),
        (Self::Messages, "messages"),
        (Self::Structure, "structure"),
        (Self::Absent, "absent"),
        (Self::Unreadable, "unreadable"),
        (Self::Other, "other"),
    ];

    fn of(value: &Value) -> Self {
        match value {
            Value::Int(_) => Self::Int,
            Value::Uint(_) => Self::Uint,
            Value::Flags(_) => Self::Flags,
            Value::Fd(_) => Self::Fd,
            Value::Path(_) => Self::Path,
            Value::Text(_) => Self::Text,
            Value::Strings(_) => Self::Strings,
            Value::Bytes { .. } => Self::Bytes,
            Value::Address(_) => Self::Address,
            Value::Messages(_) => Self::Messages,
            Value::Structure(_) => Self::Structure,
            Value::Absent => Self::Absent,
            Value::Unreadable(_) => Self::Unreadable,
            Value::Other(_) => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        // The table is in the order of the cases.
        Self::NAMES[self as usize].1
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(tag, _)| *tag)
    }
}

/// Reads the value of an argument whose type is known.
impl<'de> DeserializeSeed<'de> for Tag {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Ok(match self {
            Self::Int => Value::Int(Signed::deserialize(deserializer)?.0),
            Self::Uint => Value::Uint(Unsigned::deserialize(deserializer)?.0),
            Self::Flags => Value::Flags(Word::deserialize(deserializer)?.0),
            Self::Fd => Value::Fd(i32::deserialize(deserializer)?),
            Self::Path => Value::Path(Bytes::deserialize(deserializer)?.0),
            Self::Text => Value::Text(Bytes::deserialize(deserializer)?.0),
            Self::Strings => Value::Strings(Strings { items: strings(deserializer)?, truncated: false }),
            Self::Bytes => Value::Bytes { data: Bytes::deserialize(deserializer)?.0, truncated: false },
            Self::Address => Value::Address(SocketAddress { data: Bytes::deserialize(deserializer)?.0 }),
            Self::Messages => {
                let lines = Bounded::<MessageLine, MOST_MESSAGES>::deserialize(deserializer)?;
                Value::Messages(lines.0.into_iter().map(Message::from).collect())
            }
            Self::Structure => Value::Structure(Fields::deserialize(deserializer)?.0),
            Self::Absent => {
                return Err(de::Error::custom("an \"absent\" argument has no value"));
            }
            Self::Unreadable => Value::Unreadable(Defect::deserialize(deserializer)?),
            Self::Other => Value::Other(String::deserialize(deserializer)?),
        })
    }
}

fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BString>, D::Error> {
    let items = Bounded::<Bytes, MOST_STRINGS>::deserialize(deserializer)?;
    Ok(items.0.into_iter().map(|bytes| bytes.0).collect())
}

#[derive(serde::Deserialize)]
struct MessageLine {
    #[serde(default)]
    address: Option<Bytes>,
    data: Bytes,
    #[serde(default)]
    truncated: bool,
    descriptors: Bounded<i32, MOST_DESCRIPTORS>,
}

impl From<MessageLine> for Message {
    fn from(line: MessageLine) -> Self {
        Self {
            address: line.address.map(|bytes| SocketAddress { data: bytes.0 }),
            data: line.data.0,
            truncated: line.truncated,
            descriptors: line.descriptors.0,
        }
    }
}

struct Fields(Vec<Field>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<Field>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of words")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Field>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, word)) = map.next_entry::<String, Word>()? {
                    if fields.len() == MOST_FIELDS {
                        return Err(de::Error::custom(format_args!("a structure of more than {MOST_FIELDS} fields")));
                    }
                    fields.push(Field { name: name.into(), value: word.0 });
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

/// The arguments of a call, as read.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    /// Their names, where they have one.
    pub names: [Option<Cow<'a, str>>; 6],
    /// Themselves.
    pub list: Vec<Argument>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Arguments<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of at most 6 arguments")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut names = [const { None }; 6];
                let mut list = Vec::with_capacity(6);
                while let Some(NamedArgument { name, argument }) = seq.next_element()? {
                    let Some(slot) = names.get_mut(list.len()) else {
                        return Err(de::Error::invalid_length(7, &self));
                    };
                    *slot = name;
                    list.push(argument);
                }
                Ok(Arguments { names, list })
            }
        }
        deserializer.deserialize_seq(List)
    }
}

struct NamedArgument<'a> {
    name: Option<Cow<'a, str>>,
    argument: Argument,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Name,
    Kind,
    Value,
    Truncated,
    Path,
    Descriptor,
    #[serde(other)]
    Unknown,
}

#[derive(serde::Deserialize)]
struct PathLine {
    path: Bytes,
    state: PathState,
}

impl<'de: 'a, 'a> Deserialize<'de> for NamedArgument<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = NamedArgument<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an argument")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut name = None;
                let mut tag = None;
                let mut value = None;
                let mut early: Option<&'de RawValue> = None;
                let mut was_truncated = false;
                let mut path = None;
                let mut descriptor = None;
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Name => name = Some(map.next_value::<Text<'de>>()?.0),
                        Key::Kind => {
                            let text = map.next_value::<Text<'de>>()?.0;
                            let known = Tag::named(&text)
                                .ok_or_else(|| de::Error::custom(format_args!("unknown kind of argument {text:?}")))?;
                            tag = Some(known);
                        }
                        Key::Value => match tag {
                            Some(tag) => value = Some(map.next_value_seed(tag)?),
                            None => early = Some(map.next_value()?),
                        },
                        Key::Truncated => was_truncated = map.next_value()?,
                        Key::Path => {
                            let line: PathLine = map.next_value()?;
                            path = Some(ResolvedPath { path: line.path.0, state: line.state });
                        }
                        Key::Descriptor => descriptor = Some(map.next_value::<Bytes>()?.0),
                        Key::Unknown => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let tag = tag.ok_or_else(|| de::Error::missing_field("kind"))?;
                if let Some(raw) = early {
                    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
                    value = Some(tag.deserialize(&mut deserializer).map_err(de::Error::custom)?);
                }
                let mut value = match (value, tag) {
                    (Some(value), _) => value,
                    (None, Tag::Absent) => Value::Absent,
                    (None, _) => return Err(de::Error::missing_field("value")),
                };
                if was_truncated {
                    match &mut value {
                        Value::Strings(Strings { truncated, .. }) | Value::Bytes { truncated, .. } => *truncated = true,
                        _ => return Err(de::Error::custom("only strings and bytes can be truncated")),
                    }
                }
                Ok(NamedArgument { name, argument: Argument::captured(value, path, descriptor) })
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_order() {
        for (index, (tag, name)) in Tag::NAMES.iter().enumerate() {
            assert_eq!(*tag as usize, index);
            assert_eq!(Tag::named(name), Some(*tag));
            assert_eq!(tag.name(), *name);
        }
    }
}
