"""What multi-threaded programs do all day. The output is the same each time.

Usage: normal.py DIRECTORY
"""
import os
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

THREADS = 8
ROUNDS = 25
os.chdir(sys.argv[1])


def files(number):
    """Relative names, from the directory that the process went to."""
    total = 0
    for turn in range(ROUNDS):
        name = f"file-{number}-{turn}"
        with open(name, "w") as file:
            file.write(name)
        with open(f"./../{os.path.basename(os.getcwd())}/{name}") as file:
            assert file.read() == name
        total += os.stat(name).st_size
        os.unlink(name)
    return total


def names(number):
    """Everything that changes names."""
    base = f"dir-{number}"
    for turn in range(ROUNDS):
        os.mkdir(base)
        os.mkdir(f"{base}/inner")
        open(f"{base}/inner/a", "w").close()
        os.rename(f"{base}/inner/a", f"{base}/inner/b")
        os.symlink("b", f"{base}/inner/link")
        os.link(f"{base}/inner/b", f"{base}/inner/hard")
        assert os.readlink(f"{base}/inner/link") == "b"
        assert os.path.samefile(f"{base}/inner/link", f"{base}/inner/hard")
        os.rename(f"{base}/inner", f"{base}/moved")
        os.chmod(f"{base}/moved/b", 0o640)
        assert stat.S_IMODE(os.stat(f"{base}/moved/link").st_mode) == 0o640
        directory = os.open(f"{base}/moved", os.O_RDONLY)
        with os.fdopen(os.open("b", os.O_WRONLY, dir_fd=directory), "w") as file:
            file.write("x")
        os.close(directory)
        assert sorted(os.listdir(f"{base}/moved")) == ["b", "hard", "link"]
        for name in ("b", "hard", "link"):
            os.unlink(f"{base}/moved/{name}")
        os.rmdir(f"{base}/moved")
        os.rmdir(base)
    try:
        os.stat(base)
    except FileNotFoundError as error:
        return error.errno
    return "still there"


def programs(number):
    """vfork, or posix_spawn, from a thread."""
    said = [subprocess.run(["/bin/echo", f"{number}-{turn}"], capture_output=True, text=True, check=True).stdout.strip() for turn in range(3)]
    status = subprocess.run(["sh", "-c", f"cd /; exit {number}"], cwd=".").returncode
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exec true"], os.environ)
    return said, status, os.waitpid(pid, 0)[1]


def network(number):
    """A pool that connects, and looks names up."""
    for turn in range(ROUNDS):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"%d\n" % number)
            assert connection.recv(16) == b"%d\n" % number
    found = socket.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("server.sock")
        connection.sendall(b"unix")
        return found[0][4], connection.recv(16)


def serve(server):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(connection.recv(16))


tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
port = tcp.getsockname()[1]
unix = socket.socket(socket.AF_UNIX)
unix.bind("server.sock")
unix.listen(64)
for server in (tcp, unix):
    threading.Thread(target=serve, args=(server,), daemon=True).start()

with ThreadPoolExecutor(THREADS) as pool:
    for work in (files, names, programs, network):
        print(work.__name__, list(pool.map(work, range(THREADS))))
    mixed = [pool.submit(work, number) for number in range(THREADS) for work in (files, names, programs, network)]
    print("mixed", [future.result() for future in mixed])
sys.stdout.flush()
os._exit(0)
