//! A small assembler for BPF (RFC 9669): as much as the programs in this folder need.
//!
//! Instructions are constants, so that most of a program is a table. Jumps name labels, and lead to the next place of that
//! name; there are none back. They are resolved in [`finish`].

use alloc::vec::Vec;
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

/// A place to jump to. A name can be used again behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Label {
    Allow,
    Refuse,
    End,
    Next,
    Other,
    Take,
    Missing,
    Found,
    Done,
    None,
    Connected,
    Chosen,
    Native,
    Last,
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

/// `to = from`, all 64 bits: pointers as well.
pub const fn copy(to: Reg, from: Reg) -> Insn {
    insn(0xbf, to, from, 0, 0)
}

/// `to += constant`, all 64 bits: pointers as well.
pub const fn advance(to: Reg, constant: i16) -> Insn {
    insn(0x07, to, Reg::R0, 0, constant as i32)
}

/// `to += from`, all 64 bits: a pointer and an offset.
pub const fn advance_by(to: Reg, from: Reg) -> Insn {
    insn(0x0f, to, from, 0, 0)
}

/// `to >>= bits`, all 64 bits.
pub const fn shift_right(to: Reg, bits: i32) -> Insn {
    insn(0x77, to, Reg::R0, 0, bits)
}

/// `to = to OP constant`, 32 bits.
pub const fn op(op: Op, to: Reg, constant: u32) -> Insn {
    insn(0x04 | op as u8, to, Reg::R0, 0, constant as i32)
}

/// `to = to OP from`, 32 bits.
pub const fn op_by(op: Op, to: Reg, from: Reg) -> Insn {
    insn(0x0c | op as u8, to, from, 0, 0)
}

/// `to = *(u32 *)(from + offset)`
pub const fn load(to: Reg, from: Reg, offset: i16) -> Insn {
    insn(0x61, to, from, offset, 0)
}

/// `to = *(u64 *)(from + offset)`
pub const fn load_wide(to: Reg, from: Reg, offset: i16) -> Insn {
    insn(0x79, to, from, offset, 0)
}

/// `*(u32 *)(to + offset) = from`
pub const fn store(to: Reg, offset: i16, from: Reg) -> Insn {
    insn(0x63, to, from, offset, 0)
}

/// `*(u64 *)(to + offset) = from`
pub const fn store_wide(to: Reg, offset: i16, from: Reg) -> Insn {
    insn(0x7b, to, from, offset, 0)
}

/// Jumps.
pub const fn jump(to: Label) -> Insn {
    insn(0x05, Reg::R0, Reg::R0, to as i16, 0)
}

/// Jumps if the low 32 bits compare so with a constant (Linux 5.1).
pub const fn jump_if(reg: Reg, comparison: If, constant: u32, to: Label) -> Insn {
    insn(0x06 | comparison as u8, reg, Reg::R0, to as i16, constant as i32)
}

/// Jumps if the low 32 bits of two registers compare so.
pub const fn jump_if_by(reg: Reg, comparison: If, other: Reg, to: Label) -> Insn {
    insn(0x0e | comparison as u8, reg, other, to as i16, 0)
}

/// Jumps if all 64 bits are 0, as a pointer's are that was not found.
pub const fn jump_if_null(reg: Reg, to: Label) -> Insn {
    insn(0x15, reg, Reg::R0, to as i16, 0)
}

/// No instruction: where the jumps before it to this label lead.
pub const fn place(label: Label) -> Insn {
    insn(PLACE, Reg::R0, Reg::R0, label as i16, 0)
}

/// Calls a helper: arguments in R1 to R5, result in R0.
pub const fn call(helper: Helper) -> Insn {
    insn(CALL, Reg::R0, Reg::R0, 0, helper as i32)
}

/// `to = ` the program's map, the first of two instructions. [`REST`] has to follow.
pub const fn map(to: Reg) -> Insn {
    const PSEUDO_MAP_FD: Reg = Reg::R1;
    insn(WIDE, to, PSEUDO_MAP_FD, 0, 0)
}

/// The second instruction of [`map`].
pub const REST: Insn = insn(0, Reg::R0, Reg::R0, 0, 0);

/// Ends the program with what is in R0.
pub const EXIT: Insn = insn(LEAVE, Reg::R0, Reg::R0, 0, 0);

/// The program, its jumps resolved, with the descriptor of its map. A jump to a label that is not placed behind it goes beyond the
/// end and is a mistake in the program; the tests look for it, and the verifier.
pub fn finish(mut program: Vec<Insn>, map: i32) -> Vec<Insn> {
    // From the end on: how many instructions follow, and at each label did.
    let mut following = 0;
    let mut places = [NOWHERE; Label::Last as usize];
    for insn in program.iter_mut().rev() {
        let place = usize::try_from(insn.offset).ok().and_then(|label| places.get_mut(label));
        if insn.code == PLACE {
            place.into_iter().for_each(|place| *place = following);
            continue;
        }
        if matches!(insn.code & 7, 5 | 6) && !matches!(insn.code, CALL | LEAVE) {
            let place = place.map_or(NOWHERE, |place| *place);
            debug_assert!(place != NOWHERE, "a jump to a label that was not placed");
            insn.offset = following.wrapping_sub(place);
        } else if insn.code == WIDE {
            insn.constant = map;
        }
        following += 1;
    }
    program.retain(|insn| insn.code != PLACE);
    program
}

const fn insn(code: u8, to: Reg, from: Reg, offset: i16, constant: i32) -> Insn {
    let (to, from) = (to as u8, from as u8);
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Insn { code, registers, offset, constant }
}

const NOWHERE: i16 = -1;
const CALL: u8 = 0x85;
const LEAVE: u8 = 0x95;
const WIDE: u8 = 0x18;
/// No instruction has this code.
const PLACE: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_from_the_next_instruction_to_the_next_place_of_that_name() {
        let program = vec![
            jump_if(Reg::R1, If::Equal, 7, Label::End),
            jump(Label::Next),
            place(Label::Next),
            jump(Label::Next),
            call(Helper::KtimeNs),
            place(Label::Next),
            place(Label::End),
            op(Op::Mov, Reg::R0, 1),
            EXIT,
        ];
        let offsets: Vec<i16> = finish(program, 0).iter().map(|insn| insn.offset).collect();
        assert_eq!(offsets, [3, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn instructions_are_what_the_kernel_reads() {
        // The bytes are those of RFC 9669, as `llvm-mc -triple bpfel` prints them; `bpfeb` has the registers the other way round.
        let registers = |b: u8| if cfg!(target_endian = "little") { b } else { b.rotate_left(4) };
        let program = vec![load(Reg::R2, Reg::R1, 16), op(Op::And, Reg::R2, !1), map(Reg::R1), REST];
        let insns: Vec<_> =
            finish(program, 5).iter().map(|i| (i.code, i.registers, i.offset, i.constant)).collect();
        let (load, and, map) = (registers(0x12), registers(0x02), registers(0x11));
        assert_eq!(insns, [(0x61, load, 16, 0), (0x54, and, 0, -2), (0x18, map, 0, 5), (0, 0, 0, 0)]);
    }
}
