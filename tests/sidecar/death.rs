//! The sidecar is killed. The application goes on, or ends with it, as the
//! operator chose.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::application::{Application, MANY, SIMPLE};
use crate::podman::{Container, Podman, wait_for};
use crate::tracer::{self, Pod};
use crate::{DENY, the_vault_is_closed, the_vault_is_open};

/// Requests of all kinds, some to be denied.
const REQUESTS: [&str; 7] = [
    "open /public/page",
    "open /vault/secret",
    "fork /public/page",
    "spawn /public/page",
    "fork /vault/secret",
    "thread /public/page",
    "spawn /vault/secret",
];

/// Judged or not; nothing else may come of them.
const ANSWERS: [&str; 2] = ["ok", "EACCES"];

const LIVES_ON: [&str; 5] = ["--all", "--name", "sidecar_*", "--on-host-death", "continue"];

/// Moments to kill at. Another at each run, told if a test fails.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let seed = std::hash::RandomState::new().build_hasher().finish() | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    /// A time up to `longest`; xorshift64 (Marsaglia, 2003).
    fn within(&mut self, longest: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        longest.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Whole containers, killed as an operator or the kernel's memory killer
/// would.
#[test]
fn the_sidecars_container_is_killed() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], MANY);
    let load = [application.load(&REQUESTS, &ANSWERS), application.load(&REQUESTS, &ANSWERS)];
    let mut moments = Moments::new();
    for round in 0..10 {
        let arguments = [&LIVES_ON[..], &DENY].concat();
        let sidecar = tracer::start(&podman, &pod.option(), &arguments);
        if round % 2 == 0 {
            tracer::wait_until_attached(&sidecar);
        }
        std::thread::sleep(moments.within(Duration::from_millis(50)));
        sidecar.kill("KILL");
        assert_eq!(sidecar.status(), 137, "{}", sidecar.stderr());
        application.is_as_before();
        the_vault_is_open(&application);
    }
    for client in load {
        assert!(client.finish() > 0);
    }
}

/// The host alone, ninety times in one container of a sidecar's shape.
#[test]
fn the_host_is_killed_at_any_point() {
    killed_at_any_point(90, &[], &ANSWERS);
}

/// In monitor mode no call is changed, so that there is less to go wrong.
#[test]
fn the_host_is_killed_while_it_only_watches() {
    killed_at_any_point(30, &["--mode", "sensitive-files=monitor"], &["ok"]);
}

fn killed_at_any_point(rounds: usize, mode: &[&str], answers: &'static [&'static str]) {
    // Starts the host when told to, one after the other.
    const AGAIN: &str = r#"
        n=0
        while n=$((n + 1)); do
          while [ ! -e /shared/go.$n ]; do /busybox usleep 1000; done
          /host "$@"
          echo "ended $n $?"
        done"#;
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], MANY);
    let arguments = [&["/busybox", "sh", "-c", AGAIN, "again", "attach"][..], &LIVES_ON, &DENY, mode].concat();
    let options = [&pod.option(), "--cap-drop=ALL", "--cap-add=SYS_PTRACE"];
    let shell = podman.start("tracegate-shell", &options, &arguments);
    let load = [application.load(&REQUESTS, answers), application.load(&REQUESTS, answers)];
    let mut moments = Moments::new();
    // How long it takes to attach; measured by each round that lasts so long.
    let mut attaching = Duration::from_millis(200);
    for round in 1..=rounds {
        let before = tracer::attachments(&shell);
        std::fs::write(shell.shared(&format!("go.{round}")), "").unwrap();
        let host = wait_for("the host starts", || child_named("host", shell.pid));
        if round % 3 == 1 {
            let since = std::time::Instant::now();
            wait_for("the host attaches", || {
                let ended = shell.stdout().contains(&format!("ended {round} "));
                assert!(!ended, "the host ended by itself: {}", shell.stderr());
                (tracer::attachments(&shell) > before).then_some(())
            });
            attaching = since.elapsed();
            std::thread::sleep(moments.within(Duration::from_millis(30)));
        } else {
            std::thread::sleep(moments.within(attaching));
        }
        kill(Pid::from_raw(host), Signal::SIGKILL).unwrap();
        wait_for("the host ends", || {
            let end = shell.stdout().lines().find(|line| line.starts_with(&format!("ended {round} ")))?.to_owned();
            assert!(end.ends_with(" 137"), "{end}: {}", shell.stderr());
            Some(())
        });
        assert_eq!(application.held(), Vec::<String>::new(), "round {round}");
        for client in &load {
            client.still_works();
        }
        if round % 10 == 0 {
            application.lives();
        }
    }
    let attached = tracer::attachments(&shell);
    assert!(attached >= rounds / 3, "only {attached} attached");
    for client in load {
        assert!(client.finish() > 0);
    }
    application.is_as_before();
    the_vault_is_open(&application);
    // And it can be attached to once more.
    let sidecar = tracer::attach(&podman, &pod.option(), &[&LIVES_ON[..], &DENY].concat());
    the_vault_is_closed(&application);
    assert_eq!(sidecar.stop(), 0, "{}", sidecar.stderr());
    application.is_as_before();
}

/// A child of `parent` that runs a program of this name.
fn child_named(name: &str, parent: i32) -> Option<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let stats = pids.map(|pid: i32| (pid, std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()));
    // `PID (NAME) STATE PARENT …`
    let wanted = format!("({name}) ");
    stats.into_iter().find_map(|(pid, stat)| {
        let (_, rest) = stat.split_once(&wanted)?;
        (rest.split(' ').nth(1)?.parse() == Ok(parent)).then_some(pid)
    })
}

#[test]
fn the_application_ends_with_the_host_if_asked_to() {
    let podman = Podman::shared();
    let pod = Pod::start(&podman);
    let application = Application::start(&podman, &[&pod.option()], MANY);
    let other = Application::start(&podman, &[&pod.option(), "--user", "1000:1000"], SIMPLE);
    let arguments = [&["--all", "--user", "0", "--name", "sidecar_*", "--on-host-death", "kill"], &DENY[..]].concat();
    let sidecar: Container = tracer::attach(&podman, &pod.option(), &arguments);
    the_vault_is_closed(&application);
    sidecar.kill("KILL");
    assert_eq!(sidecar.status(), 137);
    assert_eq!(application.container.status(), 137, "{}", application.container.stderr());
    other.is_as_before();
}
