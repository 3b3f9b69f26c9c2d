//! `struct sockaddr` as a trace has it → [`SocketAddress`].

use crate::SocketAddress;
use crate::bindings::tracegate::plugin::types::{
    AlgAddress, NetlinkAddress, OtherAddress, PacketAddress, VsockAddress,
};

/// Layouts: ip(7), ipv6(7), unix(7), netlink(7), packet(7), vsock(7) and
/// `include/uapi/linux/if_alg.h`; all little endian but for network order.
/// What is cut short is `Other`.
pub(super) fn parse(data: &[u8]) -> SocketAddress {
    let family = u16::from_le_bytes([data.first().copied().unwrap_or(0), data.get(1).copied().unwrap_or(0)]);
    let known = match family {
        0 => Some(SocketAddress::Unspecified),
        1 => Some(unix(data.get(2..).unwrap_or_default())),
        2 => ipv4(data),
        10 => ipv6(data),
        16 => word(data, 4)
            .zip(word(data, 8))
            .map(|(port_id, groups)| SocketAddress::Netlink(NetlinkAddress { port_id, groups })),
        17 => packet(data),
        38 => alg(data),
        40 => word(data, 8).zip(word(data, 4)).map(|(cid, port)| SocketAddress::Vsock(VsockAddress { cid, port })),
        _ => None,
    };
    known.unwrap_or_else(|| {
        let text = format!("family {family}, {} bytes", data.len());
        SocketAddress::Other(OtherAddress { family, text, data: data.to_vec() })
    })
}

fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    array(data, at).map(u32::from_le_bytes)
}

fn port(data: &[u8]) -> Option<u16> {
    array(data, 2).map(u16::from_be_bytes)
}

fn ipv4(data: &[u8]) -> Option<SocketAddress> {
    Some(std::net::SocketAddr::from((array::<4>(data, 4)?, port(data)?)).into())
}

fn ipv6(data: &[u8]) -> Option<SocketAddress> {
    let mut address = std::net::SocketAddr::from((array::<16>(data, 8)?, port(data)?)).into();
    if let SocketAddress::Ipv6(v6) = &mut address {
        // The kernel keeps flow information in network order.
        v6.flow_info = array(data, 4).map(u32::from_be_bytes)?;
        v6.scope_id = word(data, 24)?;
    }
    Some(address)
}

fn unix(name: &[u8]) -> SocketAddress {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match name {
        [] => SocketAddress::UnixUnnamed,
        [0, name @ ..] => SocketAddress::UnixAbstract(text(name)),
        name => SocketAddress::UnixPath(text(name.split(|byte| *byte == 0).next().unwrap_or_default())),
    }
}

fn packet(data: &[u8]) -> Option<SocketAddress> {
    let length = usize::from(*data.get(11)?);
    Some(SocketAddress::Packet(PacketAddress {
        protocol: array(data, 2).map(u16::from_be_bytes)?,
        interface_index: word(data, 4)? as i32,
        hardware: data.get(12..12 + length)?.to_vec(),
    }))
}

fn alg(data: &[u8]) -> Option<SocketAddress> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Some(SocketAddress::Alg(AlgAddress { kind: text(data.get(2..16)?), name: text(data.get(24..)?) }))
}
