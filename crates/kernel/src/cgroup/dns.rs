//! The programs that send DNS to the WAN resolver, and make its answers look as if they came from where they were asked.
//!
//! Whatever goes to port 53, over UDP or TCP, goes to the resolver instead: at connect, or with each datagram of a socket
//! that is not connected. The address that was meant is remembered by the socket's cookie. getpeername, and the source
//! of a received datagram, are turned back from it.
//!
//! One unconnected socket may ask several servers at once, as musl's stub does. All their answers come from the one
//! resolver, and a program at recvmsg sees no more than this source. So the servers that have not answered yet stand in
//! a queue, each once, and an answer is the first one's. Thus an answer always seems to come from a server that was
//! asked; from the very one, while the resolver answers in order. After five seconds, a stub's patience, a question
//! counts as lost.
//!
//! Where a family has no resolver, its DNS is refused (EPERM): it is not sent where it should not go. So it is with a
//! datagram of an unconnected socket to a link-local server (ENETUNREACH): the kernel has bound it to the server's link
//! before a program sees it, and ::1 is not there. glibc's stub connects, and is served.

use super::asm::{Assembler, Helper, If, Label, Op, Reg};
use narrowgate_sys::bpf::{Hook, Insn};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// Where DNS goes, for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolvers {
    pub(super) v4: Option<SocketAddrV4>,
    pub(super) v6: Option<SocketAddrV6>,
}

/// The hooks that this file has a program for.
pub(super) const HOOKS: [Hook; 8] = [
    Hook::Connect4,
    Hook::Connect6,
    Hook::Sendmsg4,
    Hook::Sendmsg6,
    Hook::Recvmsg4,
    Hook::Recvmsg6,
    Hook::Getpeername4,
    Hook::Getpeername6,
];

/// The program for a hook of [`HOOKS`]. `map` is the descriptor of a map of [`KEY_SIZE`] and [`VALUE_SIZE`].
pub(super) fn program(hook: Hook, resolvers: Resolvers, map: i32) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let (allow, refuse) = (asm.label(), asm.label());
    asm.copy(CONTEXT, Reg::R1);
    let mut writer = Writer { asm, map, allow, refuse, refuses: false, hook };
    match hook {
        Hook::Connect4 | Hook::Connect6 | Hook::Sendmsg4 | Hook::Sendmsg6 => writer.outward(resolvers),
        _ => writer.inward(resolvers),
    }
    let Writer { mut asm, refuses, .. } = writer;
    asm.place(allow);
    asm.exit(1);
    // The verifier wants no code that is never reached.
    if refuses {
        asm.place(refuse);
        asm.exit(0);
    }
    asm.finish()
}

struct Writer {
    asm: Assembler,
    map: i32,
    allow: Label,
    refuse: Label,
    refuses: bool,
    hook: Hook,
}

impl Writer {
    /// connect and sendmsg: remembers where it was to go, and sends it to the resolver.
    fn outward(&mut self, resolvers: Resolvers) {
        let (take, tcp_udp) = (self.asm.label(), self.asm.label());
        self.asm.load(Reg::R1, CONTEXT, PROTOCOL);
        for protocol in [UDP, TCP, MPTCP] {
            self.asm.jump_if(Reg::R1, If::Equal, protocol, tcp_udp);
        }
        self.asm.jump(self.allow); // ping, and raw sockets, have no ports
        self.asm.place(tcp_udp);
        self.asm.load(Reg::R1, CONTEXT, PORT);
        self.asm.jump_if(Reg::R1, If::Equal, wire_port(53), take);
        // What the process sends to the resolver itself takes its place in the queue too.
        for resolver in self.seen_as(resolvers) {
            self.jump_if_address(resolver, take);
        }
        self.asm.jump(self.allow);
        self.asm.place(take);
        self.read_address(ASKED);
        self.remember();
        self.redirect(resolvers);
    }

    /// recvmsg and getpeername: if that is the resolver, puts the server in its place that was asked.
    fn inward(&mut self, resolvers: Resolvers) {
        if self.seen_as(resolvers).next().is_none() {
            return; // this family's DNS is refused
        }
        let ours = self.asm.label();
        for resolver in self.seen_as(resolvers) {
            self.jump_if_address(resolver, ours);
        }
        self.asm.jump(self.allow);
        self.asm.place(ours);
        self.look_up();
        self.asm.jump_if_null(Reg::R0, self.allow);
        self.asm.copy(VALUE, Reg::R0);
        if matches!(self.hook, Hook::Recvmsg4 | Hook::Recvmsg6) {
            self.answered();
        } else {
            self.asm.copy(ENTRY, VALUE);
            self.asm.advance(ENTRY, PEER.into());
        }
        self.asm.load(Reg::R1, ENTRY, ENTRY_PORT);
        self.asm.jump_if(Reg::R1, If::Equal, 0, self.allow); // never connected
        self.asm.store(CONTEXT, PORT, Reg::R1);
        for (field, word) in self.address_fields() {
            self.asm.load(Reg::R1, ENTRY, word);
            self.asm.store(CONTEXT, field, Reg::R1);
        }
    }

    /// R0 = what is known of the socket, or null. The key stays at [`KEY`].
    fn look_up(&mut self) {
        self.asm.copy(Reg::R1, CONTEXT);
        self.asm.call(Helper::SocketCookie);
        self.asm.store_wide(Reg::R10, KEY, Reg::R0);
        self.look_up_again();
    }

    fn look_up_again(&mut self) {
        self.asm.map(Reg::R1, self.map);
        self.asm.copy(Reg::R2, Reg::R10);
        self.asm.advance(Reg::R2, KEY.into());
        self.asm.call(Helper::MapLookup);
    }

    /// Writes the address at [`ASKED`] into what is known of the socket: as the peer, or at the end of the queue.
    fn remember(&mut self) {
        let (missing, found, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.call(Helper::KtimeNs);
        self.asm.shift_right(Reg::R0, 20);
        self.asm.copy(NOW, Reg::R0);
        self.look_up();
        self.asm.copy(VALUE, Reg::R0);
        self.asm.jump_if_null(VALUE, missing);
        self.asm.jump(found);
        self.asm.place(missing);
        self.asm.op(Op::Mov, Reg::R1, 0);
        for offset in (EMPTY..EMPTY + VALUE_SIZE as i16).step_by(8) {
            self.asm.store_wide(Reg::R10, offset, Reg::R1);
        }
        self.asm.map(Reg::R1, self.map);
        self.asm.copy(Reg::R2, Reg::R10);
        self.asm.advance(Reg::R2, KEY.into());
        self.asm.copy(Reg::R3, Reg::R10);
        self.asm.advance(Reg::R3, EMPTY.into());
        self.asm.op(Op::Mov, Reg::R4, 0); // BPF_ANY
        self.asm.call(Helper::MapUpdate);
        self.look_up_again();
        self.asm.copy(VALUE, Reg::R0);
        self.asm.jump_if_null(VALUE, done); // out of memory: sent all the same, and answered under the resolver's name
        self.asm.place(found);
        if matches!(self.hook, Hook::Connect4 | Hook::Connect6) {
            self.asm.op(Op::Mov, Reg::R1, 0);
            self.asm.store(VALUE, WRITTEN, Reg::R1);
            self.asm.store(VALUE, READ, Reg::R1);
            self.asm.copy(ENTRY, VALUE);
            self.asm.advance(ENTRY, PEER.into());
            self.write_entry();
        } else {
            self.queue(done);
        }
        self.asm.place(done);
    }

    /// Puts the address at [`ASKED`] at the queue's end, unless it stands in it.
    fn queue(&mut self, done: Label) {
        let append = self.asm.label();
        self.asm.load(POSITION, VALUE, READ);
        self.asm.load(END, VALUE, WRITTEN);
        for _ in 0..QUEUE {
            let next = self.asm.label();
            self.asm.jump_if_by(POSITION, If::Equal, END, append);
            self.entry_at(POSITION);
            for word in (0..=ENTRY_PORT).step_by(4) {
                self.asm.load(Reg::R4, ENTRY, word);
                self.asm.load(Reg::R5, Reg::R10, ASKED + word);
                self.asm.jump_if_by(Reg::R4, If::NotEqual, Reg::R5, next);
            }
            self.asm.store(ENTRY, ENTRY_TIME, NOW);
            self.asm.jump(done);
            self.asm.place(next);
            self.asm.op(Op::Add, POSITION, 1);
        }
        self.asm.place(append);
        self.entry_at(END);
        self.write_entry();
        self.asm.op(Op::Add, END, 1);
        self.asm.store(VALUE, WRITTEN, END);
        // Full: the oldest one is forgotten.
        self.asm.load(POSITION, VALUE, READ);
        self.asm.op_by(Op::Mov, Reg::R4, END);
        self.asm.op_by(Op::Sub, Reg::R4, POSITION);
        self.asm.jump_if(Reg::R4, If::LessOrEqual, QUEUE, done);
        self.asm.op(Op::Sub, END, QUEUE);
        self.asm.store(VALUE, READ, END);
    }

    /// ENTRY = who is taken to have answered: the first in the queue who is not given up; if there is none (the answer is
    /// read twice, MSG_PEEK, or comes twice) the last one asked; on a socket that only connected, its peer.
    fn answered(&mut self) {
        let (found, none, chosen, connected) =
            (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.call(Helper::KtimeNs);
        self.asm.shift_right(Reg::R0, 20);
        self.asm.copy(NOW, Reg::R0);
        self.asm.load(POSITION, VALUE, READ);
        self.asm.load(END, VALUE, WRITTEN);
        for _ in 0..QUEUE {
            self.asm.jump_if_by(POSITION, If::Equal, END, none);
            self.entry_at(POSITION);
            self.asm.load(Reg::R4, ENTRY, ENTRY_TIME);
            self.asm.op_by(Op::Mov, Reg::R5, NOW);
            self.asm.op_by(Op::Sub, Reg::R5, Reg::R4);
            self.asm.op(Op::Add, POSITION, 1);
            self.asm.jump_if(Reg::R5, If::LessOrEqual, PATIENCE, found);
        }
        self.asm.place(none);
        self.asm.store(VALUE, READ, END);
        self.asm.jump_if(END, If::Equal, 0, connected);
        self.asm.op(Op::Sub, END, 1);
        self.entry_at(END);
        self.asm.jump(chosen);
        self.asm.place(connected);
        self.asm.copy(ENTRY, VALUE);
        self.asm.advance(ENTRY, PEER.into());
        self.asm.jump(chosen);
        self.asm.place(found);
        self.asm.store(VALUE, READ, POSITION);
        self.asm.place(chosen);
    }

    /// ENTRY = the queue's place for this position.
    fn entry_at(&mut self, position: Reg) {
        self.asm.op_by(Op::Mov, Reg::R4, position);
        self.asm.op(Op::And, Reg::R4, QUEUE - 1);
        self.asm.op(Op::Mul, Reg::R4, ENTRY_SIZE as u32);
        self.asm.copy(ENTRY, VALUE);
        self.asm.advance(ENTRY, ENTRIES.into());
        self.asm.advance_by(ENTRY, Reg::R4);
    }

    /// *ENTRY = the address at [`ASKED`], now.
    fn write_entry(&mut self) {
        for word in (0..=ENTRY_PORT).step_by(4) {
            self.asm.load(Reg::R4, Reg::R10, ASKED + word);
            self.asm.store(ENTRY, word, Reg::R4);
        }
        self.asm.store(ENTRY, ENTRY_TIME, NOW);
    }

    /// Sends it to the resolver of its family.
    fn redirect(&mut self, resolvers: Resolvers) {
        match self.hook {
            Hook::Connect4 | Hook::Sendmsg4 => self.write_address(resolvers.v4.map(SocketAddr::V4)),
            // The kernel does not let a datagram change its family here (ENOTSUPP).
            Hook::Sendmsg6 => self.write_address(resolvers.v6.map(SocketAddr::V6)),
            _ => {
                // An IPv6 socket may connect to an IPv4 address, written ::ffff:a.b.c.d; the family it meant is kept
                // where that can be, since it may have bound itself to an address of that family.
                let native = self.asm.label();
                for (word, part) in [(0, 0), (4, 0), (8, 0xffff_u32.to_be())] {
                    self.asm.load(Reg::R1, Reg::R10, ASKED + word);
                    self.asm.jump_if(Reg::R1, If::NotEqual, part, native);
                }
                let (v4, v6) = (resolvers.v4.map(SocketAddr::V4), resolvers.v6.map(SocketAddr::V6));
                self.write_address(v4.or(v6));
                self.asm.place(native);
                self.write_address(v6.or(v4));
            }
        }
    }

    /// The context's address = `address`, and allows; or refuses where there is none.
    fn write_address(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            self.refuses = true;
            return self.asm.jump(self.refuse);
        };
        let words = words(address);
        for (field, word) in self.address_fields() {
            let part = words.get(usize::from(word.unsigned_abs()) / 4).copied().unwrap_or(0);
            self.asm.op(Op::Mov, Reg::R1, part);
            self.asm.store(CONTEXT, field, Reg::R1);
        }
        self.asm.op(Op::Mov, Reg::R1, wire_port(address.port()));
        self.asm.store(CONTEXT, PORT, Reg::R1);
        self.asm.jump(self.allow);
    }

    /// The stack at `offset` = the context's address and port.
    fn read_address(&mut self, offset: i16) {
        if self.is_v4() {
            for (word, part) in [(0, 0), (4, 0), (8, 0xffff_u32.to_be())] {
                self.asm.op(Op::Mov, Reg::R1, part);
                self.asm.store(Reg::R10, offset + word, Reg::R1);
            }
        }
        for (field, word) in self.address_fields() {
            self.asm.load(Reg::R1, CONTEXT, field);
            self.asm.store(Reg::R10, offset + word, Reg::R1);
        }
        self.asm.load(Reg::R1, CONTEXT, PORT);
        self.asm.store(Reg::R10, offset + ENTRY_PORT, Reg::R1);
    }

    fn jump_if_address(&mut self, address: SocketAddr, to: Label) {
        let other = self.asm.label();
        self.asm.load(Reg::R1, CONTEXT, PORT);
        self.asm.jump_if(Reg::R1, If::NotEqual, wire_port(address.port()), other);
        let words = words(address);
        for (field, word) in self.address_fields() {
            let part = words.get(usize::from(word.unsigned_abs()) / 4).copied().unwrap_or(0);
            self.asm.load(Reg::R1, CONTEXT, field);
            self.asm.jump_if(Reg::R1, If::NotEqual, part, other);
        }
        self.asm.jump(to);
        self.asm.place(other);
    }

    /// The resolvers that a context of this hook may show: an IPv6 socket sees an IPv4 address as ::ffff:a.b.c.d.
    fn seen_as(&self, resolvers: Resolvers) -> impl Iterator<Item = SocketAddr> + use<> {
        let v6 = resolvers.v6.filter(|_| !self.is_v4()).map(SocketAddr::V6);
        resolvers.v4.map(SocketAddr::V4).into_iter().chain(v6)
    }

    /// The words of the context's address, and where each is in an entry.
    fn address_fields(&self) -> impl Iterator<Item = (i16, i16)> + use<> {
        let fields: &[(i16, i16)] =
            if self.is_v4() { &[(ADDRESS4, 12)] } else { &[(8, 0), (12, 4), (16, 8), (20, 12)] };
        fields.iter().copied()
    }

    fn is_v4(&self) -> bool {
        matches!(self.hook, Hook::Connect4 | Hook::Sendmsg4 | Hook::Recvmsg4 | Hook::Getpeername4)
    }
}

/// An address as four words as they lie in memory; IPv4 as ::ffff:a.b.c.d.
fn words(address: SocketAddr) -> [u32; 4] {
    let octets = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// A port as the context shows it.
fn wire_port(port: u16) -> u32 {
    port.to_be().into()
}

const CONTEXT: Reg = Reg::R6;
const VALUE: Reg = Reg::R7;
const ENTRY: Reg = Reg::R8;
const NOW: Reg = Reg::R9;
// No helper is called while these two are in use.
const POSITION: Reg = Reg::R2;
const END: Reg = Reg::R3;

// Fields of struct bpf_sock_addr.
const ADDRESS4: i16 = 4;
const PORT: i16 = 24;
const PROTOCOL: i16 = 36;

const TCP: u32 = 6;
const UDP: u32 = 17;
const MPTCP: u32 = 262;

/// Of the map: a socket's cookie.
pub(super) const KEY_SIZE: u32 = 8;
/// Of the map: two counters, the peer, the queue.
pub(super) const VALUE_SIZE: u32 = 8 + ENTRY_SIZE as u32 * (1 + QUEUE);
/// Sockets that are remembered at once.
pub(super) const SOCKETS: u32 = 512;

// A value of the map.
const WRITTEN: i16 = 0;
const READ: i16 = 4;
const PEER: i16 = 8;
const ENTRIES: i16 = PEER + ENTRY_SIZE;
/// Places in the queue, a power of two: as many servers as a resolv.conf has, and one.
const QUEUE: u32 = 4;
// An entry: 16 bytes of address, the port, the time.
const ENTRY_SIZE: i16 = 24;
const ENTRY_PORT: i16 = 16;
const ENTRY_TIME: i16 = 20;
/// In 2^20 ns.
const PATIENCE: u32 = 5000;

// The stack.
const KEY: i16 = -8;
const ASKED: i16 = -32;
const EMPTY: i16 = ASKED - VALUE_SIZE as i16;
