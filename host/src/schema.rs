//! JSON against a JSON Schema, with all that is wrong and where.

use std::collections::HashMap;

use serde_json::Value;

/// Most parts of a schema with each reference replaced by what it refers to: a
/// few references to references come to more than anybody can wait for.
const MOST_PARTS: u64 = 100_000;

/// Something wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Issue {
    /// JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Issue {
    pub(crate) fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// All that is wrong with `value`; an error if `schema` is none.
pub(crate) fn issues(schema: &Value, value: &Value) -> Result<Vec<Issue>, String> {
    let parts = parts(schema, schema, &mut HashMap::new())?;
    if parts > MOST_PARTS {
        return Err(format!("it has {parts} parts with all that it refers to; at most {MOST_PARTS} are taken"));
    }
    let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
    let mut issues = Vec::new();
    for error in validator.iter_errors(value) {
        add(&error, &mut issues);
    }
    Ok(issues)
}

/// Parts of `value`, which is within `schema`, with all that it refers to. A
/// reference to what is being counted counts as one. `known` has what was
/// counted.
fn parts<'s>(schema: &'s Value, value: &'s Value, known: &mut HashMap<&'s str, u64>) -> Result<u64, String> {
    let mut sum = 1_u64;
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let (Some(target), true) = (
                    reference.strip_prefix('#').and_then(|pointer| schema.pointer(pointer)),
                    reference == "#" || reference.starts_with("#/"),
                ) else {
                    return Err(format!("it refers to {reference:?}, which is not within it"));
                };
                let counted = if let Some(counted) = known.get(reference.as_str()) {
                    *counted
                } else {
                    known.insert(reference, 1);
                    let counted = parts(schema, target, known)?;
                    known.insert(reference, counted);
                    counted
                };
                sum = sum.saturating_add(counted);
            }
            Box::new(fields.values())
        }
        Value::Array(items) => Box::new(items.iter()),
        _ => return Ok(1),
    };
    for inner in inner {
        sum = sum.saturating_add(parts(schema, inner, known)?);
    }
    Ok(sum)
}

/// The only value that an alternative takes.
fn word(errors: &[jsonschema::ValidationError<'_>]) -> Option<String> {
    let find = |error: &jsonschema::ValidationError<'_>| match error.kind() {
        jsonschema::error::ValidationErrorKind::Constant { expected_value } => Some(expected_value.to_string()),
        _ => None,
    };
    errors.iter().find_map(find)
}

/// What is wrong, at its place. Of alternatives that all fail, those of the
/// one that has the right type: "neither an object nor a list" helps nobody
/// who wrote an object.
fn add(error: &jsonschema::ValidationError<'_>, issues: &mut Vec<Issue>) {
    use jsonschema::error::ValidationErrorKind as Kind;
    let alternatives = match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => context.as_slice(),
        _ => &[],
    };
    // A choice among words, each with a description of its own.
    let words: Option<Vec<_>> = alternatives.iter().map(|inner| word(inner)).collect();
    if let Some(words) = words.filter(|words| !words.is_empty()) {
        let message = format!("{} is not one of {}", error.instance(), words.join(", "));
        return issues.push(Issue::at(error.instance_path().to_string(), message));
    }
    let wrong_type = |inner: &jsonschema::ValidationError<'_>| {
        matches!(inner.kind(), Kind::Type { .. }) && inner.instance_path() == error.instance_path()
    };
    match alternatives.iter().find(|inner| !inner.is_empty() && !inner.iter().any(wrong_type)) {
        Some(inner) => inner.iter().for_each(|inner| add(inner, issues)),
        None => issues.push(Issue::at(error.instance_path().to_string(), error.to_string())),
    }
}
