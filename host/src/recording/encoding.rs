//! How numbers and bytes look in a trace.
//!
//! - *Words* (registers, flags, capabilities, fields of structures) are bit
//!   patterns: always a text of hexadecimal digits, `"0x80000"`.
//! - *Numbers* are JSON numbers, but a text of hexadecimal digits (two's
//!   complement) beyond 2^53, where jq and JavaScript would round them.
//! - *Bytes* are a text if they are UTF-8, `{"base64":"…"}` otherwise.
//!
//! The types here are views for serialization (over borrowed data) or shapes
//! for deserialization; nothing else in the program uses them.

use std::fmt;
use std::marker::PhantomData;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bstr::BString;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// The last integer up to which a double has every one.
const EXACT: u64 = 1 << 53;

/// A bit pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 18];
        let mut at = text.len();
        let mut rest = self.0;
        loop {
            at -= 1;
            text[at] = DIGITS[(rest & 15) as usize];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        text[at - 1] = b'x';
        text[at - 2] = b'0';
        serializer.serialize_str(std::str::from_utf8(&text[at - 2..]).expect("digits are ASCII"))
    }
}

/// `0x` and 1 to 16 hexadecimal digits.
pub(super) fn parse_word(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut word = 0u64;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        word = word << 4 | u64::from(value);
    }
    Some(word)
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text such as \"0x1f\" (at most 16 digits)")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                parse_word(text).map(Word).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The six argument registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers(pub [u64; 6]);

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.map(Word).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Registers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[Word; 6]>::deserialize(deserializer).map(|words| Self(words.map(|word| word.0)))
    }
}

/// An unsigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsigned(pub u64);

/// A signed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signed(pub i64);

impl Serialize for Unsigned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= EXACT { serializer.serialize_u64(self.0) } else { Word(self.0).serialize(serializer) }
    }
}

impl Serialize for Signed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.unsigned_abs() <= EXACT {
            serializer.serialize_i64(self.0)
        } else {
            Word(self.0 as u64).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Unsigned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Unsigned;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of 64 bits without a sign")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Unsigned, E> {
                Ok(Unsigned(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Unsigned, E> {
                parse_word(text).map(Unsigned).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Signed;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of 64 bits with a sign")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Signed, E> {
                Ok(Signed(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Signed, E> {
                number.try_into().map(Signed).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signed, E> {
                parse_word(text)
                    .map(|word| Signed(word as i64))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Bytes to be written.
#[derive(Clone, Copy)]
pub(super) struct BytesRef<'a>(pub &'a [u8]);

impl Serialize for BytesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Base64Ref(self.0).serialize(serializer),
        }
    }
}

/// Bytes to be written in base64 even if they happen to be UTF-8: structures.
pub(super) struct Base64Ref<'a>(pub &'a [u8]);

impl Serialize for Base64Ref<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &BASE64_STANDARD.encode(self.0))?;
        map.end()
    }
}

/// A list of byte strings to be written.
pub(super) struct BytesListRef<'a>(pub &'a [BString]);

impl Serialize for BytesListRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            seq.serialize_element(&BytesRef(item))?;
        }
        seq.end()
    }
}

/// Bytes as read, in either form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes(pub BString);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or {\"base64\":\"…\"}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
                let Some((key, text)) = map.next_entry::<Text<'de>, Text<'de>>()? else {
                    return Err(de::Error::missing_field("base64"));
                };
                if &*key.0 != "base64" {
                    return Err(de::Error::unknown_field(&key.0, &["base64"]));
                }
                let bytes = BASE64_STANDARD
                    .decode(text.0.as_bytes())
                    .map_err(|error| de::Error::custom(format_args!("not base64: {error}")))?;
                if map.next_key::<Text<'de>>()?.is_some() {
                    return Err(de::Error::custom("more than \"base64\" in an object that stands for bytes"));
                }
                Ok(Bytes(bytes.into()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A text, borrowed from the line unless it has escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub std::borrow::Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// A list of at most `MOST` items, so that a line of millions of empty items
/// cannot grow into gigabytes of memory.
#[derive(Debug)]
pub(super) struct Bounded<T, const MOST: usize>(pub Vec<T>);

impl<T, const MOST: usize> Default for Bounded<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Bounded<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a list of at most {MOST} items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(List::<T, MOST>(PhantomData)).map(Self)
    }
}

/// Names of numbers in order, as a JSON object.
pub(super) struct WordsRef<'a, T>(pub &'a [T], pub fn(&T) -> (&str, u64));

impl<T> Serialize for WordsRef<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for item in self.0 {
            let (name, word) = self.1(item);
            map.serialize_entry(name, &Word(word))?;
        }
        map.end()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn words_are_hexadecimal() {
        for (word, text) in [(0, "\"0x0\""), (0xff, "\"0xff\""), (u64::MAX, "\"0xffffffffffffffff\"")] {
            assert_eq!(json(Word(word)), text);
            assert_eq!(serde_json::from_str::<Word>(text).unwrap(), Word(word));
        }
        for wrong in ["\"\"", "\"0x\"", "\"ff\"", "\"0x10000000000000000\"", "\"0xg\"", "\"0x+1\"", "12", "null"] {
            assert!(serde_json::from_str::<Word>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_stay_exact_for_jq() {
        assert_eq!(json(Unsigned(1 << 53)), "9007199254740992");
        assert_eq!(json(Unsigned((1 << 53) + 1)), "\"0x20000000000001\"");
        assert_eq!(json(Signed(-100)), "-100");
        assert_eq!(json(Signed(i64::MIN)), "\"0x8000000000000000\"");
        for number in [0, -1, 1, i64::MIN, i64::MAX, -(1 << 53) - 1] {
            assert_eq!(serde_json::from_str::<Signed>(&json(Signed(number))).unwrap(), Signed(number));
        }
        assert!(serde_json::from_str::<Unsigned>("-1").is_err());
        assert!(serde_json::from_str::<Unsigned>("1.5").is_err());
        assert!(serde_json::from_str::<Signed>("9223372036854775808").is_err());
    }

    #[test]
    fn bytes_survive() {
        assert_eq!(json(BytesRef(b"/tmp/\xc3\xa9\n")), "\"/tmp/é\\n\"");
        assert_eq!(json(BytesRef(b"\xff\xfe")), r#"{"base64":"//4="}"#);
        assert_eq!(
            serde_json::from_str::<Bytes>(r#"{"base64":"//4="}"#).unwrap().0,
            "\u{ff}\u{fe}".chars().map(|c| c as u8).collect::<Vec<_>>()
        );
        for wrong in ["{}", r#"{"base64":"?"}"#, r#"{"base64":"","x":""}"#, r#"{"x":""}"#, "1", "[1]"] {
            assert!(serde_json::from_str::<Bytes>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        assert_eq!(serde_json::from_str::<Bounded<u8, 2>>("[1,2]").unwrap().0, [1, 2]);
        let error = serde_json::from_str::<Bounded<u8, 2>>("[1,2,3]").unwrap_err().to_string();
        assert!(error.contains("a list of at most 2 items"), "{error}");
    }
}
