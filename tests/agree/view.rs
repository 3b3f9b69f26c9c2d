//! What a program sees of itself and of what it inherited.

use super::case::{Case, bash, python, sh};

pub fn cases() -> Vec<Case> {
    vec![
        bash("limits", "ulimit -a; ulimit -Ha", "open files"),
        sh("environment", "env | sort; tr '\\0' '\\n' < /proc/self/environ | sort", "TZ=UTC"),
        sh(
            "descriptors",
            r#"
            for fd in /proc/self/fd/*; do readlink $fd | sed 's/[0-9]\{4,\}/N/g'
            done; cat /proc/self/fdinfo/0 | head -n 2
            python3 -c 'import os; print(sorted(os.listdir("/proc/self/fd")), os.open("/", 0))'
            ls /proc/self/task | wc -l
            "#,
            "'0', '1', ",
        ),
        // TracerPid and Seccomp are what tracing and filtering are; without
        // CAP_SYS_ADMIN a filter needs no_new_privs.
        sh(
            "status of a process",
            r#"
            grep -Ev '^(Pid|Tgid|Ngid|PPid|TracerPid|NSpid|NStgid|NSpgid|NSsid|Vm|Rss|SigQ|Seccomp|.*ctxt|Hugetlb)' /proc/self/status
            grep -c . /proc/self/status
            "#,
            "SigCgt",
        )
        .documented(|text| {
            if nix::unistd::geteuid().is_root() { text.to_owned() } else { text.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1") }
        }),
        sh(
            "that it is traced",
            r#"
            [ $(grep TracerPid /proc/self/status | cut -f 2) = 0 ] && echo not traced || echo traced
            grep '^Seccomp' /proc/self/status
            "#,
            "not traced",
        )
        .documented(|text| {
            text.replace("not traced", "traced")
                .replace("Seccomp:\t0", "Seccomp:\t2")
                .replace("Seccomp_filters:\t0", "Seccomp_filters:\t1")
        }),
        sh(
            "numbers that the kernel keeps for it",
            r#"
            cat /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/loginuid /proc/self/personality /proc/self/timerslack_ns
            cat /proc/self/cgroup /proc/self/attr/current 2>/dev/null; cat /proc/self/uid_map /proc/self/setgroups
            readlink /proc/self/exe /proc/self/cwd /proc/self/root /proc/self/ns/* ; tr '\0' ' ' < /proc/self/cmdline; cat /proc/self/comm
            cut -d ' ' -f 8,9,17-20,31-34,38,40,41,44 /proc/self/stat | cut -d ' ' -f 3-
            cat /proc/self/sched | grep -E '^(policy|prio)'; cat /proc/self/limits
            "#,
            "00000033",
        ),
        python(
            "who its relatives are",
            r#"
# Alone it leads a session and a group; under the host it is in the host's.
print(os.getsid(0) in (os.getpid(), os.getsid(os.getppid())), os.getpgrp() in (os.getpid(), os.getpgid(os.getppid())))
out = subprocess.run(["sh", "-c", "echo $PPID; cat /proc/$$/stat"], capture_output=True, text=True).stdout.split()
print(int(out[0]) == os.getpid(), int(out[4]) == os.getpid(), int(out[5]) == os.getpgrp(), int(out[6]) == os.getsid(0))
children = open(f"/proc/self/task/{os.getpid()}/children").read()
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0); signal.pause()
until(lambda: os.getpgid(pid) == pid)
os.kill(pid, signal.SIGKILL)
print(repr(children), os.getpgid(pid) == pid, os.waitpid(pid, 0)[0] == pid)
if os.fork() == 0:
    os.setsid(); print(os.getsid(0) == os.getpid() == os.getpgrp(), flush=True); os._exit(0)
print(ended(os.wait()[1]))
"#,
            "True True True",
        ),
        python(
            "attributes that prctl tells",
            r#"
names = {"pdeathsig": 2, "subreaper": 37}
for name, number in names.items():
    value = ctypes.c_int(-1)
    print(name, libc.prctl(number, ctypes.byref(value)), value.value)
for name, number in {"dumpable": 3, "keepcaps": 7, "timing": 13, "securebits": 27, "timerslack": 30, "mce": 34, "thp": 42}.items():
    print(name, libc.prctl(number, 0, 0, 0, 0))
print([libc.prctl(23, capability) for capability in range(41)])
print([libc.prctl(47, 1, capability, 0, 0) for capability in range(41)])
print([libc.prctl(52, which, 0, 0, 0) for which in range(3)], libc.personality(0xffffffff))
buffer = ctypes.create_string_buffer(16); libc.prctl(16, buffer); print(buffer.value)
"#,
            "dumpable 1",
        ),
        python(
            "resources, priority, scheduling",
            r#"
for name in sorted(dir(resource)):
    if name.startswith("RLIMIT_"): print(name, resource.getrlimit(getattr(resource, name)))
print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.sched_getaffinity(0))
print(os.getresuid(), os.getresgid(), os.getgroups(), os.umask(0), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print([(int(number), signal.getsignal(number)) for number in sorted(signal.valid_signals()) if signal.getsignal(number) is not signal.SIG_DFL])
print(os.isatty(0), os.isatty(1), os.cpu_count(), os.get_blocking(0), fcntl.fcntl(1, fcntl.F_GETFL))
try: os.open("/dev/tty", os.O_RDWR)
except OSError as error: print("no terminal of its own:", errno.errorcode[error.errno])
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
kept = []
try:
    while True: kept.append(os.open("/", 0))
except OSError as error: print(errno.errorcode[error.errno], len(kept))
"#,
            "EMFILE",
        ),
        python(
            "limits that bite",
            r#"
def child(limit, value, work):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(limit, (value, value))
        try: work()
        except BaseException as error: print(type(error).__name__, flush=True); os._exit(1)
        os._exit(0)
    print(ended(os.waitpid(pid, 0)[1]))
def spin():
    while True: pass
def fill():
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with open("full", "wb", buffering=0) as file:
        while True: file.write(b"x" * 1000)
child(resource.RLIMIT_CPU, 1, spin)
child(resource.RLIMIT_FSIZE, 5500, fill)
print(os.path.getsize("full"))
child(resource.RLIMIT_AS, 200 << 20, lambda: bytearray(400 << 20))
child(resource.RLIMIT_STACK, 1 << 20, lambda: os.execv("/bin/true", ["true", "x" * (1 << 19)]))
child(resource.RLIMIT_NOFILE, 3, lambda: open("/"))
"#,
            "killed by SIGXFSZ",
        ),
        sh(
            "what its children cost",
            r#"
            python3 -c 'import resource, subprocess; subprocess.run(["python3", "-c", "sum(range(3000000))"]); u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_utime > 0.01, u.ru_maxrss > 5000, u.ru_nswap)'
            "#,
            "True True 0",
        ),
        python(
            "after giving up root",
            r#"
if os.getuid() == 0:
    os.setgroups([7]); os.setgid(65534); os.setuid(65534)
print(os.getresuid() == (os.getuid(),) * 3, libc.prctl(3))
print(open("/proc/self/status").read().partition("CapInh")[2].partition("Seccomp")[0])
try: print(len(open("/proc/self/environ").read()) > 0)
except OSError as error: print(errno.errorcode[error.errno])
try: open("/etc/shadow")
except OSError as error: print(errno.errorcode[error.errno])
print(subprocess.run(["sh", "-c", "kill -0 1 2>&1; id; exit 3"]).returncode)
"#,
            "EACCES",
        )
        .documented(|text| {
            if nix::unistd::geteuid().is_root() { text.to_owned() } else { text.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1") }
        }),
        python(
            "namespaces and a root of its own",
            r#"
if os.getuid() == 0:
    pid = os.fork()
    if pid == 0:
        if libc.unshare(0x20000 | 0x4000000 | 0x8000000 | 0x40000000): os._exit(6)  # mount, UTS, IPC, net
        socket.sethostname("inside"); print(socket.gethostname(), socket.if_nameindex(), flush=True)
        os.mkdir("root"); os.chroot("root"); os.chdir("/"); print(os.listdir("/"), os.getcwd(), flush=True)
        os._exit(5)
    print(ended(os.waitpid(pid, 0)[1]))
    if os.fork() == 0:
        if libc.unshare(0x20000000): os._exit(6)  # PID
        if os.fork() == 0:
            print(os.getpid(), os.getppid(), flush=True)
            grandchild = os.fork()
            if grandchild == 0: os._exit(3)
            print(grandchild, ended(os.waitpid(grandchild, 0)[1]), flush=True)
            if os.fork() == 0:
                while True: signal.pause()
            os._exit(4)
        print(ended(os.wait()[1]), flush=True); os._exit(0)
    os.wait()
print("done")
"#,
            "done",
        ),
    ]
}
