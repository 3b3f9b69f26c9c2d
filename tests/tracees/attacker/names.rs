//! Other names for the secret, and other calls that reach it:
//! `name WHAT ROOT [MORE…]` tries one and says in a word what came of it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int, c_long, c_void};

use crate::race::{FORBIDDEN, HARMLESS};
use crate::sys::{self, Child, c, check, errno, open, openat, owned, say, say_opened};

const READ: c_int = libc::O_RDONLY;

pub fn main(what: &str, root: &str, more: &[&str]) {
    let at = |name: &str| format!("{root}/{name}");
    let secret = at("s/file");
    let call = |number: c_long, a: &[usize]| {
        let get = |index: usize| a.get(index).copied().unwrap_or_default();
        check(unsafe { libc::syscall(number, get(0), get(1), get(2), get(3), get(4), get(5)) })
    };
    let here = libc::AT_FDCWD as usize;
    let opath = |path: &str| open(path, libc::O_PATH).unwrap();
    match what {
        // ---- names ---------------------------------------------------------
        "plain" => say_opened(open(&secret, READ)),
        "dotdot" => say_opened(open(&at("h/.././h//../s/./file"), READ)),
        "symlink" => {
            symlink(&secret, at("link")).unwrap();
            say_opened(open(&at("link"), READ));
        }
        "symlink-chain" => {
            symlink(&secret, at("link0")).unwrap();
            for index in 1..39 {
                symlink(format!("link{}", index - 1), at(&format!("link{index}"))).unwrap();
            }
            say_opened(open(&at("link38"), READ));
        }
        "symlink-not-utf8" => {
            let link = [root.as_bytes(), b"/\xff\xfe"].concat();
            symlink(at("s"), std::ffi::OsStr::from_bytes(&link)).unwrap();
            let path = [&link[..], b"/file\0"].concat();
            say_opened(owned(unsafe { libc::open(path.as_ptr().cast(), READ) }));
        }
        "name-not-utf8" => {
            let path = [root.as_bytes(), b"/s/\xff\xfe\0"].concat();
            say_opened(owned(unsafe { libc::open(path.as_ptr().cast(), READ) }));
        }
        "dirfd" => say_opened(openat(opath(&at("s")).as_raw_fd(), "file", READ)),
        "dirfd-dotdot" => say_opened(openat(opath(&at("h")).as_raw_fd(), "../s/file", READ)),
        "dirfd-of-absolute" => say_opened(openat(opath(&at("h")).as_raw_fd(), &secret, READ)),
        "hard-link" => {
            say(check(unsafe { libc::link(c(&secret).as_ptr(), c(&at("hard")).as_ptr()) }));
            if let Ok(fd) = open(&at("hard"), READ) {
                say_opened(Ok(fd));
            }
        }
        "hard-link-of-descriptor" => {
            let fd = opath(&secret);
            let (empty, new) = (c(""), c(&at("hard")));
            let flags = libc::AT_EMPTY_PATH as usize;
            say(call(
                libc::SYS_linkat,
                &[fd.as_raw_fd() as usize, empty.as_ptr() as usize, here, new.as_ptr() as usize, flags],
            ));
        }
        "hard-link-by-proc" => {
            let fd = opath(&secret);
            let (old, new) = (c(&format!("/proc/self/fd/{}", fd.as_raw_fd())), c(&at("hard")));
            let flags = libc::AT_SYMLINK_FOLLOW as usize;
            say(call(libc::SYS_linkat, &[here, old.as_ptr() as usize, here, new.as_ptr() as usize, flags]));
        }
        "proc-self-root" => say_opened(open(&format!("/proc/self/root{secret}"), READ)),
        "proc-pid-root" => say_opened(open(&format!("/proc/{}/root{secret}", std::process::id()), READ)),
        "proc-parent-root" => say_opened(open(&format!("/proc/{}/root{secret}", unsafe { libc::getppid() }), READ)),
        "proc-self-cwd" => {
            std::env::set_current_dir(at("s")).unwrap();
            say_opened(open("/proc/self/cwd/file", READ));
        }
        "proc-task-cwd" => {
            std::env::set_current_dir(at("s")).unwrap();
            say_opened(open(&format!("/proc/self/task/{}/cwd/file", unsafe { libc::gettid() }), READ));
        }
        // The first of a PID namespace of its own: in the procfs that it sees, 1 is another.
        "proc-self-of-namespace" => {
            let fd = opath_kept(&secret);
            check(unsafe { libc::dup2(fd, 77) }).unwrap();
            check(unsafe { libc::unshare(libc::CLONE_NEWPID) }).unwrap();
            in_child(|| say_opened(open("/proc/self/fd/77", READ)));
        }
        "proc-self-cwd-of-namespace" => {
            std::env::set_current_dir(at("s")).unwrap();
            check(unsafe { libc::unshare(libc::CLONE_NEWPID) }).unwrap();
            in_child(|| say_opened(open("/proc/self/cwd/file", READ)));
        }
        "proc-self-fd" => say_opened(open(&format!("/proc/self/fd/{}/file", opath_kept(&at("s"))), READ)),
        "dev-fd" => say_opened(open(&format!("/dev/fd/{}/file", opath_kept(&at("s"))), READ)),
        "o-path-reopened" => say_opened(open(&format!("/proc/self/fd/{}", opath_kept(&secret)), READ)),
        "o-path-reopened-dev-fd" => say_opened(open(&format!("/dev/fd/{}", opath_kept(&secret)), READ)),
        // A descriptor of a process that nobody traces.
        "untraced-proc-fd" => say_opened(open(more[0], READ)),
        "untraced-pidfd-getfd" => {
            let (pid, number): (usize, usize) = (more[0].parse().unwrap(), more[1].parse().unwrap());
            let got = call(libc::SYS_pidfd_open, &[pid, 0]).and_then(|fd| call(438, &[fd as usize, number, 0]));
            say_opened(got.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as c_int) }));
        }
        "handle" => by_handle(&secret),
        "fanotify" => say_opened(by_fanotify(&secret)),
        "long-name" => say_opened(open(&format!("{root}/{}s/file", "./".repeat(2048)), READ)),
        // Just within the limit.
        "longest-name" => {
            let room = 4095 - root.len() - "/s/file".len();
            say_opened(open(&format!("{root}/{}s/file", "/".repeat(room)), READ));
        }
        "beyond-path-max" => {
            // Deeper than any name can say; made by the test.
            let mut directory = opath(&at("s/deep"));
            while let Ok(next) = openat(directory.as_raw_fd(), &"d".repeat(250), libc::O_PATH) {
                directory = next;
            }
            say_opened(openat(directory.as_raw_fd(), "file", READ));
        }
        "chroot" => {
            check(unsafe { libc::chroot(c(root).as_ptr()) }).unwrap();
            say_opened(open("/s/file", READ));
        }
        "chroot-into" => {
            check(unsafe { libc::chroot(c(&at("s")).as_ptr()) }).unwrap();
            say_opened(open("/../../file", READ));
        }
        "chroot-escaped" => {
            // The directory that we hold lies outside of the new root.
            let directory = opath(&at("s"));
            check(unsafe { libc::chroot(c(&at("h")).as_ptr()) }).unwrap();
            say_opened(openat(directory.as_raw_fd(), "../s/file", READ));
        }
        "user-namespace" => {
            in_child(|| {
                let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
                check(unsafe { libc::unshare(flags) }).unwrap();
                // The first child is the namespace's init.
                in_child(|| say_opened(open(&secret, READ)));
            });
        }
        "mount-namespace-chroot" => in_child(|| {
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
            private();
            check(unsafe { libc::chroot(c(root).as_ptr()) }).unwrap();
            say_opened(open("/s/file", READ));
        }),
        // ---- names that are lost -------------------------------------------
        "deleted" => {
            let fd = opath_kept(&secret);
            std::fs::remove_file(&secret).unwrap();
            say_opened(open(&format!("/proc/self/fd/{fd}"), READ));
        }
        "overwritten" => {
            let fd = opath_kept(&secret);
            rename(&at("h/file"), &secret, 0).unwrap();
            say_opened(open(&format!("/proc/self/fd/{fd}"), READ));
        }
        "volume-detached" => {
            let volume = opath(&at("s"));
            check(unsafe { libc::umount2(c(&at("s")).as_ptr(), libc::MNT_DETACH) }).unwrap();
            say_opened(openat(volume.as_raw_fd(), "file", READ));
        }
        "volume-detached-by-proc" => {
            let volume = opath_kept(&at("s"));
            check(unsafe { libc::umount2(c(&at("s")).as_ptr(), libc::MNT_DETACH) }).unwrap();
            say_opened(open(&format!("/proc/self/fd/{volume}/file"), READ));
        }
        "volume-detached-cwd" => {
            std::env::set_current_dir(at("s")).unwrap();
            let _cached = open("absent", READ);
            check(unsafe { libc::umount2(c(&at("s")).as_ptr(), libc::MNT_DETACH) }).unwrap();
            say_opened(open("file", READ));
        }
        "volume-detached-root" => {
            std::env::set_current_dir(at("s")).unwrap();
            check(unsafe { libc::umount2(c(&at("s")).as_ptr(), libc::MNT_DETACH) }).unwrap();
            check(unsafe { libc::chroot(c".".as_ptr()) }).unwrap();
            say_opened(open("/file", READ));
        }
        "namespace-ending" => say_opened(openat(of_ending_namespace(&at("s")), "file", READ)),
        "namespace-ended" => say_opened(openat(of_ended_namespace(&at("s")), "file", READ)),
        "namespace-ended-cwd" => {
            let volume = of_ended_namespace(&at("s"));
            check(unsafe { libc::fchdir(volume) }).unwrap();
            say_opened(open("file", READ));
        }
        // ---- mounts ---------------------------------------------------------
        "bind-mount" => in_namespace(|| {
            mount(&at("s"), &at("m"), "", libc::MS_BIND, "")?;
            open(&at("m/file"), READ)
        }),
        "bind-mount-file" => in_namespace(|| {
            mount(&secret, &at("h/file"), "", libc::MS_BIND, "")?;
            open(&at("h/file"), READ)
        }),
        "bind-mount-parent" => in_namespace(|| {
            mount(root, &at("m"), "", libc::MS_BIND, "")?;
            open(&at("m/s/file"), READ)
        }),
        "bind-mount-root" => in_namespace(|| {
            mount("/", &at("m"), "", libc::MS_BIND | libc::MS_REC, "")?;
            open(&format!("{root}/m{secret}"), READ)
        }),
        "bind-mount-by-proc" => in_namespace(|| {
            let fd = opath(&at("s"));
            mount(&format!("/proc/self/fd/{}", fd.as_raw_fd()), &at("m"), "", libc::MS_BIND, "")?;
            open(&at("m/file"), READ)
        }),
        "mount-over" => in_namespace(|| {
            mount("tmpfs", &at("s"), "tmpfs", 0, "")?;
            open(&secret, READ)
        }),
        // The kernel drops a magic number, and with it bits that mean other things.
        "mount-over-by-magic" => in_namespace(|| {
            mount("tmpfs", &at("s"), "tmpfs", libc::MS_MGC_VAL, "")?;
            open(&secret, READ)
        }),
        "overlay-by-magic" => in_namespace(|| {
            let layers = format!("lowerdir={}:{}", at("s"), at("h"));
            mount("overlay", &at("m"), "overlay", libc::MS_MGC_VAL, &layers)?;
            open(&at("m/file"), READ)
        }),
        "mount-move" => in_namespace(|| {
            // A mount of our own within the guarded directory cannot be made.
            mount(&at("h"), &at("s"), "", libc::MS_BIND, "")?;
            mount(&at("s"), &at("m"), "", libc::MS_MOVE, "")?;
            open(&at("m/file"), READ)
        }),
        "overlay" => in_namespace(|| {
            mount("overlay", &at("m"), "overlay", 0, &format!("lowerdir={}:{}", at("s"), at("h")))?;
            open(&at("m/file"), READ)
        }),
        "overlay-by-link" => {
            symlink(at("s"), at("link")).unwrap();
            in_namespace(|| {
                mount("overlay", &at("m"), "overlay", 0, &format!("lowerdir={}:{}", at("link"), at("h")))?;
                open(&at("m/file"), READ)
            });
        }
        "overlay-by-cwd" => in_namespace(|| {
            std::env::set_current_dir(root).unwrap();
            mount("overlay", &at("m"), "overlay", 0, "lowerdir=s:h")?;
            open(&at("m/file"), READ)
        }),
        "overlay-new-api" => in_namespace(|| {
            let fs = new_fs(c"overlay")?;
            new_option(&fs, c"lowerdir+", &c(&at("s")))?;
            new_option(&fs, c"lowerdir+", &c(&at("h")))?;
            let tree = new_mount(&fs)?;
            openat(tree.as_raw_fd(), "file", READ)
        }),
        // The layer is given by descriptor, not by name (Linux 6.13).
        "overlay-by-descriptor" => in_namespace(|| {
            let fs = new_fs(c"overlay")?;
            for name in ["s", "h"] {
                let layer = opath(&at(name));
                let key = c"lowerdir+".as_ptr() as usize;
                call(libc::SYS_fsconfig, &[fs.as_raw_fd() as usize, 5, key, 0, layer.as_raw_fd() as usize])?;
            }
            let tree = new_mount(&fs)?;
            openat(tree.as_raw_fd(), "file", READ)
        }),
        "open-tree" => in_namespace(|| {
            let name = c(&at("s"));
            let tree = owned(call(libc::SYS_open_tree, &[here, name.as_ptr() as usize, 1])? as c_int)?;
            openat(tree.as_raw_fd(), "file", READ)
        }),
        "open-tree-of-descriptor" => in_namespace(|| {
            let (fd, empty) = (opath(&at("s")), c(""));
            let flags = 1 | libc::AT_EMPTY_PATH as usize;
            let tree = call(libc::SYS_open_tree, &[fd.as_raw_fd() as usize, empty.as_ptr() as usize, flags])?;
            openat(owned(tree as c_int)?.as_raw_fd(), "file", READ)
        }),
        "open-tree-parent" => in_namespace(|| {
            let name = c(root);
            let tree = owned(call(libc::SYS_open_tree, &[here, name.as_ptr() as usize, 1])? as c_int)?;
            openat(tree.as_raw_fd(), "s/file", READ)
        }),
        "pivot-root" => in_namespace(|| {
            mount(&at("h"), &at("h"), "", libc::MS_BIND, "")?;
            // Where we stand stays, and goes by another name afterwards.
            std::env::set_current_dir(root).unwrap();
            let (new, old) = (c(&at("h")), c(&at("h")));
            call(libc::SYS_pivot_root, &[new.as_ptr() as usize, old.as_ptr() as usize])?;
            open("s/file", READ)
        }),
        // ---- other calls ----------------------------------------------------
        "openat2" | "openat2-beneath" | "openat2-in-root" | "openat2-no-symlinks" => {
            let (directory, name, resolve): (_, &str, u64) = match what {
                "openat2-beneath" => (opath(root), "s/file", libc::RESOLVE_BENEATH),
                "openat2-in-root" => (opath(root), "/../s/file", libc::RESOLVE_IN_ROOT),
                "openat2-no-symlinks" => (opath(root), "s/file", libc::RESOLVE_NO_SYMLINKS),
                _ => (opath("/"), &secret, 0),
            };
            let (name, how) = (c(name), [0, 0, resolve]);
            let opened = call(
                libc::SYS_openat2,
                &[directory.as_raw_fd() as usize, name.as_ptr() as usize, how.as_ptr() as usize, 24],
            );
            say_opened(opened.and_then(|fd| owned(fd as c_int)));
        }
        "creat" => say_opened(owned(unsafe { libc::creat(c(&secret).as_ptr(), 0o600) })),
        "open-for-both" => say_opened(open(&secret, libc::O_RDWR)),
        "open-and-truncate" => say_opened(open(&secret, READ | libc::O_TRUNC)),
        "temporary-file" => say_opened(open(&at("s"), libc::O_TMPFILE | libc::O_RDWR)),
        "list" => say_opened(open(&at("s"), READ | libc::O_DIRECTORY)),
        "truncate" => say(check(unsafe { libc::truncate(c(&secret).as_ptr(), 0) })),
        "rename-away" => say(rename(&secret, &at("moved"), 0)),
        "rename-onto" => say(rename(&at("h/file"), &secret, 0)),
        "rename-exchange" => say(rename(&at("h/file"), &secret, libc::RENAME_EXCHANGE)),
        "rename-directory" => {
            say(rename(&at("s"), &at("moved"), 0));
            if let Ok(fd) = open(&at("moved/file"), READ) {
                say_opened(Ok(fd));
            }
        }
        "rename-parent" => say(rename(root, &format!("{root}-moved"), 0)),
        "unlink" => say(check(unsafe { libc::unlink(c(&secret).as_ptr()) })),
        "unlinkat" => say(check(unsafe { libc::unlinkat(opath(&at("s")).as_raw_fd(), c"file".as_ptr(), 0) })),
        "rmdir" => say(check(unsafe { libc::rmdir(c(&at("s/empty")).as_ptr()) })),
        "mkdir" => say(check(unsafe { libc::mkdir(c(&at("s/new")).as_ptr(), 0o700) })),
        "mknod" => say(check(unsafe { libc::mknod(c(&at("s/new")).as_ptr(), libc::S_IFIFO | 0o600, 0) })),
        "symlink-in" => say(check(unsafe { libc::symlink(c("/etc/passwd").as_ptr(), c(&at("s/new")).as_ptr()) })),
        "link-in" => say(check(unsafe { libc::link(c(&at("h/file")).as_ptr(), c(&at("s/new")).as_ptr()) })),
        "chmod" => say(check(unsafe { libc::chmod(c(&secret).as_ptr(), 0o777) })),
        "chmod-of-descriptor" => {
            let (fd, empty) = (opath(&secret), c(""));
            let flags = libc::AT_EMPTY_PATH as usize;
            say(call(452, &[fd.as_raw_fd() as usize, empty.as_ptr() as usize, 0o777, flags]));
        }
        "chmod-by-proc" => {
            let fd = opath_kept(&secret);
            say(check(unsafe { libc::chmod(c(&format!("/proc/self/fd/{fd}")).as_ptr(), 0o777) }));
        }
        "chown" => say(check(unsafe { libc::chown(c(&secret).as_ptr(), 1, 1) })),
        "chown-of-descriptor" => {
            let fd = opath(&secret);
            say(check(unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), 1, 1, libc::AT_EMPTY_PATH) }));
        }
        "utimes" => {
            let times = [libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2];
            say(check(unsafe { libc::utimensat(libc::AT_FDCWD, c(&secret).as_ptr(), times.as_ptr(), 0) }));
        }
        "setxattr" => {
            let (path, name) = (c(&secret), c"user.attack");
            say(check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), name.as_ptr().cast(), 1, 0) }));
        }
        "sendfile" | "splice" | "copy-file-range" => {
            // All of them take descriptors: the open is what counts.
            let opened = open(&secret, READ);
            if let Ok(fd) = &opened {
                let out = open(&at("copy"), libc::O_RDWR | libc::O_CREAT).unwrap();
                let (from, to) = (fd.as_raw_fd() as usize, out.as_raw_fd() as usize);
                drop(match what {
                    "sendfile" => call(libc::SYS_sendfile, &[to, from, 0, 16]),
                    "copy-file-range" => call(libc::SYS_copy_file_range, &[from, 0, to, 0, 16, 0]),
                    _ => Ok(0),
                });
            }
            say_opened(opened);
        }
        "passed-descriptor" | "fetched-descriptor" => by_other_process(what, &secret),
        "io-uring" => say_opened(by_io_uring(&secret)),
        // ---- programs -------------------------------------------------------
        "execute" => executed(&at("s/program"), &[]),
        "execute-by-link" => {
            symlink(at("s/program"), at("link")).unwrap();
            executed(&at("link"), &[]);
        }
        "execveat-empty" => {
            let fd = opath_kept(&at("s/program"));
            run(|| {
                let (argv, none) = ([c"program".as_ptr(), std::ptr::null()], [std::ptr::null::<c_char>()]);
                let empty = c"".as_ptr();
                unsafe {
                    libc::syscall(libc::SYS_execveat, fd, empty, argv.as_ptr(), none.as_ptr(), libc::AT_EMPTY_PATH);
                }
            });
        }
        "execute-by-proc-fd" => executed(&format!("/proc/self/fd/{}", opath_kept(&at("s/program"))), &[]),
        "loader" => executed(&at("loader"), &[&at("s/dynamic"), "exit", &FORBIDDEN.to_string()]),
        "script" => executed(&at("script"), &[]),
        "script-of-script" => executed(&at("script-of-script"), &[]),
        "elf-interpreter" => executed(&at("interpreted"), &[]),
        "execute-copy" => match std::fs::copy(at("s/program"), at("copy")) {
            Ok(_) => executed(&at("copy"), &[]),
            Err(error) => say(Err(error)),
        },
        "memfd" => match std::fs::read(at(more[0])) {
            Ok(bytes) => {
                let memfd = owned(unsafe { libc::memfd_create(c"copy".as_ptr(), 0) }).unwrap();
                let written = unsafe { libc::write(memfd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
                assert_eq!(written, bytes.len() as isize);
                executed(&format!("/proc/self/fd/{}", memfd.as_raw_fd()), &[]);
            }
            Err(error) => say(Err(error)),
        },
        // ---- rubbish --------------------------------------------------------
        // The kernel takes flags as 32 bits: this is no O_PATH.
        "flags-upper-half" => {
            let path = c(&secret);
            let flags = (libc::O_PATH as usize) << 32;
            say_opened(
                call(libc::SYS_openat, &[here, path.as_ptr() as usize, flags]).and_then(|fd| owned(fd as c_int)),
            );
        }
        #[cfg(target_arch = "x86_64")]
        "number-upper-half" => say_opened(open_by(crate::abi::RUBBISH, &secret)),
        // The first of its calls that are judged.
        #[cfg(target_arch = "x86_64")]
        "number-upper-half-beside-a-thread" => {
            beside_a_thread();
            say_opened(open_by(crate::abi::RUBBISH, &secret));
        }
        // A null selector, which the kernel does not take back from a debugger.
        #[cfg(target_arch = "x86_64")]
        "segment-beside-a-thread" => {
            beside_a_thread();
            say_opened(open_by(0, &at("h/file")));
            unsafe { std::arch::asm!("mov ds, {0:e}", in(reg) 1) };
            say_opened(open_by(0, &at("h/file")));
            say_opened(open_by(0, &secret));
        }
        "handle-of-path" => {
            let file = by_handle_with(&secret, libc::O_PATH);
            say(file.as_ref().map(|_| 0).map_err(|_| io::Error::last_os_error()));
            if let Ok(file) = file {
                say_opened(open(&format!("/proc/self/fd/{}", file.as_raw_fd()), READ));
            }
        }
        "unreadable-page" => {
            let page = sys::pages(1);
            check(unsafe { libc::mprotect(page.cast(), 4096, libc::PROT_NONE) }).unwrap();
            say(call(libc::SYS_openat, &[here, page as usize]));
        }
        "half-readable" => {
            // The name begins on one page, and ends where there is none.
            let page = sys::pages(2);
            check(unsafe { libc::munmap(page.add(4096).cast(), 4096) }).unwrap();
            let name = unsafe { page.add(4090) };
            unsafe { std::ptr::copy_nonoverlapping(root.as_ptr(), name, 6) };
            say(call(libc::SYS_openat, &[here, name as usize]));
        }
        "undumpable" => {
            check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }).unwrap();
            say_opened(open(&secret, READ));
        }
        "other-user" => {
            check(unsafe { libc::setresuid(65534, 65534, 65534) }).unwrap();
            say_opened(open(&secret, READ));
        }
        "gigabyte-argv" => {
            let text = c(&"x".repeat(128 * 1024 - 2));
            let mut argv = vec![text.as_ptr(); 8192];
            argv.push(std::ptr::null());
            let path = c(&at("s/program"));
            say(call(libc::SYS_execve, &[path.as_ptr() as usize, argv.as_ptr() as usize, 0]));
        }
        _ => panic!("no such name: {what}"),
    }
}

/// A descriptor that stays open to the end, by number.
fn opath_kept(path: &str) -> c_int {
    use std::os::fd::IntoRawFd;
    // Not closed by exec: programs are executed by it.
    owned(unsafe { libc::open(c(path).as_ptr(), libc::O_PATH) }).unwrap().into_raw_fd()
}

fn rename(from: &str, to: &str, flags: u32) -> io::Result<c_long> {
    let (from, to) = (c(from), c(to));
    check(unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) })
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, options: &str) -> io::Result<()> {
    let (source, target, kind, options) = (c(source), c(target), c(kind), c(options));
    let options = options.as_ptr().cast();
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options) }).map(drop)
}

fn private() {
    mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "").unwrap();
}

fn in_child(body: impl FnOnce()) {
    let status = Child::status_of(|| {
        body();
        0
    });
    assert_eq!(status, 0);
}

/// A directory as another process's mount namespace has it, which ends when it
/// was used.
fn of_ending_namespace(directory: &str) -> c_int {
    let child = Child::forever(|| {
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
        unsafe { libc::pause() };
    });
    let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let theirs = format!("/proc/{}/ns/mnt", child.0);
    while std::fs::read_link(&theirs).unwrap() == ours {
        std::thread::yield_now();
    }
    let fd = opath_kept(&format!("/proc/{}/root{directory}", child.0));
    // Whoever remembers where it is remembers it now.
    drop(openat(fd, "file", READ));
    drop(child);
    std::thread::sleep(std::time::Duration::from_millis(100));
    fd
}

/// A directory as a mount namespace had it that is no more.
fn of_ended_namespace(directory: &str) -> c_int {
    let number = pages_shared();
    let flags = (libc::CLONE_FILES | libc::SIGCHLD) as usize;
    let child = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) }).unwrap();
    if child == 0 {
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
        number.store(opath_kept(directory), Ordering::SeqCst);
        unsafe { libc::_exit(0) }
    }
    assert_eq!(sys::wait(child as libc::pid_t), 0);
    // The kernel takes a namespace apart a little later.
    std::thread::sleep(std::time::Duration::from_millis(100));
    number.load(Ordering::SeqCst)
}

fn pages_shared() -> &'static AtomicI32 {
    let base = sys::map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, libc::PROT_READ | libc::PROT_WRITE);
    unsafe { AtomicI32::from_ptr(base.cast()) }
}

/// The kernel opens the file for whoever watches it.
fn by_fanotify(path: &str) -> io::Result<OwnedFd> {
    let watch = owned(unsafe { libc::fanotify_init(libc::FAN_CLASS_NOTIF, libc::O_RDONLY as u32) })?;
    let path = c(path);
    let (group, here) = (watch.as_raw_fd(), libc::AT_FDCWD);
    check(unsafe { libc::fanotify_mark(group, libc::FAN_MARK_ADD, libc::FAN_OPEN, here, path.as_ptr()) })?;
    drop(owned(unsafe { libc::open(path.as_ptr(), READ) })?);
    let mut event = unsafe { std::mem::zeroed::<libc::fanotify_event_metadata>() };
    let size = size_of_val(&event);
    check(unsafe { libc::read(group, (&raw mut event).cast(), size) } as c_long)?;
    owned(event.fd)
}

/// In a mount namespace of its own, where nothing is left behind.
fn in_namespace(body: impl FnOnce() -> io::Result<OwnedFd>) {
    in_child(|| {
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
        private();
        say_opened(body());
    });
}

fn new_fs(kind: &CStr) -> io::Result<OwnedFd> {
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 0) } as c_int)
}

fn new_option(fs: &OwnedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    const FSCONFIG_SET_STRING: c_int = 1;
    let (fd, key, value) = (fs.as_raw_fd(), key.as_ptr(), value.as_ptr());
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0) }).map(drop)
}

fn new_mount(fs: &OwnedFd) -> io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: c_int = 6;
    let none = std::ptr::null::<c_void>();
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 0, 0) } as c_int)
}

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: c_int,
    data: [u8; 128],
}

/// Another thread, which does nothing.
#[cfg(target_arch = "x86_64")]
fn beside_a_thread() {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
}

/// Opens a file for reading, with something in the upper half of the number.
#[cfg(target_arch = "x86_64")]
fn open_by(upper: u64, path: &str) -> io::Result<OwnedFd> {
    let path = c(path);
    let mut result = upper as i64 | libc::SYS_openat;
    unsafe {
        std::arch::asm!(
            "syscall", inout("rax") result, in("rdi") libc::AT_FDCWD, in("rsi") path.as_ptr(), in("rdx") 0, in("r10") 0,
            out("rcx") _, out("r11") _,
        );
    }
    if result < 0 { Err(io::Error::from_raw_os_error(-result as i32)) } else { owned(result as c_int) }
}

fn by_handle(path: &str) {
    say_opened(by_handle_with(path, READ));
}

fn by_handle_with(path: &str, flags: c_int) -> io::Result<OwnedFd> {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount_id = 0;
    let path = c(path);
    let name = (libc::AT_FDCWD, path.as_ptr(), &raw mut handle, &raw mut mount_id);
    check(unsafe { libc::syscall(libc::SYS_name_to_handle_at, name.0, name.1, name.2, name.3, 0) }).unwrap();
    let directory = open("/", READ | libc::O_DIRECTORY).unwrap();
    owned(unsafe { libc::syscall(libc::SYS_open_by_handle_at, directory.as_raw_fd(), &raw mut handle, flags) } as c_int)
}

/// Another traced process opens the secret, and we get its descriptor: sent
/// in a message, or fetched.
fn by_other_process(what: &str, secret: &str) {
    let mut pair = [0; 2];
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()) }).unwrap();
    let child = Child::forever(|| {
        let opened = open(secret, READ);
        let number = opened.as_ref().map_or(-errno(), AsRawFd::as_raw_fd);
        let passed = if what == "passed-descriptor" { number } else { -1 };
        send_descriptor(pair[1], number, passed);
        unsafe { libc::pause() };
    });
    let (number, passed) = receive_descriptor(pair[0]);
    if number < 0 {
        return say(Err(io::Error::from_raw_os_error(-number)));
    }
    let got = if what == "passed-descriptor" {
        passed
    } else {
        let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, child.0, 0) }).unwrap();
        check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) }).unwrap() as c_int
    };
    say_opened(owned(got));
}

#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    fd: c_int,
    _padding: u32,
}

fn send_descriptor(socket: c_int, number: c_int, passed: c_int) {
    let mut vector = libc::iovec { iov_base: (&raw const number).cast_mut().cast(), iov_len: 4 };
    let header = libc::cmsghdr { cmsg_len: 20, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    let mut rights = Rights { header, fd: passed, _padding: 0 };
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    if passed >= 0 {
        (message.msg_control, message.msg_controllen) = ((&raw mut rights).cast(), 24);
    }
    check(unsafe { libc::sendmsg(socket, &raw const message, 0) } as c_long).unwrap();
}

fn receive_descriptor(socket: c_int) -> (c_int, c_int) {
    let mut number: c_int = 0;
    let mut vector = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: 4 };
    let mut rights = unsafe { std::mem::zeroed::<Rights>() };
    let mut message = unsafe { std::mem::zeroed::<libc::msghdr>() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    (message.msg_control, message.msg_controllen) = ((&raw mut rights).cast(), 24);
    check(unsafe { libc::recvmsg(socket, &raw mut message, 0) } as c_long).unwrap();
    (number, if message.msg_controllen > 0 { rights.fd } else { -1 })
}

/// Opens by an io_uring, whose operations are no system calls.
fn by_io_uring(path: &str) -> io::Result<OwnedFd> {
    const IORING_OP_OPENAT: u8 = 18;
    const IORING_ENTER_GETEVENTS: c_int = 1;
    // `struct io_uring_params` (linux/io_uring.h).
    let mut params = [0u32; 30];
    let ring = owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) } as c_int)?;
    let fd = ring.as_raw_fd();
    let map = |offset| unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, fd, offset).cast::<u8>()
    };
    let (rings, entries) = (map(0), map(0x1000_0000));
    let name = c(path);
    unsafe {
        std::ptr::write_bytes(entries, 0, 64);
        *entries = IORING_OP_OPENAT;
        *entries.add(4).cast::<i32>() = libc::AT_FDCWD;
        *entries.add(16).cast::<u64>() = name.as_ptr() as u64;
        // sq_off.tail and sq_off.array; cq_off.cqes.
        *rings.add(params[11] as usize).cast::<u32>() = 1;
        *rings.add(params[16] as usize).cast::<u32>() = 0;
        check(libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0))?;
        let result = *rings.add(params[25] as usize).add(8).cast::<i32>();
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { owned(result) }
    }
}

/// Executes a program in a child and says what came of it.
fn executed(path: &str, arguments: &[&str]) {
    let words: Vec<_> = std::iter::once(path).chain(arguments.iter().copied()).map(c).collect();
    let argv: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    run(|| {
        unsafe { libc::execv(argv[0], argv.as_ptr()) };
    });
}

fn run(exec: impl FnOnce()) {
    let status = Child::status_of(|| {
        exec();
        errno()
    });
    match status {
        FORBIDDEN => println!("leaked"),
        HARMLESS => println!("harmless"),
        status if status > 128 => println!("killed by {}", status - 128),
        // What the dynamic loader says when it cannot open a program.
        127 => println!("not loaded"),
        status => println!("{}", sys::name(status)),
    }
}
