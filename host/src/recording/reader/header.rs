//! The first line: whether this is a trace at all, and one for us.

use std::io::Read;

use serde::Deserialize;

use super::explain;
use crate::recording::encoding::Text;
use crate::recording::error::Problem;
use crate::recording::format::{Header, HeaderLine, VERSION};
use crate::recording::lines::{Line, Lines};

pub(super) fn read_header<R: Read>(lines: &mut Lines<R>) -> Result<Header, Problem> {
    let (line, whole) = match lines.next()? {
        Line::Last(b"") => return Err(Problem::Empty),
        Line::Whole(line) => (line, true),
        Line::Last(line) => (line, false),
        Line::Broken => {
            return Err(Problem::Truncated { what: "the compressed data stops in the middle", events: 0 });
        }
    };
    #[derive(Deserialize)]
    struct Mark<'a> {
        #[serde(borrow)]
        tracegate: Option<Text<'a>>,
        version: Option<u64>,
        #[serde(borrow)]
        host: Option<Text<'a>>,
    }
    let text = std::str::from_utf8(line).map_err(|_| Problem::NotJson("it is not text".into()))?;
    let mark: Mark = match serde_json::from_str(text) {
        Ok(mark) => mark,
        Err(_) if !whole && text.starts_with("{\"tracegate\":\"trace\"") => {
            return Err(Problem::Truncated { what: "not even the header is whole", events: 0 });
        }
        Err(error) if error.is_data() => return Err(Problem::Foreign("")),
        Err(error) => return Err(Problem::NotJson(explain(&error))),
    };
    match mark.tracegate.as_ref().map(|mark| &*mark.0) {
        Some("trace") => {}
        Some("golden") => return Err(Problem::Foreign(" (it is a file of expected verdicts, for --expect)")),
        _ => return Err(Problem::Foreign("")),
    }
    let version = mark.version.ok_or_else(|| Problem::Header("missing field `version`".into()))?;
    if version > u64::from(VERSION) {
        let host = mark.host.map_or_else(|| "(unknown)".to_owned(), |host| host.0.into_owned());
        return Err(Problem::Future { found: version, host });
    }
    if version == 0 {
        return Err(Problem::Header("there is no version 0".into()));
    }
    let header: HeaderLine = serde_json::from_str(text).map_err(|error| Problem::Header(explain(&error)))?;
    if !whole {
        return Err(Problem::Truncated { what: "there is nothing but the header", events: 0 });
    }
    Ok(header.into())
}
