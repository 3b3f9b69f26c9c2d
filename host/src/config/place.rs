//! Where in a manifest's text something is.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line, from 1, of what a JSON pointer leads to in a TOML text, or of the
/// nearest thing around it.
pub(super) fn line(text: &str, pointer: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut at = table.span();
    let mut here: Option<&Spanned<DeValue<'_>>> = None;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match here.map(Spanned::get_ref) {
            None => entry(table.get_ref(), &step),
            Some(DeValue::Table(inner)) => entry(inner, &step),
            Some(DeValue::Array(items)) => {
                step.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.span(), item))
            }
            Some(_) => None,
        };
        let Some((span, value)) = next else { break };
        (at, here) = (span, Some(value));
    }
    Some(text.get(..at.start)?.matches('\n').count() + 1)
}

fn entry<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> Option<(std::ops::Range<usize>, &'t Spanned<DeValue<'a>>)> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_tables_lists_and_what_is_missing() {
        let text = "format = 1\n\n[[plugins]]\nsource = \"a\"\n\n[[plugins]]\nsource = \"b\"\nsettings = { x = [1,\n2] }\n[trust.keys]\n\"a/b\" = 1\n";
        for (pointer, expected) in [
            ("", 1),
            ("/format", 1),
            ("/plugins/0", 3),
            ("/plugins/1", 6),
            ("/plugins/1/source", 7),
            ("/plugins/1/settings/x/1", 9),
            ("/plugins/1/absent/deeper", 6),
            ("/trust/keys/a~1b", 11),
            ("/absent", 1),
        ] {
            assert_eq!(line(text, pointer), Some(expected), "{pointer}");
        }
        assert_eq!(line("= nothing", "/a"), None);
    }
}
