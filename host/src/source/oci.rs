//! Plugins from registries, and into them.
//!
//! A plugin is an image manifest with one layer, the component
//! (`application/wasm`), as the CNCF's "Wasm OCI artifact layout" has it and
//! `wkg` writes it. A signature is an artifact of its own under the tag
//! `sha256-DIGEST.sig`, as `cosign sign --key` writes it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use reqwest::header::HeaderValue;

use super::MAX_BYTES;
use super::fetch::{CONNECT, MAX_SIGNATURE, Miss, READ, Tag, Wants, is_plain, told};
use crate::config::{Network, Registry};
use crate::trust::{Digest, Signatures, SimpleSigning};

/// The component.
const LAYER: &str = "application/wasm";
/// The configuration beside it.
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Layers that are components by an older name (`wasm-to-oci`).
const LAYERS: [&str; 2] = [LAYER, "application/vnd.wasm.content.layer.v1+wasm"];
/// A statement that cosign has signed.
const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Where its signature is.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Largest manifest (distribution-spec: registries should take 4 MiB).
const MAX_MANIFEST: usize = 4 << 20;
/// Most signatures that are looked at.
const MAX_STATEMENTS: usize = 32;

/// A registry's client for one conversation.
struct Session {
    client: Client,
    auth: RegistryAuth,
}

/// What was put into a registry.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pushed {
    /// The reference by digest.
    pub reference: String,
    /// The manifest's digest.
    pub manifest: String,
    /// The component's digest.
    pub component: Digest,
    /// The signature's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Session {
    fn new(network: &Network, reference: &Reference) -> Result<Self, Miss> {
        let registry = reference.resolve_registry();
        let protocol = if is_plain(network, registry) { ClientProtocol::Http } else { ClientProtocol::Https };
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            user_agent: concat!("tracegate/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = match network.oci.get(registry) {
            Some(account) => account.auth()?,
            None => RegistryAuth::Anonymous,
        };
        Ok(Self { client, auth })
    }

    /// A manifest and its digest, which is computed here: the registry's own
    /// word is not taken.
    async fn manifest(&self, reference: &Reference) -> Result<(OciImageManifest, String), Miss> {
        let accepted = [OCI_IMAGE_MEDIA_TYPE];
        let (bytes, _) = self.client.pull_manifest_raw(reference, &self.auth, &accepted).await.map_err(failed)?;
        if bytes.len() > MAX_MANIFEST {
            return Err(Miss::Failed(format!("its manifest is {} bytes long", bytes.len())));
        }
        let digest = format!("sha256:{}", Digest::of(&bytes));
        if let Some(wanted) = reference.digest()
            && wanted != digest
        {
            return Err(Miss::Failed(format!("the registry answered with another manifest, {digest}")));
        }
        let manifest =
            serde_json::from_slice(&bytes).map_err(|error| format!("its manifest is none of an image: {error}"))?;
        Ok((manifest, digest))
    }

    /// A blob, checked against its descriptor.
    async fn blob(&self, reference: &Reference, layer: &OciDescriptor, most: usize) -> Result<Vec<u8>, Miss> {
        if layer.size < 0 || layer.size as u64 > most as u64 {
            return Err(Miss::Failed(format!("a layer is {} bytes long; at most {most} are taken", layer.size)));
        }
        let mut stream = self.client.pull_blob_stream(reference, layer).await.map_err(failed)?;
        let mut bytes = Vec::new();
        let broken = |error: std::io::Error| Miss::Failed(format!("a layer: {error}"));
        while let Some(chunk) = stream.try_next().await.map_err(broken)? {
            if bytes.len() + chunk.len() > layer.size as usize {
                return Err(Miss::Failed(format!("a layer is longer than the {} bytes that it should be", layer.size)));
            }
            bytes.extend_from_slice(&chunk);
        }
        let found = format!("sha256:{}", Digest::of(&bytes));
        if found != layer.digest {
            return Err(Miss::Failed(format!("a layer is not what its manifest names: {found}, not {}", layer.digest)));
        }
        Ok(bytes)
    }

    /// The signed statements about the manifest with this digest.
    async fn statements(&self, reference: &Reference, digest: &str) -> Result<Vec<SimpleSigning>, Miss> {
        let tagged = signature_of(reference, digest);
        let manifest = match self.manifest(&tagged).await {
            Ok((manifest, _)) => manifest,
            Err(Miss::Absent(_)) => return Ok(Vec::new()),
            Err(Miss::Failed(why)) => return Err(Miss::Failed(format!("its signature: {why}"))),
        };
        let mut statements = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == STATEMENT).take(MAX_STATEMENTS) {
            let Some(signature) = layer.annotations.as_ref().and_then(|found| found.get(SIGNATURE)) else { continue };
            let payload = self.blob(&tagged, layer, MAX_SIGNATURE).await?;
            statements.push(SimpleSigning { payload, signature: signature.clone() });
        }
        Ok(statements)
    }
}

impl Registry {
    fn auth(&self) -> Result<RegistryAuth, Miss> {
        let file = self.password_file.display();
        let bytes =
            super::read_regular(&self.password_file).map_err(|error| format!("the password file {file}: {error}"))?;
        let password = String::from_utf8(bytes).map_err(|_| format!("the password file {file} is not UTF-8"))?;
        Ok(RegistryAuth::Basic(self.username.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Where cosign has the signature of a manifest.
fn signature_of(reference: &Reference, digest: &str) -> Reference {
    let tag = format!("{}.sig", digest.replace(':', "-"));
    Reference::with_tag(reference.registry().to_owned(), reference.repository().to_owned(), tag)
}

/// The component, unless its manifest is the one that is known.
pub(super) async fn pull(
    network: &Network,
    reference: &Reference,
    known: Option<&Tag>,
    wants: Wants,
) -> Result<Option<(Vec<u8>, Signatures, Option<Tag>)>, Miss> {
    let session = Session::new(network, reference)?;
    if let Some(Tag(known)) = known
        && session.client.fetch_manifest_digest(reference, &session.auth).await.map_err(failed)? == *known
    {
        return Ok(None);
    }
    let (manifest, digest) = session.manifest(reference).await?;
    let [layer] = manifest.layers.as_slice() else {
        return Err(Miss::Failed(format!("it has {} layers; a plugin has one", manifest.layers.len())));
    };
    if !LAYERS.contains(&layer.media_type.as_str()) {
        return Err(Miss::Failed(format!("its layer is {}; a plugin's is {LAYER}", layer.media_type)));
    }
    let bytes = session.blob(reference, layer, MAX_BYTES).await?;
    let statements = if wants.ecdsa { session.statements(reference, &digest).await? } else { Vec::new() };
    let signatures = Signatures { statements, manifest: Some(digest.clone()), ..Signatures::default() };
    Ok(Some((bytes, signatures, Some(Tag(digest)))))
}

/// Puts a component into a registry, and the statement that `sign` signs about
/// its manifest's digest.
pub(super) async fn push(
    network: &Network,
    to: &Reference,
    component: Vec<u8>,
    sign: &dyn Fn(&str) -> Option<SimpleSigning>,
) -> Result<Pushed, Miss> {
    let session = Session::new(network, to)?;
    let digest = Digest::of(&component);
    let config = serde_json::json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [format!("sha256:{digest}")],
    });
    let layer = ImageLayer::new(component, LAYER.into(), None);
    let config = Config::new(config.to_string(), CONFIG.into(), None);
    let manifest = session.put(to, layer, config).await?;
    let mut signed = None;
    if let Some(SimpleSigning { payload, signature }) = sign(&manifest) {
        let tagged = signature_of(to, &manifest);
        let annotations = BTreeMap::from([(SIGNATURE.to_owned(), signature)]);
        let payload_digest = format!("sha256:{}", Digest::of(&payload));
        let config = serde_json::json!({
            "architecture": "", "os": "", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [payload_digest] },
        });
        let layer = ImageLayer::new(payload, STATEMENT.into(), Some(annotations));
        let config = Config::new(config.to_string(), "application/vnd.oci.image.config.v1+json".into(), None);
        session.put(&tagged, layer, config).await?;
        signed = Some(tagged.to_string());
    }
    let by_digest = to.clone_with_digest(manifest.clone());
    Ok(Pushed { reference: format!("oci://{by_digest}"), manifest, component: digest, signature: signed })
}

impl Session {
    /// Puts an image of one layer; its manifest's digest, of the bytes that
    /// were sent: what the registry says is not signed.
    async fn put(&self, to: &Reference, layer: ImageLayer, config: Config) -> Result<String, Miss> {
        self.client.store_auth_if_needed(to.resolve_registry(), &self.auth).await;
        let mut manifest = OciImageManifest::build(std::slice::from_ref(&layer), &config, None);
        manifest.media_type = Some(OCI_IMAGE_MEDIA_TYPE.to_owned());
        self.client.push_blob(to, layer.data, &manifest.layers[0].digest).await.map_err(failed)?;
        self.client.push_blob(to, config.data, &manifest.config.digest).await.map_err(failed)?;
        let bytes = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
        let digest = format!("sha256:{}", Digest::of(&bytes));
        let media_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        self.client.push_manifest_raw(to, bytes, media_type).await.map_err(failed)?;
        Ok(digest)
    }
}

fn failed(error: OciDistributionError) -> Miss {
    use OciDistributionError as E;
    let absent = |code: &OciErrorCode| {
        matches!(
            code,
            OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::BlobUnknown
                | OciErrorCode::NotFound
        )
    };
    match &error {
        E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => {
            Miss::Absent("the registry has no such artifact".into())
        }
        E::RegistryError { envelope, .. } if envelope.errors.iter().any(|error| absent(&error.code)) => {
            Miss::Absent("the registry has no such artifact".into())
        }
        E::AuthenticationFailure(_) | E::UnauthorizedError { .. } => {
            Miss::Failed(format!("the registry refuses us; give an account in `network.oci`, or check it: {error}"))
        }
        E::RequestError(request) => Miss::Failed(told(request)),
        _ => Miss::Failed(error.to_string()),
    }
}
