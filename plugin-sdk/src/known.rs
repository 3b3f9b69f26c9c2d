//! The system calls that the SDK has views for, by number.
//!
//! A plugin asks "which call is this?" of every event. The host's getter
//! would answer with a string of its own; a look into these tables costs
//! nothing. Calls that are not here, and calling conventions other than
//! x86-64 and `AArch64`, are known by name only.

/// `AUDIT_ARCH_X86_64`.
pub(crate) const X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`.
pub(crate) const AARCH64: u32 = 0xc000_00b7;

macro_rules! known {
    ($($id:ident $name:literal $x86_64:tt $aarch64:tt;)*) => {
        /// A system call that the SDK has a view for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Known { $($id,)* }

        impl Known {
            /// Every call of the table.
            const ALL: &'static [Known] = &[$(Known::$id,)*];

            /// Name as in the manual.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Known::$id => $name,)* }
            }

            /// Number on x86-64 and on `AArch64`.
            const fn numbers(self) -> (Option<u32>, Option<u32>) {
                match self { $(Known::$id => (known!(@ $x86_64), known!(@ $aarch64)),)* }
            }

            /// The call of this name.
            pub(crate) fn named(name: &str) -> Option<Known> {
                match name { $($name => Some(Known::$id),)* _ => None }
            }
        }
    };
    (@ -) => { None };
    (@ $number:literal) => { Some($number) };
}

// Name, number on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), number on
// AArch64 (include/uapi/asm-generic/unistd.h). Those without a number are the
// i386 names of calls that the others have under a plain one.
known! {
    Accept "accept" 43 202;
    Accept4 "accept4" 288 242;
    Access "access" 21 -;
    Acct "acct" 163 89;
    Adjtimex "adjtimex" 159 171;
    Bind "bind" 49 200;
    Bpf "bpf" 321 280;
    Chdir "chdir" 80 49;
    Chmod "chmod" 90 -;
    Chown "chown" 92 -;
    Chroot "chroot" 161 51;
    Clone "clone" 56 220;
    Clone3 "clone3" 435 435;
    Connect "connect" 42 203;
    Creat "creat" 85 -;
    DeleteModule "delete_module" 176 106;
    Execve "execve" 59 221;
    Execveat "execveat" 322 281;
    Faccessat "faccessat" 269 48;
    Faccessat2 "faccessat2" 439 439;
    FanotifyMark "fanotify_mark" 301 263;
    Fchmod "fchmod" 91 52;
    Fchmodat "fchmodat" 268 53;
    Fchmodat2 "fchmodat2" 452 452;
    Fchown "fchown" 93 55;
    Fchownat "fchownat" 260 54;
    FileGetattr "file_getattr" 468 468;
    FileSetattr "file_setattr" 469 469;
    FinitModule "finit_module" 313 273;
    Fremovexattr "fremovexattr" 199 16;
    Fsconfig "fsconfig" 431 431;
    Fsetxattr "fsetxattr" 190 7;
    Fspick "fspick" 433 433;
    Ftruncate "ftruncate" 77 46;
    Futimesat "futimesat" 261 -;
    Getxattr "getxattr" 191 8;
    Getxattrat "getxattrat" 464 464;
    InitModule "init_module" 175 105;
    InotifyAddWatch "inotify_add_watch" 254 27;
    IoUringSetup "io_uring_setup" 425 425;
    KexecFileLoad "kexec_file_load" 320 294;
    KexecLoad "kexec_load" 246 104;
    Keyctl "keyctl" 250 219;
    Kill "kill" 62 129;
    Lchown "lchown" 94 -;
    Lgetxattr "lgetxattr" 192 9;
    Link "link" 86 -;
    Linkat "linkat" 265 37;
    Listen "listen" 50 201;
    Listxattr "listxattr" 194 11;
    Listxattrat "listxattrat" 465 465;
    Llistxattr "llistxattr" 195 12;
    Lremovexattr "lremovexattr" 198 15;
    Lsetxattr "lsetxattr" 189 6;
    Lstat "lstat" 6 -;
    MemfdCreate "memfd_create" 319 279;
    Mkdir "mkdir" 83 -;
    Mkdirat "mkdirat" 258 34;
    Mknod "mknod" 133 -;
    Mknodat "mknodat" 259 33;
    Mmap "mmap" 9 222;
    Mount "mount" 165 40;
    MountSetattr "mount_setattr" 442 442;
    MoveMount "move_mount" 429 429;
    Mprotect "mprotect" 10 226;
    NameToHandleAt "name_to_handle_at" 303 264;
    Newfstatat "newfstatat" 262 79;
    Open "open" 2 -;
    OpenByHandleAt "open_by_handle_at" 304 265;
    OpenTree "open_tree" 428 428;
    OpenTreeAttr "open_tree_attr" 467 467;
    Openat "openat" 257 56;
    Openat2 "openat2" 437 437;
    PidfdSendSignal "pidfd_send_signal" 424 424;
    PivotRoot "pivot_root" 155 41;
    PkeyMprotect "pkey_mprotect" 329 288;
    ProcessVmReadv "process_vm_readv" 310 270;
    ProcessVmWritev "process_vm_writev" 311 271;
    Ptrace "ptrace" 101 117;
    Readlink "readlink" 89 -;
    Readlinkat "readlinkat" 267 78;
    Removexattr "removexattr" 197 14;
    Removexattrat "removexattrat" 466 466;
    Rename "rename" 82 -;
    Renameat "renameat" 264 38;
    Renameat2 "renameat2" 316 276;
    Rmdir "rmdir" 84 -;
    RtSigqueueinfo "rt_sigqueueinfo" 129 138;
    RtTgsigqueueinfo "rt_tgsigqueueinfo" 297 240;
    Sendmmsg "sendmmsg" 307 269;
    Sendmsg "sendmsg" 46 211;
    Sendto "sendto" 44 206;
    Setfsgid "setfsgid" 123 152;
    Setfsuid "setfsuid" 122 151;
    Setgid "setgid" 106 144;
    Setgroups "setgroups" 116 159;
    Setns "setns" 308 268;
    Setregid "setregid" 114 143;
    Setresgid "setresgid" 119 149;
    Setresuid "setresuid" 117 147;
    Setreuid "setreuid" 113 145;
    Setuid "setuid" 105 146;
    Setxattr "setxattr" 188 5;
    Setxattrat "setxattrat" 463 463;
    Socket "socket" 41 198;
    Stat "stat" 4 -;
    Statfs "statfs" 137 43;
    Statx "statx" 332 291;
    Swapoff "swapoff" 168 225;
    Swapon "swapon" 167 224;
    Symlink "symlink" 88 -;
    Symlinkat "symlinkat" 266 36;
    Tgkill "tgkill" 234 131;
    Tkill "tkill" 200 130;
    Truncate "truncate" 76 45;
    Umount2 "umount2" 166 39;
    Unlink "unlink" 87 -;
    Unlinkat "unlinkat" 263 35;
    Unshare "unshare" 272 97;
    Uselib "uselib" 134 -;
    Utime "utime" 132 -;
    Utimensat "utimensat" 280 88;
    Utimes "utimes" 235 -;
    UtimensatTime64 "utimensat_time64" - 412;
    Chown32 "chown32" - -;
    Fchown32 "fchown32" - -;
    Lchown32 "lchown32" - -;
    Truncate64 "truncate64" - -;
    Ftruncate64 "ftruncate64" - -;
    Stat64 "stat64" - -;
    Lstat64 "lstat64" - -;
    Fstatat64 "fstatat64" - -;
    Statfs64 "statfs64" - -;
    Umount "umount" - -;
    Mmap2 "mmap2" - -;
    Setuid32 "setuid32" - -;
    Setgid32 "setgid32" - -;
    Setreuid32 "setreuid32" - -;
    Setregid32 "setregid32" - -;
    Setresuid32 "setresuid32" - -;
    Setresgid32 "setresgid32" - -;
    Setfsuid32 "setfsuid32" - -;
    Setfsgid32 "setfsgid32" - -;
    Setgroups32 "setgroups32" - -;
}

/// Numbers above this are not in the tables.
const LIMIT: usize = 512;

const fn by_number(aarch64: bool) -> [Option<Known>; LIMIT] {
    let mut table = [None; LIMIT];
    let mut i = 0;
    while i < Known::ALL.len() {
        let (x, a) = Known::ALL[i].numbers();
        if let Some(number) = if aarch64 { a } else { x } {
            table[number as usize] = Some(Known::ALL[i]);
        }
        i += 1;
    }
    table
}

static ON_X86_64: [Option<Known>; LIMIT] = by_number(false);
static ON_AARCH64: [Option<Known>; LIMIT] = by_number(true);

/// What a number means.
pub(crate) enum Lookup {
    /// The call has views.
    Known(Known),
    /// The call has none.
    Unknown,
    /// These tables do not cover the convention; the name must be asked for.
    AskByName,
}

/// Looks a number up.
pub(crate) fn lookup(arch: u32, nr: u32) -> Lookup {
    let table = match arch {
        X86_64 => &ON_X86_64,
        AARCH64 => &ON_AARCH64,
        _ => return Lookup::AskByName,
    };
    match table.get(nr as usize) {
        Some(Some(known)) => Lookup::Known(*known),
        Some(None) => Lookup::Unknown,
        // x32 calls, which carry bit 30, and numbers of kernels to come.
        None => Lookup::AskByName,
    }
}

/// Number of a call for events written in code; x86-64.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn number(name: &str) -> Option<u32> {
    Known::named(name).and_then(|known| known.numbers().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_the_syscalls_crate() {
        for known in Known::ALL {
            let (x86_64, aarch64) = known.numbers();
            let theirs = known.name().parse::<syscalls::x86_64::Sysno>().ok().map(|nr| nr.id() as u32);
            if theirs.is_some() {
                assert_eq!(x86_64, theirs, "{} on x86-64", known.name());
            }
            let theirs = known.name().parse::<syscalls::aarch64::Sysno>().ok().map(|nr| nr.id() as u32);
            if theirs.is_some() {
                assert_eq!(aarch64, theirs, "{} on AArch64", known.name());
            }
        }
    }

    #[test]
    fn names_lead_back() {
        for known in Known::ALL {
            assert_eq!(Known::named(known.name()), Some(*known));
        }
    }
}
