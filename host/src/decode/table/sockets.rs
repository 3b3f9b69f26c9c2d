//! Calls about sockets.

use super::declare::{Spec, call, flags, int, fds_out, fd, sockaddr, sockaddr_out, length, buffer, size, message, messages, uint, address, message_out, structure, structs, socket_option};

pub(super) static CALLS: &[Spec] = &[
    call("socket", &[flags("domain", &flags::FAMILY), flags("type", &flags::SOCKET_TYPE), int("protocol")]),
    call("socketpair", &[
        flags("domain", &flags::FAMILY), flags("type", &flags::SOCKET_TYPE), int("protocol"), fds_out("sv", 2),
    ]),
    call("bind", &[fd("sockfd"), sockaddr("addr", 2), int("addrlen")]),
    call("connect", &[fd("sockfd"), sockaddr("addr", 2), int("addrlen")]),
    call("listen", &[fd("sockfd"), int("backlog")]),
    call("accept", &[fd("sockfd"), sockaddr_out("addr", 2).optional(), length("addrlen").optional()]),
    call("accept4", &[
        fd("sockfd"), sockaddr_out("addr", 2).optional(), length("addrlen").optional(), flags("flags", &flags::ACCEPT),
    ]),
    call("getsockname", &[fd("sockfd"), sockaddr_out("addr", 2), length("addrlen")]),
    call("getpeername", &[fd("sockfd"), sockaddr_out("addr", 2), length("addrlen")]),
    call("sendto", &[
        fd("sockfd"), buffer("buf", 2), size("len"), flags("flags", &flags::MSG), sockaddr("dest_addr", 5).optional(), int("addrlen"),
    ]),
    call("sendmsg", &[fd("sockfd"), message("msg"), flags("flags", &flags::MSG)]),
    call("sendmmsg", &[fd("sockfd"), messages("msgvec", 2), uint("vlen"), flags("flags", &flags::MSG)]),
    call("recvfrom", &[
        fd("sockfd"), address("buf"), size("len"), flags("flags", &flags::MSG),
        sockaddr_out("src_addr", 5).optional(), length("addrlen").optional(),
    ]),
    call("recvmsg", &[fd("sockfd"), message_out("msg"), flags("flags", &flags::MSG)]),
    call("recvmmsg", &[
        fd("sockfd"), address("msgvec"), uint("vlen"), flags("flags", &flags::MSG), structure("timeout", &structs::TIMESPEC).optional(),
    ]),
    call("setsockopt", &[
        fd("sockfd"), flags("level", &flags::SOL), socket_option("optname", 1), buffer("optval", 4).optional(), int("optlen"),
    ]),
    call("getsockopt", &[
        fd("sockfd"), flags("level", &flags::SOL), socket_option("optname", 1), address("optval"), length("optlen"),
    ]),
    call("shutdown", &[fd("sockfd"), flags("how", &flags::SHUTDOWN)]),
];
