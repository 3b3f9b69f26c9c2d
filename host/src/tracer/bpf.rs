//! Classic BPF for seccomp: an assembler with labels, and an interpreter for
//! what others have assembled.
//!
//! Conditional jumps of classic BPF reach 255 instructions, `ja` reaches any.
//! A conditional jump is therefore always one instruction with offsets 0 and
//! 1 over a `ja` each, unless its target is what follows.

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_DIV, BPF_IMM, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET,
    BPF_K, BPF_LD, BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MUL, BPF_NEG, BPF_OR, BPF_RET, BPF_RSH, BPF_ST,
    BPF_STX, BPF_SUB, BPF_TAX, BPF_TXA, BPF_W, BPF_X, BPF_XOR, sock_filter,
};

/// The kernel takes no longer program (`BPF_MAXINSNS`).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// How the accumulator is compared with a constant, unsigned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

#[derive(Debug)]
enum Item {
    Plain(u32, u32),
    Branch(Test, u32, Label, Label),
    Jump(Label),
    Here(Label),
}

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    pub(super) fn here(&mut self, label: Label) {
        self.items.push(Item::Here(label));
    }

    /// Loads the 32-bit word at this offset of `struct seccomp_data`.
    pub(super) fn load(&mut self, offset: u32) {
        self.items.push(Item::Plain(BPF_LD | BPF_W | BPF_ABS, offset));
    }

    pub(super) fn and(&mut self, mask: u32) {
        if mask != u32::MAX {
            self.items.push(Item::Plain(BPF_ALU | BPF_AND | BPF_K, mask));
        }
    }

    pub(super) fn branch(&mut self, test: Test, value: u32, then: Label, otherwise: Label) {
        self.items.push(Item::Branch(test, value, then, otherwise));
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.items.push(Item::Jump(to));
    }

    pub(super) fn ret(&mut self, action: u32) {
        self.items.push(Item::Plain(BPF_RET | BPF_K, action));
    }

    /// The finished program. Every jump goes forward, as the kernel demands.
    pub(super) fn finish(self) -> Vec<sock_filter> {
        let length = |item: &Item, next: Option<&Item>| match item {
            Item::Plain(..) | Item::Jump(_) => 1,
            Item::Here(_) => 0,
            Item::Branch(_, _, _, otherwise) if matches!(next, Some(Item::Here(l)) if l == otherwise) => 2,
            Item::Branch(..) => 3,
        };
        let mut places = vec![0; self.labels];
        let mut place = 0;
        for (index, item) in self.items.iter().enumerate() {
            if let Item::Here(label) = item {
                places[label.0] = place;
            }
            place += length(item, self.items.get(index + 1));
        }
        let mut program: Vec<sock_filter> = Vec::with_capacity(place);
        for (index, item) in self.items.iter().enumerate() {
            let jump = |program: &mut Vec<sock_filter>, label: Label| {
                let distance = places[label.0] - program.len() - 1;
                program.push(instruction(BPF_JMP | BPF_JA, distance as u32, 0, 0));
            };
            match *item {
                Item::Plain(code, k) => program.push(instruction(code, k, 0, 0)),
                Item::Here(_) => {}
                Item::Jump(label) => jump(&mut program, label),
                Item::Branch(test, value, then, otherwise) => {
                    let code = match test {
                        Test::Equal => BPF_JEQ,
                        Test::Greater => BPF_JGT,
                        Test::GreaterOrEqual => BPF_JGE,
                        Test::AnyBit => BPF_JSET,
                    };
                    program.push(instruction(BPF_JMP | code | BPF_K, value, 0, 1));
                    jump(&mut program, then);
                    if length(item, self.items.get(index + 1)) == 3 {
                        jump(&mut program, otherwise);
                    }
                }
            }
        }
        program
    }
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Words of `struct seccomp_data`, little endian; none for a word that is
/// not known.
pub(super) type Data = [Option<u32>; 16];

/// What a program returns for `data`, as the kernel would run it. None if it
/// looks at a word that is not known, or meets an instruction that the kernel
/// does not take from a seccomp filter (`bpf_check_classic`,
/// `seccomp_check_filter`).
///
/// The program may be anybody's: nothing in it is trusted. Every jump goes
/// forward, so that it ends.
pub(super) fn interpret(program: &[sock_filter], data: &Data) -> Option<u32> {
    const SIZE: u32 = 64;
    let mut memory = [None; libc::BPF_MEMWORDS as usize];
    let (mut at, mut a, mut x) = (0usize, 0u32, 0u32);
    loop {
        let i = program.get(at)?;
        at += 1;
        let (code, k) = (u32::from(i.code), i.k);
        // What the instruction works on: its constant or the index register.
        let operand = if code & BPF_X == 0 { k } else { x };
        let slot = k as usize;
        let condition = match code & 0x07 {
            BPF_LD if code == BPF_LD | BPF_W | BPF_ABS => {
                a = if k.is_multiple_of(4) { (*data.get(slot / 4)?)? } else { return None };
                continue;
            }
            BPF_LD | BPF_LDX => {
                let value = match code & !0x07 {
                    BPF_IMM => k,
                    BPF_MEM => (*memory.get(slot)?)?,
                    BPF_LEN => SIZE,
                    _ => return None,
                };
                *(if code & 0x07 == BPF_LD { &mut a } else { &mut x }) = value;
                continue;
            }
            BPF_ST | BPF_STX if code & !0x07 == 0 => {
                *memory.get_mut(slot)? = Some(if code == BPF_ST { a } else { x });
                continue;
            }
            BPF_ALU => {
                a = match calculate(code & !(0x07 | BPF_X), a, operand, code & BPF_X == 0)? {
                    Calculated::Value(value) => value,
                    Calculated::End => return Some(0),
                };
                continue;
            }
            BPF_MISC if code == BPF_MISC | BPF_TAX => {
                x = a;
                continue;
            }
            BPF_MISC if code == BPF_MISC | BPF_TXA => {
                a = x;
                continue;
            }
            BPF_RET if code == BPF_RET | BPF_K => return Some(k),
            BPF_RET if code == BPF_RET | BPF_A => return Some(a),
            BPF_JMP if code == BPF_JMP | BPF_JA => {
                at = at.checked_add(slot)?;
                continue;
            }
            BPF_JMP => match code & !(0x07 | BPF_X) {
                BPF_JEQ => a == operand,
                BPF_JGT => a > operand,
                BPF_JGE => a >= operand,
                BPF_JSET => a & operand != 0,
                _ => return None,
            },
            _ => return None,
        };
        at += usize::from(if condition { i.jt } else { i.jf });
    }
}

enum Calculated {
    Value(u32),
    /// A division by zero ends the program with 0 (net/core/filter.c).
    End,
}

/// One arithmetic instruction. What the kernel takes no constant of 0 or of 32
/// and more for has no result; in a register these are defined.
fn calculate(operation: u32, a: u32, operand: u32, constant: bool) -> Option<Calculated> {
    Some(Calculated::Value(match operation {
        BPF_ADD => a.wrapping_add(operand),
        BPF_SUB => a.wrapping_sub(operand),
        BPF_MUL => a.wrapping_mul(operand),
        BPF_DIV => match a.checked_div(operand) {
            Some(quotient) => quotient,
            None if constant => return None,
            None => return Some(Calculated::End),
        },
        BPF_AND => a & operand,
        BPF_OR => a | operand,
        BPF_XOR => a ^ operand,
        BPF_LSH | BPF_RSH if constant && operand > 31 => return None,
        // A register's shift is taken modulo 32.
        BPF_LSH => a.wrapping_shl(operand),
        BPF_RSH => a.wrapping_shr(operand),
        BPF_NEG => a.wrapping_neg(),
        _ => return None,
    }))
}

/// Runs a program on data that is all known, for tests.
#[cfg(test)]
pub(super) fn run(program: &[sock_filter], data: &[u32; 16]) -> u32 {
    interpret(program, &data.map(Some)).expect("a program that the kernel takes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data whose words are their own index plus 100.
    fn data() -> Data {
        std::array::from_fn(|index| Some(index as u32 + 100))
    }

    fn program(instructions: &[(u32, u32)]) -> Vec<sock_filter> {
        instructions.iter().map(|(code, k)| instruction(*code, *k, 0, 1)).collect()
    }

    fn result(instructions: &[(u32, u32)]) -> Option<u32> {
        interpret(&program(instructions), &data())
    }

    /// `A = left; X = right; A = A operation X`, and the same with a constant.
    fn arithmetic(operation: u32, left: u32, right: u32) -> [Option<u32>; 2] {
        let end = (BPF_RET | BPF_A, 0);
        [
            result(&[(BPF_LD | BPF_IMM, left), (BPF_LDX | BPF_IMM, right), (BPF_ALU | operation | BPF_X, 0), end]),
            result(&[(BPF_LD | BPF_IMM, left), (BPF_ALU | operation | BPF_K, right), end]),
        ]
    }

    #[test]
    fn arithmetic_is_the_kernel_s() {
        for (operation, left, right, expected) in [
            (BPF_ADD, u32::MAX, 2, 1),
            (BPF_SUB, 1, 2, u32::MAX),
            (BPF_MUL, 1 << 31, 2, 0),
            (BPF_DIV, 7, 2, 3),
            (BPF_AND, 6, 3, 2),
            (BPF_OR, 6, 3, 7),
            (BPF_XOR, 6, 3, 5),
            (BPF_LSH, 1, 31, 1 << 31),
            (BPF_RSH, 1 << 31, 31, 1),
            (BPF_NEG, 1, 0, u32::MAX),
        ] {
            assert_eq!(arithmetic(operation, left, right), [Some(expected); 2], "{operation:#x}");
        }
        assert_eq!(arithmetic(BPF_DIV, 7, 0), [Some(0), None]);
        assert_eq!(arithmetic(BPF_LSH, 1, 33), [Some(2), None]);
        assert_eq!(arithmetic(libc::BPF_MOD, 7, 4), [None, None], "seccomp takes no modulo");
    }

    #[test]
    fn loads_and_stores() {
        let end = (BPF_RET | BPF_A, 0);
        assert_eq!(result(&[(BPF_LD | BPF_W | BPF_ABS, 60), end]), Some(115));
        assert_eq!(result(&[(BPF_LD | BPF_W | BPF_LEN, 0), end]), Some(64));
        assert_eq!(result(&[(BPF_LDX | BPF_W | BPF_LEN, 0), (BPF_MISC | BPF_TXA, 0), end]), Some(64));
        let moved = [
            (BPF_LD | BPF_IMM, 5),
            (BPF_ST, 15),
            (BPF_LDX | BPF_MEM, 15),
            (BPF_STX, 3),
            (BPF_LD | BPF_IMM, 0),
            (BPF_LD | BPF_MEM, 3),
            end,
        ];
        assert_eq!(result(&moved), Some(5));
        assert_eq!(result(&[(BPF_LD | BPF_IMM, 9), (BPF_MISC | BPF_TAX, 0), (BPF_MISC | BPF_TXA, 0), end]), Some(9));
    }

    #[test]
    fn jumps_compare_with_constants_and_the_index_register() {
        for (test, left, right, expected) in [
            (BPF_JEQ, 5, 5, true),
            (BPF_JEQ, 5, 6, false),
            (BPF_JGT, 5, 5, false),
            (BPF_JGT, u32::MAX, 5, true),
            (BPF_JGE, 5, 5, true),
            (BPF_JSET, 6, 3, true),
            (BPF_JSET, 4, 3, false),
        ] {
            let ends = [(BPF_RET | BPF_K, 1), (BPF_RET | BPF_K, 0)];
            let constant = [&[(BPF_LD | BPF_IMM, left), (BPF_JMP | test | BPF_K, right)], &ends[..]].concat();
            let head = [(BPF_LD | BPF_IMM, left), (BPF_LDX | BPF_IMM, right), (BPF_JMP | test | BPF_X, 0)];
            let register = [&head[..], &ends[..]].concat();
            assert_eq!(result(&constant), Some(u32::from(expected)), "{test:#x} {left} {right}");
            assert_eq!(result(&register), Some(u32::from(expected)), "{test:#x} {left} {right}");
        }
        assert_eq!(result(&[(BPF_JMP | BPF_JA, 1), (BPF_RET | BPF_K, 1), (BPF_RET | BPF_K, 2)]), Some(2));
    }

    #[test]
    fn what_the_kernel_would_not_take_has_no_result() {
        let end = (BPF_RET | BPF_A, 0);
        for (code, k) in [
            (BPF_LD | BPF_W | BPF_ABS, 64),
            (BPF_LD | BPF_W | BPF_ABS, 2),
            (BPF_LD | BPF_W | BPF_ABS, u32::MAX),
            (BPF_LD | BPF_MEM, 16),
            (BPF_LD | BPF_MEM, 0),
            (BPF_ST, 16),
            (BPF_STX, u32::MAX),
            (BPF_JMP | BPF_JA, u32::MAX),
            (BPF_LD | libc::BPF_B | BPF_ABS, 0),
            (BPF_LD | BPF_W | libc::BPF_IND, 0),
            (0xffff, 0),
        ] {
            assert_eq!(result(&[(code, k), end]), None, "{code:#x} {k:#x}");
        }
        assert_eq!(result(&[]), None);
        assert_eq!(result(&[(BPF_LD | BPF_IMM, 1)]), None, "no return");
    }

    #[test]
    fn what_depends_on_an_unknown_word_has_no_result() {
        let load = program(&[(BPF_LD | BPF_W | BPF_ABS, 16), (BPF_RET | BPF_K, 7)]);
        let mut data = data();
        assert_eq!(interpret(&load, &data), Some(7));
        data[4] = None;
        assert_eq!(interpret(&load, &data), None);
        data[4] = Some(0);
        data[5] = None;
        assert_eq!(interpret(&load, &data), Some(7), "nobody looked");
    }

    /// Instructions that mostly exist, beside such that do not.
    fn any_instruction() -> impl Strategy<Value = sock_filter> {
        let code = prop_oneof![4 => 0..0x100u16, 1 => any::<u16>()];
        let k = prop_oneof![4 => 0..70u32, 1 => any::<u32>()];
        (code, any::<u8>(), any::<u8>(), k).prop_map(|(code, jt, jf, k)| sock_filter { code, jt, jf, k })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_program_panics_or_runs_for_ever(
            program in prop::collection::vec(any_instruction(), 0..64),
            data in prop::array::uniform16(any::<Option<u32>>()),
        ) {
            let _ = interpret(&program, &data);
        }
    }
}
