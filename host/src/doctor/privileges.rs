//! Who we are: user, capabilities, `no_new_privs`.

use std::fmt::Write as _;

use libc::pid_t;

use super::advice::{self, Advice};
use super::procfs::{self, Status};
use super::{Check, Command, Verdict};

/// `include/uapi/linux/capability.h`
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;

/// What we know of ourselves.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) pid: pid_t,
    /// Effective user.
    pub(super) user: u32,
    /// Who traces us; 0 if nobody does.
    pub(super) tracer: pid_t,
    /// Yama's `ptrace_scope`; none if Yama is not there.
    pub(super) yama: Option<u32>,
    status: Status,
}

impl Own {
    pub(super) fn read() -> Self {
        let status = Status::of("self").unwrap_or_default();
        Self {
            pid: std::process::id() as pid_t,
            user: nix::unistd::geteuid().as_raw(),
            tracer: status.number("TracerPid").unwrap_or(0) as pid_t,
            yama: procfs::file("/proc/sys/kernel/yama/ptrace_scope").and_then(|text| text.parse().ok()),
            status,
        }
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Whether a capability is in one of the sets of `/proc/self/status`.
    fn has(&self, set: &str, capability: u32) -> bool {
        self.status.mask(set).is_some_and(|mask| mask >> capability & 1 == 1)
    }

    pub(super) fn may_trace_others(&self) -> bool {
        self.has("CapEff", SYS_PTRACE)
    }

    /// How Yama is set, in words.
    pub(super) fn yama_in_words(&self) -> String {
        match self.yama {
            None => "Yama absent".into(),
            Some(scope) => format!("Yama ptrace_scope {scope}"),
        }
    }

    /// Gives us `CAP_SYS_PTRACE`, by what is lacking.
    pub(super) fn advice_for_sys_ptrace(&self) -> Advice {
        if self.has("CapBnd", SYS_PTRACE) && self.user != 0 {
            advice::user_with_capabilities()
        } else {
            advice::sys_ptrace()
        }
    }

    fn holding(&self, capability: u32) -> &'static str {
        let [effective, permitted, bounding] = ["CapEff", "CapPrm", "CapBnd"].map(|set| self.has(set, capability));
        match (effective, permitted, bounding) {
            (true, ..) => "in force",
            (_, true, _) => "permitted, but not in force",
            (_, _, true) => "not ours, though within the bounding set",
            _ => "not even in the bounding set",
        }
    }
}

/// `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`. `any` says that no one process is meant
/// to be attached to.
pub(super) fn capabilities(own: &Own, any: bool) -> Check {
    let mask = |set| own.status.text(set).unwrap_or("unknown").trim_start_matches('0').to_owned();
    let or_none = |mask: String| if mask.is_empty() { "0".to_owned() } else { mask };
    let [effective, permitted, bounding] = ["CapEff", "CapPrm", "CapBnd"].map(mask).map(or_none);
    let found = format!(
        "user {}; SYS_PTRACE is {}; SYS_ADMIN is {} (effective {effective}, permitted {permitted}, bounding \
         {bounding})",
        own.user,
        own.holding(SYS_PTRACE),
        own.holding(SYS_ADMIN),
    );
    let mut meaning = String::new();
    if !own.may_trace_others() {
        let _ = write!(
            meaning,
            "without SYS_PTRACE only dumpable processes of user {} can be attached to, and set-user-ID programs run \
             without their owner's rights while traced; ",
            own.user
        );
    }
    meaning += if own.has("CapEff", SYS_ADMIN) {
        "with SYS_ADMIN filters are installed without no_new_privs"
    } else {
        "without SYS_ADMIN filters need no_new_privs, under which set-user-ID programs run without their owner's \
         rights; not worth granting SYS_ADMIN for"
    };
    let title = "Capabilities";
    if own.may_trace_others() {
        return Check::new("capabilities", title, Verdict::Ok, found, meaning);
    }
    let check = Check::new("capabilities", title, Verdict::Degraded, found, meaning)
        .advise(own.advice_for_sys_ptrace())
        .limits(&[Command::Run], "set-user-ID programs run without their owner's rights");
    if any { check.limits(&[Command::Attach], &format!("only dumpable processes of user {}", own.user)) } else { check }
}

/// Whether `no_new_privs` is set already.
pub(super) fn no_new_privs(own: &Own) -> Check {
    let (id, title) = ("no-new-privs", "no_new_privs");
    match own.status.number("NoNewPrivs") {
        Some(0) => {
            Check::new(id, title, Verdict::Ok, "not set", "set-user-ID programs can work as far as filters let them")
        }
        Some(_) => Check::new(
            id,
            title,
            Verdict::Info,
            "already set on us, and inherited by all that we start",
            "any filter can be installed; set-user-ID programs (sudo, ping, …) run without their owner's rights, \
             traced or not",
        )
        .advise(advice::allow_new_privileges()),
        // The line came with Linux 4.10.
        None => Check::new(id, title, Verdict::Info, "/proc/self/status does not tell", ""),
    }
}
