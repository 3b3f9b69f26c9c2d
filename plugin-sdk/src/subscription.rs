//! What a plugin wants to see.
//!
//! The host compiles these rules into a filter that runs in the kernel, so
//! that a call which no rule matches costs next to nothing. Conditions look
//! at argument registers only: memory behind a pointer can change after a
//! look at it.
//!
//! ```
//! use plugin_sdk::constants::{O_ACCMODE, O_RDONLY};
//! use plugin_sdk::{Subscription, arg, entries, entry, exit};
//!
//! let subscription = Subscription::gate()
//!     // Opens for writing, and every `creat` and `truncate`.
//!     .on(entry("openat").when(arg(2).masked(O_ACCMODE).ne(O_RDONLY)))
//!     .on(entries(["creat", "truncate"]))
//!     // Results of `accept4`.
//!     .on(exit("accept4"))
//!     .execs();
//! assert_eq!(subscription.rules().len(), 4);
//! ```

use crate::bindings::tracegate::plugin::types as wit;
use wit::{Comparison, Lane, Phase, ProcessEventKind};

/// All that a plugin wants to see; see the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    lane: Lane,
    rules: Vec<wit::Rule>,
    processes: Vec<ProcessEventKind>,
}

impl Subscription {
    /// The caller waits for the verdict. The only lane that can deny.
    pub fn gate() -> Self {
        Self { lane: Lane::Gate, rules: Vec::new(), processes: Vec::new() }
    }

    /// The caller goes on at once; events that do not fit the queue are
    /// dropped and counted. A denial is an alert only.
    pub fn observe() -> Self {
        Self { lane: Lane::Observe, ..Self::gate() }
    }

    /// Adds calls. Rules for one call are alternatives.
    #[must_use]
    pub fn on(mut self, calls: Calls) -> Self {
        for name in &calls.names {
            let rule = |all_of| wit::Rule { syscall: name.clone(), phase: calls.phase, all_of };
            if calls.alternatives.is_empty() {
                self.rules.push(rule(Vec::new()));
            }
            self.rules.extend(calls.alternatives.iter().map(|all| rule(all.0.clone())));
        }
        self
    }

    /// Adds the making of processes and threads.
    #[must_use]
    pub fn forks(self) -> Self {
        self.process(ProcessEventKind::Fork)
    }

    /// Adds processes that begin to run a new program.
    #[must_use]
    pub fn execs(self) -> Self {
        self.process(ProcessEventKind::Exec)
    }

    /// Adds the end of processes and threads.
    #[must_use]
    pub fn exits(self) -> Self {
        self.process(ProcessEventKind::Exit)
    }

    fn process(mut self, kind: ProcessEventKind) -> Self {
        if !self.processes.contains(&kind) {
            self.processes.push(kind);
        }
        self
    }

    /// The rules so far, as the host gets them.
    pub fn rules(&self) -> &[wit::Rule] {
        &self.rules
    }

    /// The process events so far.
    pub fn processes(&self) -> &[ProcessEventKind] {
        &self.processes
    }

    /// Where the plugin runs.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// True if a call with these registers is one of those subscribed.
    pub fn matches(&self, syscall: &str, phase: Phase, header: &wit::Header) -> bool {
        self.rules.iter().any(|rule| {
            rule.phase == phase
                && rule.syscall == syscall
                && rule.all_of.iter().all(|condition| condition.holds(header))
        })
    }

    pub(crate) fn into_wit(self) -> wit::Subscription {
        wit::Subscription { lane: self.lane, rules: self.rules, processes: self.processes }
    }
}

impl wit::Condition {
    /// True if the registers fit.
    pub fn holds(&self, header: &wit::Header) -> bool {
        let register = crate::event::register(header, self.argument) & self.mask;
        match self.op {
            Comparison::Eq => register == self.value,
            Comparison::Ne => register != self.value,
            Comparison::Lt => register < self.value,
            Comparison::Le => register <= self.value,
            Comparison::Gt => register > self.value,
            Comparison::Ge => register >= self.value,
        }
    }
}

/// Calls at one phase; made by [`entry`], [`entries`], [`exit`], [`exits`].
#[derive(Clone, Debug)]
pub struct Calls {
    names: Vec<String>,
    phase: Phase,
    alternatives: Vec<AllOf>,
}

impl Calls {
    /// Only calls for which this holds. Several `when` are alternatives;
    /// [`AllOf::and`] joins conditions that must all hold.
    #[must_use]
    pub fn when(mut self, conditions: impl Into<AllOf>) -> Self {
        self.alternatives.push(conditions.into());
        self
    }
}

/// A call of this name, before it runs.
pub fn entry(name: &str) -> Calls {
    entries([name])
}

/// Calls of these names, before they run.
pub fn entries<'n>(names: impl IntoIterator<Item = &'n str>) -> Calls {
    calls(names, Phase::Entry)
}

/// A call of this name, after it ran. Costs a second stop.
pub fn exit(name: &str) -> Calls {
    exits([name])
}

/// Calls of these names, after they ran. Costs a second stop.
pub fn exits<'n>(names: impl IntoIterator<Item = &'n str>) -> Calls {
    calls(names, Phase::Exit)
}

fn calls<'n>(names: impl IntoIterator<Item = &'n str>, phase: Phase) -> Calls {
    Calls { names: names.into_iter().map(String::from).collect(), phase, alternatives: Vec::new() }
}

/// Conditions that must all hold.
#[derive(Clone, Debug)]
pub struct AllOf(Vec<wit::Condition>);

impl AllOf {
    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, other: impl Into<AllOf>) -> Self {
        self.0.extend(other.into().0);
        self
    }
}

/// An argument register, from 0; what a condition looks at.
///
/// The kernel reads an `int` as 32 bits, so [`Register::int`] or a mask of
/// at most 32 bits keeps rubbish in the upper half from hiding a match.
pub fn arg(number: u8) -> Register {
    Register { argument: number, mask: u64::MAX }
}

/// An argument register under a mask.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    argument: u8,
    mask: u64,
}

impl Register {
    /// Looks at these bits only.
    #[must_use]
    pub fn masked(self, mask: u64) -> Self {
        Self { mask: self.mask & mask, ..self }
    }

    /// Looks at the lower 32 bits only, as the kernel does for `int`.
    #[must_use]
    pub fn int(self) -> Self {
        self.masked(0xffff_ffff)
    }

    /// True for calls that have one of these bits set.
    pub fn any_of(self, bits: u64) -> AllOf {
        self.masked(bits).ne(0)
    }

    /// Equal.
    pub fn eq(self, value: u64) -> AllOf {
        self.test(Comparison::Eq, value)
    }

    /// Not equal.
    pub fn ne(self, value: u64) -> AllOf {
        self.test(Comparison::Ne, value)
    }

    /// Less, unsigned.
    pub fn lt(self, value: u64) -> AllOf {
        self.test(Comparison::Lt, value)
    }

    /// Less or equal, unsigned.
    pub fn le(self, value: u64) -> AllOf {
        self.test(Comparison::Le, value)
    }

    /// Greater, unsigned.
    pub fn gt(self, value: u64) -> AllOf {
        self.test(Comparison::Gt, value)
    }

    /// Greater or equal, unsigned.
    pub fn ge(self, value: u64) -> AllOf {
        self.test(Comparison::Ge, value)
    }

    fn test(self, op: Comparison, value: u64) -> AllOf {
        AllOf(vec![wit::Condition { argument: self.argument, mask: self.mask, op, value }])
    }
}
