//! One way to all sources.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::{MAX_BYTES, PluginRef, http, oci, read_regular, s3};
use crate::config::Network;
use crate::trust::{Candidate, Keys, Origin, PublicKey, Signatures, SimpleSigning};

/// Longest time for one plugin with its signatures.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest wait for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for the next bytes.
pub(super) const READ: Duration = Duration::from_secs(10);
/// Largest signature.
pub(super) const MAX_SIGNATURE: usize = 64 << 10;

/// What a source says of a version: an entity tag, a manifest's digest. The
/// same tag is the same content.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tag(pub(super) String);

/// Which signatures are of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// minisign's.
    pub minisign: bool,
    /// ECDSA.
    pub ecdsa: bool,
}

impl Wants {
    /// Those that these keys can check, or, if `only` some count, those some.
    pub fn of(keys: &Keys, only: Option<&BTreeSet<String>>) -> Self {
        let mut wants = Self::default();
        for (_, key) in keys.iter().filter(|(name, _)| only.is_none_or(|only| only.contains(*name))) {
            match key {
                PublicKey::Minisign(_) => wants.minisign = true,
                PublicKey::Ecdsa(_) => wants.ecdsa = true,
            }
        }
        wants
    }
}

/// What came of looking.
#[derive(Debug)]
pub enum Fetched {
    /// The version that is known.
    Unchanged,
    /// Another.
    New(Candidate, Option<Tag>),
}

/// A plugin that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {name}: {why}", if name.contains("://") { "fetch" } else { "read" })]
pub struct FetchError {
    /// Which.
    pub name: String,
    /// What happened, and what to do if that is known.
    pub why: String,
}

impl FetchError {
    /// A source that takes us to have what we have not.
    pub(crate) fn nothing_known(reference: &PluginRef) -> Self {
        Self { name: reference.to_string(), why: "it is said to be unchanged, but nothing is known of it".into() }
    }
}

/// Why a source has nothing to give.
#[derive(Debug)]
pub(super) enum Miss {
    /// There is no such thing, as the source says.
    Absent(String),
    /// Something went wrong.
    Failed(String),
}

impl From<String> for Miss {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Content with its tag; none if it is the one that is known.
pub(super) type Found = Option<(Vec<u8>, Option<Tag>)>;

/// Fetches plugins, one after the other.
#[derive(Debug)]
pub struct Fetcher {
    network: Network,
    /// Made when something remote is wanted: it reads certificates.
    client: OnceLock<Result<Client, String>>,
}

#[derive(Debug)]
struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Client {
    fn new() -> Result<Self, String> {
        // Another part of this process may have chosen one: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| format!("cannot use the network: {error}"))?;
        let http = http::client().map_err(|error| format!("cannot use TLS: {error}"))?;
        Ok(Self { runtime, http })
    }
}

impl Fetcher {
    /// With these ways to stores and registries.
    pub fn new(network: Network) -> Self {
        Self { network, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, String> {
        self.client.get_or_init(Client::new).as_ref().map_err(Clone::clone)
    }

    /// Fetches a plugin and its signatures, unless it is still the version
    /// `known`.
    ///
    /// # Errors
    /// If it cannot be had now.
    pub fn fetch(&self, reference: &PluginRef, known: Option<&Tag>, wants: Wants) -> Result<Fetched, FetchError> {
        let name = reference.to_string();
        let failed = |why| FetchError { name: name.clone(), why };
        let candidate = |bytes, origin, signatures| Candidate { bytes, origin, name: name.clone(), signatures };
        match reference {
            PluginRef::Builtin(builtin) => {
                let bytes = Cow::Borrowed(builtin.component);
                Ok(Fetched::New(candidate(bytes, Origin::Builtin, Signatures::default()), None))
            }
            PluginRef::Path(file) => {
                let bytes = read_regular(file).map_err(|error| failed(error.to_string()))?;
                let signatures = beside(file, wants).map_err(failed)?;
                Ok(Fetched::New(candidate(bytes.into(), Origin::Local, signatures), None))
            }
            _ => {
                let found = self.in_time(self.remote(reference, known, wants)).map_err(failed)?;
                Ok(match found {
                    None => Fetched::Unchanged,
                    Some((bytes, signatures, tag)) => {
                        Fetched::New(candidate(bytes.into(), Origin::Remote, signatures), tag)
                    }
                })
            }
        }
    }

    /// Fetches a plugin and its signatures, whatever is known of it.
    ///
    /// # Errors
    /// If it cannot be had now.
    pub fn get(&self, reference: &PluginRef, wants: Wants) -> Result<Candidate, FetchError> {
        match self.fetch(reference, None, wants)? {
            Fetched::New(candidate, _) => Ok(candidate),
            Fetched::Unchanged => Err(FetchError::nothing_known(reference)),
        }
    }

    /// Puts a plugin into a registry, and what `sign` states about the digest of
    /// its manifest.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub fn push(
        &self,
        to: &oci_client::Reference,
        component: Vec<u8>,
        sign: &dyn Fn(&str) -> Option<SimpleSigning>,
    ) -> Result<oci::Pushed, FetchError> {
        let failed = |why| FetchError { name: format!("oci://{to}"), why };
        self.in_time(oci::push(&self.network, to, component, sign)).map_err(failed)
    }

    fn in_time<T>(&self, work: impl Future<Output = Result<T, Miss>>) -> Result<T, String> {
        let limited = async { tokio::time::timeout(PATIENCE, work).await };
        match self.client()?.runtime.block_on(limited) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Miss::Absent(why) | Miss::Failed(why))) => Err(why),
            Err(_) => Err(format!("it took longer than {} s", PATIENCE.as_secs())),
        }
    }

    async fn remote(
        &self,
        reference: &PluginRef,
        known: Option<&Tag>,
        wants: Wants,
    ) -> Result<Option<(Vec<u8>, Signatures, Option<Tag>)>, Miss> {
        if let PluginRef::Oci(reference) = reference {
            return oci::pull(&self.network, reference, known, wants).await;
        }
        let Some((bytes, tag)) = self.content(reference, "", known, MAX_BYTES).await? else { return Ok(None) };
        let mut signatures = Signatures::default();
        if wants.minisign {
            signatures.minisign = self.signature(reference, ".minisig").await?;
        }
        if wants.ecdsa {
            signatures.ecdsa = self.signature(reference, ".sig").await?;
        }
        Ok(Some((bytes, signatures, tag)))
    }

    async fn content(
        &self,
        reference: &PluginRef,
        suffix: &str,
        known: Option<&Tag>,
        most: usize,
    ) -> Result<Found, Miss> {
        match reference {
            PluginRef::S3 { bucket, key } => {
                s3::get(&self.network, bucket, &format!("{key}{suffix}"), known, most).await
            }
            PluginRef::Http(url) => {
                let mut url = url.clone();
                url.set_path(&format!("{}{suffix}", url.path()));
                http::get(&self.client()?.http, &self.network, url, known, most).await
            }
            PluginRef::Path(_) | PluginRef::Builtin(_) | PluginRef::Oci(_) => {
                Err(Miss::Absent("it is not on the network".into()))
            }
        }
    }

    /// A text beside the plugin, if there is one.
    async fn signature(&self, reference: &PluginRef, suffix: &str) -> Result<Option<String>, Miss> {
        match self.content(reference, suffix, None, MAX_SIGNATURE).await {
            Ok(found) => Ok(found.and_then(|(bytes, _)| String::from_utf8(bytes).ok())),
            Err(Miss::Absent(_)) => Ok(None),
            Err(Miss::Failed(why)) => Err(Miss::Failed(format!("its {suffix} file: {why}"))),
        }
    }
}

/// The signatures beside a file.
fn beside(file: &Path, wants: Wants) -> Result<Signatures, String> {
    let read = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match read_regular(Path::new(&name)) {
            Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("its {suffix} file: {error}")),
        }
    };
    Ok(Signatures {
        minisign: if wants.minisign { read(".minisig")? } else { None },
        ecdsa: if wants.ecdsa { read(".sig")? } else { None },
        ..Signatures::default()
    })
}

/// Whether a host is spoken to without TLS.
pub(super) fn is_plain(network: &Network, host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    local || network.plain_http.contains(host)
}

/// An error with those of its causes that say something new.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
