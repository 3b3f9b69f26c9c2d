#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn references() {
    for text in [
        "a/plugin.wasm",
        "builtin:sensitive-files",
        "s3://bucket/a/b.wasm",
        "oci://localhost:5000/team/plugin:1.2",
        "oci://ghcr.io/team/plugin@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "https://example.org/plugin.wasm",
    ] {
        let reference: PluginRef = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.is_remote(), text.contains("://"));
    }
    assert_eq!("file:///a".parse::<PluginRef>().unwrap(), PluginRef::Path("/a".into()));
    for (text, said) in [
        ("", "it is empty"),
        ("builtin:nothing", "there is no builtin plugin"),
        ("s3://bucket", "bucket or key is missing"),
        ("s3:///key", "bucket or key is missing"),
        ("oci://plugin:1", "no registry"),
        ("oci://team/plugin:1", "no registry"),
        ("oci://ghcr.io/UPPER:1", "the form is oci://"),
        ("https://", "the form is https://"),
        ("ftp://example.org/a", "ftp:// is not supported"),
    ] {
        let error = text.parse::<PluginRef>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn secrets_in_a_url_are_not_shown() {
    let url: PluginRef = "https://user:password@example.org/a.wasm?X-Amz-Signature=secret".parse().unwrap();
    assert_eq!(url.to_string(), "https://user@example.org/a.wasm");
}
