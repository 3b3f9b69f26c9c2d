//! Dialogues with shells at a terminal: job control, and the keyboard's
//! signals.

use super::case::{Case, Step, dialogue};
use super::normal;
use Step::{Asleep, Expect, Type};

/// Without line editing the terminal itself echoes what is typed, once and at
/// once.
const BASH: [&str; 5] = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
const DASH: [&str; 2] = ["dash", "-i"];

/// A key that sends a signal throws away what the terminal was still to show
/// (`isig` of `n_tty` in Linux), so what was typed before is seen before.
pub fn cases() -> Vec<Case> {
    let prompt = Expect("PROMPT> ");
    let leave = [prompt, Type("exit 3\n")];
    let case = |name, shell: &[&str], steps: &[Step]| {
        dialogue(name, shell, &[&[prompt], steps, &leave].concat()).status(3).normal(normal::ids)
    };
    vec![
        case(
            "stop, list, background, foreground",
            &BASH,
            &[
                Type("sleep 1000\n"),
                Expect("sleep 1000\r"),
                Asleep("sleep"),
                Type("\x1a"),
                Expect("Stopped"),
                prompt,
                Type("jobs; echo status $?\n"),
                Expect("status 0"),
                prompt,
                Type("bg\n"),
                Expect("sleep 1000 &"),
                prompt,
                Type("jobs -r\n"),
                Expect("Running"),
                prompt,
                Type("fg\n"),
                Expect("\nsleep 1000"),
                Asleep("sleep"),
                Type("\x03"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 130"),
            ],
        ),
        case(
            "a job of several processes is stopped as one",
            &BASH,
            &[
                Type("sleep 1000 | cat | cat\n"),
                Expect("sleep 1000 | cat | cat\r"),
                Asleep("sleep"),
                Asleep("cat"),
                Type("\x1a"),
                Expect("Stopped"),
                prompt,
                Type("fg\n"),
                Expect("\nsleep 1000"),
                Asleep("sleep"),
                Type("\x03"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 130"),
            ],
        ),
        case(
            "interrupt and quit",
            &BASH,
            &[
                Type("sleep 1000\n"),
                Expect("sleep 1000\r"),
                Asleep("sleep"),
                Type("\x03"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 130"),
                prompt,
                Type("ulimit -c 0; sleep 1001\n"),
                Expect("sleep 1001\r"),
                Asleep("sleep"),
                Type("\x1c"),
                Expect("Quit"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 131"),
            ],
        ),
        case(
            "stop and foreground in dash",
            &DASH,
            &[
                Type("sleep 1000\n"),
                Expect("sleep 1000\r"),
                Asleep("sleep"),
                Type("\x1a"),
                Expect("Stopped"),
                prompt,
                Type("jobs\n"),
                Expect("Stopped"),
                prompt,
                Type("fg\n"),
                Expect("\nsleep 1000"),
                Asleep("sleep"),
                Type("\x03"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 130"),
            ],
        ),
        case(
            "reading in the background stops a job",
            &BASH,
            &[
                Type("cat &\n"),
                prompt,
                Type("wait %1; echo status $?\n"),
                Expect("status 149"),
                prompt,
                Type("fg\n"),
                Expect("\ncat"),
                Asleep("cat"),
                Type("a line\n"),
                Expect("a line\r\na line"),
                Type("\x04"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 0"),
            ],
        )
        .normal(normal::without_notices),
        case(
            "writing in the background with tostop",
            &BASH,
            &[
                Type("stty tostop; echo in the background &\n"),
                prompt,
                Type("wait %1; echo status $?\n"),
                Expect("status 150"),
                prompt,
                Type("stty -tostop; fg\n"),
                Expect("\r\nin the background"),
            ],
        )
        .normal(normal::without_notices),
        case(
            "a program that catches the interrupt",
            &BASH,
            &[
                Type(
                    "bash -c 'trap \"echo caught\" INT; trap \"echo quit; exit 4\" QUIT; echo ready; while :; do sleep 1000; done'\n",
                ),
                Expect("\nready"),
                Asleep("sleep"),
                Type("\x03"),
                Expect("caught\r"),
                Asleep("sleep"),
                Type("\x1c"),
                Expect("quit\r"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 4"),
            ],
        ),
        case(
            "a window that changes its size",
            &BASH,
            &[
                Type(
                    "python3 -uc 'import signal, os; signal.signal(signal.SIGWINCH, lambda *_: print(\"now\", os.get_terminal_size())); os.system(\"stty cols 99 rows 33\"); print(\"later\", os.get_terminal_size())'\n",
                ),
                Expect("later os.terminal_size(columns=99"),
            ],
        ),
        case(
            "a password is not echoed",
            &BASH,
            &[
                Type("read -rsp 'secret? ' word; echo; echo \"${#word} letters\"\n"),
                Expect("\nsecret? "),
                // It has changed the terminal once it waits in the read.
                Asleep("bash"),
                Type("hush\n"),
                Expect("4 letters"),
            ],
        ),
        case(
            "the foreground is given and taken back",
            &BASH,
            &[
                Type("python3 -c 'import os; print(os.getpgrp() == os.tcgetpgrp(0) == os.getpid())'\n"),
                Expect("True"),
                prompt,
                Type("bash --norc --noprofile --noediting -i\n"),
                prompt,
                Type("sleep 1000\n"),
                Expect("sleep 1000\r"),
                Asleep("sleep"),
                Type("\x1a"),
                Expect("Stopped"),
                prompt,
                Type("exit\n"),
                Expect("There are stopped jobs."),
                prompt,
                Type("fg\n"),
                Expect("\nsleep 1000"),
                Asleep("sleep"),
                Type("\x03"),
                prompt,
                Type("exit 5\n"),
                prompt,
                Type("echo status $?\n"),
                Expect("status 5"),
            ],
        ),
        dialogue(
            "hanging up ends what is there",
            &BASH,
            &[prompt, Type("trap 'echo hung up; exit 6' HUP; kill -HUP $$\n"), Expect("\r\nhung up")],
        )
        .status(6),
    ]
}
