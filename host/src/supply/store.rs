//! Remote plugins that were run before, by their content: with the network
//! down, a restart runs what it ran.
//!
//! What is here was verified when it was put here and is verified again when
//! it is taken out: a key that is no longer trusted vouches for nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::private_dir::PrivateDir;
use crate::source::{MAX_BYTES, PluginRef, Tag};
use crate::trust::{Candidate, Digest, Origin, Signatures};

/// Contents that are kept though nothing refers to them.
const SPARE: usize = 32;
/// Largest record.
const MAX_RECORD: u64 = 4 << 20;

/// A directory of contents and of records that refer to them.
#[derive(Clone, Debug)]
pub(super) struct Store(PrivateDir);

/// What a reference last led to.
#[derive(Serialize, Deserialize)]
struct Record {
    reference: String,
    #[serde(default)]
    tag: Option<Tag>,
    sha256: String,
    signatures: Signatures,
}

impl Store {
    /// The user's; none if it cannot be made safe.
    pub(super) fn of_user() -> Option<Self> {
        let directory = PrivateDir::cache_of_user()?.within("artifacts");
        directory
            .inspect_err(|error| tracing::warn!(%error, "remote plugins are not kept for a restart"))
            .ok()
            .map(Self)
    }

    /// What `reference` last led to.
    pub(super) fn get(&self, reference: &PluginRef) -> Option<(Candidate, Option<Tag>)> {
        let record = self.record(&record_of(reference))?;
        let digest: Digest = record.sha256.parse().ok()?;
        let bytes = self.0.read(&content_of(digest), MAX_BYTES as u64 + 1)?;
        if record.reference != reference.to_string() || Digest::of(&bytes) != digest {
            return None;
        }
        let name = reference.to_string();
        let candidate = Candidate { bytes: bytes.into(), origin: Origin::Remote, name, signatures: record.signatures };
        Some((candidate, record.tag))
    }

    /// Keeps what `reference` leads to now.
    pub(super) fn put(&self, reference: &PluginRef, candidate: &Candidate, tag: Option<&Tag>) {
        let digest = Digest::of(&candidate.bytes);
        let record = Record {
            reference: reference.to_string(),
            tag: tag.cloned(),
            sha256: digest.to_string(),
            signatures: candidate.signatures.clone(),
        };
        let kept = serde_json::to_vec(&record).map_err(Into::into).and_then(|record| {
            // The content first: a record never leads to nothing.
            self.0.write(&content_of(digest), &candidate.bytes)?;
            self.0.write(&record_of(reference), &record)
        });
        if let Err(error) = kept {
            tracing::warn!(%error, "{reference} is not kept for a restart");
        }
        self.tidy();
    }

    fn record(&self, name: &str) -> Option<Record> {
        serde_json::from_slice(&self.0.read(name, MAX_RECORD)?).ok()
    }

    /// Removes the oldest contents that no record refers to.
    fn tidy(&self) {
        let (records, mut contents): (Vec<_>, Vec<_>) =
            self.0.files().into_iter().partition(|(name, _)| is(name, "json"));
        let used: BTreeSet<String> =
            records.iter().filter_map(|(name, _)| Some(content_of(self.record(name)?.sha256.parse().ok()?))).collect();
        contents.retain(|(name, _)| is(name, "wasm") && !used.contains(name));
        contents.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
        for (name, _) in contents.iter().skip(SPARE) {
            self.0.remove(name);
        }
    }
}

fn record_of(reference: &PluginRef) -> String {
    format!("{}.json", Digest::of(reference.to_string().as_bytes()))
}

fn is(name: &str, end: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found == end)
}

fn content_of(digest: Digest) -> String {
    format!("{digest}.wasm")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn candidate(bytes: &[u8]) -> Candidate {
        let signatures = Signatures { minisign: Some("signature".into()), ..Signatures::default() };
        Candidate { bytes: bytes.to_vec().into(), origin: Origin::Remote, name: String::new(), signatures }
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_spoilt_does_not() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store(PrivateDir::at(parent.path().join("artifacts")).unwrap());
        let (one, other): (PluginRef, PluginRef) = ("s3://b/one".parse().unwrap(), "s3://b/other".parse().unwrap());
        store.put(&one, &candidate(b"1"), None);
        store.put(&other, &candidate(b"1"), None);
        store.put(&one, &candidate(b"2"), None);
        let (found, _) = store.get(&one).unwrap();
        assert_eq!((&*found.bytes, found.origin, found.name.as_str()), (&b"2"[..], Origin::Remote, "s3://b/one"));
        assert_eq!(found.signatures.minisign.as_deref(), Some("signature"));
        assert_eq!(&*store.get(&other).unwrap().0.bytes, b"1");
        store.0.write(&content_of(Digest::of(b"2")), b"3").unwrap();
        assert!(store.get(&one).is_none(), "not the content that was kept");
        assert!(store.get(&"s3://b/third".parse().unwrap()).is_none());
    }

    #[test]
    fn old_contents_go_and_used_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store(PrivateDir::at(parent.path().join("artifacts")).unwrap());
        let stays: PluginRef = "s3://b/stays".parse().unwrap();
        store.put(&stays, &candidate(b"used"), None);
        let changes: PluginRef = "s3://b/changes".parse().unwrap();
        for version in 0..SPARE + 5 {
            store.put(&changes, &candidate(format!("version {version}").as_bytes()), None);
        }
        let contents = store.0.files().into_iter().filter(|(name, _)| is(name, "wasm")).count();
        assert_eq!(contents, SPARE + 2);
        assert!(store.get(&stays).is_some());
    }
}
