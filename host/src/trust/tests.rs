#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use super::*;

struct Signing {
    minisign: minisign::KeyPair,
    ecdsa: SigningKey,
    keys: Keys,
}

impl Signing {
    fn new() -> Self {
        let minisign = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let ecdsa = SigningKey::generate();
        let mut keys = Keys::default();
        keys.add("mini", &minisign.pk.to_box().unwrap().to_string()).unwrap();
        keys.add("cosign", &ecdsa.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        Self { minisign, ecdsa, keys }
    }

    fn minisign(&self, bytes: &[u8]) -> Signatures {
        let signature = minisign::sign(None, &self.minisign.sk, bytes, Some("trusted"), None).unwrap();
        Signatures { minisign: Some(signature.to_string()), ..Signatures::default() }
    }

    fn ecdsa(&self, bytes: &[u8]) -> String {
        let signature: Signature = self.ecdsa.sign(bytes);
        STANDARD.encode(signature.to_der())
    }

    fn statement(&self, digest: &str) -> SimpleSigning {
        let payload =
            format!(r#"{{"critical":{{"identity":{{}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"x"}}}}"#);
        SimpleSigning { signature: self.ecdsa(payload.as_bytes()), payload: payload.into_bytes() }
    }
}

fn remote(bytes: &'static [u8], signatures: Signatures) -> Candidate {
    Candidate { bytes: bytes.into(), origin: Origin::Remote, name: "s3://b/k".into(), signatures }
}

fn demand(keys: &Keys) -> Demand<'_> {
    Demand { pin: None, keys, only: None, unsigned: Unsigned::Refuse }
}

#[test]
fn signatures_of_both_kinds() {
    let signing = Signing::new();
    let signed = |signatures| Verified::check(remote(b"plugin", signatures), demand(&signing.keys));
    let grounds = |key: &str| Grounds::Signed { key: key.into() };
    assert_eq!(*signed(signing.minisign(b"plugin")).unwrap().grounds(), grounds("mini"));
    let blob = Signatures { ecdsa: Some(signing.ecdsa(b"plugin")), ..Signatures::default() };
    assert_eq!(*signed(blob).unwrap().grounds(), grounds("cosign"));
    let manifest = "sha256:aa".to_owned();
    let image = |statements| Signatures { statements, manifest: Some(manifest.clone()), ..Signatures::default() };
    let other = signing.statement("sha256:bb");
    assert_eq!(*signed(image(vec![other.clone(), signing.statement(&manifest)])).unwrap().grounds(), grounds("cosign"));
    // What is wrong is told, and nothing is run.
    for (signatures, said) in [
        (Signatures::default(), "there is no .minisig file"),
        (signing.minisign(b"another"), "key mini"),
        (Signatures { ecdsa: Some(signing.ecdsa(b"another")), ..Signatures::default() }, "the signature does not fit"),
        (Signatures { ecdsa: Some("!".into()), ..Signatures::default() }, "no base64"),
        (Signatures { ecdsa: Some(STANDARD.encode("no DER")), ..Signatures::default() }, "no DER"),
        (Signatures { minisign: Some("one line".into()), ..Signatures::default() }, "the .minisig file"),
        (image(Vec::new()), "the registry has no signature"),
        (image(vec![other]), "the signature is of sha256:bb"),
        (image(vec![SimpleSigning { payload: b"{}".into(), signature: signing.ecdsa(b"{}") }]), "is not understood"),
        // A signature of the content says nothing of the manifest.
        (Signatures { ecdsa: Some(signing.ecdsa(b"plugin")), ..image(Vec::new()) }, "the registry has no signature"),
    ] {
        let error = signed(signatures).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn only_the_keys_that_count() {
    let signing = Signing::new();
    let only = BTreeSet::from(["cosign".to_owned()]);
    let demanding = Demand { only: Some(&only), ..demand(&signing.keys) };
    assert!(Verified::check(remote(b"plugin", signing.minisign(b"plugin")), demanding).is_err());
    // Asked for by name, a file must be signed, too; and `unsigned` changes nothing.
    let local = Candidate { origin: Origin::Local, ..remote(b"plugin", Signatures::default()) };
    let lax = Demand { unsigned: Unsigned::Allow, ..demanding };
    assert!(Verified::check(local.clone(), lax).is_err());
    assert_eq!(*Verified::check(local, demand(&signing.keys)).unwrap().grounds(), Grounds::Local);
}

#[test]
fn pins_and_what_nobody_vouches_for() {
    let none = Keys::default();
    let candidate = || remote(b"plugin", Signatures::default());
    let right = Demand { pin: Some(Digest::of(b"plugin")), ..demand(&none) };
    assert_eq!(*Verified::check(candidate(), right).unwrap().grounds(), Grounds::Pinned);
    let wrong = Demand { pin: Some(Digest::of(b"another")), unsigned: Unsigned::Allow, ..demand(&none) };
    assert!(matches!(Verified::check(candidate(), wrong), Err(TrustError::Pin { .. })));
    assert!(matches!(Verified::check(candidate(), demand(&none)), Err(TrustError::Unvouched { .. })));
    let lax = Demand { unsigned: Unsigned::Allow, ..demand(&none) };
    assert_eq!(*Verified::check(candidate(), lax).unwrap().grounds(), Grounds::Anybody);
}

#[test]
fn keys_that_are_none() {
    let signing = Signing::new();
    let secret = signing.minisign.sk.to_box(None).unwrap().to_string();
    assert!(matches!(secret.parse::<PublicKey>(), Err(KeyError::Secret)), "{secret}");
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----";
    assert!(matches!(pem.parse::<PublicKey>(), Err(KeyError::Secret)));
    for text in ["", "RWrubbish", "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----"] {
        assert!(matches!(text.parse::<PublicKey>(), Err(KeyError::Unknown(_))), "{text:?}");
    }
    let mut keys = signing.keys;
    assert!(matches!(keys.add("mini", &signing.minisign.pk.to_base64()), Err(KeyError::Twice(_))));
}
