//! Where plugins come from: a reference → bytes.
//!
//! It never looks into the bytes.

mod builtin;
mod path;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use builtin::{BUILTINS, Builtin};
pub use path::open_regular;

/// Names a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginRef {
    /// A file.
    Path(PathBuf),
    /// One of those that the host brings along.
    Builtin(&'static Builtin),
}

/// A reference that names no plugin, or bytes that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such builtin.
    #[error("there is no builtin plugin {name:?}; there are {}", builtin::names())]
    UnknownBuiltin {
        /// The name given.
        name: String,
    },
    /// A scheme that is not supported.
    #[error("plugin {reference:?}: {scheme}:// is not supported by this version; give a file's path or builtin:NAME")]
    Scheme {
        /// The whole reference.
        reference: String,
        /// Its scheme.
        scheme: String,
    },
    /// A file that cannot be read.
    #[error("cannot read plugin {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl FromStr for PluginRef {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(name) = text.strip_prefix("builtin:") {
            return BUILTINS
                .iter()
                .find(|builtin| builtin.name == name)
                .map(Self::Builtin)
                .ok_or_else(|| SourceError::UnknownBuiltin { name: name.into() });
        }
        match text.split_once("://") {
            Some(("file", path)) => Ok(Self::Path(path.into())),
            Some((scheme, _)) => Err(SourceError::Scheme { reference: text.into(), scheme: scheme.into() }),
            None => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Builtin(builtin) => write!(f, "builtin:{}", builtin.name),
        }
    }
}

impl PluginRef {
    /// The plugin's bytes.
    pub fn read(&self) -> Result<std::borrow::Cow<'static, [u8]>, SourceError> {
        match self {
            Self::Path(path) => path::read(path)
                .map(Into::into)
                .map_err(|source| SourceError::Unreadable { path: path.clone(), source }),
            Self::Builtin(builtin) => Ok(builtin.component.into()),
        }
    }
}
