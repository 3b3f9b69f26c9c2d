//! Arguments that lead to files, whatever the call.

use crate::access::{self, Place};
use crate::bindings::tracegate::plugin::types::{Defect, PathState, ResolvedPath, Value};
use crate::{Access, Call};

/// An argument that leads to a file.
#[derive(Clone, Copy, Debug)]
pub struct PathArgument<'c> {
    call: &'c Call<'c>,
    place: Place,
}

impl<'c> PathArgument<'c> {
    /// The name in argument `argument` of `call`.
    pub(crate) fn new(call: &'c Call<'c>, argument: u8) -> Self {
        let places = call.known().map_or(&[][..], access::of);
        let place = places.iter().find(|place| place.argument == argument && !place.descriptor);
        let unknown = Place { argument, descriptor: false, rule: access::Rule::Always(Access::empty()) };
        Self { call, place: *place.unwrap_or(&unknown) }
    }

    /// The place of the table.
    pub(crate) fn at(call: &'c Call<'c>, place: Place) -> Self {
        Self { call, place }
    }

    /// Number of the argument, from 0.
    pub fn index(&self) -> u8 {
        self.place.argument
    }

    /// Name of the argument as in the manual page, such as `oldpath`. Asks
    /// the host.
    pub fn name(&self) -> Option<String> {
        self.call.source().argument_name(self.place.argument)
    }

    /// What the call does there.
    pub fn access(&self) -> Access {
        self.place.rule.access(self.call)
    }

    /// True if the file is given by an open descriptor and not by name
    /// (`fchmod`).
    pub fn is_descriptor(&self) -> bool {
        self.place.descriptor
    }

    /// The name as the tracee passed it: relative, with `..` and symbolic
    /// links. None if it could not be read, or there is no name. To decide
    /// by file, use [`resolved`](Self::resolved).
    pub fn raw(&self) -> Option<&'c str> {
        match self.call.value(self.place.argument)? {
            Value::RawPath(path) => Some(path),
            _ => None,
        }
    }

    /// The exact bytes that the tracee passed; none if they could not be
    /// read. Asks the host.
    pub fn raw_bytes(&self) -> Option<Vec<u8>> {
        self.raw().and_then(|_| self.call.source().raw(self.place.argument))
    }

    /// Why the name could not be read, if so. Treat such a name as unknown,
    /// not as harmless: memory can change after this look.
    pub fn defect(&self) -> Option<Defect> {
        match self.call.value(self.place.argument)? {
            Value::Unreadable(defect) => Some(*defect),
            _ => None,
        }
    }

    /// The file that the name leads to. Asks the host. A name that leads
    /// nowhere is `unresolved`, with an empty path if nothing is known.
    pub fn resolved(&self) -> ResolvedPath {
        let found = if self.place.descriptor {
            let target = self.call.source().descriptor(self.place.argument);
            let state = |path: &str| if path.is_empty() { PathState::Unknown } else { PathState::Exists };
            target.map(|path| ResolvedPath { state: state(&path), path })
        } else {
            self.call.source().path(self.place.argument)
        };
        found.unwrap_or(ResolvedPath { path: String::new(), state: PathState::Unresolved })
    }

    /// The exact bytes of the resolved path; empty if nothing is known. Asks
    /// the host.
    pub fn bytes(&self) -> Vec<u8> {
        self.call.source().path_bytes(self.place.argument).unwrap_or_default()
    }
}

impl ResolvedPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// True if only the kernel can tell where the name leads: it may be any
    /// file.
    pub fn is_unknown(&self) -> bool {
        self.state == PathState::Unknown
    }

    /// True if the name could not be followed.
    pub fn is_unresolved(&self) -> bool {
        self.state == PathState::Unresolved
    }
}

impl std::fmt::Display for ResolvedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl Call<'_> {
    /// Every argument that leads to a file, with what the call does there;
    /// names first to last.
    ///
    /// Descriptors count where a call changes a file through one that need
    /// not be open for writing (`fchmod`, `fchown`, `fsetxattr`, …); other
    /// descriptors were judged when they were opened. A socket address that
    /// names a file is not among them.
    ///
    /// ```
    /// use plugin_sdk::testing::Event;
    /// use plugin_sdk::Access;
    ///
    /// Event::rename("/etc/shadow", "/tmp/x").as_entry(|event| {
    ///     let found: Vec<_> =
    ///         event.paths().map(|path| (path.resolved().path, path.access())).collect();
    ///     assert_eq!(found[0], ("/etc/shadow".into(), Access::ALIAS | Access::DELETE));
    ///     assert_eq!(found[1], ("/tmp/x".into(), Access::CREATE | Access::DELETE));
    /// });
    /// ```
    pub fn paths(&self) -> impl Iterator<Item = PathArgument<'_>> {
        let places = self.known().map_or(&[][..], access::of);
        let here = places.iter().filter(|place| self.leads_to_file(**place, places));
        here.map(|place| PathArgument { call: self, place: *place })
    }

    fn leads_to_file(&self, place: Place, places: &[Place]) -> bool {
        if place.descriptor {
            // `utimensat` looks at the descriptor only if there is no name.
            return !places.iter().any(|other| !other.descriptor && self.leads_to_file(*other, places));
        }
        match self.value(place.argument) {
            // `mount("", …)` names no source.
            Some(Value::RawPath(name)) => !(name.is_empty() && matches!(place.rule, access::Rule::MountSource(_))),
            Some(Value::Unreadable(_)) => true,
            // NULL, or another argument: i386 has some calls with a shift.
            _ => false,
        }
    }
}
