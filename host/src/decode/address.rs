//! What a socket address says.
//!
//! Layouts: ip(7), ipv6(7), unix(7), netlink(7), packet(7), vsock(7),
//! bluetooth(7) and `include/uapi/linux/{if_alg,can,tipc,if_xdp,qrtr,x25,
//! atalk,ipx,llc,phonet,ax25}.h`. Fields that a short address cuts off make it
//! [`Parsed::Other`].
//!
//! This module never looks a host, an interface or a service up by name.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use bstr::{BString, ByteSlice};

use super::describe::quote;
use crate::event::SocketAddress;

/// A socket address by family. The cases are those of `socket-address` in
/// `wit/plugin.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// `AF_INET`.
    Ipv4 {
        /// First byte first.
        address: [u8; 4],
        /// Port.
        port: u16,
    },
    /// `AF_INET6`.
    Ipv6 {
        /// Groups in host byte order, first group first.
        address: [u16; 8],
        /// Port.
        port: u16,
        /// Flow label and traffic class.
        flow_info: u32,
        /// Interface of a link-local address.
        scope_id: u32,
    },
    /// `AF_UNIX` with a name in the file system.
    UnixPath(BString),
    /// `AF_UNIX` with a name in the abstract namespace, without its NUL.
    UnixAbstract(BString),
    /// `AF_UNIX` without a name.
    UnixUnnamed,
    /// `AF_NETLINK`.
    Netlink {
        /// Port id, often a process id; 0 is the kernel.
        port_id: u32,
        /// Multicast groups.
        groups: u32,
    },
    /// `AF_PACKET`.
    Packet {
        /// Ethernet protocol.
        protocol: u16,
        /// Interface.
        interface_index: i32,
        /// Hardware address, at most eight bytes.
        hardware: Vec<u8>,
    },
    /// `AF_VSOCK`.
    Vsock {
        /// Context id: a virtual machine or the host.
        cid: u32,
        /// Port.
        port: u32,
    },
    /// `AF_ALG`.
    Alg {
        /// `salg_type`, such as `hash`.
        kind: BString,
        /// `salg_name`, such as `sha256`.
        name: BString,
    },
    /// `AF_UNSPEC` with nothing in it. One with something in it is
    /// [`Parsed::Other`]: UDP over IPv4 sends to it as if it were `AF_INET`
    /// (`udp_sendmsg` in net/ipv4/udp.c).
    Unspecified,
    /// Any other family, or an address too short for its family.
    Other {
        /// `sa_family`, 0 if there is none.
        family: u16,
        /// Name of the family and its fields where known.
        text: String,
        /// The whole structure.
        data: Vec<u8>,
    },
}

/// Fields of an address, at their offsets.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }
    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }
    fn u16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_ne_bytes)
    }
    fn u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_ne_bytes)
    }
    fn i32(&self, offset: usize) -> Option<i32> {
        self.array(offset).map(i32::from_ne_bytes)
    }
    fn be16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }
    fn be32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_be_bytes)
    }
    /// Text of at most `size` bytes, up to a NUL or the end of the address.
    fn text(&self, offset: usize, size: usize) -> Option<&'a [u8]> {
        let rest = self.0.get(offset..)?;
        Some(until_nul(&rest[..rest.len().min(size)]))
    }
    /// Six bytes as a hardware address; Bluetooth stores them backwards.
    fn hardware(&self, offset: usize, backwards: bool) -> Option<String> {
        let mut bytes: [u8; 6] = self.array(offset)?;
        if backwards {
            bytes.reverse();
        }
        Some(colons(&bytes))
    }
}

impl Parsed {
    /// Takes an address apart. Every sequence of bytes has an answer.
    pub fn of(address: &SocketAddress) -> Self {
        let data = address.data.as_slice();
        let family = address.family();
        family.and_then(|family| Self::known(family, data)).unwrap_or_else(|| Self::Other {
            family: family.unwrap_or(0),
            text: family.map_or_else(|| format!("{{sa_data={}}}", quote(data)), |family| other(family, data)),
            data: data.to_vec(),
        })
    }

    fn known(family: u16, data: &[u8]) -> Option<Self> {
        let fields = Fields(data);
        Some(match i32::from(family) {
            libc::AF_UNSPEC if data[2..].iter().all(|byte| *byte == 0) => Self::Unspecified,
            libc::AF_INET => Self::Ipv4 { address: fields.array(4)?, port: fields.be16(2)? },
            libc::AF_INET6 => Self::Ipv6 {
                address: Ipv6Addr::from(fields.array::<16>(8)?).segments(),
                port: fields.be16(2)?,
                flow_info: fields.be32(4)?,
                // The kernel takes the 24 bytes of RFC 2133, which had no scope.
                scope_id: fields.u32(24).unwrap_or(0),
            },
            // The kernel refuses more than `struct sockaddr_un` has.
            libc::AF_UNIX if data.len() <= 110 => match data[2..].first() {
                None => Self::UnixUnnamed,
                Some(0) => Self::UnixAbstract(data[3..].into()),
                Some(_) => Self::UnixPath(until_nul(&data[2..]).into()),
            },
            libc::AF_NETLINK => Self::Netlink { port_id: fields.u32(4)?, groups: fields.u32(8)? },
            libc::AF_PACKET => {
                let length = fields.u8(11)?.min(8) as usize;
                let hardware = &data[12..];
                Self::Packet {
                    protocol: fields.be16(2)?,
                    interface_index: fields.i32(4)?,
                    hardware: hardware[..hardware.len().min(length)].to_vec(),
                }
            }
            libc::AF_VSOCK => Self::Vsock { cid: fields.u32(8)?, port: fields.u32(4)? },
            libc::AF_ALG if data.len() > 24 => {
                Self::Alg { kind: fields.text(2, 14)?.into(), name: fields.text(24, 104)?.into() }
            }
            _ => return None,
        })
    }

    /// The address in strace's notation.
    pub fn describe(&self) -> String {
        match self {
            Self::Ipv4 { address, port } => format!(
                "{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"{}\")}}",
                Ipv4Addr::from(*address)
            ),
            Self::Ipv6 { address, port, flow_info, scope_id } => format!(
                "{{sa_family=AF_INET6, sin6_port=htons({port}), sin6_flowinfo=htonl({flow_info}), \
                 inet_pton(AF_INET6, \"{}\", &sin6_addr), sin6_scope_id={scope_id}}}",
                Ipv6Addr::from(*address)
            ),
            Self::UnixPath(path) => format!("{{sa_family=AF_UNIX, sun_path={}}}", quote(path)),
            Self::UnixAbstract(name) => format!("{{sa_family=AF_UNIX, sun_path=@{}}}", quote(name)),
            Self::UnixUnnamed => "{sa_family=AF_UNIX}".into(),
            Self::Netlink { port_id, groups } => {
                // strace has C's %#08x, which gives zero no prefix.
                let groups = if *groups == 0 { "00000000".into() } else { format!("{groups:#08x}") };
                format!("{{sa_family=AF_NETLINK, nl_pid={port_id}, nl_groups={groups}}}")
            }
            Self::Packet { protocol, interface_index, hardware } => {
                let mut text = format!(
                    "{{sa_family=AF_PACKET, sll_protocol=htons({protocol:#x}), sll_ifindex={interface_index}, sll_halen={}",
                    hardware.len()
                );
                if !hardware.is_empty() {
                    let _ = write!(text, ", sll_addr={}", colons(hardware));
                }
                text + "}"
            }
            Self::Vsock { cid, port } => {
                let name = match *cid {
                    u32::MAX => "VMADDR_CID_ANY",
                    0 => "VMADDR_CID_HYPERVISOR",
                    1 => "VMADDR_CID_LOCAL",
                    2 => "VMADDR_CID_HOST",
                    _ => "",
                };
                if name.is_empty() {
                    format!("{{sa_family=AF_VSOCK, svm_cid={cid}, svm_port={port}}}")
                } else {
                    format!("{{sa_family=AF_VSOCK, svm_cid={name}, svm_port={port}}}")
                }
            }
            Self::Alg { kind, name } => {
                format!("{{sa_family=AF_ALG, salg_type={}, salg_name={}}}", quote(kind), quote(name))
            }
            Self::Unspecified => "{sa_family=AF_UNSPEC}".into(),
            Self::Other { text, .. } => text.clone(),
        }
    }
}

/// An address of a family that has no case of its own.
fn other(family: u16, data: &[u8]) -> String {
    let fields = fields_of(family, &Fields(data))
        .unwrap_or_else(|| if data.len() > 2 { format!(", sa_data={}", quote(&data[2..])) } else { String::new() });
    match family_name(family) {
        Some(name) => format!("{{sa_family={name}{fields}}}"),
        None => format!("{{sa_family={family:#x}{fields}}}"),
    }
}

/// `, name=value` for each known field, if all of them are there.
fn fields_of(family: u16, f: &Fields) -> Option<String> {
    let length = f.0.len();
    Some(match i32::from(family) {
        libc::AF_CAN => {
            let mut text = format!(", can_ifindex={}", f.i32(4)?);
            if let (Some(rx), Some(tx)) = (f.u32(8), f.u32(12)) {
                let _ = write!(text, ", can_addr={{rx_id={rx:#x}, tx_id={tx:#x}}}");
            }
            text
        }
        // The protocols have no mark of their own; their lengths differ.
        libc::AF_BLUETOOTH => match length {
            6 => format!(", hci_dev={}, hci_channel={}", f.u16(2)?, f.u16(4)?),
            8 => format!(", sco_bdaddr={}", f.hardware(2, true)?),
            9 | 10 => format!(", rc_bdaddr={}, rc_channel={}", f.hardware(2, true)?, f.u8(8)?),
            12..=14 => {
                format!(", l2_psm={:#x}, l2_bdaddr={}, l2_cid={:#x}", f.u16(2)?, f.hardware(4, true)?, f.u16(10)?)
            }
            _ => return None,
        },
        libc::AF_TIPC => {
            let scope = f.u8(3)? as i8;
            match f.u8(2)? {
                1 => format!(
                    ", addrtype=TIPC_SERVICE_RANGE, scope={scope}, nameseq={{type={}, lower={}, upper={}}}",
                    f.u32(4)?,
                    f.u32(8)?,
                    f.u32(12)?
                ),
                2 => format!(
                    ", addrtype=TIPC_SERVICE_ADDR, scope={scope}, name={{type={}, instance={}, domain={}}}",
                    f.u32(4)?,
                    f.u32(8)?,
                    f.u32(12)?
                ),
                3 => {
                    format!(", addrtype=TIPC_SOCKET_ADDR, scope={scope}, id={{ref={}, node={}}}", f.u32(4)?, f.u32(8)?)
                }
                _ => return None,
            }
        }
        libc::AF_XDP => format!(
            ", sxdp_flags={:#x}, sxdp_ifindex={}, sxdp_queue_id={}, sxdp_shared_umem_fd={}",
            f.u16(2)?,
            f.u32(4)?,
            f.u32(8)?,
            f.u32(12)?
        ),
        AF_QIPCRTR => format!(", sq_node={}, sq_port={}", f.u32(4)?, f.u32(8)?),
        libc::AF_X25 => format!(", sx25_addr={}", quote(f.text(2, 16)?)),
        libc::AF_AX25 | libc::AF_NETROM => {
            let call: [u8; 7] = f.array(2)?;
            let sign: Vec<u8> = call[..6].iter().map(|byte| byte >> 1).collect();
            format!(", sax25_call={}-{}", quote(sign.trim_ascii()), (call[6] >> 1) & 15)
        }
        libc::AF_APPLETALK => {
            format!(", sat_port={}, sat_addr={{s_net={}, s_node={}}}", f.u8(2)?, f.be16(4)?, f.u8(6)?)
        }
        libc::AF_IPX => format!(
            ", sipx_port=htons({:#x}), sipx_network=htonl({:#010x}), sipx_node={}, sipx_type={}",
            f.be16(2)?,
            f.be32(4)?,
            f.hardware(8, false)?,
            f.u8(14)?
        ),
        libc::AF_LLC => {
            format!(", sllc_arphrd={}, sllc_sap={:#x}, sllc_mac={}", f.u16(2)?, f.u8(7)?, f.hardware(8, false)?)
        }
        libc::AF_PHONET => {
            format!(", spn_obj={:#x}, spn_dev={:#x}, spn_resource={:#x}", f.u8(2)?, f.u8(3)?, f.u8(4)?)
        }
        // Reliable datagrams, as RDS and SMC have them, and UDP's reading of AF_UNSPEC.
        libc::AF_UNSPEC | libc::AF_RDS if length >= 16 => {
            format!(", sin_port=htons({}), sin_addr=inet_addr(\"{}\")", f.be16(2)?, Ipv4Addr::from(f.array::<4>(4)?))
        }
        _ => return None,
    })
}

const AF_QIPCRTR: i32 = 42;

/// Name of an address family, such as `AF_INET`.
pub fn family_name(family: u16) -> Option<&'static str> {
    FAMILIES.get(family as usize).copied()
}

/// By number, include/linux/socket.h.
#[rustfmt::skip]
pub(super) static FAMILIES: [&str; 46] = [
    "AF_UNSPEC", "AF_UNIX", "AF_INET", "AF_AX25", "AF_IPX", "AF_APPLETALK", "AF_NETROM", "AF_BRIDGE", "AF_ATMPVC",
    "AF_X25", "AF_INET6", "AF_ROSE", "AF_DECnet", "AF_NETBEUI", "AF_SECURITY", "AF_KEY", "AF_NETLINK", "AF_PACKET",
    "AF_ASH", "AF_ECONET", "AF_ATMSVC", "AF_RDS", "AF_SNA", "AF_IRDA", "AF_PPPOX", "AF_WANPIPE", "AF_LLC", "AF_IB",
    "AF_MPLS", "AF_CAN", "AF_TIPC", "AF_BLUETOOTH", "AF_IUCV", "AF_RXRPC", "AF_ISDN", "AF_PHONET", "AF_IEEE802154",
    "AF_CAIF", "AF_ALG", "AF_NFC", "AF_VSOCK", "AF_KCM", "AF_QIPCRTR", "AF_SMC", "AF_XDP", "AF_MCTP",
];

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.find_byte(0).unwrap_or(bytes.len())]
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn parse(family: i32, rest: &[u8]) -> Parsed {
        let mut data = (family as u16).to_ne_bytes().to_vec();
        data.extend_from_slice(rest);
        Parsed::of(&SocketAddress { data: data.into() })
    }

    #[test]
    fn internet() {
        let four = parse(libc::AF_INET, &[0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(four, Parsed::Ipv4 { address: [127, 0, 0, 1], port: 80 });
        assert_eq!(four.describe(), r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}"#);

        let mut rest = vec![1, 187, 0, 0, 0, 0];
        rest.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let six = parse(libc::AF_INET6, &rest);
        assert_eq!(
            six.describe(),
            r#"{sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}"#
        );
        rest.extend(7u32.to_ne_bytes());
        assert!(matches!(parse(libc::AF_INET6, &rest), Parsed::Ipv6 { scope_id: 7, port: 443, .. }));
    }

    #[test]
    fn unix() {
        assert_eq!(parse(libc::AF_UNIX, b""), Parsed::UnixUnnamed);
        assert_eq!(parse(libc::AF_UNIX, b"/run/x\0junk"), Parsed::UnixPath("/run/x".into()));
        assert_eq!(parse(libc::AF_UNIX, b"/run/x"), Parsed::UnixPath("/run/x".into()), "no NUL needed");
        assert_eq!(parse(libc::AF_UNIX, b"\0"), Parsed::UnixAbstract("".into()));
        let name = parse(libc::AF_UNIX, b"\0a\0b");
        assert_eq!(name, Parsed::UnixAbstract(BString::from(b"a\0b".as_slice())), "its length ends it, not a NUL");
        assert_eq!(name.describe(), r#"{sa_family=AF_UNIX, sun_path=@"a\0b"}"#);
        assert!(matches!(parse(libc::AF_UNIX, &[b'x'; 109]), Parsed::Other { .. }), "longer than sockaddr_un");
    }

    #[test]
    fn the_kernel_s_own() {
        let netlink = parse(libc::AF_NETLINK, &[0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(netlink, Parsed::Netlink { port_id: 1, groups: 2 });
        assert_eq!(netlink.describe(), "{sa_family=AF_NETLINK, nl_pid=1, nl_groups=0x000002}");
        let packet = parse(libc::AF_PACKET, &[0, 3, 2, 0, 0, 0, 1, 0, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]);
        assert_eq!(packet, Parsed::Packet { protocol: 3, interface_index: 2, hardware: vec![1, 2, 3, 4, 5, 6] });
        let packet = parse(libc::AF_PACKET, &[0, 3, 2, 0, 0, 0, 1, 0, 0, 255, 1, 2]);
        assert!(matches!(packet, Parsed::Packet { hardware, .. } if hardware == [1, 2]), "length is a lie");
        let vsock = parse(libc::AF_VSOCK, &[0, 0, 22, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(vsock.describe(), "{sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=22}");
        let mut alg = vec![0; 86];
        alg[..4].copy_from_slice(b"hash");
        alg[22..28].copy_from_slice(b"sha256");
        assert_eq!(parse(libc::AF_ALG, &alg), Parsed::Alg { kind: "hash".into(), name: "sha256".into() });
    }

    #[test]
    fn unspecified_with_an_address_is_not_nothing() {
        assert_eq!(parse(libc::AF_UNSPEC, &[0; 14]), Parsed::Unspecified);
        let hidden = parse(libc::AF_UNSPEC, &[0, 53, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hidden.describe(), r#"{sa_family=AF_UNSPEC, sin_port=htons(53), sin_addr=inet_addr("8.8.8.8")}"#);
    }

    #[test]
    fn other_families_have_names_and_fields() {
        let can = parse(libc::AF_CAN, &[0, 0, 3, 0, 0, 0]);
        assert!(matches!(&can, Parsed::Other { family: 29, .. }));
        assert_eq!(can.describe(), "{sa_family=AF_CAN, can_ifindex=3}");
        let bluetooth = parse(libc::AF_BLUETOOTH, &[6, 5, 4, 3, 2, 1, 9, 0]);
        assert_eq!(bluetooth.describe(), "{sa_family=AF_BLUETOOTH, rc_bdaddr=01:02:03:04:05:06, rc_channel=9}");
        assert_eq!(parse(99, b"ab").describe(), r#"{sa_family=0x63, sa_data="ab"}"#);
        assert_eq!(parse(41, b"").describe(), "{sa_family=AF_KCM}");
        assert_eq!(family_name(libc::AF_XDP as u16), Some("AF_XDP"));
    }

    #[test]
    fn short_addresses_are_other() {
        assert!(matches!(parse(libc::AF_INET, &[0, 80, 127]), Parsed::Other { family: 2, .. }));
        for data in [&b""[..], b"x"] {
            assert!(matches!(Parsed::of(&SocketAddress { data: data.into() }), Parsed::Other { family: 0, .. }));
        }
    }

    proptest! {
        #[test]
        fn every_address_has_an_answer(family in 0u16..50, rest in prop::collection::vec(any::<u8>(), 0..130)) {
            let text = parse(family.into(), &rest).describe();
            prop_assert_eq!(&text[..1], "{");
        }
    }
}
