//! Who is told: the owner over a local socket, Prometheus and health checks
//! over HTTP on a loopback address.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::prometheus;
use super::report::Sight;

/// Longest wait for somebody who has connected.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest report.
const MAX_REPORT: u64 = 64 << 20;

/// Listens on a socket of the file system, which only our user can open. Each
/// connection gets one report, as data and as text.
///
/// # Errors
/// If the socket cannot be made.
pub fn serve_socket(path: &Path, sight: Sight) -> io::Result<()> {
    // One that a host before us has left behind.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) && UnixStream::connect(path).is_err()
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let serve = move || {
        for mut stream in listener.incoming().flatten() {
            let _late = stream.set_write_timeout(Some(PATIENCE));
            let report = sight.report();
            let answer = serde_json::json!({"report": report, "text": report.to_string()});
            let _gone = stream.write_all(answer.to_string().as_bytes());
        }
    };
    thread::Builder::new().name("status".into()).spawn(serve).map(drop)
}

/// What the host behind a socket says: `report` and `text`.
///
/// # Errors
/// If nobody answers there.
pub fn ask(path: &Path) -> io::Result<serde_json::Value> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(4 * PATIENCE))?;
    let mut text = String::new();
    stream.take(MAX_REPORT).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(Into::into)
}

/// What health checks ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Question {
    /// Does the loop answer?
    Live,
    /// Are programs traced under all plugins?
    Ready,
}

/// Answers `/metrics`, `/healthz`, `/readyz` and `/status`.
///
/// # Errors
/// If the address cannot be had.
pub fn serve_http(address: SocketAddr, sight: Sight) -> io::Result<SocketAddr> {
    let server = tiny_http::Server::http(address).map_err(io::Error::other)?;
    let bound = server.server_addr().to_ip().unwrap_or(address);
    let serve = move || {
        for request in server.incoming_requests() {
            let report = sight.report();
            let word = |yes| if yes { (200, "ok\n".to_owned()) } else { (503, "no\n".to_owned()) };
            let path = request.url().split('?').next().unwrap_or_default();
            let ((status, text), kind) = match path {
                "/metrics" => ((200, prometheus::text(&report)), prometheus::CONTENT_TYPE),
                "/healthz" => (word(report.live), "text/plain"),
                "/readyz" => (word(report.ready), "text/plain"),
                "/status" => ((200, serde_json::to_string(&report).unwrap_or_default()), "application/json"),
                _ => ((404, "there are /metrics, /healthz, /readyz and /status\n".to_owned()), "text/plain"),
            };
            let header = tiny_http::Header::from_bytes("Content-Type", kind);
            let response = tiny_http::Response::from_string(text).with_status_code(status);
            let response = header.into_iter().fold(response, tiny_http::Response::with_header);
            let _gone = request.respond(response);
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(serve)?;
    Ok(bound)
}
