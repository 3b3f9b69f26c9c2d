//! Servers of their own for tests: started on free ports of the loopback
//! device, ended with the test.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::within;

/// A process that ends with its guard.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs what tests need")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A free port whose tenth-thousand neighbour is free, too: there `SeaweedFS`
/// has its second listener.
fn free_port() -> u16 {
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..1000)
        .find_map(|_| {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port();
            let port = 10_000 + port % 10_000;
            (is_free(port) && is_free(port + 10_000)).then_some(port)
        })
        .expect("a free port")
}

fn wait_for(port: u16, what: &str) {
    within(Duration::from_secs(40), what, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
}

/// Debian's `docker-registry`.
pub struct Registry {
    pub port: u16,
    pub directory: tempfile::TempDir,
    process: Option<Process>,
}

/// `team:secret`, by bcrypt.
const HTPASSWD: &str = "team:$2b$04$zpi89sbrXWS8ruf5QLwYZOl1gRFffQlWEB3ZMLhtbMAv2dIpyBxRa\n";

impl Registry {
    pub fn start(with_password: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = |name: &str| directory.path().join(name);
        let mut config = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: 127.0.0.1:{port} }}\n",
            at("data").display()
        );
        if with_password {
            std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
            let htpasswd = at("htpasswd");
            writeln!(config, "auth: {{ htpasswd: {{ realm: test, path: {} }} }}", htpasswd.display()).unwrap();
        }
        std::fs::write(at("config.yml"), config).unwrap();
        let mut registry = Self { port, directory, process: None };
        registry.again();
        registry
    }

    /// Starts it again.
    pub fn again(&mut self) {
        let at = |name: &str| self.directory.path().join(name);
        let mut command = Command::new("docker-registry");
        self.process = Some(Process::start(command.arg("serve").arg(at("config.yml")), &at("log")));
        wait_for(self.port, "the registry answers");
    }

    #[allow(dead_code, reason = "of those that share this file some never stop it")]
    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn reference(&self, tag: &str) -> String {
        format!("oci://127.0.0.1:{}/team/plugin{tag}", self.port)
    }

    /// Puts a manifest under a tag.
    pub fn put_manifest(&self, tag: &str, text: &str) {
        let url = format!("http://127.0.0.1:{}/v2/team/plugin/manifests/{tag}", self.port);
        let media_type = "Content-Type: application/vnd.oci.image.manifest.v1+json";
        let mut curl = Command::new("curl");
        let output = curl.args(["-sS", "--fail-with-body", "-X", "PUT", "-H", media_type, "--data-binary", text, &url]);
        let output = output.output().expect("curl");
        assert!(output.status.success(), "{output:?}");
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&digest[..2]).join(digest).join("data")
    }
}

/// `SeaweedFS` with its S3 gateway.
pub struct Store {
    pub port: u16,
    directory: tempfile::TempDir,
    ports: [u16; 4],
    process: Option<Process>,
}

pub const ACCESS_KEY: &str = "tracegate";
pub const SECRET_KEY: &str = "tracegate-secret";

impl Store {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("data")).unwrap();
        let ports = [(); 4].map(|()| free_port());
        let mut store = Self { port: ports[3], directory, ports, process: None };
        store.admit(&[]);
        store.again();
        store.put("", None);
        store
    }

    /// Whom it knows when it is started the next time: us, and readers by their
    /// access keys, whose secret keys end in `-secret`.
    pub fn admit(&self, readers: &[&str]) {
        let known = |key: &str, secret: &str, actions: &[&str]| {
            let credentials = [serde_json::json!({"accessKey": key, "secretKey": secret})];
            serde_json::json!({"name": key, "credentials": credentials, "actions": actions})
        };
        let all = [known(ACCESS_KEY, SECRET_KEY, &["Admin", "Read", "Write", "List"])];
        let readers = readers.iter().map(|key| known(key, &format!("{key}-secret"), &["Read", "List"]));
        let identities = serde_json::json!({"identities": all.into_iter().chain(readers).collect::<Vec<_>>()});
        std::fs::write(self.directory.path().join("s3.json"), identities.to_string()).unwrap();
    }

    /// Starts it again.
    pub fn again(&mut self) {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/weed");
        let weed = if tools.exists() { tools } else { "weed".into() };
        let [master, volume, filer, s3] = self.ports;
        let mut command = Command::new(weed);
        command.args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-filer", "-s3", "-master.volumeSizeLimitMB=64"]);
        command.arg(format!("-dir={}", self.directory.path().join("data").display()));
        command.args([format!("-master.port={master}"), format!("-volume.port={volume}")]);
        command.args([format!("-filer.port={filer}"), format!("-s3.port={s3}")]);
        command.arg(format!("-s3.config={}", self.directory.path().join("s3.json").display()));
        self.process = Some(Process::start(&mut command, &self.directory.path().join("log")));
        wait_for(s3, "the store answers");
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Puts a file into the bucket; makes the bucket, without a name.
    pub fn put(&self, name: &str, file: Option<&Path>) {
        let url = format!("{}/plugins/{name}", self.endpoint());
        within(Duration::from_secs(40), "the store takes a file", || {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3"]);
            curl.args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}"), "-X", "PUT"]);
            if let Some(file) = file {
                curl.arg("--upload-file").arg(file);
            }
            let output = curl.arg(&url).output().expect("curl");
            output.status.success().then_some(())
        });
    }
}

/// How a web server answers.
#[derive(Clone)]
pub enum Answer {
    /// This content; unchanged, for whoever has it.
    Content(Vec<u8>),
    /// A status line.
    Status(&'static str),
    /// Half of what was promised.
    Half(Vec<u8>),
    /// Nothing, for a long time.
    Silence,
    /// More than anybody wants.
    Endless,
    /// The way to another server.
    Redirect(String),
}

/// Makes a network of this thread's own, and of what it starts from now on,
/// where this machine has such an address besides the loopback's.
#[allow(dead_code, reason = "only the tests of running hosts use it")]
pub fn own_network(address: &str) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    for words in [&["link", "set", "lo", "up"][..], &["address", "add", address, "dev", "lo"]] {
        let status = Command::new("ip").args(words).status().expect("ip: tests/run installs what tests need");
        assert!(status.success(), "ip {words:?}: {status}");
    }
}

/// A web server that answers as it is told.
pub struct Web {
    pub address: SocketAddr,
    answers: Arc<Mutex<Vec<(String, Answer)>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// At this address.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<Vec<(String, Answer)>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (of_thread, log) = (answers.clone(), requests.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, log) = (of_thread.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &answers, &log));
            }
        });
        Self { address, answers, requests }
    }

    /// From now on this path has this answer.
    pub fn answer(&self, path: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, _)| known != path);
        answers.push((path.to_owned(), answer));
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answers: &Mutex<Vec<(String, Answer)>>, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(head.clone());
    let found = answers.lock().unwrap().iter().find(|(known, _)| *known == path).map(|(_, answer)| answer.clone());
    let send = |stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], length: usize| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    match found.unwrap_or(Answer::Status("404 Not Found")) {
        Answer::Content(body) => {
            let tag = format!(
                "\"{}-{:x}\"",
                body.len(),
                body.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte))
            );
            if head.to_lowercase().contains(&format!("if-none-match: {tag}")) {
                return send(&mut stream, "304 Not Modified", &format!("ETag: {tag}\r\n"), b"", 0);
            }
            send(&mut stream, "200 OK", &format!("ETag: {tag}\r\n"), &body, body.len());
        }
        Answer::Status(status) => send(&mut stream, status, "", b"", 0),
        Answer::Half(body) => send(&mut stream, "200 OK", "", &body[..body.len() / 2], body.len()),
        Answer::Silence => std::thread::sleep(Duration::from_secs(50)),
        Answer::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let megabyte = vec![0; 1 << 20];
            for _ in 0..200 {
                if stream.write_all(&megabyte).is_err() {
                    break;
                }
            }
        }
        Answer::Redirect(to) => send(&mut stream, "302 Found", &format!("Location: {to}\r\n"), b"", 0),
    }
}
