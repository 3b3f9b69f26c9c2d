//! Where plugins come from: a reference → bytes, and the signatures beside
//! them.
//!
//! Nothing here looks into the bytes, and nothing here runs on the tracing
//! thread once a program runs.

mod builtin;
mod fetch;
mod http;
mod oci;
mod path;
mod s3;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use builtin::{BUILTINS, Builtin};
pub(crate) use fetch::told;
pub use fetch::{FetchError, Fetched, Fetcher, Tag, Wants};
pub use oci::Pushed;
pub use path::{read_regular, read_text};
use reqwest::Url;

/// Largest plugin that is taken, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// What is said of a remote plugin with neither a pin nor a key.
pub const UNVOUCHED: &str = "nobody vouches for it: pin its sha256, trust a key that has signed it, \
                             or allow unsigned plugins (`unsigned`, --unsigned allow)";

/// Names a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginRef {
    /// A file.
    Path(PathBuf),
    /// One of those that the host brings along.
    Builtin(&'static Builtin),
    /// An object of S3 or of what speaks like it.
    S3 {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
    },
    /// An artifact in a registry.
    Oci(oci_client::Reference),
    /// A resource of a web server.
    Http(Url),
}

/// A reference that names no plugin.
#[derive(Debug, thiserror::Error)]
pub enum RefError {
    /// No such builtin.
    #[error("there is no builtin plugin {name:?}; there are {}", builtin::names())]
    UnknownBuiltin {
        /// The name given.
        name: String,
    },
    /// A scheme that is not supported.
    #[error(
        "plugin {reference:?}: {scheme}:// is not supported; give a file's path, builtin:NAME, s3://, oci:// or https://"
    )]
    Scheme {
        /// The whole reference.
        reference: String,
        /// Its scheme.
        scheme: String,
    },
    /// A reference that is not of its scheme's form.
    #[error("plugin {reference:?}: {why}; the form is {form}")]
    Form {
        /// The whole reference.
        reference: String,
        /// What is wrong with it.
        why: String,
        /// How it should look.
        form: &'static str,
    },
}

impl FromStr for PluginRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        if let Some(name) = text.strip_prefix("builtin:") {
            let found = BUILTINS.iter().find(|builtin| builtin.name == name);
            return found.map(Self::Builtin).ok_or_else(|| RefError::UnknownBuiltin { name: name.into() });
        }
        let form = |why: String, form| RefError::Form { reference: text.into(), why, form };
        match text.split_once("://") {
            None if text.is_empty() => Err(form("it is empty".into(), "a path or a reference")),
            None => Ok(Self::Path(text.into())),
            Some(("file", path)) => Ok(Self::Path(path.into())),
            Some(("s3", rest)) => match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                    Ok(Self::S3 { bucket: bucket.into(), key: key.into() })
                }
                _ => Err(form("bucket or key is missing".into(), "s3://BUCKET/KEY")),
            },
            Some(("oci", rest)) => match (rest.split_once('/'), rest.parse()) {
                // Without a registry the parser would take Docker's.
                (Some((registry, _)), Ok(reference)) if registry.contains(['.', ':']) || registry == "localhost" => {
                    Ok(Self::Oci(reference))
                }
                (_, Err(error)) => Err(form(error.to_string(), "oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST")),
                (_, Ok(_)) => {
                    Err(form("it has no registry".into(), "oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST"))
                }
            },
            Some(("https" | "http", _)) => match text.parse() {
                Ok(url) => Ok(Self::Http(url)),
                Err(error) => Err(form(error.to_string(), "https://HOST/PATH")),
            },
            Some((scheme, _)) => Err(RefError::Scheme { reference: text.into(), scheme: scheme.into() }),
        }
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Builtin(builtin) => write!(f, "builtin:{}", builtin.name),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
            // What follows may be a secret.
            Self::Http(url) => {
                let mut shown = url.clone();
                shown.set_query(None);
                let _ = shown.set_password(None);
                f.write_str(shown.as_str())
            }
        }
    }
}

impl PluginRef {
    /// Whether it comes over the network.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Path(_) | Self::Builtin(_))
    }
}

#[cfg(test)]
mod tests;
