//! What a plugin wants to see, checked and ready to be asked at every stop.

use super::wit::types;
use crate::decode::{self, Arch};
use crate::event::{Event, Kind, ProcessEvents};
use crate::tracer::{Comparison, Condition, NoSuchArgument, Predicate, Stopping};

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The caller waits.
    Gate,
    /// The caller has gone on.
    Observe,
}

/// A subscription that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// No supported architecture has such a call.
    #[error("it subscribes to {0:?}, which is no system call of any supported architecture")]
    UnknownSyscall(String),
    /// A condition on a seventh argument.
    #[error("its rule for {syscall:?} is not possible: {source}")]
    Condition {
        /// Of which rule.
        syscall: String,
        /// What is wrong.
        source: NoSuchArgument,
    },
    /// More than anybody needs.
    #[error("it subscribes with {0} rules; at most {MAX_RULES} are taken")]
    TooMany(usize),
}

const MAX_RULES: usize = 10_000;

/// A plugin's subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where the plugin runs.
    pub lane: Lane,
    entry: Table,
    exit: Table,
    /// Processes' coming and going.
    pub processes: ProcessEvents,
}

/// Predicates by architecture and number: asked at every stop.
#[derive(Clone, Debug, Default)]
struct Table([Vec<Option<Predicate>>; Arch::ALL.len()]);

/// `__X32_SYSCALL_BIT` and above are no part of an index.
const INDEX: u32 = 0x3fff_ffff;

impl Table {
    fn get(&self, arch: Arch, nr: u32) -> Option<&Predicate> {
        self.0[arch as usize].get((nr & INDEX) as usize)?.as_ref()
    }

    fn entry(&mut self, arch: Arch, nr: u32) -> &mut Predicate {
        let predicates = &mut self.0[arch as usize];
        let index = (nr & INDEX) as usize;
        if predicates.len() <= index {
            predicates.resize(index + 1, None);
        }
        predicates[index].get_or_insert_default()
    }

    fn of(&self, arch: Arch) -> impl Iterator<Item = (u32, &Predicate)> {
        (0..).zip(&self.0[arch as usize]).filter_map(|(nr, predicate)| Some((nr, predicate.as_ref()?)))
    }
}

impl Subscription {
    pub(super) fn new(wanted: types::Subscription) -> Result<Self, SubscriptionError> {
        if wanted.rules.len() > MAX_RULES {
            return Err(SubscriptionError::TooMany(wanted.rules.len()));
        }
        let (mut entry, mut exit) = (Table::default(), Table::default());
        for rule in wanted.rules {
            if !decode::known_name(&rule.syscall) {
                return Err(SubscriptionError::UnknownSyscall(rule.syscall));
            }
            let conditions = rule.all_of.iter().map(condition).collect::<Result<Vec<_>, _>>();
            let conditions =
                conditions.map_err(|source| SubscriptionError::Condition { syscall: rule.syscall.clone(), source })?;
            let table = match rule.phase {
                types::Phase::Entry => &mut entry,
                types::Phase::Exit => &mut exit,
            };
            for arch in Arch::ALL {
                for nr in arch.numbers(&rule.syscall) {
                    table.entry(arch, nr).or(conditions.clone());
                }
            }
        }
        let wants = |kind| wanted.processes.contains(&kind);
        Ok(Self {
            lane: match wanted.lane {
                types::Lane::Gate => Lane::Gate,
                types::Lane::Observe => Lane::Observe,
            },
            entry,
            exit,
            processes: ProcessEvents {
                forks: wants(types::ProcessEventKind::Fork),
                execs: wants(types::ProcessEventKind::Exec),
                exits: wants(types::ProcessEventKind::Exit),
            },
        })
    }

    /// Whether it may want calls of this number, whatever their arguments.
    pub fn may_want(&self, arch: Arch, nr: u32, exit: bool) -> bool {
        self.table(exit).get(arch, nr).is_some()
    }

    /// Whether it wants this call.
    pub fn wants_call(&self, arch: Arch, nr: u32, registers: &[u64; 6], exit: bool) -> bool {
        self.table(exit).get(arch, nr).is_some_and(|predicate| predicate.holds(registers))
    }

    /// Whether it wants this event.
    pub fn wants(&self, event: &Event) -> bool {
        match &event.kind {
            Kind::Entry(call) => self.wants_call(call.arch, call.nr, &call.registers, false),
            Kind::Exit(call, _) => self.wants_call(call.arch, call.nr, &call.registers, true),
            Kind::Process(happened) => self.processes.want(happened),
        }
    }

    /// Numbers of the native architecture's calls that it may want at entry.
    pub fn entries(&self) -> impl Iterator<Item = u32> {
        self.entry.of(Arch::NATIVE).map(|(nr, _)| nr)
    }

    /// Adds the calls of the native architecture that must stop for it.
    pub fn add_to(&self, stopping: &mut Stopping) {
        for (nr, predicate) in self.entry.of(Arch::NATIVE).chain(self.exit.of(Arch::NATIVE)) {
            stopping.entry(nr).or_default().or_all(predicate);
        }
    }

    fn table(&self, exit: bool) -> &Table {
        if exit { &self.exit } else { &self.entry }
    }
}

fn condition(condition: &types::Condition) -> Result<Condition, NoSuchArgument> {
    let op = match condition.op {
        types::Comparison::Eq => Comparison::Eq,
        types::Comparison::Ne => Comparison::Ne,
        types::Comparison::Lt => Comparison::Lt,
        types::Comparison::Le => Comparison::Le,
        types::Comparison::Gt => Comparison::Gt,
        types::Comparison::Ge => Comparison::Ge,
    };
    Condition::new(condition.argument, condition.mask, op, condition.value)
}
