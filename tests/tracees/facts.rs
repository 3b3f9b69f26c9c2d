//! `facts of-self NAME` says in a line of JSON what procfs says of this process;
//! `facts all ROOT` has itself executed so in many ways, one after the other.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::parent_id;
use std::process::Command;

use super::{c, check};

pub(crate) fn main(words: &[&str]) {
    match words[..] {
        ["of-self", name, ..] => of_self(name),
        ["all", root] => all(root),
        _ => panic!("no such words: {words:?}"),
    }
}

fn of_self(name: &str) {
    let text = |file: &str| fs::read(format!("/proc/self/{file}")).unwrap();
    let link = |file: &str| fs::read_link(format!("/proc/self/{file}")).unwrap().to_str().unwrap().to_owned();
    let status = String::from_utf8(text("status")).unwrap();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
    let four = |key: &str| field(key).split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
    let stat = String::from_utf8(text("stat")).unwrap();
    let (before, after) = stat.rsplit_once(')').unwrap();
    let cmdline = String::from_utf8(text("cmdline")).unwrap();
    let capabilities = u64::from_str_radix(field("CapEff:"), 16).unwrap();
    let facts = serde_json::json!({
        "pid": std::process::id(),
        "parent": parent_id(),
        "start_time": after.split_whitespace().nth(22 - 3).unwrap().parse::<u64>().unwrap(),
        "exe": link("exe"),
        "comm": before.split_once('(').unwrap().1,
        "argv": cmdline.strip_suffix('\0').unwrap().split('\0').collect::<Vec<_>>(),
        "cwd": link("cwd"),
        "uids": four("Uid:"),
        "gids": four("Gid:"),
        "capabilities": format!("{capabilities:#x}"),
    });
    println!("{}", serde_json::json!({"way": name, "facts": facts}));
}

/// Executes `program`, which is this one, to say what it is; with more
/// arguments behind.
fn say(program: &str, way: &str, more: &[String]) -> ! {
    let words = [program, "facts", "of-self", way].map(str::to_owned);
    let argv: Vec<CString> = words.iter().chain(more).map(|word| c(word)).collect();
    panic!("{}", nix::unistd::execv(&c(program), &argv).unwrap_err());
}

fn all(root: &str) {
    // Who loses its parent becomes ours.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).unwrap();
    let exe = fs::read_link("/proc/self/exe").unwrap().to_str().unwrap().to_owned();
    let at = |name: &str| format!("{root}/{name}");
    let in_child = |body: &dyn Fn()| {
        let child = unsafe { libc::fork() };
        check(child.into()).unwrap();
        if child == 0 {
            body();
            unsafe { libc::_exit(0) };
        }
        while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    };
    in_child(&|| say(&exe, "forked", &[]));
    assert!(Command::new(&exe).args(["facts", "of-self", "spawned"]).status().unwrap().success());
    in_child(&|| {
        let exe = exe.clone();
        std::thread::spawn(move || say(&exe, "in a thread", &[])).join().unwrap();
    });
    in_child(&|| {
        let file = fs::File::open(&exe).unwrap();
        let words = ["anything", "facts", "of-self", "by descriptor"].map(c);
        let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        argv.push(std::ptr::null());
        let none = [std::ptr::null::<libc::c_char>()];
        let (fd, argv) = (file.as_raw_fd(), argv.as_ptr());
        unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, none.as_ptr(), libc::AT_EMPTY_PATH) };
    });
    symlink(&exe, at("a-name-of-more-than-15-bytes (x)")).unwrap();
    in_child(&|| say(&at("a-name-of-more-than-15-bytes (x)"), "by a link", &[]));
    fs::write(at("script"), format!("#!{exe} facts\n")).unwrap();
    fs::set_permissions(at("script"), fs::Permissions::from_mode(0o755)).unwrap();
    in_child(&|| {
        // Its own name comes in between: `facts SCRIPT of-self …` is told apart.
        panic!("{}", nix::unistd::execv(&c(&at("script")), &[c("script"), c("of-self")]).unwrap_err());
    });
    in_child(&|| say(&exe, "many arguments", &vec!["x".to_owned(); 600]));
    in_child(&|| say(&exe, "long arguments", &["x".repeat(20_000)]));
    in_child(&|| {
        check(unsafe { libc::prctl(libc::PR_SET_NAME, c"another".as_ptr()) }.into()).unwrap();
        say(&exe, "renamed", &[]);
    });
    in_child(&|| {
        std::env::set_current_dir(root).unwrap();
        // Its maker's directory is known by now.
        in_child(&|| say(&exe, "elsewhere", &[]));
    });
    in_child(&|| {
        fs::create_dir(at("gone")).unwrap();
        std::env::set_current_dir(at("gone")).unwrap();
        fs::remove_dir(at("gone")).unwrap();
        say(&exe, "nowhere", &[]);
    });
    in_child(&|| {
        let maker = std::process::id();
        if unsafe { libc::fork() } == 0 {
            while parent_id() == maker {
                std::thread::yield_now();
            }
            say(&exe, "orphaned", &[]);
        }
    });
    in_child(&|| {
        check(unsafe { libc::setresgid(7, 0, 8) }.into()).unwrap();
        check(unsafe { libc::setresuid(1000, 0, 0) }.into()).unwrap();
        say(&exe, "with other ids", &[]);
    });
    in_child(&|| {
        check(unsafe { libc::setresuid(65534, 0, 0) }.into()).unwrap();
        say(&exe, "with an id that stands for others", &[]);
    });
    in_child(&|| {
        // CAP_NET_ADMIN
        check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 12, 0, 0, 0) }.into()).unwrap();
        say(&exe, "with fewer capabilities", &[]);
    });
}
