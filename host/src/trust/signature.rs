//! Signatures that were found beside a plugin, and who made them.

use std::collections::BTreeSet;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{Keys, PublicKey};

/// Signatures of one content, unchecked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Signatures {
    /// A `.minisig` file.
    pub minisign: Option<String>,
    /// Base64 of DER, as `cosign sign-blob` writes them: of the content.
    pub ecdsa: Option<String>,
    /// As `cosign sign` puts them into a registry: of a statement about the
    /// content.
    pub statements: Vec<SimpleSigning>,
    /// What the statements must be about: the digest of the registry's
    /// manifest, which names the content's.
    pub manifest: Option<String>,
}

/// A signed statement about an image.
/// <https://github.com/containers/image/blob/main/docs/containers-signature.5.md>
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SimpleSigning {
    /// JSON, as it was signed.
    pub payload: Vec<u8>,
    /// Base64 of DER.
    pub signature: String,
}

/// The part of a statement that counts.
#[derive(Deserialize)]
struct Statement {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Signatures {
    /// The name of the first trusted key that has signed `bytes`; otherwise
    /// what is there instead.
    pub(super) fn signer(&self, bytes: &[u8], keys: &Keys, only: Option<&BTreeSet<String>>) -> Result<String, String> {
        let mut failed = Vec::new();
        for (name, key) in keys.iter().filter(|(name, _)| only.is_none_or(|only| only.contains(*name))) {
            match self.by(key, bytes) {
                Ok(()) => return Ok(name.to_owned()),
                Err(why) => failed.push(format!("key {name}: {why}")),
            }
        }
        Err(if failed.is_empty() { "no key is trusted".into() } else { failed.join("; ") })
    }

    /// Whether this key has signed `bytes`.
    fn by(&self, key: &PublicKey, bytes: &[u8]) -> Result<(), String> {
        match key {
            PublicKey::Minisign(key) => {
                let text = self.minisign.as_ref().ok_or("there is no .minisig file")?;
                let signature =
                    minisign::SignatureBox::from_string(text).map_err(|error| format!("the .minisig file: {error}"))?;
                minisign::verify(key, &signature, Cursor::new(bytes), true, false, false)
                    .map_err(|error| error.to_string())
            }
            PublicKey::Ecdsa(key) => {
                if let Some(manifest) = &self.manifest {
                    return self.stated(key, manifest);
                }
                verify(key, self.ecdsa.as_ref().ok_or("there is no .sig file")?, bytes)
            }
        }
    }

    fn stated(&self, key: &VerifyingKey, manifest: &str) -> Result<(), String> {
        let mut why = "the registry has no signature of it".to_owned();
        for SimpleSigning { payload, signature } in &self.statements {
            if let Err(error) = verify(key, signature, payload) {
                why = error;
                continue;
            }
            match serde_json::from_slice::<Statement>(payload) {
                Ok(statement) if statement.critical.image.digest == manifest => return Ok(()),
                Ok(statement) => why = format!("the signature is of {}", statement.critical.image.digest),
                Err(error) => why = format!("the signed statement is not understood: {error}"),
            }
        }
        Err(why)
    }
}

fn verify(key: &VerifyingKey, signature: &str, message: &[u8]) -> Result<(), String> {
    let der = STANDARD.decode(signature.trim()).map_err(|error| format!("the signature is no base64: {error}"))?;
    let signature = Signature::from_der(&der).map_err(|error| format!("the signature is no DER: {error}"))?;
    key.verify(message, &signature).map_err(|_| "the signature does not fit".to_owned())
}
