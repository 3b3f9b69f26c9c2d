//! JSON against a JSON Schema, with all that is wrong and where.

use serde_json::Value;

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
    let validator = jsonschema::validator_for(schema).map_err(|error| error.to_string())?;
    let mut issues = Vec::new();
    for error in validator.iter_errors(value) {
        add(&error, &mut issues);
    }
    Ok(issues)
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
