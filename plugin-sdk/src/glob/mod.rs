//! Path patterns, and sets of them that match fast.
//!
//! | pattern | matches |
//! |---|---|
//! | `/etc/shadow` | that path |
//! | `*` | any characters except `/`, also none and also a leading dot |
//! | `**` | between slashes: any number of directories; at the end: everything beneath |
//! | `?` | one character except `/` |
//! | `[a-z]`, `[!0-9]` | one character of a set, or not of it |
//! | `{a,b}` | either |
//! | `\*` | the character itself |
//!
//! A pattern stands for what it matches *and for all that is beneath it*, so
//! that a directory needs no `/**`. Patterns are absolute. They are matched
//! against resolved paths, which have no `.`, no `..` and no links.
//!
//! Matching allocates nothing and takes time in proportion to the path and,
//! at worst, the number of wildcards.

mod pattern;
mod set;

pub use pattern::{Glob, GlobError};
pub use set::{PathSet, Relation};
