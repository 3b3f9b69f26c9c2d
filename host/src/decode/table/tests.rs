use std::collections::HashSet;

use super::*;
use crate::decode::spec::{Changes, Follow, Kind};
use crate::decode::{Arch, known_name};

fn shared() -> impl Iterator<Item = &'static Spec> {
    SHARED.iter().copied().flatten()
}

fn every() -> impl Iterator<Item = &'static Spec> {
    shared().chain(i386::CALLS).chain(processes::CLONE_BACKWARDS)
}

#[test]
fn most_calls_that_matter_are_declared() {
    assert!(shared().count() >= 200, "{}", shared().count());
}

#[test]
fn names_are_unique_and_known() {
    let mut names = HashSet::new();
    for spec in shared() {
        assert!(names.insert(spec.name), "{} twice", spec.name);
    }
    let mut names = HashSet::new();
    for spec in i386::CALLS {
        assert!(names.insert(spec.name), "{} twice", spec.name);
        assert!(Arch::X86.number(spec.name).is_some(), "{}", spec.name);
    }
    for spec in every() {
        assert!(known_name(spec.name), "{}", spec.name);
    }
}

/// The arguments that a kind refers to, and what they have to be.
fn references(kind: &Kind) -> Vec<(u8, &'static str)> {
    match kind {
        Kind::Buffer(n) | Kind::Vectors(n) | Kind::Messages(n) | Kind::SizedStruct(_, n) | Kind::SockAddr(n) => {
            vec![(*n, "length")]
        }
        Kind::SockAddrOut(n) => vec![(*n, "room")],
        Kind::Path(rule) => {
            let follow = match rule.follow {
                Follow::Always | Follow::Never => None,
                Follow::Unless(n, _) | Follow::If(n, _) | Follow::Open(n) => Some((n, "flags")),
                Follow::OpenHow(n) => Some((n, "structure")),
            };
            let empty = rule.empty.filter(|(_, bit)| *bit != 0).map(|(n, _)| (n, "flags"));
            rule.dirfd.map(|n| (n, "directory")).into_iter().chain(follow).chain(empty).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn arguments_refer_to_what_they_need() {
    for spec in every() {
        assert!(spec.args.len() <= 6, "{}", spec.name);
        let mut names = HashSet::new();
        for arg in spec.args {
            assert!(names.insert(arg.name), "{}: {} twice", spec.name, arg.name);
            for (index, role) in references(&arg.kind) {
                let fits = spec.args.get(index as usize).is_some_and(|other| match role {
                    "length" => matches!(other.kind, Kind::Int | Kind::Uint | Kind::Size),
                    "room" => matches!(other.kind, Kind::Length),
                    "flags" => matches!(other.kind, Kind::Flags(_)),
                    "directory" => matches!(other.kind, Kind::DirFd),
                    _ => matches!(other.kind, Kind::SizedStruct(..)),
                });
                assert!(fits, "{}: {} refers to argument {index} as {role}", spec.name, arg.name);
            }
        }
    }
}

#[test]
fn every_directory_is_used_by_a_name() {
    for spec in every() {
        for (index, arg) in spec.args.iter().enumerate() {
            if matches!(arg.kind, Kind::DirFd) && spec.name != "open_by_handle_at" {
                let used =
                    spec.args.iter().any(|arg| matches!(arg.kind, Kind::Path(rule) if rule.dirfd == Some(index as u8)));
                assert!(used, "{}: {}", spec.name, arg.name);
            }
        }
    }
}

#[test]
fn structures_lie_within_the_kernel_s_limit() {
    for spec in every() {
        for arg in spec.args {
            if let Kind::Struct(layout) | Kind::SizedStruct(layout, _) = arg.kind {
                assert!((1..=4096).contains(&layout.size()), "{}", layout.name);
                for field in layout.fields {
                    assert!([1, 2, 4, 8].contains(&field.size), "{}.{}", layout.name, field.name);
                    assert!(!layout.longs || field.size == 8 && field.offset % 8 == 0, "{}", layout.name);
                }
            }
        }
    }
}

#[test]
fn the_newest_calls_are_declared() {
    for name in [
        "openat2",
        "clone3",
        "mount_setattr",
        "fchmodat2",
        "statmount",
        "listmount",
        "mseal",
        "landlock_create_ruleset",
        "setxattrat",
        "getxattrat",
        "listxattrat",
        "removexattrat",
        "open_tree_attr",
        "file_getattr",
        "file_setattr",
        "memfd_secret",
        "process_mrelease",
        "quotactl_fd",
    ] {
        assert!(shared().any(|spec| spec.name == name), "{name}");
        assert!(Arch::X86_64.number(name).is_some(), "{name}");
    }
}

#[test]
fn conventions_differ_where_the_kernel_does() {
    let names = |arch: Arch, name: &str| -> Vec<_> {
        find(arch, name).map_or(Vec::new(), |spec| spec.args.iter().map(|arg| arg.name).collect())
    };
    assert_eq!(names(Arch::X86_64, "clone")[3..], ["child_tid", "tls"]);
    assert_eq!(names(Arch::Aarch64, "clone")[3..], ["tls", "child_tid"]);
    assert_eq!(names(Arch::X86, "clone")[3..], ["tls", "child_tid"]);
    assert_eq!(names(Arch::X86_64, "fanotify_mark")[4], "pathname");
    assert_eq!(names(Arch::X86, "fanotify_mark")[5], "pathname");
    assert_eq!(names(Arch::X86, "mmap"), ["args"]);
}

#[test]
fn changes_are_declared() {
    let changing = |changes: Changes| -> HashSet<&str> {
        shared().filter(|spec| spec.changes == changes).map(|spec| spec.name).collect()
    };
    assert_eq!(
        changing(Changes::FileSystem),
        HashSet::from([
            "chdir",
            "fchdir",
            "chroot",
            "fsopen",
            "mount",
            "move_mount",
            "pivot_root",
            "unshare",
            "setns",
            "umount2"
        ])
    );
    assert_eq!(changing(Changes::Credentials).len(), 10);
}
