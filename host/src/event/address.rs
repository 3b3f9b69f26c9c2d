//! Socket addresses, kept as the bytes that the tracee passed. What they say
//! is worked out by [`crate::decode::Parsed`], for those who ask.

use bstr::BString;

/// A socket address of at most 128 bytes (`struct sockaddr_storage`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAddress {
    /// The whole structure, family included.
    pub data: BString,
}

impl SocketAddress {
    /// `sa_family`; `None` if the address is too short to have one.
    pub fn family(&self) -> Option<u16> {
        self.data.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }
}
