//! Whose plugins are run: digests, public keys, signatures.
//!
//! A plugin is compiled only as a [`Verified`], and this module alone makes
//! those: out of files and builtins, which the operator put where they are,
//! and of remote bytes that fit a pin or that a trusted key has signed.
//!
//! Two kinds of keys: minisign's (Ed25519, a `.minisig` file beside the
//! plugin) and ECDSA on P-256 as `cosign sign-blob --key` and `cosign sign
//! --key` use it (a `.sig` file beside the plugin, a `sha256-….sig` tag in a
//! registry). No transparency log and no certificates are consulted.

mod digest;
mod key;
mod secret;
mod signature;

pub use digest::{Digest, DigestError};
pub use key::{KeyError, Keys, PublicKey};
pub use secret::{KeyKind, SecretKey, SecretKeyError, generate};
pub use signature::{Signatures, SimpleSigning};

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use crate::config::Unsigned;

/// Why a plugin may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// It is part of the host.
    Builtin,
    /// The operator named the file.
    Local,
    /// Its digest is the one that the operator gave.
    Pinned,
    /// A trusted key has signed it.
    Signed {
        /// The key's name.
        key: String,
    },
    /// The operator takes it from anybody.
    Anybody,
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::Local => f.write_str("local file"),
            Self::Pinned => f.write_str("pinned digest"),
            Self::Signed { key } => write!(f, "signed by {key}"),
            Self::Anybody => f.write_str("unsigned"),
        }
    }
}

/// Where bytes come from, as far as trust goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Part of the host.
    Builtin,
    /// A file of the operator's.
    Local,
    /// The network.
    Remote,
}

/// Bytes with what was found beside them.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The component, or the core module of one.
    pub bytes: Cow<'static, [u8]>,
    /// Where they come from.
    pub origin: Origin,
    /// What to call them in errors.
    pub name: String,
    /// Signatures that were found.
    pub signatures: Signatures,
}

/// What the operator asks of one plugin.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The only content that will do.
    pub pin: Option<Digest>,
    /// Trusted keys.
    pub keys: &'a Keys,
    /// Names of those that count; all if none.
    pub only: Option<&'a BTreeSet<String>>,
    /// What becomes of remote bytes that nobody vouches for.
    pub unsigned: Unsigned,
}

/// Bytes that may be run, and why.
#[derive(Clone, Debug)]
pub struct Verified {
    bytes: Cow<'static, [u8]>,
    name: String,
    digest: Digest,
    grounds: Grounds,
}

/// Bytes that may not be run.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Another content than the pinned one.
    #[error("{name} is not the pinned plugin: its SHA-256 is {found}, the pin is {pinned}")]
    Pin {
        /// Which.
        name: String,
        /// Its digest.
        found: Digest,
        /// The wanted one.
        pinned: Digest,
    },
    /// No trusted key has signed it.
    #[error("{name} (sha256 {digest}) is not signed by a trusted key: {why}")]
    Signature {
        /// Which.
        name: String,
        /// Its digest.
        digest: Digest,
        /// What was found instead.
        why: String,
    },
    /// Neither a pin nor a key is given.
    #[error("{name} (sha256 {digest}) came over the network, and {}", crate::source::UNVOUCHED)]
    Unvouched {
        /// Which.
        name: String,
        /// Its digest.
        digest: Digest,
    },
}

impl Verified {
    /// Checks a candidate against what the operator asks.
    ///
    /// # Errors
    /// If it may not run.
    pub fn check(candidate: Candidate, demand: Demand<'_>) -> Result<Self, TrustError> {
        let digest = Digest::of(&candidate.bytes);
        let name = candidate.name.clone();
        if let Some(pinned) = demand.pin
            && pinned != digest
        {
            return Err(TrustError::Pin { name, found: digest, pinned });
        }
        let grounds = match (candidate.origin, demand.pin) {
            // Keys that are asked for by name count for files, too.
            (Origin::Builtin, _) => Grounds::Builtin,
            (Origin::Local, _) if demand.only.is_none() => Grounds::Local,
            (_, Some(_)) if demand.only.is_none() => Grounds::Pinned,
            (Origin::Remote, _) if demand.keys.is_empty() => match demand.unsigned {
                Unsigned::Allow => Grounds::Anybody,
                Unsigned::Refuse => return Err(TrustError::Unvouched { name, digest }),
            },
            _ => match candidate.signatures.signer(&candidate.bytes, demand.keys, demand.only) {
                Ok(key) => Grounds::Signed { key },
                Err(_) if demand.unsigned == Unsigned::Allow && demand.only.is_none() => Grounds::Anybody,
                Err(why) => return Err(TrustError::Signature { name, digest, why }),
            },
        };
        Ok(Self { bytes: candidate.bytes, name, digest, grounds })
    }

    /// A file that the operator named on the command line of a tool.
    pub fn local(bytes: impl Into<Cow<'static, [u8]>>, name: impl Into<String>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes, name: name.into(), grounds: Grounds::Local }
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What to call it in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its SHA-256.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Why it may run.
    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }
}

#[cfg(test)]
mod tests;
