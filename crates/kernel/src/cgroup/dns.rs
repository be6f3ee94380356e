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

use super::Programs;
use super::asm::{
    EXIT, Helper, If, Label, Op, REST, Reg, advance, advance_by, call, copy, finish, jump, jump_if,
    jump_if_by, jump_if_null, load, map, op, op_by, place, shift_right, store, store_wide,
};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use narrowgate_sys::bpf::{Hook, Insn};

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
#[inline(never)]
pub(super) fn program(hook: Hook, programs: &Programs, map: i32) -> Vec<Insn> {
    use Hook::{Connect4, Connect6, Getpeername4, Recvmsg4, Recvmsg6, Sendmsg4, Sendmsg6};
    let v4 = matches!(hook, Connect4 | Sendmsg4 | Recvmsg4 | Getpeername4);
    let fields: &[_] = if v4 { &[(ADDRESS4, 12)] } else { &[(8, 0), (12, 4), (16, 8), (20, 12)] };
    let mut writer = Writer {
        program: vec![copy(CONTEXT, Reg::R1)],
        refuses: false,
        v4,
        fields,
        connects: matches!(hook, Connect4 | Connect6),
        // The kernel does not let a datagram change its family here (ENOTSUPP).
        may_change: hook == Connect6,
    };
    match hook {
        Connect4 | Connect6 | Sendmsg4 | Sendmsg6 => writer.outward(programs),
        _ => writer.inward(programs, matches!(hook, Recvmsg4 | Recvmsg6)),
    }
    writer.add(const { &[place(Label::Allow), op(Op::Mov, Reg::R0, 1), EXIT] });
    // The verifier wants no code that is never reached.
    if writer.refuses {
        writer.add(const { &[place(Label::Refuse), op(Op::Mov, Reg::R0, 0), EXIT] });
    }
    finish(writer.program, map)
}

struct Writer {
    program: Vec<Insn>,
    refuses: bool,
    /// The hook's sockets are of IPv4.
    v4: bool,
    /// The words of the context's address, and where each is in an entry.
    fields: &'static [(i16, i16)],
    connects: bool,
    /// The other family's resolver will do.
    may_change: bool,
}

impl Writer {
    fn add(&mut self, program: &[Insn]) {
        self.program.extend_from_slice(program);
    }

    /// connect and sendmsg: remembers where it was to go, and sends it to the resolver.
    #[inline(never)]
    fn outward(&mut self, programs: &Programs) {
        self.add(
            const {
                &[
                    load(Reg::R1, CONTEXT, PROTOCOL),
                    jump_if(Reg::R1, If::Equal, UDP, Label::Found),
                    jump_if(Reg::R1, If::Equal, TCP, Label::Found),
                    jump_if(Reg::R1, If::Equal, MPTCP, Label::Found),
                    jump(Label::Allow), // ping, and raw sockets, have no ports
                    place(Label::Found),
                    load(Reg::R1, CONTEXT, PORT),
                    jump_if(Reg::R1, If::Equal, wire_port(53), Label::Take),
                ]
            },
        );
        // What the process sends to the resolver itself takes its place in the queue too.
        self.jump_if_resolver(programs);
        self.read_address();
        self.remember();
        self.redirect(programs);
    }

    /// recvmsg and getpeername: if that is the resolver, puts the server in its place that was asked.
    #[inline(never)]
    fn inward(&mut self, programs: &Programs, receives: bool) {
        if programs.resolver4.is_none() && (self.v4 || programs.resolver6.is_none()) {
            return; // this family's DNS is refused
        }
        self.jump_if_resolver(programs);
        self.add(const { &LOOK_UP });
        self.add(const { &LOOK_UP_AGAIN });
        self.add(const { &[jump_if_null(Reg::R0, Label::Allow), copy(VALUE, Reg::R0)] });
        if receives {
            self.answered();
        } else {
            self.add(const { &ENTRY_IS_PEER });
        }
        self.add(
            const {
                &[
                    load(Reg::R1, ENTRY, ENTRY_PORT),
                    jump_if(Reg::R1, If::Equal, 0, Label::Allow), // never connected
                    store(CONTEXT, PORT, Reg::R1),
                ]
            },
        );
        for (field, word) in self.fields {
            self.add(&[load(Reg::R1, ENTRY, *word), store(CONTEXT, *field, Reg::R1)]);
        }
    }

    /// Writes the address at [`ASKED`] into what is known of the socket: as the peer, or at the end of the queue.
    fn remember(&mut self) {
        self.add(const { &NOW_IS });
        self.add(const { &LOOK_UP });
        self.add(const { &LOOK_UP_AGAIN });
        self.add(
            const {
                &[
                    copy(VALUE, Reg::R0),
                    jump_if_null(VALUE, Label::Missing),
                    jump(Label::Found),
                    place(Label::Missing),
                    op(Op::Mov, Reg::R1, 0),
                ]
            },
        );
        for offset in (EMPTY..EMPTY + VALUE_SIZE as i16).step_by(8) {
            self.add(&[store_wide(Reg::R10, offset, Reg::R1)]);
        }
        self.add(
            const {
                &[
                    map(Reg::R1),
                    REST,
                    copy(Reg::R2, Reg::R10),
                    advance(Reg::R2, KEY),
                    copy(Reg::R3, Reg::R10),
                    advance(Reg::R3, EMPTY),
                    op(Op::Mov, Reg::R4, 0), // BPF_ANY
                    call(Helper::MapUpdate),
                ]
            },
        );
        self.add(const { &LOOK_UP_AGAIN });
        self.add(
            const {
                &[
                    copy(VALUE, Reg::R0),
                    jump_if_null(VALUE, Label::Done), // out of memory: sent all the same, and answered under the resolver's name
                    place(Label::Found),
                ]
            },
        );
        if self.connects {
            self.add(const {
                &[op(Op::Mov, Reg::R1, 0), store(VALUE, WRITTEN, Reg::R1), store(VALUE, READ, Reg::R1)]
            });
            self.add(const { &ENTRY_IS_PEER });
            self.add(const { &WRITE_ENTRY });
        } else {
            self.queue();
        }
        self.add(const { &[place(Label::Done)] });
    }

    /// Puts the address at [`ASKED`] at the queue's end, unless it stands in it.
    fn queue(&mut self) {
        self.add(const { &[load(POSITION, VALUE, READ), load(END, VALUE, WRITTEN)] });
        for _ in 0..QUEUE {
            self.add(const { &[jump_if_by(POSITION, If::Equal, END, Label::End)] });
            self.add(const { &entry_at(POSITION) });
            for word in (0..=ENTRY_PORT).step_by(4) {
                self.add(&[
                    load(Reg::R4, ENTRY, word),
                    load(Reg::R5, Reg::R10, ASKED + word),
                    jump_if_by(Reg::R4, If::NotEqual, Reg::R5, Label::Next),
                ]);
            }
            self.add(
                const {
                    &[
                        store(ENTRY, ENTRY_TIME, NOW),
                        jump(Label::Done),
                        place(Label::Next),
                        op(Op::Add, POSITION, 1),
                    ]
                },
            );
        }
        self.add(const { &[place(Label::End)] });
        self.add(const { &entry_at(END) });
        self.add(const { &WRITE_ENTRY });
        self.add(
            const {
                &[
                    op(Op::Add, END, 1),
                    store(VALUE, WRITTEN, END),
                    // Full: the oldest one is forgotten.
                    load(POSITION, VALUE, READ),
                    op_by(Op::Mov, Reg::R4, END),
                    op_by(Op::Sub, Reg::R4, POSITION),
                    jump_if(Reg::R4, If::LessOrEqual, QUEUE, Label::Done),
                    op(Op::Sub, END, QUEUE),
                    store(VALUE, READ, END),
                ]
            },
        );
    }

    /// ENTRY = who is taken to have answered: the first in the queue who is not given up; if there is none (the answer is
    /// read twice, MSG_PEEK, or comes twice) the last one asked; on a socket that only connected, its peer.
    fn answered(&mut self) {
        self.add(const { &NOW_IS });
        self.add(const { &[load(POSITION, VALUE, READ), load(END, VALUE, WRITTEN)] });
        for _ in 0..QUEUE {
            self.add(const { &[jump_if_by(POSITION, If::Equal, END, Label::None)] });
            self.add(const { &entry_at(POSITION) });
            self.add(
                const {
                    &[
                        load(Reg::R4, ENTRY, ENTRY_TIME),
                        op_by(Op::Mov, Reg::R5, NOW),
                        op_by(Op::Sub, Reg::R5, Reg::R4),
                        op(Op::Add, POSITION, 1),
                        jump_if(Reg::R5, If::LessOrEqual, PATIENCE, Label::Found),
                    ]
                },
            );
        }
        self.add(
            const {
                &[
                    place(Label::None),
                    store(VALUE, READ, END),
                    jump_if(END, If::Equal, 0, Label::Connected),
                    op(Op::Sub, END, 1),
                ]
            },
        );
        self.add(const { &entry_at(END) });
        self.add(const { &[jump(Label::Chosen), place(Label::Connected)] });
        self.add(const { &ENTRY_IS_PEER });
        self.add(
            const {
                &[
                    jump(Label::Chosen),
                    place(Label::Found),
                    store(VALUE, READ, POSITION),
                    place(Label::Chosen),
                ]
            },
        );
    }

    /// Sends it to the resolver of its family.
    fn redirect(&mut self, programs: &Programs) {
        let (v4, v6) = (programs.resolver4.map(SocketAddr::V4), programs.resolver6.map(SocketAddr::V6));
        if self.may_change {
            // An IPv6 socket may connect to an IPv4 address, written ::ffff:a.b.c.d; the family it meant is kept
            // where that can be, since it may have bound itself to an address of that family.
            for (word, part) in MAPPED {
                self.add(&[
                    load(Reg::R1, Reg::R10, ASKED + word),
                    jump_if(Reg::R1, If::NotEqual, part, Label::Native),
                ]);
            }
            self.write_address(v4.or(v6));
            self.add(const { &[place(Label::Native)] });
        }
        self.write_address(match (self.v4, self.may_change) {
            (true, _) => v4,
            (_, true) => v6.or(v4),
            _ => v6,
        });
    }

    /// The context's address = `address`, and allows; or refuses where there is none.
    fn write_address(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            self.refuses = true;
            return self.add(const { &[jump(Label::Refuse)] });
        };
        for (field, part) in self.parts(address) {
            self.add(&[op(Op::Mov, Reg::R1, part), store(CONTEXT, field, Reg::R1)]);
        }
        self.add(const { &[jump(Label::Allow)] });
    }

    /// The stack at [`ASKED`] = the context's address and port.
    fn read_address(&mut self) {
        if self.v4 {
            for (word, part) in MAPPED {
                self.add(&[op(Op::Mov, Reg::R1, part), store(Reg::R10, ASKED + word, Reg::R1)]);
            }
        }
        for (field, word) in self.fields.iter().chain(&[(PORT, ENTRY_PORT)]) {
            self.add(&[load(Reg::R1, CONTEXT, *field), store(Reg::R10, ASKED + word, Reg::R1)]);
        }
    }

    /// Goes on only if the context shows a resolver: an IPv6 socket sees an IPv4 address as ::ffff:a.b.c.d. Or if somebody has jumped
    /// to where it does.
    fn jump_if_resolver(&mut self, programs: &Programs) {
        let v6 = programs.resolver6.filter(|_| !self.v4);
        for address in [programs.resolver4.map(SocketAddr::V4), v6.map(SocketAddr::V6)].into_iter().flatten()
        {
            for (field, part) in self.parts(address) {
                self.add(&[
                    load(Reg::R1, CONTEXT, field),
                    jump_if(Reg::R1, If::NotEqual, part, Label::Other),
                ]);
            }
            self.add(const { &[jump(Label::Take), place(Label::Other)] });
        }
        self.add(const { &[jump(Label::Allow), place(Label::Take)] });
    }

    /// What the context's fields are when it shows this address, the port last.
    fn parts(&self, address: SocketAddr) -> Vec<(i16, u32)> {
        let octets = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut parts = Vec::new();
        for (field, word) in self.fields {
            let bytes = octets.get(usize::from(word.unsigned_abs())..).and_then(|rest| rest.first_chunk());
            parts.push((*field, bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))));
        }
        parts.push((PORT, wire_port(address.port())));
        parts
    }
}

/// NOW = the time.
const NOW_IS: [Insn; 3] = [call(Helper::KtimeNs), shift_right(Reg::R0, 20), copy(NOW, Reg::R0)];

/// R0 = what is known of the socket, or null, with the next. The key stays at [`KEY`].
const LOOK_UP: [Insn; 3] =
    [copy(Reg::R1, CONTEXT), call(Helper::SocketCookie), store_wide(Reg::R10, KEY, Reg::R0)];

const LOOK_UP_AGAIN: [Insn; 5] =
    [map(Reg::R1), REST, copy(Reg::R2, Reg::R10), advance(Reg::R2, KEY), call(Helper::MapLookup)];

const ENTRY_IS_PEER: [Insn; 2] = [copy(ENTRY, VALUE), advance(ENTRY, PEER)];

/// *ENTRY = the address at [`ASKED`], now.
const WRITE_ENTRY: [Insn; 11] = [
    load(Reg::R4, Reg::R10, ASKED),
    store(ENTRY, 0, Reg::R4),
    load(Reg::R4, Reg::R10, ASKED + 4),
    store(ENTRY, 4, Reg::R4),
    load(Reg::R4, Reg::R10, ASKED + 8),
    store(ENTRY, 8, Reg::R4),
    load(Reg::R4, Reg::R10, ASKED + 12),
    store(ENTRY, 12, Reg::R4),
    load(Reg::R4, Reg::R10, ASKED + ENTRY_PORT),
    store(ENTRY, ENTRY_PORT, Reg::R4),
    store(ENTRY, ENTRY_TIME, NOW),
];

/// ENTRY = the queue's place for this position.
const fn entry_at(position: Reg) -> [Insn; 6] {
    [
        op_by(Op::Mov, Reg::R4, position),
        op(Op::And, Reg::R4, QUEUE - 1),
        op(Op::Mul, Reg::R4, ENTRY_SIZE as u32),
        copy(ENTRY, VALUE),
        advance(ENTRY, ENTRIES),
        advance_by(ENTRY, Reg::R4),
    ]
}

/// The words of an entry that tell IPv4 in IPv6, ::ffff:a.b.c.d.
const MAPPED: [(i16, u32); 3] = [(0, 0), (4, 0), (8, 0xffff_u32.to_be())];

/// A port as the context shows it.
const fn wire_port(port: u16) -> u32 {
    port.to_be() as u32
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
