//! Filters: whether they can be installed, and which are in force already.

use super::privileges::Own;
use super::trial::{self, Refusal, Trial, filtering};
use super::{Check, Command, Verdict, advice, procfs};

pub(super) fn checks(own: &Own) -> [Check; 2] {
    let set_already = own.status().number("NoNewPrivs").is_some_and(|set| set != 0);
    [install(&trial::filters(), set_already), in_force(own)]
}

/// `set_already` says whether `no_new_privs` was set before.
fn install(trial: &Trial, set_already: bool) -> Check {
    let (id, title) = ("seccomp-filter", "Installing a seccomp filter");
    let actions = procfs::file("/proc/sys/kernel/seccomp/actions_avail");
    // actions_avail and SECCOMP_GET_ACTION_AVAIL came with Linux 4.14.
    let trace = match (&actions, trial.step(filtering::TRACE)) {
        (_, Ok(_)) => "action trace is there",
        (Some(actions), _) if actions.split(' ').any(|action| action == "trace") => "action trace is there",
        (Some(_), _) => "action trace is not there",
        (None, _) => "the kernel does not tell its actions",
    };
    let flag = |name: &str, step| match trial.step(step) {
        Ok(_) => format!("{name} works"),
        Err(refusal) => format!("{name}: {refusal}"),
    };
    let flags = format!("{trace}, {}, {}", flag("SPEC_ALLOW", filtering::SPEC_ALLOW), flag("TSYNC", filtering::TSYNC));
    match (trial.step(filtering::PRIVILEGED), trial.step(filtering::UNPRIVILEGED)) {
        (privileged, Ok(_)) if trial.step(filtering::SPEC_ALLOW).is_err() => {
            let how = if privileged.is_ok() { "without" } else { "only with" };
            Check::new(
                id,
                title,
                Verdict::Missing,
                format!("installed {how} no_new_privs, but not with the flag that host run sets: {flags}"),
                "host run cannot install its filter",
            )
            .prevents(&[Command::Run], "no filter with SPEC_ALLOW can be installed (Linux 4.17)")
        }
        (Ok(_), Ok(_)) => Check::new(
            id,
            title,
            Verdict::Ok,
            if set_already {
                format!("installed, no_new_privs being set already; {flags}")
            } else {
                format!("installed without no_new_privs; {flags}")
            },
            "what nobody subscribed to runs at native speed",
        ),
        (Err(refusal), Ok(_)) => Check::new(
            id,
            title,
            Verdict::Degraded,
            format!("installed, but only with no_new_privs (without: {refusal}); {flags}"),
            "host run sets no_new_privs: set-user-ID programs (sudo, ping, …) run without their owner's rights. \
             CAP_SYS_ADMIN would spare that, but is seldom worth granting, and cannot be on Fargate",
        )
        .limits(&[Command::Run], "set-user-ID programs run without their owner's rights"),
        (_, Err(refusal)) => {
            let refusal = if refusal == Refusal::NotTried { trial.cut_short().unwrap_or(refusal) } else { refusal };
            let meaning = match refusal {
                Refusal::Errno(libc::ENOSYS | libc::EINVAL) => {
                    "host run cannot work: a seccomp profile or a sandbox hides the call seccomp, or the kernel was \
                     built without it"
                }
                _ => "host run cannot work: a seccomp profile forbids the call seccomp",
            };
            Check::new(id, title, Verdict::Missing, format!("{refusal}; {trace}"), meaning)
                .advise(advice::seccomp_profile("seccomp and prctl"))
                .prevents(&[Command::Run], &format!("no seccomp filter can be installed ({refusal})"))
        }
    }
}

/// Filters that were there before us.
fn in_force(own: &Own) -> Check {
    let (id, title) = ("seccomp-inherited", "Filters in force on us");
    let filters = own.status().number("Seccomp_filters");
    let count = match filters {
        Some(1) => "1 filter".to_owned(),
        Some(count) => format!("{count} filters"),
        // Counted since Linux 5.9.
        None => "an unknown number of filters".to_owned(),
    };
    match own.status().number("Seccomp") {
        Some(0) => Check::new(id, title, Verdict::Ok, "none", "every call can reach plugins"),
        Some(_) => Check::new(
            id,
            title,
            Verdict::Info,
            format!("{count}, most likely the container's profile"),
            "of all filters the strictest answer counts: calls that these refuse fail before plugins are asked, and \
             processes outside the container are not bound by them",
        ),
        None => Check::new(
            id,
            title,
            Verdict::Info,
            "/proc/self/status does not tell",
            "the kernel was built without seccomp, or /proc is not mounted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Summary, Work};
    use super::*;

    const EPERM: i64 = -(libc::EPERM as i64);
    const EACCES: i64 = -(libc::EACCES as i64);
    const EINVAL: i64 = -(libc::EINVAL as i64);

    #[track_caller]
    fn expect(said: &[i64], verdict: Verdict, run: Work) {
        let check = install(&Trial::of(said), false);
        assert_eq!(check.verdict, verdict, "{check:?}");
        assert_eq!(Summary::of(&[check]).run.verdict, run);
    }

    #[test]
    fn filters_decide_whether_run_works() {
        expect(&[0, 0, 0, 0, 0], Verdict::Ok, Work::Yes);
        expect(&[0, EACCES, 0, 0, 0], Verdict::Degraded, Work::Limited);
        expect(&[0, EACCES, 0, EINVAL, 0], Verdict::Missing, Work::No);
        expect(&[EPERM, EPERM, EPERM, EPERM, EPERM], Verdict::Missing, Work::No);
        expect(&[], Verdict::Missing, Work::No);
    }
}
