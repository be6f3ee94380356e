//! What stops the frames of a device that somebody renames, until the guard goes by its new name.
//!
//! Since Linux 6.16 nftables hooks devices by name and takes its chain off one that is renamed, in that very moment. A BPF program at the device itself
//! stays. It stands behind nftables and drops whatever has not come by the guard's last chain, which leaves a bit in the mark ([`Chain::SEEN`]); that bit it takes
//! off again. It goes with us, with the device, and before the guard: without that chain nothing would pass.

use crate::cgroup::asm::{EXIT, If, Label, Op, Reg, finish, jump_if_by, load, op, op_by, place, store};
use alloc::vec::Vec;
use narrowgate_model::nft::{Action, Chain, Ruleset};
use narrowgate_sys::bpf::{self, Hook, Insn};
use narrowgate_sys::link;
use rustix::fd::{AsFd, OwnedFd};

/// The devices that have the program.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    list: Vec<Gate>,
    complained: bool,
}

#[derive(Debug)]
struct Gate {
    index: u32,
    bit: u32,
    _link: OwnedFd,
}

impl Gates {
    /// Puts the program on the devices that this guard, which stands, has the chain for, and takes it off all others. Where it cannot be put, the log hears of it once.
    /// The kernel takes some 10 ms for each that is put on or taken off.
    pub fn follow(&mut self, guard: &Ruleset) {
        for (index, bit) in self.keep(guard) {
            match open(index, bit) {
                Ok(link) => self.list.push(Gate { index, bit, _link: link }),
                Err(error) if !self.complained => {
                    self.complained = true;
                    log::warn!(
                        "an uplink's device that is renamed is not guarded against packet sockets for some milliseconds: {error}"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Takes the program off where this guard has no chain for it, or one with another bit, so that it stops nothing. The devices that
    /// have none yet, with the bit.
    pub fn keep(&mut self, guard: &Ruleset) -> Vec<(u32, u32)> {
        let mut seen = None;
        for table in &guard.tables {
            seen = seen.or(table.chains.iter().find(|chain| chain.name == Chain::SEEN));
        }
        let bit = seen.and_then(|chain| chain.rules.first()).map_or(0, |rule| match rule.action {
            Action::SetMark { value, .. } => value,
            _ => 0,
        });
        let mut wanted = Vec::new();
        for name in seen.map_or(&[][..], |chain| &chain.devices) {
            if let Ok(index) = link::index_of(name) {
                wanted.push((index, bit));
            }
        }
        self.list.retain(|gate| wanted.contains(&(gate.index, gate.bit)));
        wanted.retain(|(index, _)| !self.list.iter().any(|gate| gate.index == *index));
        wanted
    }
}

fn open(index: u32, bit: u32) -> narrowgate_sys::io::Result<OwnedFd> {
    let _unlimited = bpf::Unlimited::new();
    let program = bpf::load(Hook::DeviceEgress, "narrowgate", &program(bit)).map_err(|e| e.error)?;
    bpf::link_to_device(program.as_fd(), index)
}

fn program(bit: u32) -> Vec<Insn> {
    let (context, mark, left) = (Reg::R1, Reg::R2, Reg::R3);
    let program = vec![
        load(mark, context, SKB_MARK),
        op(Op::Mov, left, !bit),
        op_by(Op::And, left, mark),
        jump_if_by(left, If::Equal, mark, Label::Other),
        store(context, SKB_MARK, left),
        op(Op::Mov, Reg::R0, TCX_NEXT),
        EXIT,
        place(Label::Other),
        op(Op::Mov, Reg::R0, TCX_DROP),
        EXIT,
    ];
    finish(program, 0)
}

/// Of `mark` in `struct __sk_buff`.
const SKB_MARK: i16 = 8;
const TCX_NEXT: u32 = u32::MAX;
const TCX_DROP: u32 = 2;
