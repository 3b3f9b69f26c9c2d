//! Which calls stop → a seccomp filter.
//!
//! The filter is an optimisation, never the decision: whoever asked for a
//! call checks its own predicate again at the stop. So it may stop more than
//! was asked for, never less. Calls of another ABI (`int 0x80`, x32, 32-bit
//! Arm) always stop: their numbers mean other calls (SECURITY.md, "Another ABI").

use std::collections::BTreeMap;

use libc::sock_filter;

use super::bpf::{Assembler, Label, MAX_INSTRUCTIONS, Test};
use crate::decode::Arch;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
/// `__X32_SYSCALL_BIT`
const X32_BIT: u32 = 0x4000_0000;

/// A comparison of unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A test on one argument register: `argument & mask OP value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    argument: u8,
    mask: u64,
    op: Comparison,
    value: u64,
}

/// An argument index past the sixth register.
#[derive(Debug, thiserror::Error)]
#[error("a condition tests argument {0}, but system calls have arguments 0 to 5")]
pub struct NoSuchArgument(u8);

impl Condition {
    /// A condition on argument 0 to 5.
    pub fn new(argument: u8, mask: u64, op: Comparison, value: u64) -> Result<Self, NoSuchArgument> {
        if argument > 5 { Err(NoSuchArgument(argument)) } else { Ok(Self { argument, mask, op, value }) }
    }

    /// Whether these registers fulfil it.
    pub fn holds(&self, registers: &[u64; 6]) -> bool {
        let (left, right) = (registers[usize::from(self.argument)] & self.mask, self.value);
        match self.op {
            Comparison::Eq => left == right,
            Comparison::Ne => left != right,
            Comparison::Lt => left < right,
            Comparison::Le => left <= right,
            Comparison::Gt => left > right,
            Comparison::Ge => left >= right,
        }
    }
}

/// When a call stops: any alternative, all of its conditions. An alternative
/// without conditions is "always".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicate(Vec<Vec<Condition>>);

impl Predicate {
    /// Always.
    pub fn always() -> Self {
        Self(vec![Vec::new()])
    }

    /// Adds an alternative.
    pub fn or(&mut self, all_of: Vec<Condition>) {
        if all_of.is_empty() {
            *self = Self::always();
        } else if !self.is_always() && !self.0.contains(&all_of) {
            self.0.push(all_of);
        }
    }

    /// Adds the alternatives of another.
    pub fn or_all(&mut self, other: &Self) {
        for all_of in &other.0 {
            self.or(all_of.clone());
        }
    }

    /// Whether it holds wherever another does, as far as can be told without
    /// trying.
    fn covers(&self, other: &Self) -> bool {
        self.is_always() || other.0.iter().all(|all_of| self.0.contains(all_of))
    }

    /// Whether it holds for every call.
    pub fn is_always(&self) -> bool {
        self.0.iter().any(Vec::is_empty)
    }

    /// Whether these registers fulfil it.
    pub fn holds(&self, registers: &[u64; 6]) -> bool {
        self.0.iter().any(|all_of| all_of.iter().all(|condition| condition.holds(registers)))
    }
}

/// The calls that stop, by number of the native architecture.
pub type Stopping = BTreeMap<u32, Predicate>;

/// Whether whatever stops for `other` stops for `stopping`, too.
pub(super) fn covers(stopping: &Stopping, other: &Stopping) -> bool {
    other.iter().all(|(nr, wanted)| stopping.get(nr).is_some_and(|predicate| predicate.covers(wanted)))
}

/// What our filters say with each stop (`SECCOMP_RET_DATA`): a value that
/// nobody else would choose, so that a program's own filter that asks for a
/// tracer is not taken for ours.
pub(super) const MARK: u16 = 0x7467;

/// The filter for `stopping`. If the predicates make it too long for the
/// kernel, it does without them.
pub(super) fn compile(stopping: &Stopping) -> Vec<sock_filter> {
    let program = assemble(stopping);
    if program.len() <= MAX_INSTRUCTIONS {
        return program;
    }
    assemble(&stopping.keys().map(|nr| (*nr, Predicate::always())).collect())
}

fn assemble(stopping: &Stopping) -> Vec<sock_filter> {
    let mut a = Assembler::default();
    let (native, number, trace, allow) = (a.label(), a.label(), a.label(), a.label());
    a.load(ARCH);
    a.branch(Test::Equal, Arch::NATIVE.audit(), native, trace);
    a.here(native);
    a.load(NR);
    if cfg!(target_arch = "x86_64") {
        a.branch(Test::AnyBit, X32_BIT, trace, number);
    }
    a.here(number);
    let blocks: Vec<(u32, Label, &Predicate)> =
        stopping.iter().map(|(nr, p)| (*nr, if p.is_always() { trace } else { a.label() }, p)).collect();
    search(&mut a, &blocks, allow);
    for (_, label, predicate) in &blocks {
        if !predicate.is_always() {
            a.here(*label);
            test(&mut a, predicate, trace, allow);
        }
    }
    a.here(trace);
    a.ret(libc::SECCOMP_RET_TRACE | u32::from(MARK));
    a.here(allow);
    a.ret(libc::SECCOMP_RET_ALLOW);
    a.finish()
}

/// Binary search for the number in the accumulator.
fn search(a: &mut Assembler, blocks: &[(u32, Label, &Predicate)], allow: Label) {
    match blocks {
        [] => a.jump(allow),
        [(nr, label, _)] => a.branch(Test::Equal, *nr, *label, allow),
        _ => {
            let (left, right) = blocks.split_at(blocks.len() / 2);
            let (low, high) = (a.label(), a.label());
            a.branch(Test::GreaterOrEqual, right[0].0, high, low);
            a.here(low);
            search(a, left, allow);
            a.here(high);
            search(a, right, allow);
        }
    }
}

fn test(a: &mut Assembler, predicate: &Predicate, pass: Label, fail: Label) {
    for all_of in &predicate.0 {
        let other = a.label();
        for condition in all_of {
            let next = a.label();
            compare(a, condition, next, other);
            a.here(next);
        }
        a.jump(pass);
        a.here(other);
    }
    a.jump(fail);
}

/// One 64-bit comparison in two 32-bit halves. `lt` is not `ge`, `le` is not
/// `gt`, `ne` is not `eq`.
fn compare(a: &mut Assembler, condition: &Condition, pass: Label, fail: Label) {
    let (low, high) = (a.label(), a.label());
    let offset = ARGS + 8 * u32::from(condition.argument);
    let half = |value: u64| (value as u32, (value >> 32) as u32);
    let ((mask_low, mask_high), (value_low, value_high)) = (half(condition.mask), half(condition.value));
    let (final_test, pass, fail) = match condition.op {
        Comparison::Eq => (Test::Equal, pass, fail),
        Comparison::Ne => (Test::Equal, fail, pass),
        Comparison::Gt => (Test::Greater, pass, fail),
        Comparison::Le => (Test::Greater, fail, pass),
        Comparison::Ge => (Test::GreaterOrEqual, pass, fail),
        Comparison::Lt => (Test::GreaterOrEqual, fail, pass),
    };
    a.load(offset + 4);
    a.and(mask_high);
    if matches!(final_test, Test::Equal) {
        a.branch(Test::Equal, value_high, low, fail);
    } else {
        a.branch(Test::Greater, value_high, pass, high);
        a.here(high);
        a.branch(Test::Equal, value_high, low, fail);
    }
    a.here(low);
    a.load(offset);
    a.and(mask_low);
    a.branch(final_test, value_low, pass, fail);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bpf;
    use super::*;

    const TRACE: u32 = libc::SECCOMP_RET_TRACE | MARK as u32;

    fn run(program: &[sock_filter], audit: u32, nr: u32, registers: &[u64; 6]) -> u32 {
        let mut data = [0; 16];
        (data[0], data[1]) = (nr, audit);
        for (index, value) in registers.iter().enumerate() {
            (data[4 + 2 * index], data[5 + 2 * index]) = (*value as u32, (*value >> 32) as u32);
        }
        bpf::run(program, &data)
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let op = prop_oneof![
            Just(Comparison::Eq),
            Just(Comparison::Ne),
            Just(Comparison::Lt),
            Just(Comparison::Le),
            Just(Comparison::Gt),
            Just(Comparison::Ge)
        ];
        let mask = prop_oneof![Just(u64::MAX), Just(3), Just(0xffff_ffff), any::<u64>()];
        (0..6u8, mask, op, number()).prop_map(|(argument, mask, op, value)| {
            Condition::new(argument, mask, op, value).expect("an index below six")
        })
    }

    /// Numbers that meet each other, and their halves, often.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, Just(u64::MAX), Just(1 << 32), Just((1 << 32) + 1), any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_filter_says_what_the_host_says(
            rules in prop::collection::btree_map(0..500u32, prop::collection::vec(prop::collection::vec(condition(), 0..4), 1..4), 0..60),
            calls in prop::collection::vec((0..520u32, prop::array::uniform6(number())), 1..50),
        ) {
            let stopping: Stopping = rules.into_iter().map(|(nr, alternatives)| {
                let mut predicate = Predicate::default();
                for all_of in alternatives {
                    predicate.or(all_of);
                }
                (nr, predicate)
            }).collect();
            let program = compile(&stopping);
            let candidates = calls.iter().copied().chain(stopping.keys().map(|nr| (*nr, calls[0].1)));
            for (nr, registers) in candidates {
                let expected = match stopping.get(&nr) {
                    Some(predicate) if predicate.holds(&registers) => TRACE,
                    _ => libc::SECCOMP_RET_ALLOW,
                };
                prop_assert_eq!(run(&program, Arch::NATIVE.audit(), nr, &registers), expected);
            }
        }
    }

    #[test]
    fn another_abi_always_stops() {
        let program = compile(&Stopping::new());
        assert_eq!(run(&program, 0x4000_0003, 5, &[0; 6]), TRACE);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(run(&program, Arch::NATIVE.audit(), X32_BIT | 2, &[0; 6]), TRACE);
        }
        assert_eq!(run(&program, Arch::NATIVE.audit(), 2, &[0; 6]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn a_filter_too_long_for_the_kernel_does_without_predicates() {
        let many = |nr: u32| {
            let mut predicate = Predicate::default();
            for value in 0..40 {
                predicate.or(vec![Condition::new(0, u64::MAX, Comparison::Eq, value).expect("in range")]);
            }
            (nr, predicate)
        };
        let stopping: Stopping = (0..100).map(many).collect();
        let program = compile(&stopping);
        assert!(program.len() <= MAX_INSTRUCTIONS);
        assert_eq!(run(&program, Arch::NATIVE.audit(), 7, &[99; 6]), TRACE);
    }
}
