//! The program at socket creation: sets the mark under its mask, before the process has the socket in its hands. And one
//! for sockets that do not come by there: those that the kernel makes for Multipath TCP, to carry what a program sends.

use super::asm::{
    EXIT, Helper, If, Label, Op, Reg, advance, call, copy, finish, jump_if, load, load_wide, op, place, store,
};
use alloc::vec::Vec;
use narrowgate_model::Mark;
use narrowgate_sys::bpf::{Hook, Insn, SO_MARK, SOL_SOCKET};

/// `mark = mark & ~MASK | VALUE`, then allows the socket.
pub(super) fn program(mark: Mark) -> Vec<Insn> {
    let (context, value) = (Reg::R1, Reg::R2);
    vec![
        load(value, context, SOCK_MARK),
        op(Op::And, value, !mark.mask),
        op(Op::Or, value, mark.value),
        store(context, SOCK_MARK, value),
        op(Op::Mov, Reg::R0, 1),
        EXIT,
    ]
}

/// Where [`late`] stands: before a socket can send anything.
pub(super) const LATE_HOOKS: [Hook; 4] = [Hook::Bind4, Hook::Bind6, Hook::Connect4, Hook::Connect6];

/// At bind and connect: marks the socket if it has no mark at all. So a mark that a program has set itself stays, and a
/// socket that it brought with it from elsewhere is marked as well.
#[inline(never)]
pub(super) fn late(mark: Mark) -> Vec<Insn> {
    let (socket, value) = (Reg::R3, Reg::R2);
    let program = vec![
        load_wide(socket, Reg::R1, CONTEXT_SOCKET),
        load(value, socket, SOCK_MARK),
        jump_if(value, If::NotEqual, 0, Label::End),
        op(Op::Mov, value, mark.value),
        store(Reg::R10, -4, value),
        // bpf_setsockopt(context, level, name, value, length)
        op(Op::Mov, Reg::R2, SOL_SOCKET),
        op(Op::Mov, Reg::R3, SO_MARK),
        copy(Reg::R4, Reg::R10),
        advance(Reg::R4, -4),
        op(Op::Mov, Reg::R5, 4),
        call(Helper::SetSockOpt),
        place(Label::End),
        op(Op::Mov, Reg::R0, 1),
        EXIT,
    ];
    finish(program, 0)
}

/// Of `mark` in `struct bpf_sock`.
const SOCK_MARK: i16 = 16;
/// Of `sk` in `struct bpf_sock_addr`.
const CONTEXT_SOCKET: i16 = 64;
