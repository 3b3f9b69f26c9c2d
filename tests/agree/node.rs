//! Programs of Node.js and Java, which are tried where there are such.

use super::case::{Case, command, sh};
use super::normal;

pub fn node() -> Vec<Case> {
    let node = |name, program, says| command(name, &["node", "-e", program], says).needs(&["node"]);
    vec![
        node(
            "node: subprocesses and signals",
            r#"
const {spawn, execFile, spawnSync, fork} = require('child_process');
console.log(spawnSync('sh', ['-c', 'echo out; exit 3']).status, spawnSync('sh', ['-c', 'kill -9 $$']).signal, spawnSync('missing').error.code);
process.on('SIGUSR2', () => { console.log('got USR2');
  const child = spawn('sleep', ['1000']);
  child.on('exit', (code, signal) => { console.log(code, signal); execFile('cat', ['missing'], error => { console.log(error.code); process.exit(7); }); });
  child.kill('SIGINT'); });
setInterval(() => {}, 1000);
process.kill(process.pid, 'SIGUSR2');
"#,
            "got USR2",
        )
        .status(7),
        node(
            "node: threads, files and a server",
            r#"
const http = require('http'), fs = require('fs'), {Worker} = require('worker_threads');
const worker = n => new Promise(done => new Worker(`const {parentPort} = require('worker_threads'); let s = 0; for (let i = 0; i < 1e5; i++) s += i; parentPort.postMessage(s + ${n})`, {eval: true}).on('message', done));
(async () => {
  console.log(await Promise.all([0, 1, 2, 3].map(worker)));
  await Promise.all([...Array(50).keys()].map(n => fs.promises.writeFile(`tmp/${n}`, String(n))));
  console.log((await fs.promises.readdir('tmp')).length);
  const server = http.createServer((request, response) => response.end(request.url)).listen('socket');
  const get = n => new Promise(done => http.get({socketPath: 'socket', path: '/' + n}, response => { let text = ''; response.on('data', d => text += d).on('end', () => done(text)); }));
  console.log((await Promise.all([...Array(60).keys()].map(get))).join(' ').length);
  server.close(); process.exitCode = 4;
})();
"#,
            "4999950000",
        )
        .status(4),
        node(
            "node: a cluster",
            r#"
const cluster = require('cluster');
cluster.setupPrimary({exec: __filename, args: []});
const {fork} = require('child_process');
require('fs').writeFileSync('child.js', `process.on('message', m => { process.send(m * 2); if (m === 3) process.exit(5); });`);
const child = fork('./child.js');
child.on('message', m => { console.log('answer', m); }).on('exit', code => { console.log('exit', code); process.abort(); });
for (const n of [1, 2, 3]) child.send(n);
"#,
            "answer 6",
        )
        .status(134)
        .varying(&["core"]),
    ]
}

pub fn java() -> Vec<Case> {
    vec![
        sh(
            "java: threads, subprocesses, null pointers, a shutdown hook",
            "java -Xshare:auto -XX:TieredStopAtLevel=1 -XX:-UsePerfData Program.java; echo $?",
            "null",
        )
        .file("Program.java", JAVA)
        .needs(&["java", "javac"])
        .normal(normal::ids),
    ]
}

const JAVA: &str = r#"
import java.util.stream.*;
public class Program {
    static int[] nothing;
    public static void main(String[] words) throws Exception {
        System.out.println(IntStream.range(0, 100000).parallel().map(n -> n % 7).sum());
        int caught = 0;
        for (int n = 0; n < 20000; n++) try { nothing[n] = 1; } catch (NullPointerException e) { caught++; }
        System.out.println("null " + caught);
        Process process = new ProcessBuilder("sh", "-c", "cat; exit 6").start();
        process.getOutputStream().write("text\n".getBytes()); process.getOutputStream().close();
        System.out.println(new String(process.getInputStream().readAllBytes()) + process.waitFor());
        Thread[] threads = new Thread[20];
        for (int n = 0; n < 20; n++) { threads[n] = new Thread(() -> { byte[] b = new byte[1 << 20]; }); threads[n].start(); }
        for (Thread thread : threads) thread.join();
        System.gc();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.exit(9);
    }
}
"#;
