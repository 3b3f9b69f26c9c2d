//! Views of calls on files.

use super::view;
use crate::access;
use crate::bindings::tracegate::plugin::types::ResolvedPath;
use crate::constants::{AT_REMOVEDIR, O_CREAT, O_TRUNC, O_WRONLY, RENAME_EXCHANGE};
use crate::known::Known as K;
use crate::paths::PathArgument;
use crate::{Access, Call};

/// The accessors that every view of one file has.
macro_rules! one_path {
    () => {
        /// The file. Asks the host where the name leads.
        pub fn path(&self) -> ResolvedPath {
            self.argument().resolved()
        }

        /// The name as the tracee passed it; none if it could not be read.
        pub fn raw_path(&self) -> Option<&'c str> {
            self.argument().raw()
        }
    };
}

view! {
    /// `open`, `openat`, `openat2`, `creat`.
    Open
}

impl<'c> Open<'c> {
    one_path!();

    /// The path argument.
    pub fn argument(&self) -> PathArgument<'c> {
        PathArgument::new(self.call, u8::from(matches!(self.call.known(), Some(K::Openat | K::Openat2))))
    }

    /// The directory that a relative name starts from; none for the working
    /// directory.
    pub fn dirfd(&self) -> Option<i32> {
        matches!(self.call.known(), Some(K::Openat | K::Openat2)).then(|| self.call.int(0))
    }

    /// `O_RDWR` and so on; none if `openat2`'s structure cannot be read.
    pub fn flags(&self) -> Option<u64> {
        match self.call.known() {
            Some(K::Open) => Some(self.call.number(1)),
            Some(K::Openat) => Some(self.call.number(2)),
            Some(K::Creat) => Some(O_CREAT | O_WRONLY | O_TRUNC),
            _ => self.call.field(2, "flags"),
        }
    }

    /// Permissions of a file that is made; none if the structure cannot be
    /// read. Without `O_CREAT` it means nothing.
    pub fn mode(&self) -> Option<u32> {
        match self.call.known() {
            Some(K::Open) => Some(self.call.int(2) as u32),
            Some(K::Openat) => Some(self.call.int(3) as u32),
            Some(K::Creat) => Some(self.call.int(1) as u32),
            _ => self.call.field(2, "mode").map(|mode| mode as u32),
        }
    }

    /// `RESOLVE_*` of `openat2`; 0 for the others.
    pub fn resolve(&self) -> u64 {
        match self.call.known() {
            Some(K::Openat2) => self.call.field(2, "resolve").unwrap_or(0),
            _ => 0,
        }
    }

    /// What the flags ask for. Flags that cannot be read ask for everything.
    pub fn access(&self) -> Access {
        self.argument().access()
    }

    /// True if it asks to read contents.
    pub fn reads(&self) -> bool {
        self.access().any(Access::READ)
    }

    /// True if it can change contents: opened for writing, cut or made.
    pub fn writes(&self) -> bool {
        self.access().any(Access::WRITE | Access::CREATE)
    }
}

/// A view of one path: at argument 0, or at 1 for the `*at` calls named.
macro_rules! simple_path {
    ($name:ident at1: $($at:ident)|+) => {
        impl<'c> $name<'c> {
            one_path!();

            /// The path argument.
            pub fn argument(&self) -> PathArgument<'c> {
                PathArgument::new(self.call, u8::from(self.is_at()))
            }

            fn is_at(&self) -> bool {
                matches!(self.call.known(), Some($(K::$at)|+))
            }
        }
    };
}

view! {
    /// `unlink`, `unlinkat`, `rmdir`.
    Unlink
}
simple_path!(Unlink at1: Unlinkat);

impl Unlink<'_> {
    /// True if it removes a directory.
    pub fn is_directory(&self) -> bool {
        match self.call.known() {
            Some(K::Unlinkat) => self.call.number(2) & AT_REMOVEDIR != 0,
            known => known == Some(K::Rmdir),
        }
    }
}

view! {
    /// `mkdir`, `mkdirat`.
    Mkdir
}
simple_path!(Mkdir at1: Mkdirat);

impl Mkdir<'_> {
    /// Permissions asked for.
    pub fn mode(&self) -> u32 {
        self.call.int(1 + u8::from(self.is_at())) as u32
    }
}

view! {
    /// `chmod`, `fchmodat`, `fchmodat2`; `fchmod` too, without a name.
    Chmod
}

impl<'c> Chmod<'c> {
    one_path!();

    /// The path argument, or the descriptor.
    pub fn argument(&self) -> PathArgument<'c> {
        first(self.call, u8::from(self.is_at()))
    }

    fn is_at(self) -> bool {
        matches!(self.call.known(), Some(K::Fchmodat | K::Fchmodat2))
    }

    /// The new permissions.
    pub fn mode(&self) -> u32 {
        self.call.int(1 + u8::from(self.is_at())) as u32
    }
}

view! {
    /// `chown`, `lchown`, `fchownat`; `fchown` too, without a name.
    Chown
}

impl<'c> Chown<'c> {
    one_path!();

    /// The path argument, or the descriptor.
    pub fn argument(&self) -> PathArgument<'c> {
        first(self.call, u8::from(self.is_at()))
    }

    fn is_at(self) -> bool {
        self.call.known() == Some(K::Fchownat)
    }

    /// The new owner; none if it stays.
    pub fn uid(&self) -> Option<u32> {
        unless_all_ones(self.call.int(1 + u8::from(self.is_at())))
    }

    /// The new group; none if it stays.
    pub fn gid(&self) -> Option<u32> {
        unless_all_ones(self.call.int(2 + u8::from(self.is_at())))
    }
}

fn unless_all_ones(id: i32) -> Option<u32> {
    (id != -1).then_some(id as u32)
}

view! {
    /// `truncate`, and `ftruncate`, without a name.
    Truncate
}

impl<'c> Truncate<'c> {
    one_path!();

    /// The path argument, or the descriptor.
    pub fn argument(&self) -> PathArgument<'c> {
        first(self.call, 0)
    }

    /// The new length in bytes.
    pub fn length(&self) -> i64 {
        self.call.number(1) as i64
    }
}

/// The call's first place in the table of [`access`], be it a descriptor.
fn first<'c>(call: &'c Call<'c>, argument: u8) -> PathArgument<'c> {
    let places = call.known().map_or(&[][..], access::of);
    match places.first() {
        Some(place) => PathArgument::at(call, *place),
        None => PathArgument::new(call, argument),
    }
}

/// A view of an old and a new name.
macro_rules! two_paths {
    ($name:ident, $at:pat) => {
        impl<'c> $name<'c> {
            /// The old name's argument.
            pub fn from(&self) -> PathArgument<'c> {
                PathArgument::new(self.call, u8::from(self.is_at()))
            }

            /// The new name's argument.
            pub fn to(&self) -> PathArgument<'c> {
                PathArgument::new(self.call, if self.is_at() { 3 } else { 1 })
            }

            fn is_at(&self) -> bool {
                matches!(self.call.known(), $at)
            }
        }
    };
}

view! {
    /// `rename`, `renameat`, `renameat2`.
    Rename
}
two_paths!(Rename, Some(K::Renameat | K::Renameat2));

impl Rename<'_> {
    /// `RENAME_*` flags.
    pub fn flags(&self) -> u64 {
        if self.call.known() == Some(K::Renameat2) { self.call.number(4) } else { 0 }
    }

    /// True if the two names change places.
    pub fn exchanges(&self) -> bool {
        self.flags() & RENAME_EXCHANGE != 0
    }
}

view! {
    /// `link`, `linkat`: another name for a file.
    Link
}
two_paths!(Link, Some(K::Linkat));

view! {
    /// `symlink`, `symlinkat`.
    Symlink
}

impl<'c> Symlink<'c> {
    one_path!();

    /// The argument that names the link to be made.
    pub fn argument(&self) -> PathArgument<'c> {
        PathArgument::new(self.call, if self.call.known() == Some(K::Symlinkat) { 2 } else { 1 })
    }

    /// The text that the link will hold; it need not lead anywhere.
    pub fn target(&self) -> Option<&'c str> {
        self.call.text(0)
    }
}

impl Call<'_> {
    /// A call that opens a file by name.
    ///
    /// ```
    /// use plugin_sdk::constants::O_RDWR;
    /// use plugin_sdk::testing::Event;
    ///
    /// let event = Event::openat("shadow").flags(O_RDWR).cwd("/etc");
    /// event.as_entry(|event| {
    ///     let open = event.open().unwrap();
    ///     assert_eq!(open.raw_path(), Some("shadow"));
    ///     assert_eq!(open.path().as_str(), "/etc/shadow");
    ///     assert!(open.reads() && open.writes());
    /// });
    /// ```
    pub fn open(&self) -> Option<Open<'_>> {
        matches!(self.known()?, K::Open | K::Openat | K::Openat2 | K::Creat).then_some(Open { call: self })
    }

    /// A call that removes a name.
    pub fn unlink(&self) -> Option<Unlink<'_>> {
        matches!(self.known()?, K::Unlink | K::Unlinkat | K::Rmdir).then_some(Unlink { call: self })
    }

    /// A call that renames.
    pub fn rename(&self) -> Option<Rename<'_>> {
        matches!(self.known()?, K::Rename | K::Renameat | K::Renameat2).then_some(Rename { call: self })
    }

    /// A call that makes a hard link.
    pub fn link(&self) -> Option<Link<'_>> {
        matches!(self.known()?, K::Link | K::Linkat).then_some(Link { call: self })
    }

    /// A call that makes a symbolic link.
    pub fn symlink(&self) -> Option<Symlink<'_>> {
        matches!(self.known()?, K::Symlink | K::Symlinkat).then_some(Symlink { call: self })
    }

    /// A call that makes a directory.
    pub fn mkdir(&self) -> Option<Mkdir<'_>> {
        matches!(self.known()?, K::Mkdir | K::Mkdirat).then_some(Mkdir { call: self })
    }

    /// A call that changes permissions.
    pub fn chmod(&self) -> Option<Chmod<'_>> {
        matches!(self.known()?, K::Chmod | K::Fchmod | K::Fchmodat | K::Fchmodat2).then_some(Chmod { call: self })
    }

    /// A call that changes owners.
    pub fn chown(&self) -> Option<Chown<'_>> {
        matches!(self.known()?, K::Chown | K::Lchown | K::Fchown | K::Fchownat | K::Chown32 | K::Lchown32 | K::Fchown32)
            .then_some(Chown { call: self })
    }

    /// A call that sets a file's length.
    pub fn truncate(&self) -> Option<Truncate<'_>> {
        matches!(self.known()?, K::Truncate | K::Ftruncate | K::Truncate64 | K::Ftruncate64)
            .then_some(Truncate { call: self })
    }
}
