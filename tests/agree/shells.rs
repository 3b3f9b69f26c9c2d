//! Scripts of shells: pipes, subshells, traps, background jobs.

use super::case::{Case, bash, command, sh};

pub fn cases() -> Vec<Case> {
    vec![
        sh(
            "pipes, substitution and here-documents",
            r#"
            set -e
            seq 1000 | grep 7 | sort -rn | head -n 3
            echo "$(echo inner $(echo innermost))"
            cat <<END | tr a-z A-Z
            text of $((6 * 7)) lines
END
            (cd tmp && pwd; exit 3) || echo "subshell $?"
            { echo out; echo err >&2; } 2>&1 | cat
            "#,
            "TEXT OF 42 LINES",
        ),
        sh(
            "statuses of all kinds",
            r#"
            true; echo $?; false; echo $?; (exit 255); echo $?
            no-such-command; echo $?
            /etc/passwd; echo $?
            sh -c 'kill -9 $$'; echo $?
            sh -c 'kill -TERM $$'; echo $?
            sh -c 'kill -SEGV $$' 2>/dev/null; echo $?
            ! true; echo $?
            false | true; echo $?
            exit 77
            "#,
            "137",
        )
        .status(77),
        bash(
            "PIPESTATUS and pipefail",
            r#"
            set -o pipefail
            (exit 3) | (exit 5) | true; echo "$? ${PIPESTATUS[*]}"
            yes | head -n 2; echo "$? ${PIPESTATUS[*]}"
            sh -c 'kill -15 $$' | cat; echo "$? ${PIPESTATUS[*]}"
            "#,
            "141 141 0",
        ),
        sh(
            "traps of every signal in dash",
            r#"
            for name in HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT TSTP TTIN TTOU \
                URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS; do
                trap "echo caught $name" $name
                kill -s $name $$
            done
            trap 'echo leaving with $?' EXIT
            exit 9
            "#,
            "caught TRAP",
        )
        .status(9),
        bash(
            "traps of every signal in bash",
            r#"
            for number in $(seq 1 64); do
                case $number in 9|19|32|33) continue;; esac
                trap "echo caught $number" $number
                kill -$number $$
            done
            trap 'echo leaving' EXIT
            kill -KILL $$
            "#,
            "caught 64",
        )
        .status(137),
        // A job that has ended before bash waits may be forgotten: they end later.
        bash(
            "wait -n and background jobs",
            r#"
            mkfifo one two
            (read line < one; sleep 1; exit 11) & first=$!
            (read line < two; sleep 1; exit 22) & second=$!
            echo > two; wait -n; echo "first to end: $?"
            echo > one; wait -n; echo "then: $?"
            wait -n; echo "none: $?"
            sleep 1000 & kill $!; wait $! 2> /dev/null; echo "killed: $?"
            jobs -p | wc -l
            wait $first; echo "remembered: $?"; wait $second; echo "and: $?"
            "#,
            "first to end: 22",
        )
        .normal(super::normal::ids),
        bash(
            "job control in a script",
            r#"
            set -m
            sh -c 'kill -STOP $$; echo went on; exit 6' & wait $! 2> /dev/null; echo "stopped is $?"
            jobs | sed 's/  */ /g'
            fg > /dev/null; echo "ended with $?"
            sleep 1000 & kill -TSTP %1; wait %1 2> /dev/null; echo "stopped is $?"
            bg; kill %1; wait %1; echo "ended with $?"
            "#,
            "stopped is 147",
        )
        .normal(super::normal::ids),
        bash(
            "a coprocess",
            r#"
            coproc tr { while read line; do echo "${line^^}"; done; }
            for word in alpha beta; do echo $word >&${tr[1]}; read answer <&${tr[0]}; echo "$answer"; done
            exec {tr[1]}>&-; wait $tr_PID; echo $?
            "#,
            "BETA",
        ),
        bash(
            "process substitution",
            r#"
            diff <(seq 5) <(seq 2 6); echo $?
            seq 3 | tee >(sed s/^/a/ > a) >(sed s/^/b/ > b) >/dev/null
            until [ -s a ] && [ -s b ]; do :; done; cat a b; wait
            "#,
            "> 6",
        ),
        sh(
            "an interrupted wait",
            r#"
            trap 'echo signalled' USR1
            mkfifo go
            (read line < go; exit 5) & child=$!
            (until grep -q '^State:.S' /proc/$$/status; do :; done; kill -USR1 $$; echo sent > sent) &
            wait $child; echo "wait: $?"
            until [ -s sent ]; do :; done
            echo > go
            wait $child; echo "wait again: $?"
            "#,
            "wait again: 5",
        ),
        sh(
            "redirections and inherited descriptors",
            r#"
            exec 3> three 4< /dev/null 9>&1
            ls -l /proc/self/fd | awk 'NR > 1 {print $9}' | sort -n | tr '\n' ' '
            echo to nine >&9; echo to three >&3
            exec 3>&-
            sh -c 'echo nothing >&3'; echo $?
            sh -c ': < missing'; echo $?
            umask 077; : > private; umask
            "#,
            "to nine",
        ),
        bash(
            "five hundred short processes",
            r#"
            for i in {1..250}; do /bin/true || echo failed
            (exit $((i % 256))); [ $? = $((i % 256)) ] || echo bad; done; echo done
            "#,
            "done",
        ),
        sh(
            "ignored signals are inherited",
            r#"
            trap '' INT USR1
            sh -c 'kill -INT $$; kill -USR1 $$; echo alive; grep SigIgn /proc/self/status'
            trap - INT
            sh -c 'kill -INT $$; echo alive'; echo $?
            "#,
            "130",
        ),
        command("a script that is named by its interpreter's line", &["./script", "an argument"], "script an argument")
            .file("script", "#!/bin/sh -e\necho \"${0##*/} $1\"\nreadlink /proc/$$/exe | xargs basename\nexit 4\n")
            .status(4),
        sh("exec leaves nothing", "exec 5< /etc/passwd; exec sh -c 'head -c 4 <&5; exec false'", "root").status(1),
        sh(
            "argument lists that are too long",
            r#"
            big=$(head -c 140000 /dev/zero | tr '\0' x)
            /bin/true "$big"; echo $?
            env A="$big" /bin/true; echo $?
            /bin/echo ${#big}
            "#,
            "140000",
        ),
    ]
}
