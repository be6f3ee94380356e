//! The program at socket creation: sets the mark under its mask, before the process has the socket in its hands.

use super::asm::{Assembler, Op, Reg};
use narrowgate_model::Mark;
use narrowgate_sys::bpf::Insn;

/// `mark = mark & ~MASK | VALUE`, then allows the socket.
pub(super) fn program(mark: Mark) -> Vec<Insn> {
    let (context, value) = (Reg::R1, Reg::R2);
    let mut program = Assembler::default();
    program.load(value, context, SOCK_MARK);
    program.op(Op::And, value, !mark.mask);
    program.op(Op::Or, value, mark.value);
    program.store(context, SOCK_MARK, value);
    program.exit(1);
    program.finish()
}

/// Of `mark` in `struct bpf_sock`.
const SOCK_MARK: i16 = 16;
