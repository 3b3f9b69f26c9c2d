//! Many patterns, looked up at once.
//!
//! A tree by components. Most paths leave it at their first name, after one
//! binary search; `**` is matched pattern by pattern from the place in the
//! tree where it stands.

use super::pattern::{Component, Glob, covers, names};

/// Patterns with a value each.
///
/// ```
/// use plugin_sdk::glob::{PathSet, Relation};
///
/// let mut set = PathSet::default();
/// set.insert(&"/home/*/.ssh".parse().unwrap(), "keys");
/// assert_eq!(set.get("/home/ann/.ssh/id_rsa"), Some(&"keys"));
/// assert_eq!(set.get("/home/ann"), None);
///
/// let mut found = Vec::new();
/// set.relations("/home/ann", |relation, value| found.push((relation, *value)));
/// assert_eq!(found, [(Relation::Above, "keys")]);
/// ```
#[derive(Clone, Debug)]
pub struct PathSet<T> {
    root: Node<T>,
}

/// How a path stands to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The path, or a directory above it, matches.
    Within,
    /// The path is a directory above what can match. Not told of directories
    /// below a `**`, above which everything could be.
    Above,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// Names without wildcards, sorted.
    names: Vec<(Box<str>, Node<T>)>,
    wild: Vec<(Component, Node<T>)>,
    /// Patterns that go on with `**`: what is left of them.
    deep: Vec<(Vec<Component>, T)>,
    /// Patterns that end here.
    here: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { names: Vec::new(), wild: Vec::new(), deep: Vec::new(), here: Vec::new() }
    }
}

impl<T> Default for PathSet<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T: Clone> PathSet<T> {
    /// Adds a pattern. The value is kept once for each of its alternatives.
    pub fn insert(&mut self, glob: &Glob, value: T) {
        for components in &glob.alternatives {
            self.root.insert(components, value.clone());
        }
    }
}

impl<T> PathSet<T> {
    /// The value of a pattern that the path lies within.
    pub fn get<'s>(&'s self, path: &str) -> Option<&'s T> {
        let mut first = None;
        self.relations(path, |relation, value| {
            if relation == Relation::Within && first.is_none() {
                first = Some(value);
            }
        });
        first
    }

    /// True if the path lies within a pattern.
    pub fn covers(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// Tells of every pattern to which the path stands in a [`Relation`], in
    /// no particular order; of one with alternatives perhaps several times.
    pub fn relations<'s>(&'s self, path: &str, mut tell: impl FnMut(Relation, &'s T)) {
        self.root.visit(names(path), &mut tell);
    }
}

impl<T> Node<T> {
    fn insert(&mut self, components: &[Component], value: T) {
        let Some((first, rest)) = components.split_first() else {
            self.here.push(value);
            return;
        };
        let child = match first {
            Component::Deep => {
                self.deep.push((components.to_vec(), value));
                return;
            }
            Component::Name(name) => {
                let at = match self.names.binary_search_by(|(own, _)| own.cmp(name)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.names.insert(at, (name.clone(), Node::default()));
                        at
                    }
                };
                &mut self.names[at].1
            }
            Component::Wild(_) => {
                let at = self.wild.iter().position(|(own, _)| own == first).unwrap_or_else(|| {
                    self.wild.push((first.clone(), Node::default()));
                    self.wild.len() - 1
                });
                &mut self.wild[at].1
            }
        };
        child.insert(rest, value);
    }

    fn visit<'s, 'p, F>(&'s self, mut path: impl Iterator<Item = &'p str> + Clone, tell: &mut F)
    where
        F: FnMut(Relation, &'s T),
    {
        for value in &self.here {
            tell(Relation::Within, value);
        }
        for (components, value) in &self.deep {
            if covers(components, path.clone()) {
                tell(Relation::Within, value);
            }
        }
        let Some(name) = path.next() else {
            self.tell_above(tell);
            return;
        };
        if let Ok(at) = self.names.binary_search_by(|(own, _)| (**own).cmp(name)) {
            self.names[at].1.visit(path.clone(), tell);
        }
        for (component, child) in &self.wild {
            if component.matches(name) {
                child.visit(path.clone(), tell);
            }
        }
    }

    /// The path ends here: it is above all patterns that go on.
    fn tell_above<'s>(&'s self, tell: &mut impl FnMut(Relation, &'s T)) {
        for (_, value) in &self.deep {
            tell(Relation::Above, value);
        }
        for child in self.names.iter().map(|(_, child)| child).chain(self.wild.iter().map(|(_, child)| child)) {
            for value in &child.here {
                tell(Relation::Above, value);
            }
            child.tell_above(tell);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(globs: &[&str]) -> PathSet<usize> {
        let mut set = PathSet::default();
        for (index, glob) in globs.iter().enumerate() {
            set.insert(&glob.parse().unwrap(), index);
        }
        set
    }

    fn relations(set: &PathSet<usize>, path: &str) -> Vec<(Relation, usize)> {
        let mut found = Vec::new();
        set.relations(path, |relation, value| found.push((relation, *value)));
        found
    }

    #[test]
    fn within_and_above() {
        use Relation::{Above, Within};
        let set = set(&["/etc/shadow", "/home/*/.ssh", "/srv/**/*.pem", "/home/ann/.ssh"]);
        assert_eq!(relations(&set, "/etc/shadow"), [(Within, 0)]);
        assert_eq!(relations(&set, "/etc"), [(Above, 0)]);
        assert_eq!(relations(&set, "/home/ann/.ssh/x"), [(Within, 3), (Within, 1)]);
        assert_eq!(relations(&set, "/home/bob"), [(Above, 1)]);
        assert_eq!(relations(&set, "/srv"), [(Above, 2)]);
        assert_eq!(relations(&set, "/srv/a"), []);
        assert_eq!(relations(&set, "/srv/a/b.pem"), [(Within, 2)]);
        assert_eq!(relations(&set, "/usr/lib/x"), []);
        assert_eq!(relations(&set, "/").len(), 4);
    }

    proptest! {
        #[test]
        fn the_tree_says_what_each_pattern_says(
            globs in proptest::collection::vec("(/([ab*?]{1,2}|[*][*])){1,4}", 1..6),
            path in "(/[ab]{1,2}){0,5}",
        ) {
            // "**" beside a letter is no pattern.
            let globs: Vec<Glob> = globs.iter().filter_map(|glob| glob.parse().ok()).collect();
            let mut set = PathSet::default();
            for (index, glob) in globs.iter().enumerate() {
                set.insert(glob, index);
            }
            let mut found = Vec::new();
            set.relations(&path, |relation, value| if relation == Relation::Within { found.push(*value) });
            found.sort_unstable();
            found.dedup();
            let expected: Vec<usize> = (0..globs.len()).filter(|index| globs[*index].covers(&path)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
