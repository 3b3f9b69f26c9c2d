//! Core WebAssembly modules → components.
//!
//! A compiler for `wasm32-unknown-unknown` gives a core module; wit-bindgen
//! leaves the types of its imports and exports in a custom section. With
//! these the module can be wrapped, so that authors need no tool but the
//! host. Nothing is compiled or run here, and a module gets no adapter: what
//! imports WASI stays refused.

use std::borrow::Cow;

use wit_component::ComponentEncoder;

/// What a file's first eight bytes say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component.
    Component,
    /// A core module.
    CoreModule,
    /// Neither.
    NotWasm,
}

/// Magic, then version and layer (component-model/design/mvp/Binary.md).
const MAGIC: &[u8] = b"\0asm";
const MODULE: &[u8] = &[1, 0, 0, 0];
/// The version of components has been 0xd since their first release; the
/// layer is what tells them apart.
const COMPONENT_LAYER: &[u8] = &[1, 0];

/// Looks at the preamble only: what follows may still be rubbish.
pub fn kind(bytes: &[u8]) -> Kind {
    match bytes.strip_prefix(MAGIC).and_then(|rest| rest.get(..4)) {
        Some(MODULE) => Kind::CoreModule,
        Some(version) if version[2..] == *COMPONENT_LAYER => Kind::Component,
        _ => Kind::NotWasm,
    }
}

/// Why bytes cannot be made a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    /// Text, an archive, half a download, …
    #[error("not WebAssembly: it does not begin with \"\\0asm\"{}; give a component, or a core module built with plugin-sdk", hint(.start))]
    NotWasm {
        /// First bytes of what was given.
        start: Vec<u8>,
    },
    /// A module without its types.
    #[error(
        "a core module that does not say what it imports and exports (no \"component-type\" section); build it \
         with plugin-sdk or wit-bindgen and do not strip custom sections, or give a finished component"
    )]
    NoTypes,
    /// A module that does not fit its types, or imports what no plugin has.
    #[error("a core module that cannot be made a component: {0}")]
    Refused(String),
}

/// What else it could be, to people who mistook a file.
fn hint(start: &[u8]) -> &'static str {
    match start {
        [] => " (it is empty)",
        [0x7f, b'E', b'L', b'F', ..] => " (it is a native program or library: build for wasm32-unknown-unknown)",
        [0x1f, 0x8b, ..] => " (it is compressed with gzip)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => " (it is compressed with zstd)",
        [b'(', ..] => " (it looks like WebAssembly text: convert it with wasm-tools parse)",
        _ => "",
    }
}

/// Makes a component of a core module; a component passes as it is.
///
/// # Errors
/// If the bytes are neither, or the module was not built as a plugin.
pub fn componentize(module: &[u8]) -> Result<Cow<'_, [u8]>, ComponentizeError> {
    match kind(module) {
        Kind::Component => return Ok(Cow::Borrowed(module)),
        Kind::CoreModule => {}
        Kind::NotWasm => return Err(ComponentizeError::NotWasm { start: module[..module.len().min(8)].to_vec() }),
    }
    if !has_types(module) {
        return Err(ComponentizeError::NoTypes);
    }
    let refused = |error: anyhow::Error| ComponentizeError::Refused(format!("{error:#}"));
    let encoded = ComponentEncoder::default().module(module).map_err(refused)?.validate(true).encode();
    encoded.map(Cow::Owned).map_err(refused)
}

/// True if a custom section holds wit-bindgen's types. A rough look: the
/// encoder reads the section itself.
fn has_types(module: &[u8]) -> bool {
    module.windows(SECTION.len()).any(|window| window == SECTION)
}

const SECTION: &[u8] = b"component-type";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_preamble() {
        assert_eq!(kind(b"\0asm\x01\0\0\0"), Kind::CoreModule);
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest"), Kind::Component);
        for bytes in [&b""[..], b"\0asm", b"\0asm\x02\0\0\0", b"#!/bin/sh", b"\x7fELF\x02\x01\x01\0"] {
            assert_eq!(kind(bytes), Kind::NotWasm, "{bytes:?}");
        }
    }

    #[test]
    fn a_component_passes_as_it_is() {
        let component = b"\0asm\x0d\0\x01\0";
        assert_eq!(*componentize(component).unwrap(), *component);
    }

    #[test]
    fn what_is_no_plugin_is_named() {
        let text = |bytes: &[u8]| componentize(bytes).unwrap_err().to_string();
        assert!(text(b"").contains("it is empty"));
        assert!(text(b"\x7fELF\x02\x01\x01\0").contains("native program"));
        assert!(text(b"\0asm\x01\0\0\0").contains("component-type"));
        // A section with the name, but nothing in it.
        let mut module = b"\0asm\x01\0\0\0\0\x0f\x0ecomponent-type".to_vec();
        assert!(matches!(componentize(&module), Err(ComponentizeError::Refused(_))));
        module.truncate(12);
        assert!(componentize(&module).is_err());
    }
}
