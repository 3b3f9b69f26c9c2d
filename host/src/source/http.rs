//! Plugins from web servers.

use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Client, StatusCode, Url};

use super::fetch::{CONNECT, Found, Miss, READ, Tag, is_plain, told};
use crate::config::Network;

pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(READ)
        .user_agent(concat!("tracegate/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The content of a URL, unless it is the version `known`; at most `most`
/// bytes.
pub(super) async fn get(
    client: &Client,
    network: &Network,
    url: Url,
    known: Option<&Tag>,
    most: usize,
) -> Result<Found, Miss> {
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    if url.scheme() == "http" && !is_plain(network, &host) {
        return Err(Miss::Failed(format!(
            "it would be fetched without TLS: write https://, or name {host:?} in `network.plain-http`"
        )));
    }
    let mut request = client.get(url);
    if let Some(Tag(tag)) = known {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let mut response = request.send().await.map_err(failed)?;
    match response.status() {
        StatusCode::NOT_MODIFIED if known.is_some() => return Ok(None),
        StatusCode::OK => {}
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
            return Err(Miss::Absent(format!("the server answered {status}")));
        }
        status => return Err(Miss::Failed(format!("the server answered {status}"))),
    }
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(|tag| Tag(tag.to_owned()));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > most {
            return Err(Miss::Failed(format!("it is longer than {most} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some((bytes, tag)))
}

/// An error with its causes, without the URL, which may hold a secret.
fn failed(error: reqwest::Error) -> Miss {
    Miss::Failed(told(&error.without_url()))
}
