//! Small programs that start, time, limit, buffer or wait for others.

use super::case::{Case, Step, To, bash, command, python, sh};
use super::normal;
use Step::{Asleep, Expect, Send};

pub fn cases() -> Vec<Case> {
    vec![
        sh(
            "timeout",
            r#"
            timeout 0.05 sleep 1000; echo $?
            timeout -s KILL 0.05 sleep 1000; echo $?
            timeout --preserve-status 0.05 sleep 1000; echo $?
            timeout -k 0.05 0.05 sh -c 'trap "" TERM; while :; do :; done'; echo $?
            timeout --foreground 0.05 sleep 1000; echo $?
            timeout 1000 sh -c 'exit 7'; echo $?
            timeout 1000 no-such-program; echo $?
            timeout 0.05 sh -c 'sleep 1000 & wait'; echo $?
            "#,
            "124",
        ),
        sh("timeout that is itself ended", "echo ready; exec timeout 1000 sleep 1000", "ready")
            .steps(&[Asleep("sleep"), Send(To::Started, libc::SIGTERM)])
            .status(143),
        sh(
            "nohup",
            r#"
            nohup sh -c 'kill -HUP $$; echo alive; echo errors >&2'; echo $?
            nohup no-such-program; echo $?
            "#,
            "alive",
        ),
        sh(
            "setsid",
            r#"
            setsid -w sh -c 'set -- $(cat /proc/self/stat); [ $6 = $$ ] && echo a session of its own; exit 9'; echo $?
            setsid sh -c 'read line < /dev/tty' 2>&1 | sed 's/.*: //'
            setsid sh -c 'kill -TERM 0'; echo "still here, $?"
            "#,
            "a session of its own",
        )
        .normal(normal::lines_in_order),
        sh(
            "stdbuf",
            r#"
            mkfifo pipe
            (stdbuf -oL sh -c 'awk "{print \$0 \"!\"; }"' < pipe | while read line; do echo "got $line"; [ "$line" = "two!" ] && break; done) &
            exec 3> pipe
            echo one >&3; echo two >&3
            exec 3>&-
            wait
            stdbuf -o0 printf 'unbuffered'; stdbuf -i0 head -n 1 < /etc/passwd | wc -l
            "#,
            "got two!",
        ),
        sh(
            "script",
            r#"
            script -qec 'tty | grep -c /dev/pts; stty size; exit 3' log < /dev/null; echo $?
            script -qec 'kill -9 $$' log2 < /dev/null; echo $?
            echo 'typed' | script -qc 'read line; echo "read $line"' log3; echo $?
            "#,
            "1",
        )
        .varying(&["log", "log2", "log3"])
        .needs(&["script"]),
        sh(
            "xargs",
            r#"
            seq 40 | xargs -P 4 -n 3 sh -c 'echo "$@"; exit 0' x | tr ' ' '\n' | sort -n | paste -s
            seq 5 | xargs -n 1 sh -c '[ $1 = 3 ] && exit 255; echo $1' x; echo $?
            seq 5 | xargs -n 1 sh -c '[ $1 = 3 ] && exit 9; echo $1' x; echo $?
            seq 2 | xargs -n 1 sh -c 'kill -9 $$'; echo $?
            echo a | xargs no-such-program; echo $?
            printf 'a b\0c' | xargs -0 -I @ echo '<@>'
            "#,
            "<a b>",
        ),
        sh(
            "nice, renice and ionice",
            r#"
            nice; nice -n 5 nice; nice -n 5 nice -n 5 nice
            nice -n 3 sh -c 'renice -n 7 -p $$ > /dev/null; nice'
            ionice; ionice -c 3 ionice; ionice -c 2 -n 6 ionice
            "#,
            "10",
        )
        .needs(&["ionice"]),
        sh(
            "chrt and taskset",
            r#"
            chrt -p $$ | sed 's/.*: //'
            chrt -b 0 sh -c 'chrt -p $$' | sed 's/.*: //'
            chrt -i 0 sh -c 'chrt -p $$' | sed 's/.*: //'
            taskset -cp $$ | sed 's/.*: //'
            taskset -c 0 nproc
            nproc
            "#,
            "SCHED_BATCH",
        )
        .needs(&["chrt", "taskset"]),
        sh(
            "env",
            r#"
            env -i A=b sh -c 'env | sort'; env -u HOME sh -c 'echo ${HOME-none}'
            env -C tmp pwd; env -S 'echo a b'; env --default-signal=PIPE sh -c 'yes | head -n 1'
            "#,
            "A=b",
        ),
        sh(
            "flock",
            r#"
            mkfifo ready
            (flock 9; echo locked > ready; until [ -e release ]; do sleep 0.01; done; echo first) 9> lock &
            read line < ready
            flock -n lock true; echo "busy: $?"
            flock -w 0.05 lock true; echo "still busy: $?"
            : > release
            flock lock echo second; wait
            flock -n lock sh -c 'exit 6'; echo $?
            "#,
            "busy: 1",
        )
        .needs(&["flock"]),
        bash(
            "tee, and a reader that leaves",
            r#"
            seq 100000 | tee copy | tail -n 1
            cmp copy <(seq 100000) && echo the same
            seq 1000000 | head -n 1; echo "${PIPESTATUS[*]}"
            seq 1000000 | tee -p half | head -n 1 > /dev/null; echo "${PIPESTATUS[1]}"
            wc -l < half
            "#,
            "141 0",
        ),
        sh(
            "dd",
            r#"
            dd if=/dev/zero bs=1000 count=1234 status=none | dd of=out bs=4096 iflag=fullblock 2>&1 | head -n 2
            dd if=out bs=1 skip=1233999 status=none | od -c; dd if=missing
            "#,
            "301+1 records in",
        )
        .status(1),
        sh(
            "dd tells how far it is when asked by a signal",
            r#"
            mkfifo pipe; dd if=pipe of=/dev/null bs=512 2>&1 & exec 3> pipe; echo $! > pid; echo 12345678 >&3
            echo ready; wait $! 2> /dev/null; echo $?
            "#,
            "ready",
        )
        .steps(&[
            Expect("ready"),
            Asleep("dd"),
            Send(To::Pid, libc::SIGUSR1),
            Expect("B/s\n"),
            Send(To::Pid, libc::SIGTERM),
        ])
        .normal(normal::speeds),
        sh(
            "tar, gzip and cp",
            r#"
            mkdir -p tree/a/b && seq 10000 > tree/a/numbers && ln -s ../numbers tree/a/b/link && ln tree/a/numbers tree/hard
            mkfifo tree/pipe; chmod 600 tree/a/numbers; chmod 2755 tree/a; touch -d @1700000000 tree/a/numbers
            tar -C tree --sort=name --mtime=@0 -czf tree.tar.gz . && mkdir out && tar -C out -xzpf tree.tar.gz
            tar -tvzf tree.tar.gz
            cp -a tree copy && diff -r --no-dereference tree/a copy/a && echo the same
            stat -c '%a %h %n' copy/* copy/a/*
            tar -xf missing.tar; echo $?
            "#,
            "the same",
        ),
        sh(
            "find with -exec, and deleting",
            r#"
            mkdir -p a/b/c; for n in 1 2 3; do seq $n > a/f$n; seq $n > a/b/g$n; done
            find a -type f -exec wc -l {} + | sort; find a -name 'f*' -exec sh -c 'echo "$1" has $(wc -l < "$1")' x {} \; | sort
            find a -name 'g*' -delete; find a -empty; find missing; echo $?
            "#,
            "a/f3 has 3",
        ),
        sh(
            "sort with little memory",
            r#"
            seq 200000 | awk '{print $1 % 7919, $1}' | sort -S 1M -T tmp --parallel=2 | md5sum
            sort missing; echo $?; seq 3 | sort -o out; cat out; ls tmp | wc -l
            "#,
            "2\n",
        ),
        sh(
            "awk, sed and friends",
            r#"
            seq 10000 | awk '{s += $1} END {print s; exit 3}'; echo $?
            awk 'BEGIN {while (("echo a; echo b" | getline line) > 0) print "got " line; print system("exit 5"); "date +%Y" | getline y; print (y > 2000)}'
            seq 20 | sed -n '5,7p;15q'; echo text > file; sed -i s/t/T/ file; sed --quiet w/dev/stdout file
            seq 5 | split -l 2 - part; cat partac; cksum partaa; seq 3 | tac | paste -sd+ | bc 2>/dev/null || true
            comm -12 partaa partaa; printf '%s\n' b a | join - partaa; uniq -c partaa; expr 6 \* 7
            "#,
            "50005000",
        ),
        sh(
            "modes, umask, links and names",
            r#"
            umask 027; mkdir d; : > f; umask 0; mkdir d0; : > f0
            ln -s missing dangling; cat dangling; mv f "a name with
a newline"; chmod u+s,g+s f0; install -m 711 f0 installed; mktemp -u XXXX | wc -c
            touch -d @0 -h dangling; stat -c '%Y %F' dangling; stat -c '%A %F' f0; rmdir d; rm -r missing; mkfifo -m 640 p; ls -A
            "#,
            "dangling",
        ),
        sh(
            "inotify by tail -f",
            r#"
            mkfifo never; : > log; tail -n +1 -f log & echo $! > pid; for n in 1 2 3; do echo line $n >> log
            done; wait 2> /dev/null; echo $?
            "#,
            "line 3",
        )
        .steps(&[Expect("line 3"), Send(To::Pid, libc::SIGTERM)]),
        bash("times and time", "times | tr -d 0-9; { time -p true; } 2>&1 | tr -d 0-9", "m.s m.s"),
        sh(
            "mkfifo and many writers",
            r#"
            mkfifo p; (sort -n p | uniq -c | awk '$1 != 8' | wc -l) & exec 3> p
            for n in 1 2 3 4 5 6 7 8; do seq 1000 >&3 & done; exec 3>&-; wait
            "#,
            "0",
        ),
        command("yes to a closed pipe", &["bash", "-c", "yes | true; echo ${PIPESTATUS[0]}"], "141"),
        command("perl: signals, fork, sockets", &["perl", "-e", PERL], "alarm").status(21).needs(&["perl"]),
        python(
            "a terminal of Python's own",
            r#"
import pty
pid, terminal = pty.fork()
if pid == 0: os.execvp("sh", ["sh", "-c", "stty size; read line; echo got $line; kill -TERM $$"])
os.write(terminal, b"text\n")
output = b""
while True:
    try: more = os.read(terminal, 1000)
    except OSError: break
    if not more: break
    output += more
print(sorted(output.split()), ended(os.waitpid(pid, 0)[1]))
"#,
            "b'got'",
        ),
    ]
}

const PERL: &str = r#"
$| = 1;
local $SIG{ALRM} = sub { die "alarm\n" };
eval { alarm 1; 1 while 1; }; print $@;
local $SIG{CHLD} = sub { $told++ };
my $pid = fork; if (!$pid) { exit 17 }
waitpid($pid, 0); print $? >> 8, "\n";
socketpair(my $a, my $b, 1, 1, 0) or die; if (!fork) { print $b "over a socket\n"; exit }
close $b; print scalar <$a>; 1 while wait > 0;
open(my $p, "-|", "echo a; exit 3"); print <$p>; close $p; print $? >> 8, "\n";
my $out = `kill -9 \$\$`; print $? & 127, "\n"; print "told\n" if $told;
exec "sh", "-c", "exit 21";
"#;
