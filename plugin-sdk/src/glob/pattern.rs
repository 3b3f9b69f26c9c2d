//! One pattern.

use std::fmt;
use std::str::FromStr;

/// Most alternatives that braces may unfold to.
const MOST_ALTERNATIVES: usize = 256;
/// Longest pattern: that of a path (`PATH_MAX`).
const LONGEST: usize = 4096;

/// A pattern for absolute paths; see the [module](super).
///
/// ```
/// use plugin_sdk::glob::Glob;
///
/// let glob: Glob = "/home/*/.ssh/id_{rsa,ed25519}".parse().unwrap();
/// assert!(glob.covers("/home/ann/.ssh/id_rsa"));
/// assert!(!glob.covers("/home/ann/x/.ssh/id_rsa"));
/// assert!("etc/shadow".parse::<Glob>().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    pub(super) alternatives: Vec<Vec<Component>>,
}

/// What a pattern has between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Component {
    /// A name without wildcards.
    Name(Box<str>),
    /// A name with some.
    Wild(Box<[Token]>),
    /// `**`.
    Deep,
}

/// A part of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`: whether it is negated, and ranges.
    Set(bool, Box<[(char, char)]>),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobError {
    /// It does not begin with `/`.
    Relative,
    /// It has a component `.` or `..`, which resolved paths never have.
    Dots,
    /// `**` stands beside something else between slashes.
    DeepNotAlone,
    /// `[` without `]`, or `{` without `}`.
    Unclosed(char),
    /// `}` or `]` without its opening.
    Unopened(char),
    /// A range such as `z-a`.
    Backwards(char, char),
    /// A backslash at the end.
    LoneBackslash,
    /// `/` within brackets or braces.
    SlashInside,
    /// Braces unfold to too many patterns.
    TooMany,
    /// Longer than a path can be, or it has a NUL.
    NoPath,
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative => f.write_str("a pattern must be absolute: begin it with \"/\""),
            Self::Dots => f.write_str("a pattern has no \".\" or \"..\": paths are resolved before they are compared"),
            Self::DeepNotAlone => f.write_str("\"**\" must stand alone between slashes; use \"*\" within a name"),
            Self::Unclosed(c) => write!(f, "{c:?} is not closed; write \"\\\\{c}\" to mean the character"),
            Self::Unopened(c) => write!(f, "{c:?} closes nothing; write \"\\\\{c}\" to mean the character"),
            Self::Backwards(a, b) => write!(f, "the range {a}-{b} runs backwards"),
            Self::LoneBackslash => f.write_str("the backslash at the end has nothing to escape"),
            Self::SlashInside => f.write_str("\"/\" cannot stand within brackets or braces"),
            Self::TooMany => write!(f, "the braces unfold to more than {MOST_ALTERNATIVES} patterns"),
            Self::NoPath => write!(f, "no path matches: it has a NUL or more than {LONGEST} bytes"),
        }
    }
}

impl std::error::Error for GlobError {}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if !text.starts_with('/') {
            return Err(GlobError::Relative);
        }
        if text.len() > LONGEST || text.contains('\0') {
            return Err(GlobError::NoPath);
        }
        let mut alternatives = Vec::new();
        for unfolded in unfold(text)? {
            let names = unfolded.split('/').filter(|name| !name.is_empty());
            alternatives.push(names.map(component).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }
}

/// Braces, first to last: `a{b,c}d` → `abd`, `acd`. Escapes stay.
fn unfold(text: &str) -> Result<Vec<String>, GlobError> {
    let mut pending = vec![text.to_owned()];
    let mut done = Vec::new();
    while let Some(text) = pending.pop() {
        match braces(&text)? {
            None => done.push(text),
            Some((before, items, after)) => {
                // Reversed, because `pending` is a stack.
                pending.extend(items.iter().rev().map(|item| format!("{before}{item}{after}")));
            }
        }
        if pending.len() + done.len() > MOST_ALTERNATIVES {
            return Err(GlobError::TooMany);
        }
    }
    Ok(done)
}

type Braces<'t> = (&'t str, Vec<&'t str>, &'t str);

/// The first outermost pair: what is before, its items, what is after.
fn braces(text: &str) -> Result<Option<Braces<'_>>, GlobError> {
    let mut depth = 0;
    let mut open = 0;
    let mut items = Vec::new();
    let mut item = 0;
    let mut in_set = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next().ok_or(GlobError::LoneBackslash)?;
            }
            '[' => in_set = true,
            ']' => in_set = false,
            _ if in_set => {}
            '/' if depth > 0 => return Err(GlobError::SlashInside),
            '{' => {
                depth += 1;
                if depth == 1 {
                    (open, item) = (at, at + 1);
                }
            }
            ',' if depth == 1 => {
                items.push(&text[item..at]);
                item = at + 1;
            }
            '}' => {
                depth = match depth {
                    0 => return Err(GlobError::Unopened('}')),
                    depth => depth - 1,
                };
                if depth == 0 {
                    items.push(&text[item..at]);
                    return Ok(Some((&text[..open], items, &text[at + 1..])));
                }
            }
            _ => {}
        }
    }
    if depth > 0 { Err(GlobError::Unclosed('{')) } else { Ok(None) }
}

fn component(name: &str) -> Result<Component, GlobError> {
    if name == "." || name == ".." {
        return Err(GlobError::Dots);
    }
    if name == "**" {
        return Ok(Component::Deep);
    }
    let mut tokens = Vec::new();
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '\\' => Token::Char(chars.next().ok_or(GlobError::LoneBackslash)?),
            '?' => Token::One,
            '*' if chars.peek() == Some(&'*') => return Err(GlobError::DeepNotAlone),
            '*' => Token::Many,
            '[' => set(&mut chars)?,
            ']' => return Err(GlobError::Unopened(']')),
            c => Token::Char(c),
        });
    }
    let char = |token: &Token| match token {
        Token::Char(c) => Some(*c),
        _ => None,
    };
    let literal: Option<String> = tokens.iter().map(char).collect();
    Ok(match literal {
        Some(name) => Component::Name(name.into()),
        None => Component::Wild(tokens.into()),
    })
}

/// What comes after `[`.
fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, GlobError> {
    let negated = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match chars.next() {
            // The split at slashes cut a set in two, or it has no end.
            None => return Err(GlobError::Unclosed('[')),
            // A bracket in the first place stands for itself.
            Some(']') if !ranges.is_empty() => return Ok(Token::Set(negated, ranges.into())),
            Some('\\') => chars.next().ok_or(GlobError::LoneBackslash)?,
            Some(c) => c,
        };
        let mut last = first;
        if chars.peek() == Some(&'-') {
            let mut ahead = chars.clone();
            ahead.next();
            match ahead.next() {
                None | Some(']') => {}
                Some(end) => {
                    last = if end == '\\' { ahead.next().ok_or(GlobError::LoneBackslash)? } else { end };
                    *chars = ahead;
                }
            }
        }
        if last < first {
            return Err(GlobError::Backwards(first, last));
        }
        ranges.push((first, last));
    }
}

impl Glob {
    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if the path, or a directory above it, matches.
    pub fn covers(&self, path: &str) -> bool {
        self.alternatives.iter().any(|components| covers(components, names(path)))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The names between a path's slashes.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|name| !name.is_empty())
}

/// True if the components match the path or a directory above it.
///
/// Only the last `**` that was passed needs to be gone back to: whatever an
/// earlier one could take more of, the last one can take as well.
pub(super) fn covers<'p>(mut components: &[Component], mut path: impl Iterator<Item = &'p str> + Clone) -> bool {
    let mut retry = None;
    loop {
        let Some((component, rest)) = components.split_first() else { return true };
        if *component == Component::Deep {
            if rest.is_empty() {
                return path.next().is_some();
            }
            retry = Some((rest, path.clone()));
            components = rest;
            continue;
        }
        let Some(name) = path.next() else { return false };
        if component.matches(name) {
            components = rest;
        } else {
            let Some((after, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            components = after;
            path = from.clone();
        }
    }
}

impl Component {
    /// True if it matches this name.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => **own == *name,
            Self::Wild(tokens) => matches(tokens, name),
            Self::Deep => false,
        }
    }
}

/// As for `**`, only the last `*` needs to be gone back to.
fn matches(mut tokens: &[Token], name: &str) -> bool {
    let mut chars = name.chars();
    let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
    loop {
        let fits = match tokens.split_first() {
            None => match chars.as_str() {
                "" => return true,
                _ => false,
            },
            Some((Token::Many, rest)) => {
                if rest.is_empty() {
                    return true;
                }
                retry = Some((rest, chars.clone()));
                tokens = rest;
                continue;
            }
            Some((token, rest)) => match chars.next() {
                // Going back would leave even less of the name.
                None => return false,
                Some(c) => {
                    tokens = rest;
                    token.matches(c)
                }
            },
        };
        if !fits {
            let Some((after, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            tokens = after;
            chars = from.clone();
        }
    }
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One | Self::Many => true,
            Self::Set(negated, ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(glob: &str, path: &str) -> bool {
        glob.parse::<Glob>().unwrap_or_else(|error| panic!("{glob}: {error}")).covers(path)
    }

    #[test]
    fn names_and_what_is_beneath() {
        assert!(covers("/etc/shadow", "/etc/shadow"));
        assert!(covers("/root/.ssh", "/root/.ssh/a/b"));
        assert!(covers("/root/.ssh/", "/root/.ssh"));
        assert!(covers("/", "/anything"));
        assert!(!covers("/etc/shadow", "/etc/shadow-"));
        assert!(!covers("/etc/shadow", "/etc"));
    }

    #[test]
    fn wildcards() {
        assert!(covers("/home/*/.ssh", "/home/ann/.ssh/id_rsa"));
        assert!(!covers("/home/*/.ssh", "/home/a/b/.ssh"));
        assert!(covers("/etc/ssh/*_key", "/etc/ssh/ssh_host_rsa_key"));
        assert!(!covers("/etc/ssh/*_key", "/etc/ssh/ssh_host_rsa_key.pub"));
        assert!(covers("/a/*", "/a/.hidden"));
        assert!(covers("/a/?b*c", "/a/xbbbbc") && !covers("/a/?b*c", "/a/bc"));
        assert!(covers("/a/[a-c][!0-9]", "/a/bx") && !covers("/a/[a-c][!0-9]", "/a/b1"));
        assert!(covers("/a/[]x-]", "/a/]") && covers("/a/[]x-]", "/a/-"));
        assert!(covers(r"/a/\*", "/a/*") && !covers(r"/a/\*", "/a/b"));
        assert!(covers("/a/{b,c{d,e}}x", "/a/cex") && !covers("/a/{b,c{d,e}}x", "/a/cx"));
        assert!(covers("/etc/{shadow,gshadow}{,-}", "/etc/gshadow-"));
        assert!(covers("/é?", "/éü"));
    }

    #[test]
    fn deep() {
        assert!(covers("/srv/**/*.pem", "/srv/x.pem") && covers("/srv/**/*.pem", "/srv/a/b/x.pem/y"));
        assert!(covers("/**/secret/**/key", "/a/secret/b/secret/c/key"));
        assert!(!covers("/**/secret/**/key", "/a/b/key"));
        assert!(covers("/srv/**", "/srv/a") && !covers("/srv/**", "/srv"));
    }

    #[test]
    fn what_is_no_pattern() {
        let error = |text: &str| text.parse::<Glob>().unwrap_err();
        assert_eq!(error("etc"), GlobError::Relative);
        assert_eq!(error(""), GlobError::Relative);
        assert_eq!(error("/a/../b"), GlobError::Dots);
        assert_eq!(error("/a/b**"), GlobError::DeepNotAlone);
        assert_eq!(error("/a/[b"), GlobError::Unclosed('['));
        assert_eq!(error("/a/{b"), GlobError::Unclosed('{'));
        assert_eq!(error("/a/b}"), GlobError::Unopened('}'));
        assert_eq!(error("/a/b]"), GlobError::Unopened(']'));
        assert_eq!(error("/a/[z-a]"), GlobError::Backwards('z', 'a'));
        assert_eq!(error("/a\\"), GlobError::LoneBackslash);
        assert_eq!(error("/a/{b/c,d}"), GlobError::SlashInside);
        assert_eq!(error(&format!("/{}", "{a,b}".repeat(9))), GlobError::TooMany);
    }

    /// The same, by trying everything.
    fn slowly(tokens: &[Token], name: &[char]) -> bool {
        match tokens.split_first() {
            None => name.is_empty(),
            Some((Token::Many, rest)) => (0..=name.len()).any(|skip| slowly(rest, &name[skip..])),
            Some((token, rest)) => {
                name.split_first().is_some_and(|(c, others)| token.matches(*c) && slowly(rest, others))
            }
        }
    }

    proptest! {
        #[test]
        fn going_back_to_the_last_star_is_enough(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let pattern = pattern.replace("**", "*a*").replace("**", "*");
            if let Ok(Component::Wild(tokens)) = component(&pattern) {
                let chars: Vec<char> = name.chars().collect();
                prop_assert_eq!(matches(&tokens, &name), slowly(&tokens, &chars));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*", path in "(/[a-z.]{0,3}){0,5}") {
            if let Ok(glob) = text.parse::<Glob>() {
                glob.covers(&path);
            }
        }
    }
}
