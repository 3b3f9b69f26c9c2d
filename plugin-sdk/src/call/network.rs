//! Views of calls on sockets, and what socket addresses say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::view;
use crate::Call;
use crate::bindings::tracegate::plugin::types::{Ipv4Address, Ipv6Address, Message, SocketAddress, Value};
use crate::constants::SOCK_TYPE_MASK;
use crate::known::Known as K;

impl SocketAddress {
    /// Address and port, for IPv4 and IPv6.
    ///
    /// ```
    /// use plugin_sdk::SocketAddress;
    ///
    /// let address: std::net::SocketAddr = "[::1]:53".parse().unwrap();
    /// assert_eq!(SocketAddress::from(address).ip(), Some(address));
    /// ```
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ipv4(v4) => {
                let (a, b, c, d) = v4.address;
                Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), v4.port))
            }
            Self::Ipv6(v6) => {
                let groups: [u16; 8] = v6.address.into();
                Some(SocketAddr::new(Ipv6Addr::from(groups).into(), v6.port))
            }
            _ => None,
        }
    }

    /// Port, for IPv4 and IPv6.
    pub fn port(&self) -> Option<u16> {
        self.ip().map(|address| address.port())
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        let port = address.port();
        match address.ip() {
            IpAddr::V4(ip) => Self::Ipv4(Ipv4Address { address: ip.octets().into(), port }),
            IpAddr::V6(ip) => {
                Self::Ipv6(Ipv6Address { address: ip.segments().into(), port, flow_info: 0, scope_id: 0 })
            }
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(_) | Self::Ipv6(_) => match self.ip() {
                Some(address) => address.fmt(f),
                None => Ok(()),
            },
            Self::UnixPath(path) => write!(f, "unix:{path}"),
            Self::UnixAbstract(name) => write!(f, "unix:@{name}"),
            Self::UnixUnnamed => f.write_str("unix:"),
            Self::Netlink(netlink) => write!(f, "netlink:{}", netlink.port_id),
            Self::Packet(packet) => write!(f, "packet:{}", packet.interface_index),
            Self::Vsock(vsock) => write!(f, "vsock:{}:{}", vsock.cid, vsock.port),
            Self::Alg(alg) => write!(f, "alg:{}:{}", alg.kind, alg.name),
            Self::Unspecified => f.write_str("unspecified"),
            Self::Other(other) => f.write_str(&other.text),
        }
    }
}

/// Where a call wants to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Destination<'c> {
    /// This address.
    To(&'c SocketAddress),
    /// None: an address of NULL, for a socket that is connected.
    Connected,
    /// The address could not be read. Memory can change after the look at
    /// it: treat it as unknown.
    Unknown,
}

impl<'c> Destination<'c> {
    fn of(value: Option<&'c Value>) -> Self {
        match value {
            Some(Value::Address(address)) => Self::To(address),
            Some(Value::Absent) => Self::Connected,
            _ => Self::Unknown,
        }
    }

    /// The address, if there is one.
    pub fn address(self) -> Option<&'c SocketAddress> {
        match self {
            Self::To(address) => Some(address),
            _ => None,
        }
    }
}

view! {
    /// `socket`.
    Socket
}

impl Socket<'_> {
    /// `AF_INET` and so on.
    pub fn family(&self) -> u64 {
        self.call.int(0) as u64
    }

    /// `SOCK_STREAM` and so on, without the flags.
    pub fn kind(&self) -> u64 {
        self.call.number(1) & SOCK_TYPE_MASK
    }

    /// `IPPROTO_TCP` and so on; 0 for the family's usual one.
    pub fn protocol(&self) -> i32 {
        self.call.int(2)
    }
}

macro_rules! addressed {
    ($name:ident) => {
        impl<'c> $name<'c> {
            /// The socket.
            pub fn fd(&self) -> i32 {
                self.call.int(0)
            }

            /// The address; none if it could not be read, which is no reason
            /// to think it harmless.
            pub fn address(&self) -> Option<&'c SocketAddress> {
                self.destination().address()
            }

            /// The address, or why there is none.
            pub fn destination(&self) -> Destination<'c> {
                Destination::of(self.call.value(1))
            }
        }
    };
}

view! {
    /// `connect`.
    Connect
}
addressed!(Connect);

view! {
    /// `bind`.
    Bind
}
addressed!(Bind);

view! {
    /// `sendto`, `sendmsg`, `sendmmsg`.
    Send
}

impl<'c> Send<'c> {
    /// The socket.
    pub fn fd(&self) -> i32 {
        self.call.int(0)
    }

    /// Where each message goes.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'c>> + use<'c> {
        let messages = self.messages();
        let single = match self.call.known() {
            Some(K::Sendto) => Some(Destination::of(self.call.value(4))),
            // A vector of messages that is not there.
            _ => messages.is_none().then_some(Destination::Unknown),
        };
        let named = messages.unwrap_or_default().iter();
        single.into_iter().chain(named.map(|message| match &message.address {
            Some(address) => Destination::To(address),
            None => Destination::Connected,
        }))
    }

    /// The addresses that are named.
    pub fn addresses(&self) -> impl Iterator<Item = &'c SocketAddress> + use<'c> {
        self.destinations().filter_map(Destination::address)
    }

    /// The first bytes of each message.
    pub fn data(&self) -> impl Iterator<Item = &'c [u8]> + use<'c> {
        let single = match self.call.value(1) {
            Some(Value::Bytes(bytes)) => Some(&bytes.data[..]),
            _ => None,
        };
        single.into_iter().chain(self.messages().unwrap_or_default().iter().map(|message| &message.data.data[..]))
    }

    /// File descriptors passed along (`SCM_RIGHTS`).
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + use<'c> {
        self.messages().unwrap_or_default().iter().flat_map(|message| message.descriptors.iter().copied())
    }

    /// `MSG_*` flags.
    pub fn flags(&self) -> u64 {
        self.call.number(if self.call.known() == Some(K::Sendmsg) { 2 } else { 3 })
    }

    fn messages(self) -> Option<&'c [Message]> {
        match self.call.value(1) {
            Some(Value::Messages(messages)) => Some(messages),
            _ => None,
        }
    }
}

impl Call<'_> {
    /// A call that makes a socket.
    pub fn socket(&self) -> Option<Socket<'_>> {
        (self.known()? == K::Socket).then_some(Socket { call: self })
    }

    /// A call that connects a socket.
    ///
    /// ```
    /// use plugin_sdk::testing::Event;
    ///
    /// Event::connect("192.0.2.1:443").as_entry(|event| {
    ///     let address = event.connect().and_then(|connect| connect.address());
    ///     assert_eq!(address.unwrap().port(), Some(443));
    /// });
    /// ```
    pub fn connect(&self) -> Option<Connect<'_>> {
        (self.known()? == K::Connect).then_some(Connect { call: self })
    }

    /// A call that gives a socket its own address.
    pub fn bind(&self) -> Option<Bind<'_>> {
        (self.known()? == K::Bind).then_some(Bind { call: self })
    }

    /// A call that sends, perhaps to an address of its own.
    pub fn send(&self) -> Option<Send<'_>> {
        matches!(self.known()?, K::Sendto | K::Sendmsg | K::Sendmmsg).then_some(Send { call: self })
    }
}
