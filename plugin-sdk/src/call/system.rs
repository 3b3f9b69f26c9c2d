//! Views of calls on the system: mounts, modules, namespaces.

use super::view;
use crate::Call;
use crate::bindings::tracegate::plugin::types::ResolvedPath;
use crate::known::Known as K;
use crate::paths::PathArgument;
use crate::{Value, access};

view! {
    /// `mount`. The calls of the newer interface (`open_tree`, `move_mount`,
    /// `fsconfig`) have no view; [`Call::paths`](crate::Call::paths) covers
    /// their names.
    Mount
}

impl<'c> Mount<'c> {
    /// The source's argument: a directory for a bind mount, a device, or a
    /// name that means nothing.
    pub fn source(&self) -> PathArgument<'c> {
        PathArgument::new(self.call, 0)
    }

    /// Where it is mounted. Asks the host where the name leads.
    pub fn target(&self) -> ResolvedPath {
        PathArgument::new(self.call, 1).resolved()
    }

    /// File-system type; none if it was not given.
    pub fn kind(&self) -> Option<&'c str> {
        self.call.text(2)
    }

    /// `MS_*`, without the magic number that old programs add (`MS_MGC_VAL`).
    pub fn flags(&self) -> u64 {
        access::mount_flags(self.call.number(3))
    }

    /// True if something is mounted, moved or bound, false if only options or
    /// propagation change.
    pub fn is_new(&self) -> bool {
        !access::remount(self.flags())
    }

    /// Options of the file system; empty if there are none, `None` if they
    /// could not be read.
    pub fn data(&self) -> Option<&'c str> {
        match self.call.value(4) {
            Some(Value::Absent) => Some(""),
            _ => self.call.text(4),
        }
    }
}

view! {
    /// `init_module`, `finit_module`, `delete_module`.
    Module
}

impl Module<'_> {
    /// True if it loads code into the kernel, false if it unloads.
    pub fn loads(&self) -> bool {
        self.call.known() != Some(K::DeleteModule)
    }

    /// The module's file. Asks the host; none unless it is given by
    /// descriptor.
    pub fn file(&self) -> Option<String> {
        (self.call.known() == Some(K::FinitModule)).then(|| self.call.source().descriptor(0)).flatten()
    }

    /// Name of the module that is unloaded.
    pub fn name(&self) -> Option<&str> {
        if self.loads() { None } else { self.call.text(0) }
    }
}

view! {
    /// `unshare`, `setns`, `clone`, `clone3`.
    Namespaces
}

impl Namespaces<'_> {
    /// `CLONE_*` flags; none if `clone3`'s structure cannot be read. For
    /// `setns` the kinds it allows, 0 meaning any.
    pub fn flags(&self) -> Option<u64> {
        match self.call.known() {
            Some(K::Setns) => Some(self.call.number(1)),
            Some(K::Clone3) => self.call.field(0, "flags"),
            _ => Some(self.call.number(0)),
        }
    }
}

impl Call<'_> {
    /// A call of `mount`.
    pub fn mount(&self) -> Option<Mount<'_>> {
        (self.known()? == K::Mount).then_some(Mount { call: self })
    }

    /// A call that loads or unloads a kernel module.
    pub fn module(&self) -> Option<Module<'_>> {
        matches!(self.known()?, K::InitModule | K::FinitModule | K::DeleteModule).then_some(Module { call: self })
    }

    /// A call that makes or enters namespaces, or a process.
    pub fn namespaces(&self) -> Option<Namespaces<'_>> {
        matches!(self.known()?, K::Unshare | K::Setns | K::Clone | K::Clone3).then_some(Namespaces { call: self })
    }
}
