//! Python programs: threads, processes of all kinds, and ways to wait and to
//! move data.

use super::case::{Case, python};
use super::normal;

pub fn cases() -> Vec<Case> {
    vec![
        python(
            "threads",
            r#"
import queue
work, done = queue.Queue(), queue.Queue()
def worker():
    while (n := work.get()) is not None:
        with open(f"tmp/{n}", "w") as file: file.write(str(n * n))
        done.put(int(open(f"tmp/{n}").read()))
threads = [threading.Thread(target=worker) for _ in range(16)]
for thread in threads: thread.start()
for n in range(800): work.put(n)
for _ in threads: work.put(None)
for thread in threads: thread.join()
print(sum(done.get() for _ in range(800)))
for n in range(300): thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
# A thread that has been joined may have an entry for a moment yet.
until(lambda: len(os.listdir("/proc/self/task")) == 1, "the end of all threads")
print(threading.active_count())
"#,
            "170346800",
        ),
        python(
            "subprocesses from many threads",
            r#"
from concurrent.futures import ThreadPoolExecutor
def one(n):
    done = subprocess.run(["sh", "-c", f"cat; echo {n} >&2; exit {n}"], input=str(n) * 1000, capture_output=True, text=True)
    return done.returncode == n and done.stdout == str(n) * 1000 and done.stderr == f"{n}\n"
with ThreadPoolExecutor(8) as pool: print(sum(pool.map(one, range(120))))
"#,
            "120",
        ),
        python(
            "subprocess in all its ways",
            r#"
def run(*words, **options):
    try: print(words, subprocess.run(words, capture_output=True, text=True, timeout=20, **options))
    except OSError as error: print(words, error)
run("sh", "-c", "kill -9 $$"); run("missing"); run("/etc/passwd"); run("echo", "x", cwd="missing"); run("pwd", cwd="tmp")
run("sh", "-c", "echo $A", env={"A": "b"}); run("sh", "-c", "umask", umask=0o77); run("sh", "-c", "ps -o sid= -p $$ >/dev/null; exit 3", start_new_session=True)
run("sh", "-c", "grep SigIgn /proc/self/status", restore_signals=False); run("sh", "-c", "grep SigIgn /proc/self/status")
run("sh", "-c", "ls /proc/self/fd", close_fds=False); run("true", preexec_fn=lambda: os._exit(9)); run("sh", "-c", "exit 4", process_group=0)
if os.getuid() == 0: run("id", "-u", user=65534, group=65534, extra_groups=[3])
try: subprocess.run(["sleep", "1000"], timeout=0.05)
except subprocess.TimeoutExpired: print("timed out")
with subprocess.Popen(["sh", "-c", "exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
    print(len(cat.communicate(b"x" * 1000000)[0]))
print(os.system("exit 3") >> 8, os.popen("echo popen").read(), subprocess.getstatusoutput("exit 6"))
"#,
            "popen",
        ),
        python(
            "multiprocessing by fork and by spawn",
            r#"
open("job.py", "w").write('''
import multiprocessing, os, sys, time
def square(n): return n * n
def bad(n): raise ValueError(n)
def leave(): sys.exit(7)
def locked(value, lock):
    for _ in range(200):
        with lock: value.value += 1
if __name__ == "__main__":
    for way in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(way)
        with context.Pool(3) as pool:
            print(way, sum(pool.map(square, range(100))))
            try: pool.map(bad, [1])
            except ValueError as error: print("ValueError", error)
        value, lock = context.Value("i", 0, lock=False), context.Lock()
        workers = [context.Process(target=locked, args=(value, lock)) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        one, other = context.Process(target=leave), context.Process(target=time.sleep, args=(1000,))
        one.start(); other.start(); one.join(); other.terminate(); other.join()
        print(value.value, one.exitcode, other.exitcode)
''')
print(subprocess.run(["python3", "job.py"]).returncode)
"#,
            "forkserver 328350",
        ),
        python(
            "asyncio: subprocesses, signals, streams",
            r#"
import asyncio
async def one(n):
    process = await asyncio.create_subprocess_exec("sh", "-c", f"read x; echo $x$x; exit {n}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = await process.communicate(b"%d\n" % n)
    return out.decode().strip(), process.returncode
async def main():
    print(await asyncio.gather(*[one(n) for n in range(25)]))
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, told.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await told.wait(); print("told")
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
    server = await asyncio.start_unix_server(serve, "socket")
    async def ask(n):
        reader, writer = await asyncio.open_unix_connection("socket")
        writer.write(b"line %d\n" % n); line = await reader.read(); writer.close(); return line
    print(sorted(await asyncio.gather(*[ask(n) for n in range(50)]))[-1])
    server.close()
    slow = await asyncio.create_subprocess_exec("sleep", "1000")
    try: await asyncio.wait_for(slow.wait(), 0.05)
    except asyncio.TimeoutError: slow.kill(); print(await slow.wait())
asyncio.run(main())
"#,
            "b'LINE 9\\n'",
        ),
        python(
            "processes that a thread forks, and programs that a thread becomes",
            r#"
def forked(n):
    pid = os.fork()
    if pid == 0: os._exit(n)
    results.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
results = []
for _ in range(5):
    threads = [threading.Thread(target=forked, args=[n]) for n in range(10)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(sorted(results) == sorted(list(range(10)) * 5))
for n in range(20):
    pid = os.fork()
    if pid == 0:
        for _ in range(4): threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", f"exit {n}"])).start()
        time.sleep(1000)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != n: print("wrong", n)
sys.stdout.flush()
threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", "echo became $$ | tr -d 0-9; exit 44"])).start()
time.sleep(1000)
"#,
            "became",
        )
        .status(44),
        python(
            "faulthandler and crashes",
            r#"
crashes = [
    "faulthandler._sigsegv()", "faulthandler._sigfpe()", "faulthandler._sigabrt()",
    "faulthandler._fatal_error_c_thread()", "faulthandler._stack_overflow()",
    "import ctypes; ctypes.string_at(1)", "import os; os.abort()", "1/0", "raise SystemExit(300)",
]
for crash in crashes:
    program = f"import faulthandler, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); {crash}"
    done = subprocess.run(["python3", "-X", "faulthandler", "-c", program], capture_output=True, text=True)
    print(crash, done.returncode, done.stderr.splitlines()[:1])
"#,
            "Fatal Python error: Segmentation fault",
        )
        .normal(normal::addresses),
        python(
            "posix_spawn, vfork, and file actions",
            r#"
for n in range(100):
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {n}"], {})
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != n: print("wrong", n)
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "cat; grep SigBlk /proc/self/status >&2; exit 3"], os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/proc/self/comm", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 5), (os.POSIX_SPAWN_CLOSE, 5)],
    setsigmask=[signal.SIGUSR1], setsigdef=[signal.SIGPIPE], setpgroup=0)
print(ended(os.waitpid(pid, 0)[1]))
try: os.posix_spawn("/missing", ["x"], {})
except OSError as error: print(error)
fd = os.open("/bin/sh", os.O_PATH | os.O_CLOEXEC)
pid = os.fork()
if pid == 0: os.execve(fd, ["sh", "-c", "exit 8"], {})
print(ended(os.waitpid(pid, 0)[1]))
pid = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "exit 9"); print(os.waitpid(-1, 0) == (pid, 9 << 8))
memory = os.memfd_create("program", 0); os.write(memory, open("/bin/true", "rb").read())
print(subprocess.run([f"/proc/{os.getpid()}/fd/{memory}"]).returncode)
"#,
            "exit 8",
        ),
        python(
            "orphans, subreapers and zombies",
            r#"
libc.prctl(36, 1)
reaper = os.getpid()
for n in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            until(lambda: os.getppid() == reaper)
            os._exit(100 + n)
        os._exit(n)
codes = []
try:
    while True: codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
except ChildProcessError: print(sorted(codes))
pid = os.fork()
if pid == 0: os._exit(3)
until(lambda: state(pid) == "Z"); print("a zombie until it is waited for")
print(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status, state(pid), os.waitpid(pid, 0)[1] >> 8, os.path.exists(f"/proc/{pid}"))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
pid = os.fork()
if pid == 0: os._exit(3)
try: os.waitpid(pid, 0)
except ChildProcessError: print("reaped by nobody")
try: os.waitpid(1, 0)
except ChildProcessError: print("not a child")
"#,
            "118, 119",
        ),
        python(
            "pidfd: open, send, wait, poll",
            r#"
pid = os.fork()
if pid == 0:
    while True: signal.pause()
fd = os.pidfd_open(pid)
print(select.select([fd], [], [], 0)[0])
signal.pidfd_send_signal(fd, signal.SIGSTOP)
print(ended(os.waitpid(pid, os.WUNTRACED)[1]))
signal.pidfd_send_signal(fd, signal.SIGKILL)
print(select.select([fd], [], [], 20)[0] == [fd])
print(os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status)
try: signal.pidfd_send_signal(fd, 0)
except ProcessLookupError: print("gone")
"#,
            "gone",
        ),
        python(
            "epoll, eventfd, timerfd, inotify",
            r#"
event = os.eventfd(0); read, write = os.pipe()
timer = libc.timerfd_create(1, 0)
libc.timerfd_settime(timer, 0, struct.pack("qqqq", 0, 0, 0, 1000000), None)
notify = libc.inotify_init(); libc.inotify_add_watch(notify, b"tmp", 0xfff)
poll = select.epoll()
for fd in (event, read, timer, notify): poll.register(fd, select.EPOLLIN)
print(poll.poll(20) == [(timer, select.EPOLLIN)], os.read(timer, 8))
threading.Thread(target=lambda: (os.eventfd_write(event, 5), os.write(write, b"x"))).start()
seen = set()
until(lambda: seen.update(fd for fd, _ in poll.poll(0.1)) or len(seen) >= 2)
print(os.eventfd_read(event), os.read(read, 9), seen == {event, read})
open("tmp/a", "w").write("x"); os.rename("tmp/a", "tmp/b"); os.chmod("tmp/b", 0o600); os.unlink("tmp/b")
data = os.read(notify, 4096)
while data:
    _, mask, _, length = struct.unpack_from("iIII", data)
    print(hex(mask), data[16:16 + length].rstrip(b"\0")); data = data[16 + length:]
"#,
            "0x200 b'b'",
        ),
        python(
            "mmap, memfd, seals, shared memory",
            r#"
import mmap
from multiprocessing import shared_memory
shared = mmap.mmap(-1, 4096)
pid = os.fork()
if pid == 0: shared[:5] = b"child"; os._exit(0)
os.waitpid(pid, 0); print(shared[:5])
fd = os.memfd_create("m", os.MFD_ALLOW_SEALING); os.ftruncate(fd, 4096)
view = mmap.mmap(fd, 4096); view[:3] = b"abc"; os.lseek(fd, 0, 0); print(os.read(fd, 3)); del view
fcntl.fcntl(fd, 1033, 8)
try: os.write(fd, b"x")
except OSError as error: print(errno.errorcode[error.errno])
open("file", "wb").write(b"\0" * 8192)
with open("file", "r+b") as file:
    view = mmap.mmap(file.fileno(), 0); view[4096:4101] = b"saved"; view.flush(); view.madvise(mmap.MADV_DONTNEED); print(view[4096:4101], file.seek(4096), file.read(5))
block = shared_memory.SharedMemory(create=True, size=100); block.buf[0] = 7
again = shared_memory.SharedMemory(block.name); print(again.buf[0]); again.close(); block.close(); block.unlink()
private = mmap.mmap(-1, 1 << 26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, 1 << 26, 4096): private[page] = 1
print(sum(private[page] for page in range(0, 1 << 26, 4096)))
"#,
            "16384",
        ),
        python(
            "sendfile, splice, copy_file_range, vectors",
            r#"
data = bytes(range(256)) * 4000
open("in", "wb").write(data); source = os.open("in", os.O_RDONLY); target = os.open("out", os.O_RDWR | os.O_CREAT, 0o640)
sent = 0
while sent < len(data): sent += os.sendfile(target, source, sent, len(data))
read, write = os.pipe()
n = os.splice(source, write, 4096, offset_src=0); print(n, os.read(read, 5000) == data[:4096])
print(os.copy_file_range(source, target, 100, 0, len(data)), os.pwritev(target, [b"a", b"bc"], 3), os.preadv(target, [one := bytearray(2), two := bytearray(2)], 2), one, two)
os.posix_fallocate(target, 0, 1100000); os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED); os.fsync(target); print(os.fstat(target).st_size)
os.truncate("out", 1000); print(os.lseek(target, 0, os.SEEK_HOLE))
"#,
            "4096 True",
        ),
        python(
            "descriptors that are passed between processes",
            r#"
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    message, fds, flags, _ = socket.recv_fds(other, 100, 3)
    os.write(fds[0], b"through " + message + os.read(fds[1], 4)); os._exit(len(fds))
read, write = os.pipe()
socket.send_fds(one, [b"a socket: "], [write, os.open("/etc/passwd", 0)])
print(os.read(read, 100), ended(os.waitpid(pid, 0)[1]))
a, b = socket.socketpair(); b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
a.send(b"x"); _, extra, _, _ = b.recvmsg(1, 100); print(struct.unpack("iii", extra[0][2])[0] == os.getpid())
print(struct.unpack("iii", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid())
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); abstract.bind("\0agree-%d" % os.getpid())
abstract.connect("\0agree-%d" % os.getpid()); abstract.send(b"datagram"); print(abstract.recv(100))
"#,
            "through a socket: root",
        ),
        python(
            "TCP and UDP over loopback",
            r#"
server = socket.create_server(("127.0.0.1", 0)); port = server.getsockname()[1]
def serve():
    for _ in range(30):
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536): connection.sendall(data.upper())
thread = threading.Thread(target=serve); thread.start()
total = 0
for n in range(30):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"abc" * 5000 * (n % 3 + 1)); client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536): total += data.count(b"A")
thread.join(); print(total)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0)); udp.sendto(b"ping", udp.getsockname()); print(udp.recv(10))
server.close()
try: socket.create_connection(("127.0.0.1", port))
except OSError as error: print(errno.errorcode[error.errno])
slow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); slow.bind(("127.0.0.1", 0)); slow.settimeout(0.02)
try: slow.recv(1)
except TimeoutError: print("timed out")
"#,
            "ECONNREFUSED",
        ),
        python(
            "sqlite with two writers and a crash",
            r#"
import sqlite3
for mode in ("delete", "wal"):
    name = f"{mode}.db"
    base = sqlite3.connect(name, isolation_level=None, timeout=20); base.execute(f"pragma journal_mode={mode}"); base.execute("create table t(n)")
    pids = []
    for start in (0, 1000):
        pid = os.fork()
        if pid == 0:
            mine = sqlite3.connect(name, timeout=20)
            for n in range(40):
                with mine: mine.execute("insert into t values(?)", [start + n])
            os._exit(0)
        pids.append(pid)
    print([ended(os.waitpid(pid, 0)[1]) for pid in pids])
    pid = os.fork()
    if pid == 0:
        mine = sqlite3.connect(name, isolation_level=None); mine.execute("begin immediate"); mine.execute("delete from t"); os.kill(os.getpid(), signal.SIGKILL)
    print(ended(os.waitpid(pid, 0)[1]))
    print(base.execute("select count(*), sum(n) from t").fetchone(), base.execute("pragma integrity_check").fetchone())
    base.close()
"#,
            "(80, 41560)",
        )
        .varying(&[".db", "-journal"]),
        python(
            "locks between processes",
            r#"
path = "lock"; open(path, "w").close(); open("count", "w").write("0")
pids = []
for n in range(4):
    pid = os.fork()
    if pid == 0:
        with open(path, "r+") as file:
            for _ in range(50):
                fcntl.flock(file, fcntl.LOCK_EX)
                value = int(open("count").read()); open("count", "w").write(str(value + 1))
                fcntl.flock(file, fcntl.LOCK_UN)
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
print(open("count").read())
with open(path, "r+") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        with open(path, "r+") as own:
            try: fcntl.lockf(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error: print(errno.errorcode[error.errno], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"#,
            "200",
        ),
        python(
            "terminals: sessions and foreground groups",
            r#"
pid, terminal = os.forkpty()
if pid == 0:
    print(os.getsid(0) == os.getpid() == os.getpgrp() == os.tcgetpgrp(0), flush=True)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.tcsetpgrp(0, os.getpgrp())
        os._exit(5)
    stopped = ended(os.waitpid(child, os.WUNTRACED)[1])
    os.tcsetpgrp(0, child); os.kill(child, signal.SIGCONT)
    status = ended(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTTOU, signal.SIG_IGN); os.tcsetpgrp(0, os.getpgrp())
    print(stopped, status, flush=True)
    os._exit(6)
output = b""
try:
    while more := os.read(terminal, 1000): output += more
except OSError: pass
print(output.decode().split(), ended(os.waitpid(pid, 0)[1]))
"#,
            "exit 6",
        ),
    ]
}
