//! A small assembler for BPF (RFC 9669): as much as the programs in this folder need.
//! Jumps name labels, and are resolved in [`Assembler::finish`].

use narrowgate_sys::bpf::Insn;

/// A register. R0 holds results, R1 to R5 arguments and are lost in a call, R6 to R9 survive it, R10 is the frame's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// An operation on 32 bits; the upper half of the register becomes 0.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Mov = 0xb0,
}

/// A comparison of 32 bits, unsigned.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum If {
    Equal = 0x10,
    NotEqual = 0x50,
    LessOrEqual = 0xb0,
}

/// A kernel function that programs may call (bpf-helpers(7)).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    KtimeNs = 5,
    SocketCookie = 46,
    SetSockOpt = 49,
}

/// A place to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being written.
#[derive(Debug, Default)]
pub struct Assembler {
    program: Vec<Insn>,
    /// Where each label was placed.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A new label, not yet placed.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        let here = self.program.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    /// `to = from`, all 64 bits: pointers as well.
    pub fn copy(&mut self, to: Reg, from: Reg) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to += constant`, all 64 bits: pointers as well.
    pub fn advance(&mut self, to: Reg, constant: i32) {
        self.push(0x07, to, Reg::R0, 0, constant);
    }

    /// `to += from`, all 64 bits: a pointer and an offset.
    pub fn advance_by(&mut self, to: Reg, from: Reg) {
        self.push(0x0f, to, from, 0, 0);
    }

    /// `to >>= bits`, all 64 bits.
    pub fn shift_right(&mut self, to: Reg, bits: i32) {
        self.push(0x77, to, Reg::R0, 0, bits);
    }

    /// `to = to OP constant`, 32 bits.
    pub fn op(&mut self, op: Op, to: Reg, constant: u32) {
        self.push(0x04 | op as u8, to, Reg::R0, 0, constant as i32);
    }

    /// `to = to OP from`, 32 bits.
    pub fn op_by(&mut self, op: Op, to: Reg, from: Reg) {
        self.push(0x0c | op as u8, to, from, 0, 0);
    }

    /// `to = *(u32 *)(from + offset)`
    pub fn load(&mut self, to: Reg, from: Reg, offset: i16) {
        self.push(0x61, to, from, offset, 0);
    }

    /// `to = *(u64 *)(from + offset)`
    pub fn load_wide(&mut self, to: Reg, from: Reg, offset: i16) {
        self.push(0x79, to, from, offset, 0);
    }

    /// `*(u32 *)(to + offset) = from`
    pub fn store(&mut self, to: Reg, offset: i16, from: Reg) {
        self.push(0x63, to, from, offset, 0);
    }

    /// `*(u64 *)(to + offset) = from`
    pub fn store_wide(&mut self, to: Reg, offset: i16, from: Reg) {
        self.push(0x7b, to, from, offset, 0);
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.push(0x05, Reg::R0, Reg::R0, 0, 0);
    }

    /// Jumps if the low 32 bits compare so with a constant (Linux 5.1).
    pub fn jump_if(&mut self, reg: Reg, comparison: If, constant: u32, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.push(0x06 | comparison as u8, reg, Reg::R0, 0, constant as i32);
    }

    /// Jumps if the low 32 bits of two registers compare so.
    pub fn jump_if_by(&mut self, reg: Reg, comparison: If, other: Reg, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.push(0x0e | comparison as u8, reg, other, 0, 0);
    }

    /// Jumps if all 64 bits are 0, as a pointer's are that was not found.
    pub fn jump_if_null(&mut self, reg: Reg, to: Label) {
        self.jumps.push((self.program.len(), to));
        self.push(0x15, reg, Reg::R0, 0, 0);
    }

    /// Calls a helper: arguments in R1 to R5, result in R0.
    pub fn call(&mut self, helper: Helper) {
        self.push(0x85, Reg::R0, Reg::R0, 0, helper as i32);
    }

    /// `to = ` the map whose descriptor this is. Two instructions long.
    pub fn map(&mut self, to: Reg, descriptor: i32) {
        const PSEUDO_MAP_FD: Reg = Reg::R1;
        self.push(0x18, to, PSEUDO_MAP_FD, 0, descriptor);
        self.push(0x00, Reg::R0, Reg::R0, 0, 0);
    }

    /// Ends the program with `result`.
    pub fn exit(&mut self, result: u32) {
        self.op(Op::Mov, Reg::R0, result);
        self.push(0x95, Reg::R0, Reg::R0, 0, 0);
    }

    /// The program, its jumps resolved. A label that was never placed leaves its jumps going nowhere (to the next
    /// instruction) and is a mistake in the program; the tests look for it.
    pub fn finish(mut self) -> Vec<Insn> {
        for (from, label) in self.jumps {
            let to = self.labels.get(label.0).copied().flatten();
            debug_assert!(to.is_some(), "a jump to a label that was not placed");
            if let (Some(to), Some(insn)) = (to, self.program.get_mut(from)) {
                insn.offset = to.wrapping_sub(from).wrapping_sub(1) as i16;
            }
        }
        self.program
    }

    fn push(&mut self, code: u8, to: Reg, from: Reg, offset: i16, constant: i32) {
        let (to, from) = (to as u8, from as u8);
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        self.program.push(Insn { code, registers, offset, constant });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut program = Assembler::default();
        let (end, start) = (program.label(), program.label());
        program.place(start);
        program.jump_if(Reg::R1, If::Equal, 7, end);
        program.jump(start);
        program.place(end);
        program.exit(1);
        let offsets: Vec<i16> = program.finish().iter().map(|insn| insn.offset).collect();
        assert_eq!(offsets, [1, -2, 0, 0]);
    }

    #[test]
    fn instructions_are_what_the_kernel_reads() {
        // The bytes are those of RFC 9669, as `llvm-mc -triple bpfel` prints them; `bpfeb` has the registers the other way round.
        let registers = |b: u8| if cfg!(target_endian = "little") { b } else { b.rotate_left(4) };
        let mut program = Assembler::default();
        program.load(Reg::R2, Reg::R1, 16);
        program.op(Op::And, Reg::R2, !1);
        program.map(Reg::R1, 5);
        let insns: Vec<_> =
            program.finish().iter().map(|i| (i.code, i.registers, i.offset, i.constant)).collect();
        let (load, and, map) = (registers(0x12), registers(0x02), registers(0x11));
        assert_eq!(insns, [(0x61, load, 16, 0), (0x54, and, 0, -2), (0x18, map, 0, 5), (0, 0, 0, 0)]);
    }
}
