//! Public keys as operators give them.

use std::collections::BTreeMap;
use std::str::FromStr;

use p256::ecdsa::VerifyingKey;
use p256::pkcs8::DecodePublicKey as _;

/// A public key.
#[derive(Clone, Debug, PartialEq)]
pub enum PublicKey {
    /// minisign's.
    Minisign(minisign::PublicKey),
    /// ECDSA on P-256, as cosign makes them.
    Ecdsa(Box<VerifyingKey>),
}

/// Not a public key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither kind.
    #[error(
        "no public key: give the second line of minisign.pub (RW…), or the PEM of an ECDSA P-256 key (cosign.pub): {0}"
    )]
    Unknown(String),
    /// A secret one.
    #[error("this is a secret key; give the public one, and keep the secret one from this machine")]
    Secret,
    /// Two of one name.
    #[error("there are two keys called {0:?}")]
    Twice(String),
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.contains("PRIVATE KEY-----") || text.lines().next().is_some_and(|line| line.ends_with("secret key")) {
            return Err(KeyError::Secret);
        }
        if text.starts_with("-----BEGIN") {
            let key = VerifyingKey::from_public_key_pem(text).map_err(|error| KeyError::Unknown(error.to_string()))?;
            return Ok(Self::Ecdsa(Box::new(key)));
        }
        // The file has a line of comment above the key.
        let last = text.lines().next_back().unwrap_or_default().trim();
        let key = minisign::PublicKey::from_base64(last).map_err(|error| KeyError::Unknown(error.to_string()))?;
        Ok(Self::Minisign(key))
    }
}

/// Public keys by the operator's names for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys(BTreeMap<String, PublicKey>);

impl Keys {
    /// Adds a key.
    ///
    /// # Errors
    /// If `text` is none, or there is one of this name.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), KeyError> {
        match self.0.insert(name.to_owned(), text.parse()?) {
            Some(_) => Err(KeyError::Twice(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PublicKey)> {
        self.0.iter().map(|(name, key)| (name.as_str(), key))
    }
}
