//! Calls about open files: descriptors, data, pipes, notification.

use super::declare::{Spec, call, fd, address, size, buffer, long, vectors, flags, structure, structs, uint, fds_out, mode, text, int};

pub(super) static CALLS: &[Spec] = &[
    call("read", &[fd("fd"), address("buf"), size("count")]),
    call("write", &[fd("fd"), buffer("buf", 2), size("count")]),
    call("pread64", &[fd("fd"), address("buf"), size("count"), long("offset")]),
    call("pwrite64", &[fd("fd"), buffer("buf", 2), size("count"), long("offset")]),
    call("readv", &[fd("fd"), address("iov"), size("iovcnt")]),
    call("writev", &[fd("fd"), vectors("iov", 2), size("iovcnt")]),
    call("preadv", &[fd("fd"), address("iov"), size("iovcnt"), size("pos_l"), size("pos_h")]),
    call("pwritev", &[fd("fd"), vectors("iov", 2), size("iovcnt"), size("pos_l"), size("pos_h")]),
    call("preadv2", &[
        fd("fd"), address("iov"), size("iovcnt"), size("pos_l"), size("pos_h"), flags("flags", &flags::READ_WRITE),
    ]),
    call("pwritev2", &[
        fd("fd"), vectors("iov", 2), size("iovcnt"), size("pos_l"), size("pos_h"), flags("flags", &flags::READ_WRITE),
    ]),
    call("lseek", &[fd("fd"), long("offset"), flags("whence", &flags::SEEK)]),
    call("sendfile", &[fd("out_fd"), fd("in_fd"), address("offset"), size("count")]),
    call("copy_file_range", &[
        fd("fd_in"), structure("off_in", &structs::OFFSET).optional(), fd("fd_out"),
        structure("off_out", &structs::OFFSET).optional(), size("len"), uint("flags"),
    ]),
    call("splice", &[
        fd("fd_in"), structure("off_in", &structs::OFFSET).optional(), fd("fd_out"),
        structure("off_out", &structs::OFFSET).optional(), size("len"), flags("flags", &flags::SPLICE),
    ]),
    call("tee", &[fd("fd_in"), fd("fd_out"), size("len"), flags("flags", &flags::SPLICE)]),
    // The direction follows from the descriptor: the vectors are room to read into if it is a pipe's reading end.
    call("vmsplice", &[fd("fd"), address("iov"), size("nr_segs"), flags("flags", &flags::SPLICE)]),

    call("close", &[fd("fd")]),
    call("close_range", &[uint("first"), uint("last"), flags("flags", &flags::CLOSE_RANGE)]),
    call("dup", &[fd("oldfd")]),
    call("dup2", &[fd("oldfd"), fd("newfd")]),
    call("dup3", &[fd("oldfd"), fd("newfd"), flags("flags", &flags::CLOEXEC)]),
    call("fcntl", &[fd("fd"), flags("cmd", &flags::FCNTL), size("arg")]),
    call("ioctl", &[fd("fd"), flags("request", &flags::IOCTL), address("argp")]),
    call("flock", &[fd("fd"), flags("operation", &flags::FLOCK)]),
    call("pipe", &[fds_out("pipefd", 2)]),
    call("pipe2", &[fds_out("pipefd", 2), flags("flags", &flags::PIPE)]),
    call("getdents", &[fd("fd"), address("dirp"), uint("count")]),
    call("getdents64", &[fd("fd"), address("dirp"), uint("count")]),

    call("fstat", &[fd("fd"), address("statbuf")]),
    call("fstatfs", &[fd("fd"), address("buf")]),
    call("ftruncate", &[fd("fd"), long("length")]),
    call("fallocate", &[fd("fd"), flags("mode", &flags::FALLOCATE), long("offset"), long("len")]),
    call("fchmod", &[fd("fd"), mode("mode")]),
    call("fchown", &[fd("fd"), uint("owner"), uint("group")]),
    call("fsetxattr", &[fd("fd"), text("name", 256), buffer("value", 3).optional(), size("size"), flags("flags", &flags::XATTR)]),
    call("fgetxattr", &[fd("fd"), text("name", 256), address("value"), size("size")]),
    call("flistxattr", &[fd("fd"), address("list"), size("size")]),
    call("fremovexattr", &[fd("fd"), text("name", 256)]),
    call("fsync", &[fd("fd")]),
    call("fdatasync", &[fd("fd")]),

    call("inotify_init", &[]),
    call("inotify_init1", &[flags("flags", &flags::INOTIFY_INIT)]),
    call("inotify_rm_watch", &[fd("fd"), int("wd")]),
    call("fanotify_init", &[flags("flags", &flags::FANOTIFY_INIT), flags("event_f_flags", &flags::OPEN)]),
    call("eventfd2", &[uint("initval"), flags("flags", &flags::EVENTFD)]),
    call("epoll_create1", &[flags("flags", &flags::EPOLL_CREATE)]),
    call("epoll_ctl", &[fd("epfd"), flags("op", &flags::EPOLL), fd("fd"), address("event")]),
    call("mq_open", &[text("name", 4096), flags("oflag", &flags::OPEN), mode("mode"), address("attr")]),
    call("mq_unlink", &[text("name", 4096)]),
];
