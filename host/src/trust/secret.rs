//! Secret keys, and signing with them. A running host never has one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};

use super::{Digest, SimpleSigning};

/// A secret key.
pub enum SecretKey {
    /// minisign's.
    Minisign(Box<minisign::SecretKey>),
    /// ECDSA on P-256.
    Ecdsa(Box<SigningKey>),
}

/// Which kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// minisign's (Ed25519): for files, stores and web servers
    Minisign,
    /// ECDSA P-256, as cosign takes it: for registries, too
    Ecdsa,
}

/// Not a secret key, or a locked one.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    /// Neither kind.
    #[error("no secret key: give minisign's, or an ECDSA P-256 key as PKCS #8 PEM (openssl genpkey): {0}")]
    Unknown(String),
    /// One in cosign's own wrapping.
    #[error(
        "this key is encrypted by cosign: make one with `host new-key --kind ecdsa`, and `cosign import-key-pair` it where cosign needs it"
    )]
    Cosign,
    /// The password is missing or wrong.
    #[error("the key is encrypted: give its password in TRACEGATE_KEY_PASSWORD ({0})")]
    Locked(String),
}

impl SecretKey {
    /// Reads a key; `password` opens it if it is encrypted.
    ///
    /// # Errors
    /// If it is none, or stays locked.
    pub fn read(text: &str, password: Option<String>) -> Result<Self, SecretKeyError> {
        let text = text.trim();
        if text.contains("ENCRYPTED SIGSTORE") || text.contains("ENCRYPTED COSIGN") {
            return Err(SecretKeyError::Cosign);
        }
        if text.starts_with("-----BEGIN") {
            let key = SigningKey::from_pkcs8_pem(text).map_err(|error| SecretKeyError::Unknown(error.to_string()))?;
            return Ok(Self::Ecdsa(Box::new(key)));
        }
        let wrapped =
            || minisign::SecretKeyBox::from_string(text).map_err(|error| SecretKeyError::Unknown(error.to_string()));
        match wrapped()?.into_unencrypted_secret_key() {
            Ok(key) => return Ok(Self::Minisign(Box::new(key))),
            Err(error) if error.to_string().contains("encrypted") => {}
            Err(error) => return Err(SecretKeyError::Unknown(error.to_string())),
        }
        // Without a password the library would ask the terminal.
        let password = password.ok_or_else(|| SecretKeyError::Locked("it is not set".into()))?;
        let key = wrapped()?.into_secret_key(Some(password));
        key.map(|key| Self::Minisign(Box::new(key))).map_err(|error| SecretKeyError::Locked(error.to_string()))
    }

    /// What a signature's file is called, after the plugin's name.
    pub fn suffix(&self) -> &'static str {
        match self {
            Self::Minisign(_) => ".minisig",
            Self::Ecdsa(_) => ".sig",
        }
    }

    /// A signature of some content, as its file has it.
    ///
    /// # Errors
    /// If the library refuses the key.
    pub fn sign(&self, content: &[u8]) -> Result<String, String> {
        match self {
            Self::Minisign(key) => {
                let comment = format!("sha256:{}", Digest::of(content));
                minisign::sign(None, key, content, Some(&comment), Some("signature of a Tracegate plugin"))
                    .map(|signature| signature.to_string())
                    .map_err(|error| error.to_string())
            }
            Self::Ecdsa(key) => Ok(ecdsa(key, content)),
        }
    }

    /// A signed statement about what `reference` leads to in a registry; none
    /// for keys that registries have no place for.
    pub fn state(&self, reference: &str, manifest: &str) -> Option<SimpleSigning> {
        let Self::Ecdsa(key) = self else { return None };
        let payload = serde_json::json!({
            "critical": {
                "identity": { "docker-reference": reference },
                "image": { "docker-manifest-digest": manifest },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        Some(SimpleSigning { signature: ecdsa(key, &payload), payload })
    }
}

fn ecdsa(key: &SigningKey, content: &[u8]) -> String {
    let signature: Signature = key.sign(content);
    STANDARD.encode(signature.to_der())
}

/// A new pair: the secret key's file and the public key's.
///
/// # Errors
/// If there is no randomness, or the password cannot be used.
pub fn generate(kind: KeyKind, password: Option<String>) -> Result<(String, String), String> {
    match kind {
        KeyKind::Minisign => {
            let pair = match password {
                Some(password) => minisign::KeyPair::generate_encrypted_keypair(Some(password)),
                None => minisign::KeyPair::generate_unencrypted_keypair(),
            };
            let pair = pair.map_err(|error| error.to_string())?;
            let secret = pair.sk.to_box(Some("minisign secret key")).map_err(|error| error.to_string())?;
            let public = pair.pk.to_box().map_err(|error| error.to_string())?;
            Ok((secret.to_string(), public.to_string()))
        }
        KeyKind::Ecdsa => {
            let key = SigningKey::try_generate().map_err(|error| error.to_string())?;
            let secret = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| error.to_string())?;
            let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| error.to_string())?;
            Ok((secret.to_string(), public))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Unsigned;
    use crate::trust::{Candidate, Demand, Grounds, Keys, Origin, Signatures, Verified};

    #[test]
    fn what_is_signed_is_trusted() {
        for (kind, password) in [(KeyKind::Minisign, None), (KeyKind::Minisign, Some("p")), (KeyKind::Ecdsa, None)] {
            let password = password.map(str::to_owned);
            let (secret, public) = generate(kind, password.clone()).unwrap();
            if password.is_some() {
                assert!(matches!(SecretKey::read(&secret, None), Err(SecretKeyError::Locked(_))));
                assert!(matches!(SecretKey::read(&secret, Some("q".into())), Err(SecretKeyError::Locked(_))));
            }
            let key = SecretKey::read(&secret, password).unwrap();
            let mut keys = Keys::default();
            keys.add("ours", &public).unwrap();
            let signature = Some(key.sign(b"plugin").unwrap());
            let signatures = match key.suffix() {
                ".minisig" => Signatures { minisign: signature, ..Signatures::default() },
                _ => Signatures { ecdsa: signature, ..Signatures::default() },
            };
            let bytes = b"plugin".into();
            let candidate = Candidate { bytes, origin: Origin::Remote, name: "p".into(), signatures };
            let demand = Demand { pin: None, keys: &keys, only: None, unsigned: Unsigned::Refuse };
            let verified = Verified::check(candidate, demand).unwrap();
            assert_eq!(*verified.grounds(), Grounds::Signed { key: "ours".into() });
        }
        assert!(matches!(SecretKey::read("rubbish", None), Err(SecretKeyError::Unknown(_))));
        let cosign = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----";
        assert!(matches!(SecretKey::read(cosign, None), Err(SecretKeyError::Cosign)));
    }
}
