//! Programs that try to get around a denial, in one executable: the first
//! argument chooses. tests/attacks.rs runs them and says what must come of it.
#![allow(
    clippy::cast_ptr_alignment,
    clippy::doc_markdown,
    clippy::semicolon_if_nothing_returned,
    reason = "kernel structures in mapped memory"
)]
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::unwrap_used, reason = "raw system calls are the point")]

mod abi;
mod blind;
mod death;
#[cfg(target_arch = "x86_64")]
mod errand;
mod host;
mod memory;
mod names;
mod normal;
mod page;
mod race;
mod sharing;
mod swap;
mod sys;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let given = unsafe { libc::getauxval(libc::AT_EXECFD) };
    if given != 0 {
        // We are the interpreter of a file that we were handed (binfmt_misc).
        return println!("{}", if sys::is_secret(given as i32) { "leaked" } else { "harmless" });
    }
    match words[..] {
        ["race", mover, call, root, attempts] => race::main(mover, call, root, number(attempts), None),
        ["race", mover, call, root, attempts, port] => {
            race::main(mover, call, root, number(attempts), Some(port.parse().unwrap()));
        }
        ["race-place", what, root, attempts] => race::place(what, root, number(attempts)),
        ["race-death", what, root, attempts] => death::main(what, root, number(attempts)),
        ["race-shared", what, root, attempts] => sharing::main(what, root, number(attempts)),
        ["swap", what, who, using, root, attempts] => swap::main(what, who, using, root, number(attempts)),
        ["starve", root, seconds] => swap::starve(root, number(seconds)),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["name", what, root, ..] => names::main(what, root, &words[3..]),
        ["page", what, root, attempts] => page::main(what, root, number(attempts)),
        ["unreadable", what, root, attempts] => page::unreadable(what, root, number(attempts)),
        ["blind", what, root] => blind::main(what, root, 0),
        ["blind", what, root, count] => blind::main(what, root, number(count)),
        #[cfg(target_arch = "x86_64")]
        ["errand", root, attempts] => errand::main(root, number(attempts)),
        ["host", what, ..] => host::main(what, &words[2..]),
        ["normal", what, root] => normal::main(what, root),
        ["without", call, program, ..] => blind::run_without(number(call) as i64, program, &args[2..]),
        ["race-exec-in-thread", root, attempts] => race::exec_in_thread(root, number(attempts)),
        _ => panic!("no such attack: {words:?}"),
    }
}
