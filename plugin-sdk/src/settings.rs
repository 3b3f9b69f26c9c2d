//! Settings: JSON → the plugin's type, or a list of what is wrong.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};

use crate::bindings::tracegate::plugin::types::Description;
use crate::{Issue, Plugin};

/// The settings of a plugin that has none: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

pub(crate) fn description<P: Plugin>(version: &str) -> Description {
    Description {
        name: P::NAME.to_owned(),
        version: version.to_owned(),
        summary: P::SUMMARY.to_owned(),
        settings_schema: schemars::schema_for!(P::Settings).as_value().to_string(),
    }
}

pub(crate) fn parse<S: DeserializeOwned>(json: &str) -> Result<S, Vec<Issue>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let settings = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| vec![Issue::at(pointer(error.path()), without_position(error.inner()))])?;
    deserializer.end().map_err(|error| vec![Issue::at("", error.to_string())])?;
    Ok(settings)
}

/// RFC 6901.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        // Writing to a string does not fail.
        let _ = match segment {
            Segment::Seq { index } => write!(pointer, "/{index}"),
            Segment::Map { key } => write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => Ok(()),
        };
    }
    pointer
}

/// The pointer says where; a line and column in a text that the operator may
/// never have seen does not help.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_data()
        && let Some((message, _)) = text.rsplit_once(" at line ")
    {
        return message.to_owned();
    }
    text
}

/// One object, or a list of them.
///
/// Unlike an untagged enum it says what is wrong in which of them.
///
/// ```
/// use plugin_sdk::OneOrMany;
///
/// #[derive(serde::Deserialize)]
/// struct Rule { port: u16 }
///
/// let one: OneOrMany<Rule> = serde_json::from_str(r#"{"port": 22}"#).unwrap();
/// let many: OneOrMany<Rule> = serde_json::from_str(r#"[{"port": 22}, {"port": 23}]"#).unwrap();
/// assert_eq!((one.items.len(), one.pointer(0)), (1, String::new()));
/// assert_eq!((many.items.len(), many.pointer(1)), (2, "/1".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T> {
    /// The objects, one if there was no list.
    pub items: Vec<T>,
    /// True if they came as a list.
    pub list: bool,
}

impl<T> OneOrMany<T> {
    /// JSON pointer to an item, relative to this value.
    pub fn pointer(&self, index: usize) -> String {
        if self.list { format!("/{index}") } else { String::new() }
    }
}

impl<T: Default> Default for OneOrMany<T> {
    /// One default object.
    fn default() -> Self {
        Self { items: vec![T::default()], list: false }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of objects")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let item = T::deserialize(MapAccessDeserializer::new(map))?;
                Ok(OneOrMany { items: vec![item], list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                let items = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(OneOrMany { items, list: true })
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [item, { "type": "array", "items": item }] })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Item {
        ports: Vec<u16>,
    }

    fn issue(json: &str) -> (String, String) {
        let issues = parse::<OneOrMany<Item>>(json).unwrap_err();
        assert_eq!(issues.len(), 1);
        (issues[0].pointer.clone(), issues[0].message.clone())
    }

    #[test]
    fn pointers_lead_to_the_problem() {
        assert_eq!(issue(r#"[{"ports":[1]},{"ports":[2,"x"]}]"#).0, "/1/ports/1");
        assert_eq!(issue(r#"{"ports":[70000]}"#).0, "/ports/0");
        let (pointer, message) = issue(r#"{"ports":[],"a/b":1}"#);
        assert_eq!(pointer, "/a~1b");
        assert!(message.starts_with("unknown field `a/b`"), "{message}");
        assert!(!message.contains("line"), "{message}");
    }

    #[test]
    fn text_after_the_settings_is_a_problem() {
        assert_eq!(issue("{\"ports\":[]} {}").0, "");
        assert!(issue("not json").1.contains("expected"));
    }
}
