//! Views of calls on memory.

use super::view;
use crate::Call;
use crate::constants::{MAP_ANONYMOUS, PROT_EXEC, PROT_WRITE};
use crate::known::Known as K;

view! {
    /// `mmap`, and i386's `mmap2`.
    Map
}

impl Map<'_> {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.call.number(1)
    }

    /// `PROT_*`.
    pub fn protection(&self) -> u64 {
        self.call.number(2)
    }

    /// `MAP_*`.
    pub fn flags(&self) -> u64 {
        self.call.number(3)
    }

    /// The file's descriptor; none for anonymous memory.
    pub fn fd(&self) -> Option<i32> {
        (self.flags() & MAP_ANONYMOUS == 0).then(|| self.call.int(4))
    }

    /// The file that is mapped, in the notation of `/proc/PID/fd`. Asks the
    /// host.
    pub fn file(&self) -> Option<String> {
        self.fd().and_then(|_| self.call.source().descriptor(4))
    }

    /// True if it asks for memory that can be both written and run.
    pub fn writable_and_executable(&self) -> bool {
        self.protection() & (PROT_WRITE | PROT_EXEC) == PROT_WRITE | PROT_EXEC
    }
}

view! {
    /// `mprotect`, `pkey_mprotect`.
    Protect
}

impl Protect<'_> {
    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.call.number(0)
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.call.number(1)
    }

    /// `PROT_*`.
    pub fn protection(&self) -> u64 {
        self.call.number(2)
    }

    /// True if it asks for memory that can be both written and run.
    pub fn writable_and_executable(&self) -> bool {
        self.protection() & (PROT_WRITE | PROT_EXEC) == PROT_WRITE | PROT_EXEC
    }
}

view! {
    /// `process_vm_readv`, `process_vm_writev`.
    RemoteMemory
}

impl RemoteMemory<'_> {
    /// The process whose memory it is.
    pub fn target(&self) -> i32 {
        self.call.int(0)
    }

    /// True if it writes there.
    pub fn writes(&self) -> bool {
        self.call.known() == Some(K::ProcessVmWritev)
    }
}

impl Call<'_> {
    /// A call that maps memory or a file.
    pub fn mmap(&self) -> Option<Map<'_>> {
        // i386's own `mmap` has one argument, a structure.
        let is_map = matches!(self.known()?, K::Mmap | K::Mmap2) && self.arguments().len() == 6;
        is_map.then_some(Map { call: self })
    }

    /// A call that changes the protection of memory.
    pub fn mprotect(&self) -> Option<Protect<'_>> {
        matches!(self.known()?, K::Mprotect | K::PkeyMprotect).then_some(Protect { call: self })
    }

    /// A call that reads or writes another process's memory.
    pub fn remote_memory(&self) -> Option<RemoteMemory<'_>> {
        matches!(self.known()?, K::ProcessVmReadv | K::ProcessVmWritev).then_some(RemoteMemory { call: self })
    }
}
