//! Classic BPF for seccomp: an assembler with labels, nothing more.
//!
//! Conditional jumps of classic BPF reach 255 instructions, `ja` reaches any.
//! A conditional jump is therefore always one instruction with offsets 0 and
//! 1 over a `ja` each, unless its target is what follows.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
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

/// Runs a program as the kernel would, for tests. `data` is a `struct
/// seccomp_data` of 16 little-endian words.
#[cfg(test)]
pub(super) fn run(program: &[sock_filter], data: &[u32; 16]) -> u32 {
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let i = program[at];
        at += 1;
        let code = u32::from(i.code);
        let jump_if = |condition| usize::from(if condition { i.jt } else { i.jf });
        match code {
            c if c == BPF_LD | BPF_W | BPF_ABS => accumulator = data[i.k as usize / 4],
            c if c == BPF_ALU | BPF_AND | BPF_K => accumulator &= i.k,
            c if c == BPF_JMP | BPF_JA => at += i.k as usize,
            c if c == BPF_JMP | BPF_JEQ | BPF_K => at += jump_if(accumulator == i.k),
            c if c == BPF_JMP | BPF_JGT | BPF_K => at += jump_if(accumulator > i.k),
            c if c == BPF_JMP | BPF_JGE | BPF_K => at += jump_if(accumulator >= i.k),
            c if c == BPF_JMP | BPF_JSET | BPF_K => at += jump_if(accumulator & i.k != 0),
            c if c == BPF_RET | BPF_K => return i.k,
            c => panic!("unknown instruction {c:#x}"),
        }
    }
}
