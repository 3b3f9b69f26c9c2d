//! Servers under load, with reloads and restarts. They listen on sockets in
//! their working directory.

use super::case::{Case, python, sh};

pub fn cases() -> Vec<Case> {
    let redis = |name, script: &str, says| {
        sh(name, &format!("{REDIS}{script}"), says)
            .file("redis.conf", REDIS_CONF)
            .varying(&["dump.rdb", "log", ".aof", ".rdb"])
            .needs(&["redis-server", "redis-cli", "redis-benchmark"])
    };
    let nginx = |name, script: &str, says| {
        sh(name, &format!("{NGINX}{script}"), says)
            .file("nginx.conf", NGINX_CONF)
            .varying(&["error.log"])
            .needs(&["nginx", "curl"])
    };
    vec![
        redis(
            "redis under load, saving in the background, restarted",
            r#"
            start
            redis-benchmark -s redis.sock -n 3000 -c 20 -r 500 -t set,get,incr,lpush,mset -q > /dev/null & load=$!
            cli config set maxmemory 100mb; cli set key value; cli bgsave; cli lpush list a b c
            wait $load; echo "load: $?"
            until [ "$(cli info persistence | grep -c 'rdb_bgsave_in_progress:0')" = 1 ]; do sleep 0.01; done
            cli info persistence | grep last_bgsave_status; cli save; cli info stats | grep -c total_commands
            stop; start; cli get key; cli lrange list 0 -1; cli llen mylist; stop
            "#,
            "last_bgsave_status:ok",
        ),
        redis(
            "redis with an append-only file, killed and restarted",
            r#"
            start; cli config set appendonly yes
            until [ "$(cli info persistence | grep -c -e aof_rewrite_in_progress:0 -e aof_last_bgrewrite_status:ok)" = 2 ]; do sleep 0.01; done
            redis-benchmark -s redis.sock -n 2000 -c 10 -P 4 -q incr counter > /dev/null; cli get counter
            cli set last one; cli bgrewriteaof; until [ "$(cli info persistence | grep -c aof_rewrite_in_progress:0)" = 1 ]; do sleep 0.01; done
            kill -9 $server; wait $server 2> /dev/null; echo "ended with $?"
            rm redis.sock; redis-server redis.conf --appendonly yes & server=$!; until cli ping >/dev/null 2>&1; do sleep 0.01; done
            cli get last; cli get counter; stop
            "#,
            "ended with 137",
        )
        .varying(&["appendonlydir", ".aof", ".rdb", ".manifest", "log"]),
        redis(
            "redis with blocked clients, scripts and subscribers",
            r#"
            start
            cli blpop queue 0 & client=$!
            redis-cli -s redis.sock subscribe channel > told & subscriber=$!
            until [ "$(cli pubsub numsub channel | tail -n 1)" = 1 ]; do sleep 0.01; done
            until [ "$(cli info clients | grep -c blocked_clients:1)" = 1 ]; do sleep 0.01; done
            cli rpush queue item > /dev/null; wait $client
            cli publish channel message > /dev/null; cli publish channel again > /dev/null; until grep -q again told; do sleep 0.01; done; kill $subscriber; wait $subscriber 2> /dev/null; cat told
            cli eval 'for n = 1, 1000 do redis.call("incr", "n") end return redis.call("get", "n")' 0
            cli debug sleep 0; cli object encoding n; cli expire n 1; cli ttl n; cli client list | wc -l; stop
            "#,
            "message",
        ),
        nginx(
            "nginx with workers, reloaded under load",
            r#"
            start; load 150 > one & first=$!; load 150 > two & second=$!
            for n in 1 2 3; do
                sed -i "s/version [0-9]*/version $n/" nginx.conf; kill -HUP $(cat nginx.pid)
                until [ "$(get /)" = "version $n" ]; do sleep 0.01; done; echo reloaded
            done
            wait $first; echo "load: $?"; wait $second; echo "load: $?"; cat one two
            get /file | md5sum; get /missing | grep -c 404; kill -QUIT $(cat nginx.pid); wait $server; echo "ended with $?"
            "#,
            "reloaded",
        ),
        nginx(
            "nginx whose worker is killed",
            r#"
            start; get /
            for n in 1 2 3; do
                worker=$(cat /proc/$server/task/$server/children); kill -9 ${worker%% *}
                until [ "$(cat /proc/$server/task/$server/children)" != "$worker" ] && [ "$(get /)" = 'version 0' ]; do sleep 0.01; done; echo another
            done
            kill -USR1 $(cat nginx.pid); get /; kill -TERM $(cat nginx.pid); wait $server; echo "ended with $?"
            start; nginx -p . -c nginx.conf -t; nginx -p . -c nginx.conf -s stop 2> /dev/null; wait $server; echo "ended with $?"
            "#,
            "another",
        ),
        nginx(
            "nginx as a daemon",
            r#"
            sed -i 1d nginx.conf; nginx -p . -c nginx.conf -e error.log; echo $?; until [ -s nginx.pid ]; do sleep 0.01; done; get /; load 50
            pid=$(cat nginx.pid); nginx -p . -c nginx.conf -s quit 2> /dev/null; echo $?; while [ -e nginx.pid ]; do sleep 0.01; done; echo over
            "#,
            "over",
        ),
        python(
            "http.server with threads and many clients",
            r#"
import http.server, urllib.request
from concurrent.futures import ThreadPoolExecutor
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever).start()
open("page", "w").write("text " * 10000)
def get(n):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/page") as answer: return len(answer.read())
with ThreadPoolExecutor(8) as pool: print(sum(pool.map(get, range(200))))
server.shutdown(); server.server_close()
"#,
            "10000000",
        ),
        python(
            "a forking server that is restarted",
            r#"
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.readline().upper())
class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer): pass
def start():
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(15))
        with Server("socket", Handler) as server:
            open("up", "w").close()
            try: server.serve_forever()
            except KeyboardInterrupt: os._exit(2)
    until(lambda: os.path.exists("up")); os.unlink("up")
    return pid
for way in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
    pid = start()
    answers = []
    for n in range(30):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("socket"); client.sendall(b"line %d\n" % n); answers.append(client.makefile().read())
    os.kill(pid, way); status = os.waitpid(pid, 0)[1]; os.unlink("socket")
    print(len(answers), answers[-1].strip(), ended(status))
"#,
            "LINE 29",
        ),
    ]
}

const REDIS_CONF: &str = "port 0\nunixsocket redis.sock\nsave \"\"\nlogfile log\nstop-writes-on-bgsave-error no\n";

const REDIS: &str = r#"
cli() { redis-cli -s redis.sock "$@"; }
start() { redis-server redis.conf & server=$!; until cli ping > /dev/null 2>&1; do sleep 0.01; done; }
stop() { kill -TERM $server; wait $server; echo "ended with $?"; }
"#;

const NGINX_CONF: &str = "daemon off;
pid nginx.pid;
error_log error.log;
worker_processes 2;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path tmp/body; proxy_temp_path tmp/proxy; fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi; scgi_temp_path tmp/scgi;
    server {
        listen unix:nginx.sock;
        root .;
        location = / { return 200 'version 0'; }
    }
}
";

const NGINX: &str = r#"
seq 20000 > file
get() { curl -s --unix-socket nginx.sock "http://localhost$1"; }
start() { nginx -p . -c nginx.conf -e error.log & server=$!; until [ "$(get /)" ]; do sleep 0.01; done; }
load() { curl -s --unix-socket nginx.sock "http://localhost/file?[1-$1]" | wc -c; }
"#;
