//! Directories that stand for the plugins in them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::config::{Config, PluginConfig};
use crate::source::{PluginRef, read_text};

/// Most plugins of one directory.
const MOST: usize = 64;

/// Puts a directory's plugins in its place, by name: each `*.wasm` whose name
/// does not begin with a dot, with the settings beside it in `*.json`.
///
/// # Errors
/// If there are none, or too many, or something is said of a directory that
/// can only be said of one plugin.
pub fn expand(config: &mut Config) -> anyhow::Result<()> {
    for plugin in std::mem::take(&mut config.plugins) {
        match &plugin.reference {
            PluginRef::Path(path) if path.is_dir() => {
                let path = path.clone();
                let members = members(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let what = format!("the directory {}", path.display());
                ensure!(!members.is_empty(), "{what} has no plugin: no file NAME.wasm");
                ensure!(members.len() <= MOST, "{what} has {} plugins; at most {MOST} are taken", members.len());
                ensure!(
                    plugin.name.is_none() && plugin.pin.is_none() && plugin.settings == "{}",
                    "{what} stands for several plugins: name each of them to give it a name, a pin or settings here"
                );
                if let Some(lost) = lost_settings(&path)? {
                    bail!(
                        "{} are settings of no plugin: there is no {}",
                        lost.display(),
                        lost.with_extension("wasm").display()
                    );
                }
                config.read_from.push(path);
                for member in members {
                    let settings = member.with_extension("json");
                    let text = match read_text(&settings) {
                        Ok(text) => text,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => "{}".into(),
                        Err(error) => return Err(error).with_context(|| format!("cannot read {}", settings.display())),
                    };
                    config.read_from.push(settings);
                    let reference = PluginRef::Path(member);
                    config.plugins.push(PluginConfig { reference, settings: text, ..plugin.clone() });
                }
            }
            _ => config.plugins.push(plugin),
        }
    }
    Ok(())
}

/// Settings that nobody would get.
fn lost_settings(directory: &Path) -> io::Result<Option<PathBuf>> {
    Ok(named(directory, "json")?.into_iter().find(|path| !path.with_extension("wasm").exists()))
}

fn members(directory: &Path) -> io::Result<Vec<PathBuf>> {
    named(directory, "wasm")
}

/// Files with this extension whose name does not begin with a dot, by name.
fn named(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config(reference: &Path) -> Config {
        Config::running(vec![PluginConfig::new(PluginRef::Path(reference.to_owned()))])
    }

    #[test]
    fn members_by_name_with_their_settings() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["b.wasm", "a.wasm", ".hidden.wasm", "a.wasm.minisig", "notes.txt"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::write(at("a.json"), r#"{"x": 1}"#).unwrap();
        let mut expanded = config(directory.path());
        expand(&mut expanded).unwrap();
        let found: Vec<_> =
            expanded.plugins.iter().map(|plugin| (&plugin.reference, plugin.settings.as_str())).collect();
        let path = |name| PluginRef::Path(at(name));
        assert_eq!(found, [(&path("a.wasm"), r#"{"x": 1}"#), (&path("b.wasm"), "{}")]);
        assert_eq!(expanded.read_from, [directory.path().to_owned(), at("a.json"), at("b.json")]);
    }

    #[test]
    fn what_cannot_stand_for_plugins() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |config: &mut Config| expand(config).unwrap_err().to_string();
        assert!(refused(&mut config(directory.path())).contains("has no plugin"));
        std::fs::write(directory.path().join("a.wasm"), "").unwrap();
        let mut named = config(directory.path());
        named.plugins[0].name = Some("mine".into());
        assert!(refused(&mut named).contains("stands for several plugins"));
        std::fs::write(directory.path().join("b.json"), "{}").unwrap();
        assert!(refused(&mut config(directory.path())).contains("b.json are settings of no plugin"));
        std::fs::remove_file(directory.path().join("b.json")).unwrap();
        std::fs::create_dir(directory.path().join("a.json")).unwrap();
        assert!(refused(&mut config(directory.path())).contains("a.json"));
    }
}
