//! Signals: who gets which, in which order, with what beside it, and what it
//! interrupts.

use super::case::{Case, Step, To, c, python, sh};
use Step::{Asleep, Expect, Send};

pub fn cases() -> Vec<Case> {
    vec![
        sh("a supervisor's signals", SUPERVISED, "got USR2")
            .steps(&[
                Expect("ready"),
                Asleep("cat"),
                Send(To::Started, libc::SIGHUP),
                Expect("got HUP"),
                Send(To::Started, libc::SIGUSR1),
                Expect("got USR1"),
                Send(To::Started, libc::SIGUSR2),
                Expect("got USR2"),
                Send(To::Started, libc::SIGTERM),
            ])
            .status(12),
        sh("signals to the program itself", SUPERVISED, "got USR2")
            .steps(&[
                Expect("ready"),
                Asleep("cat"),
                Send(To::Pid, libc::SIGHUP),
                Expect("got HUP"),
                Send(To::Pid, libc::SIGINT),
                Expect("got INT"),
                Send(To::Pid, libc::SIGUSR2),
                Expect("got USR2"),
                Send(To::Pid, libc::SIGTERM),
            ])
            .status(12),
        sh("signals to the whole group", SUPERVISED, "got INT")
            .steps(&[
                Expect("ready"),
                Asleep("cat"),
                Send(To::Group, libc::SIGINT),
                Expect("got INT"),
                Send(To::Pid, libc::SIGTERM),
            ])
            .status(12),
        sh("ended by SIGTERM from a supervisor", "echo ready; exec sleep 1000", "ready")
            .steps(&[Expect("ready"), Asleep("sleep"), Send(To::Started, libc::SIGTERM)])
            .status(143),
        sh("ended by SIGKILL", "echo $$ > pid; echo ready; exec sleep 1000", "ready")
            .steps(&[Expect("ready"), Asleep("sleep"), Send(To::Pid, libc::SIGKILL)])
            .status(137),
        sh("ended by a real-time signal", "echo $$ > pid; echo ready; kill -38 $$", "ready").status(166),
        python(
            "every signal by default",
            r#"
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for number in sorted(signal.valid_signals()):
    pid = os.fork()
    if pid == 0:
        if number not in (9, 19): signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.kill(os.getpid(), number)
        os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    print(number, ended(status))
    if os.WIFSTOPPED(status):
        os.kill(pid, signal.SIGCONT)
        print(number, "then", ended(os.waitpid(pid, 0)[1]))
"#,
            "64 killed by 64",
        ),
        python(
            "a core is dumped, and told of",
            r#"
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGTRAP, signal.SIGSYS, signal.SIGTERM):
    pid = os.fork()
    if pid == 0:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    print(ended(os.waitpid(pid, 0)[1]))
    # Whether there is a file, and which, is for kernel.core_pattern to say.
    for name in os.listdir("."):
        if name.startswith("core"):
            print("a core of an ELF file:", open(name, "rb").read(4))
            os.unlink(name)
"#,
            "killed by SIGSEGV",
        ),
        python(
            "every signal caught, by a process that only waits",
            r#"
signals = sorted(signal.valid_signals() - {9, 19, 32, 33})
ready, tell = os.pipe()
pid = os.fork()
if pid == 0:
    for number in signals: signal.signal(number, lambda number, _: os.write(tell, bytes([number])))
    os.write(tell, b"!")
    while True: signal.pause()
os.read(ready, 1)
for number in signals:
    os.kill(pid, number)
    print(os.read(ready, 1)[0], end=" ")
os.kill(pid, signal.SIGKILL)
print(ended(os.waitpid(pid, 0)[1]))
"#,
            "64 killed by SIGKILL",
        ),
        python(
            "real-time signals queue in order, with their values",
            r#"
first = signal.SIGRTMIN
signal.pthread_sigmask(signal.SIG_BLOCK, range(first, first + 8))
parent = os.getpid()
pid = os.fork()
if pid == 0:
    for value in range(40):
        if libc.sigqueue(parent, first + value % 8, ctypes.c_void_p(value)): os._exit(1)
    os._exit(0)
print(ended(os.waitpid(pid, 0)[1]))
class Info(ctypes.Structure):
    _fields_ = [("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int),
                ("pid", ctypes.c_int), ("uid", ctypes.c_int), ("value", ctypes.c_long), ("rest", ctypes.c_char * 96)]
mask = (ctypes.c_ulong * 16)(sum(1 << number - 1 for number in range(first, first + 8)))
for _ in range(40):
    info = Info()
    libc.sigwaitinfo(mask, ctypes.byref(info))
    print(info.signo - first, info.value, info.code, info.pid == pid, info.uid)
"#,
            "7 39 -1 True",
        ),
        c("handlers get the whole siginfo", SIGINFO, "TRAP code 128"),
        c("what SIGSTOP and SIGCONT do to calls under way", CONTINUED, "nanosleep"),
        c("what ignored signals do to calls under way", IGNORED, "epoll_wait: 1").documented(|text| {
            // The signal wakes it, and what is written already cannot be taken back.
            text.replace("write into a full pipe: 131072", "write into a full pipe: 65536")
        }),
        c("what a handler does to calls under way", INTERRUPTED, "EINTR"),
        c("masks, alternate stacks and nested handlers", NESTED, "on the alternate stack").status(7),
        python(
            "SIGCHLD says what became of a child",
            r#"
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
def told(what):
    info = signal.sigtimedwait([signal.SIGCHLD], 10)
    code = {1: "exited", 2: "killed", 3: "dumped", 4: "trapped", 5: "stopped", 6: "continued"}[info.si_code]
    print(what, code, info.si_status, info.si_pid == pid, info.si_uid)
pid = os.fork()
if pid == 0:
    # A terminal's stop signals stop nobody in an orphaned group (setpgid(2)).
    os.setpgid(0, 0)
    while True: signal.pause()
until(lambda: os.getpgid(pid) == pid)
for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGCONT):
    os.kill(pid, number); told(number.name)
print(os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOHANG) is not None)
os.kill(pid, signal.SIGTERM); told("SIGTERM")
print(ended(os.waitpid(pid, 0)[1]))
pid = os.fork()
if pid == 0: os._exit(41)
told("exit"); print(ended(os.waitpid(pid, 0)[1]))
print("nothing more:", signal.sigtimedwait([signal.SIGCHLD], 0))
"#,
            "SIGTSTP stopped 20 True",
        ),
        python(
            "stopped and continued children",
            r#"
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    while True: signal.pause()
until(lambda: os.getpgid(pid) == pid)
both = os.WUNTRACED | os.WCONTINUED
for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
    os.kill(pid, number); print(ended(os.waitpid(pid, both)[1]))
    print("told once:", os.waitpid(pid, both | os.WNOHANG) == (0, 0))
    os.kill(pid, number)
    os.kill(pid, signal.SIGCONT); print(ended(os.waitpid(pid, both)[1]))
    print("told once:", os.waitpid(pid, both | os.WNOHANG) == (0, 0))
os.kill(pid, signal.SIGCONT)
print("not stopped:", os.waitpid(pid, both | os.WNOHANG) == (0, 0))
os.kill(pid, signal.SIGSTOP); print(ended(os.waitpid(pid, both)[1]))
os.kill(pid, signal.SIGTERM)
print("pending while stopped:", os.waitpid(pid, both | os.WNOHANG) == (0, 0))
os.kill(pid, signal.SIGCONT)
seen = os.waitpid(pid, both)[1]
if os.WIFCONTINUED(seen): seen = os.waitpid(pid, both)[1]
print(ended(seen))
"#,
            "stopped by SIGTTOU",
        ),
        python(
            "a stopped process with threads stops as a whole, and dies by SIGKILL",
            r#"
ready, tell = os.pipe()
pid = os.fork()
if pid == 0:
    def work():
        os.write(tell, b".")
        while True: time.sleep(0.001)
    for _ in range(8): threading.Thread(target=work).start()
    while True: time.sleep(0.001)
for _ in range(8): os.read(ready, 1)
for _ in range(50):
    os.kill(pid, signal.SIGSTOP)
    status = os.waitpid(pid, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status): print(ended(status))
    states = [state(pid, thread) for thread in os.listdir(f"/proc/{pid}/task")]
    if len(states) != 9 or not set(states) <= set("Tt"): print("not all stopped:", states)
    os.kill(pid, signal.SIGCONT)
    status = os.waitpid(pid, os.WCONTINUED)[1]
    if not os.WIFCONTINUED(status): print(ended(status))
os.kill(pid, signal.SIGSTOP)
print(ended(os.waitpid(pid, os.WUNTRACED)[1]))
os.kill(pid, signal.SIGKILL)
print(ended(os.waitpid(pid, 0)[1]))
"#,
            "stopped by SIGSTOP\nkilled by SIGKILL",
        ),
        python(
            "a timer's storm",
            r#"
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for n in range(60):
    if subprocess.run(["sh", "-c", f"exit {n}"]).returncode != n: print("wrong status", n)
    with open("file", "w") as file: file.write("x" * 100000)
    if os.path.getsize("file") != 100000: print("short")
until(lambda: count > 100, "a hundred ticks")
signal.setitimer(signal.ITIMER_REAL, 0)
print("still right")
"#,
            "still right",
        ),
        python(
            "signals to one thread of several",
            r#"
got = {}
ready = threading.Barrier(5)
signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN, signal.SIGRTMAX]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
def wait(number):
    ready.wait()
    got[number] = signal.sigwaitinfo([number]).si_code
threads = [threading.Thread(target=wait, args=[number]) for number in signals]
for thread in threads: thread.start()
ready.wait()
for thread, number in zip(threads, signals): signal.pthread_kill(thread.ident, number)
for thread in threads: thread.join()
print([(int(number), got[number]) for number in signals])
"#,
            "(64, ",
        ),
        python(
            "signalfd, and what is pending",
            r#"
signals = [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
mask = (ctypes.c_ulong * 16)(sum(1 << number - 1 for number in signals))
fd = libc.signalfd(-1, mask, 0)
pid = os.fork()
if pid == 0:
    os.kill(os.getppid(), signal.SIGUSR1); os.kill(os.getppid(), signal.SIGTERM); os._exit(3)
for _ in range(3):
    select.select([fd], [], [])
    signo, error, code, sender, uid = struct.unpack_from("iiiII", os.read(fd, 128))
    print(signo, code, sender == pid, uid)
print(sorted(signal.sigpending()), ended(os.waitpid(pid, 0)[1]))
"#,
            "exit 3",
        )
        // SIGCHLD is lower than SIGTERM or not, and may come before or after it is read.
        .normal(super::normal::lines_in_order),
        python(
            "a parent's death signal",
            r#"
ready, tell = os.pipe()
middle = os.fork()
if middle == 0:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, lambda *_: (os.write(tell, b"told of its death\n"), os._exit(0)))
        libc.prctl(1, signal.SIGUSR1)
        os.write(tell, b"!")
        while True: signal.pause()
    os.read(ready, 1)
    os._exit(0)
os.waitpid(middle, 0); os.close(tell)
print(os.read(ready, 100).decode())
"#,
            "told of its death",
        ),
        python(
            "killing a group, and everybody in a session",
            r#"
pids = []
ready, tell = os.pipe()
for n in range(5):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, pids[0] if pids else 0)
        if n == 3: signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if n == 4: signal.signal(signal.SIGTERM, lambda *_: os._exit(44))
        os.write(tell, b".")
        while True: signal.pause()
    os.read(ready, 1)
    pids.append(pid)
os.killpg(pids[0], signal.SIGTERM)
for n in (0, 1, 2, 4): print(n, ended(os.waitpid(pids[n], 0)[1]))
os.killpg(pids[0], signal.SIGKILL)
print(3, ended(os.waitpid(pids[3], 0)[1]))
try: os.killpg(pids[0], 0)
except ProcessLookupError: print("nobody left")
"#,
            "nobody left",
        ),
    ]
}

/// Says which signals it gets. It waits in `read`, which a trap interrupts.
const SUPERVISED: &str = r#"
mkfifo never
echo $$ > pid
trap 'echo got HUP' HUP
trap 'echo got INT' INT
trap 'echo got USR1' USR1
trap 'echo got USR2' USR2
trap 'echo got TERM; kill $child; exit 12' TERM
(trap '' HUP INT; exec cat <> never) & child=$!
echo ready
while :; do wait; done
"#;

const SIGINFO: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;
static char *page;
static volatile sig_atomic_t count;

static void told(int number, siginfo_t *info, void *context) {
    char line[200];
    int length = snprintf(line, sizeof line, "%s code %d", number >= 34 ? "real-time" : sigabbrev_np(number), info->si_code);
    if (info->si_code == SI_QUEUE) length += sprintf(line + length, " value %d", info->si_value.sival_int);
    if (info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE)
        length += sprintf(line + length, " uid %d, %s", info->si_uid, info->si_pid == getpid() ? "own" : info->si_pid == getppid() ? "parent's" : "another's");
    if (info->si_code == SI_TIMER) length += sprintf(line + length, " value %d overrun %d", info->si_value.sival_int, info->si_overrun > 1000);
    if (info->si_code < 4 && (number == SIGSEGV || number == SIGBUS)) length += sprintf(line + length, " at %ld", (long)((char *)info->si_addr - page));
    line[length++] = '\n';
    write(1, line, length);
    count++;
    if (info->si_code > 0 && number != SIGTRAP && number != SIGCHLD) siglongjmp(back, 1);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = told, .sa_flags = SA_SIGINFO};
    for (int n = 1; n < 65; n++) sigaction(n, &action, NULL);
    kill(getpid(), SIGUSR1);
    raise(SIGUSR2);
    raise(SIGTRAP);
    for (int n = 0; n < 5; n++) sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = n});
    sigset_t all, none;
    sigfillset(&all); sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int n = 0; n < 6; n++) sigqueue(getpid(), SIGRTMIN + n % 2, (union sigval){.sival_int = n});
    kill(getpid(), SIGTERM); kill(getpid(), SIGTERM); raise(SIGHUP);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGCHLD, SIG_DFL);
    pid_t child = fork();
    if (child == 0) { kill(getppid(), SIGUSR1); _exit(0); }
    while (waitpid(child, NULL, 0) < 0) ;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5, .sigev_value.sival_int = 77};
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    int before = count;
    timer_settime(timer, 0, &(struct itimerspec){.it_value.tv_nsec = 1000000}, NULL);
    while (count == before) ;
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sigsetjmp(back, 1)) page[5] = 1;
    munmap(page + 4096, 4096);
    if (!sigsetjmp(back, 1)) page[4096 + 7] = 1;
    int file = open("short", O_RDWR | O_CREAT, 0600);
    page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (!sigsetjmp(back, 1)) count += page[9];
#if defined __x86_64__
    if (!sigsetjmp(back, 1)) __asm__ volatile("ud2");
    if (!sigsetjmp(back, 1)) __asm__ volatile("int3");
    if (!sigsetjmp(back, 1)) { volatile int zero = 0; count += 1 / zero; }
    if (!sigsetjmp(back, 1)) __asm__ volatile("pushf; orl $0x100, (%rsp); popf; nop; pushf; andl $~0x100, (%rsp); popf");
    if (!sigsetjmp(back, 1)) __asm__ volatile("hlt");
#endif
    puts("done");
}
"#;

/// Each call sleeps in a child, which is stopped and continued whenever
/// it sleeps; what the call then comes to is told.
const CONTINUED: &str = concat!(
    include_str!("asleep.c"),
    r#"
int main(void) {
    for (unsigned n = 0; n < sizeof calls / sizeof *calls; n++) {
        struct sleeper sleeper = begin(n, -1);
        for (int times = 0; times < 3; times++) {
            until_asleep(&sleeper);
            kill(sleeper.pid, SIGSTOP);
            siginfo_t info;
            waitid(P_PID, sleeper.pid, &info, WEXITED | WSTOPPED | WNOWAIT);
            if (info.si_code != CLD_STOPPED) break;
            kill(sleeper.pid, SIGCONT);
            waitid(P_PID, sleeper.pid, &info, WCONTINUED);
        }
        finish(&sleeper);
    }
}
"#
);

/// The same with signals that are ignored, by default and by choice: they wake
/// nobody.
const IGNORED: &str = concat!(
    include_str!("asleep.c"),
    r#"
int main(void) {
    int signals[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGUSR2};
    signal(SIGUSR2, SIG_IGN);
    for (unsigned n = 0; n < sizeof calls / sizeof *calls; n++) {
        struct sleeper sleeper = begin(n, -1);
        for (unsigned m = 0; m < sizeof signals / sizeof *signals; m++) {
            until_asleep(&sleeper);
            kill(sleeper.pid, signals[m]);
        }
        finish(&sleeper);
    }
}
"#
);

/// The same with a handler, which restarts calls or does not.
const INTERRUPTED: &str = concat!(
    include_str!("asleep.c"),
    r#"
int main(void) {
    for (int flags = 0; flags < 2; flags++)
        for (unsigned n = 0; n < sizeof calls / sizeof *calls; n++) {
            struct sleeper sleeper = begin(n, flags ? SA_RESTART : 0);
            until_asleep(&sleeper);
            kill(sleeper.pid, SIGUSR1);
            until_told(&sleeper);
            finish(&sleeper);
        }
}
"#
);

const NESTED: &str = r#"
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>

static char stack[65536];
static int depth, rounds;
static void say(const char *text) { write(1, text, strlen(text)); }

static void nested(int number) {
    char line[80];
    sprintf(line, "%*senter %d\n", depth++ * 2, "", number); say(line);
    if (number == SIGUSR1 && rounds++ < 2) raise(SIGUSR2);
    if (number == SIGUSR2) raise(SIGUSR1);
    sprintf(line, "%*sleave %d\n", --depth * 2, "", number); say(line);
}
static void again(int number) { if (depth++ < 3) { say("again\n"); raise(number); } }
static void alternate(int number) {
    char here;
    say(&here > stack && &here < stack + sizeof stack ? "on the alternate stack\n" : "on the usual stack\n");
}
static void overflow(int number) { alternate(number); _exit(7); }
static int deeper(int n) { volatile char much[4096]; much[0] = n; return deeper(n + 1) + much[0]; }

int main(void) {
    struct sigaction action = {.sa_handler = nested};
    sigaction(SIGUSR1, &action, NULL);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    struct sigaction no_defer = {.sa_handler = again, .sa_flags = SA_NODEFER};
    sigaction(SIGHUP, &no_defer, NULL);
    raise(SIGHUP);
    struct sigaction once = {.sa_handler = alternate, .sa_flags = SA_RESETHAND | SA_ONSTACK}, after;
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    sigaction(SIGTERM, &once, NULL);
    raise(SIGTERM);
    sigaction(SIGTERM, NULL, &after);
    say(after.sa_handler == SIG_DFL ? "reset\n" : "kept\n");
    sigset_t mask, old;
    sigemptyset(&mask); sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, &old);
    raise(SIGUSR1);
    depth = 0;
    say("blocked\n");
    sigset_t inside = old;
    sigdelset(&inside, SIGUSR1);
    int result = sigsuspend(&inside);
    say(result == -1 && errno == EINTR ? "suspended, EINTR\n" : "suspended?\n");
    sigprocmask(SIG_SETMASK, NULL, &inside);
    say(sigismember(&inside, SIGUSR1) ? "blocked again\n" : "open\n");
    struct timespec shortly = {0, 1000};
    say(sigtimedwait(&mask, NULL, &shortly) == -1 && errno == EAGAIN ? "EAGAIN\n" : "?\n");
    struct sigaction last = {.sa_handler = overflow, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &last, NULL);
    return deeper(0);
}
"#;
