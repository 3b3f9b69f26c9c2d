//! Plugins from S3 and stores that speak like it.
//!
//! Credentials are found as AWS's own tools find them: static keys in the
//! environment, the role of an ECS task or an EKS pod, the instance's role.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore as _, RetryConfig, path::Path};

use super::fetch::{CONNECT, Found, Miss, READ, Tag, is_plain, told};
use crate::config::Network;

/// The object, unless it is the version `known`; at most `most` bytes.
pub(super) async fn get(
    network: &Network,
    bucket: &str,
    key: &str,
    known: Option<&Tag>,
    most: usize,
) -> Result<Found, Miss> {
    let store = store(network, bucket)?;
    let path = Path::parse(key).map_err(|error| format!("its key: {error}"))?;
    let options = GetOptions::new().with_if_none_match(known.map(|Tag(tag)| tag.clone()));
    let found = match store.get_opts(&path, options).await {
        Ok(found) => found,
        Err(Error::NotModified { .. }) if known.is_some() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if found.meta.size > most as u64 {
        return Err(Miss::Failed(format!("it is {} bytes long; at most {most} are taken", found.meta.size)));
    }
    let (size, tag) = (found.meta.size, found.meta.e_tag.clone().map(Tag));
    let mut stream = found.into_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.try_next().await.map_err(failed)? {
        if bytes.len() + chunk.len() > most {
            return Err(Miss::Failed(format!("it is longer than {most} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() as u64 != size {
        return Err(Miss::Failed(format!("it broke off after {} of {size} bytes", bytes.len())));
    }
    Ok(Some((bytes, tag)))
}

fn store(network: &Network, bucket: &str) -> Result<object_store::aws::AmazonS3, Miss> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(20),
    });
    let mut options = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(2 * READ);
    if let Some(region) = &network.s3.region {
        builder = builder.with_region(region);
    }
    let given = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = network.s3.endpoint.clone().or_else(|| given.iter().find_map(|name| std::env::var(name).ok()));
    if let Some(endpoint) = endpoint {
        if let Some(host) = endpoint.strip_prefix("http://") {
            let host = host.trim_end_matches('/');
            if !is_plain(network, host) {
                return Err(Miss::Failed(format!(
                    "its store would be spoken to without TLS: write https://, or name {host:?} in `network.plain-http`"
                )));
            }
            options = options.with_allow_http(true);
        }
        builder = builder.with_endpoint(endpoint);
    }
    builder.with_client_options(options).build().map_err(|error| Miss::Failed(told(&error)))
}

fn failed(error: Error) -> Miss {
    let text = told(&error);
    match &error {
        Error::NotFound { .. } => Miss::Absent(match &text {
            text if text.contains("NoSuchBucket") => "there is no such bucket".into(),
            _ => "the bucket has no such object".into(),
        }),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Miss::Failed(format!(
            "the store refuses us; check the credentials and the bucket's policy: {}",
            steady(&text)
        )),
        _ => Miss::Failed(steady(&text)),
    }
}

/// What is the same each time of an error: not how long it took, nor the
/// number that the store has given to the request.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    let took = text
        .match_indices(" in ")
        .find(|(at, word)| text[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
        .and_then(|(at, _)| Some(at..at + text[at..].find(" - ")?));
    if let Some(took) = took {
        text.replace_range(took, "");
    }
    let Some(document) = text.find("<?xml") else { return text };
    let field = |name: &str| {
        let rest = text[document..].split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let answer: Vec<String> = ["Code", "Message"].iter().filter_map(|name| field(name)).collect();
    text.truncate(document);
    text + &answer.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_has_the_same_text() {
        let down = "Generic S3 error: Error performing GET http://127.0.0.1:1/b/k in 436.6ms, after 3 retries, \
                    max_retries: 3, retry_timeout: 20s  - HTTP error: refused";
        assert_eq!(steady(down), "Generic S3 error: Error performing GET http://127.0.0.1:1/b/k - HTTP error: refused");
        let refused = "GET http://h/k in 5.3ms - 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>\
                       <Message>Go away.</Message><RequestId>18EAA435F7943556</RequestId></Error>";
        assert_eq!(steady(refused), "GET http://h/k - 403 Forbidden: AccessDenied: Go away.");
        assert_eq!(steady("in no time"), "in no time");
        assert_eq!(steady("<?xml half"), "");
    }
}
