//! The engine's hands: sockets, waited for with one epoll. It makes none; all came from the parent.

mod clients;
mod pool;
mod random;
mod room;
mod stream;

use crate::control::{MAX_MESSAGE, Stats, ToChild, ToParent};
use crate::engine::{Client, Engine, Limits, NEVER, Upstreams};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::net::SocketAddr;
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_sys::channel::{self, Received};
use narrowgate_sys::datagrams::{ReceiveBatch, SendBatch};
use narrowgate_sys::io;
use narrowgate_sys::signal::Signals;
use narrowgate_sys::socket::Kind;
use room::Room;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::Timespec;

/// A place to listen, as the child has it.
pub struct Listening {
    /// Where.
    pub addr: SocketAddr,
    /// The UDP socket.
    pub udp: OwnedFd,
    /// The listening TCP socket.
    pub tcp: OwnedFd,
    /// Answers to UDP clients, which are sent together.
    pub replies: SendBatch,
}

/// The loop of one resolver.
pub struct Driver {
    engine: Engine,
    room: Room,
    channel: Option<OwnedFd>,
    alone: bool,
    /// It was told whom to ask. Before that nobody can know of it, so without a parent it is of no use.
    told: bool,
    /// It answers what it was asked and goes, at the latest then.
    leaving: Option<Time>,
    _signals: Signals,
    buffer: Box<[u8]>,
    batch: Box<ReceiveBatch>,
}

impl Driver {
    /// A resolver on these sockets, with `channel` to its parent; whether it goes on `alone` when that is gone. At one of
    /// `signals` it stops listening, answers what it was asked, and ends.
    #[inline(never)]
    pub fn new(
        limits: Limits,
        alone: bool,
        listeners: Vec<Listening>,
        channel: OwnedFd,
        signals: Signals,
    ) -> io::Result<Box<Driver>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd: BorrowedFd<'_>, token: Token, flags| {
            epoll::add(&epoll, fd, token.data(), epoll::EventFlags::IN | flags)
        };
        for (n, listener) in (0u8..).zip(&listeners) {
            watch(listener.udp.as_fd(), Token::Udp(n), epoll::EventFlags::empty())?;
            watch(listener.tcp.as_fd(), Token::Tcp(n), epoll::EventFlags::empty())?;
        }
        watch(channel.as_fd(), Token::Channel, epoll::EventFlags::empty())?;
        // Told once, so that it need not be read.
        watch(signals.as_fd(), Token::Signal, epoll::EventFlags::ONESHOT)?;
        Ok(Box::new(Driver {
            engine: Engine::new(limits),
            room: Room::new(epoll, listeners),
            channel: Some(channel),
            alone,
            told: false,
            leaving: None,
            _signals: signals,
            buffer: vec![0; MAX_MESSAGE].into_boxed_slice(),
            batch: Box::default(),
        }))
    }

    /// Tells the parent something. If it does not listen there is nothing to be done about it.
    pub fn tell(&self, message: &ToParent) {
        if let Some(channel) = &self.channel {
            let _ = channel::send(channel.as_fd(), &message.encode(), &[]);
        }
    }

    /// Runs until the parent is gone, unless it is to go on alone; an error is one of epoll itself.
    #[inline(never)]
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        while self.is_of_use() {
            let timeout = self.timeout();
            let waited = epoll::wait(&self.room.epoll, &mut events, timeout.as_ref());
            let now = now();
            self.room.now = now;
            let ready = match waited {
                Ok((ready, _)) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in ready.iter() {
                self.handle(now, Token::from_data(event.data), event.flags);
            }
            for index in 0..self.room.clients.len() {
                self.answer_tcp_client(now, index);
            }
            self.engine.tick(now, &mut self.room);
            self.see_to_withheld(now);
            self.room.flush();
            self.room.close_idle_clients(now);
            for kind in Kind::ALL {
                if let Some(count) = self.room.pool.wanted(kind) {
                    self.tell(&ToParent::NeedSockets { kind, count });
                }
            }
        }
        Ok(())
    }

    fn is_of_use(&self) -> bool {
        match self.leaving {
            Some(end) => self.engine.in_flight() > 0 && self.room.now < end,
            None => self.channel.is_some() || self.alone && self.told,
        }
    }

    fn timeout(&mut self) -> Option<Timespec> {
        let mut next = self.room.clients.next_due().min(self.leaving.unwrap_or(NEVER));
        for due in [self.engine.next_tick(), self.room.resolved.next_due()] {
            next = next.min(due.unwrap_or(NEVER));
        }
        if next == NEVER {
            return None;
        }
        // What a round takes is no time that would matter: the clock is read once in it.
        let wait = next.0.saturating_sub(self.room.now.0);
        Some(Timespec { tv_sec: (wait / 1000) as _, tv_nsec: (wait % 1000 * 1_000_000) as _ })
    }

    fn handle(&mut self, now: Time, token: Token, flags: epoll::EventFlags) {
        match token {
            Token::Channel => self.hear_parent(now),
            Token::Udp(listener) => self.hear_udp_clients(now, listener),
            Token::Tcp(listener) => self.room.accept(now, listener),
            Token::Client(index) => self.hear_tcp_client(now, index, flags),
            Token::Server(slot) => self.hear_server(now, slot, flags),
            Token::Signal => {
                self.room.stop_listening();
                self.leaving = Some(now + LEAVE_WITHIN);
            }
        }
    }

    fn hear_tcp_client(&mut self, now: Time, index: u32, flags: epoll::EventFlags) {
        self.room.client_ready(now, index, flags, &mut self.buffer);
        self.answer_tcp_client(now, index);
    }

    /// Some queries may have been left lying because too many were under way.
    fn answer_tcp_client(&mut self, now: Time, index: u32) {
        while let Some((id, message)) = self.room.next_query(index) {
            self.engine.client_message(now, Client::Tcp(id), &message, &mut self.room);
        }
    }

    /// Some at a time: other clients' and the servers' messages have their turn too.
    #[inline(never)]
    fn hear_udp_clients(&mut self, now: Time, listener: u8) {
        let count = self.room.receive_from_clients(listener, &mut self.batch);
        for n in 0..count {
            if let Some((message, from)) = self.batch.get(n)
                && room::may_ask(&from)
            {
                self.engine.client_message(now, Client::Udp { listener, from }, message, &mut self.room);
            }
        }
    }

    #[inline(never)]
    fn hear_server(&mut self, now: Time, slot: u32, flags: epoll::EventFlags) {
        if self.room.pool.is_tcp(slot) {
            let alive = self.room.pool.stream_ready(slot, flags, &mut self.buffer);
            while let Some(mut message) = self.room.pool.next_message(slot) {
                self.engine.upstream_message(now, slot, &mut message, &mut self.room);
            }
            if alive {
                self.room.pool.settle(self.room.epoll.as_fd(), slot);
            } else {
                self.engine.upstream_error(now, slot, &mut self.room);
            }
            return;
        }
        for _ in 0..BATCH {
            match self.room.pool.receive(slot, &mut self.buffer) {
                Ok(Some(length)) => {
                    let Some(message) = self.buffer.get_mut(..length) else { return };
                    self.engine.upstream_message(now, slot, message, &mut self.room);
                    // Nothing more is due by it; if something comes all the same, the epoll says so.
                    if !self.engine.expects(slot) {
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) => return self.engine.upstream_error(now, slot, &mut self.room),
            }
        }
    }

    #[inline(never)]
    fn hear_parent(&mut self, now: Time) {
        loop {
            let Some(channel) = &self.channel else { return };
            let received = channel::receive(channel.as_fd(), &mut self.buffer);
            match received {
                Ok(Received::Message(length, descriptors)) => {
                    let message = self.buffer.get(..length).and_then(ToChild::decode);
                    self.obey(now, message, descriptors);
                }
                Ok(Received::Nothing) => return,
                // The parent is gone. The sockets are here, the servers are known: go on alone, until the next one comes.
                Ok(Received::Closed) | Err(_) => {
                    let _ = epoll::delete(&self.room.epoll, channel);
                    self.channel = None;
                    self.room.resolved.orphaned();
                }
            }
        }
    }

    #[inline(never)]
    fn obey(&mut self, now: Time, message: Option<ToChild>, descriptors: Vec<OwnedFd>) {
        match message {
            Some(ToChild::Update(mut upstreams)) => {
                self.told = true;
                self.without_ourselves(&mut upstreams);
                self.room.resolved.set_strict(upstreams.default.is_none() && !upstreams.sets.is_empty());
                self.engine.update(now, upstreams, &mut self.room);
            }
            Some(ToChild::Sockets(kind)) => self.room.adopt(kind, descriptors),
            Some(ToChild::AskStats) => self.tell(&ToParent::Stats(Box::new(Stats {
                counters: self.engine.counters().clone(),
                servers: self.engine.servers(),
                in_flight: self.engine.in_flight() as u32,
            }))),
            Some(ToChild::Decided { id, let_in }) => {
                let answers = self.room.resolved.decided(now, id, let_in);
                self.room.give_all(answers);
            }
            Some(ToChild::Kept(peers)) => self.engine.keep(peers),
            Some(ToChild::Watch) => self.engine.watch(now),
            Some(ToChild::Start { .. }) | None => {}
        }
    }

    /// Tells the parent where the peers are, whether they are answered for, and which addresses wait, and the clients when that was in vain.
    #[inline(never)]
    fn see_to_withheld(&mut self, now: Time) {
        self.engine.take_told().iter().for_each(|message| self.tell(message));
        while let Some((id, addresses)) = self.room.resolved.untold() {
            self.tell(&ToParent::Resolved { id, addresses });
        }
        let failures = self.room.resolved.given_up(now);
        self.room.give_all(failures);
    }

    /// A server that is one of our own listeners would be asked by us what we ask it, and so on.
    #[inline(never)]
    fn without_ourselves(&self, upstreams: &mut Upstreams) {
        for set in &mut upstreams.sets {
            let mut at = 0;
            while let Some(server) = set.servers.get(at) {
                if self.room.listens_on(server) {
                    set.servers.swap_remove(at);
                } else {
                    at += 1;
                }
            }
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Channel,
    Udp(u8),
    Tcp(u8),
    Client(u32),
    Server(u32),
    Signal,
}

impl Token {
    pub fn data(self) -> epoll::EventData {
        let (kind, number) = match self {
            Token::Channel => (0u64, 0),
            Token::Udp(n) => (1, u32::from(n)),
            Token::Tcp(n) => (2, u32::from(n)),
            Token::Client(n) => (3, n),
            Token::Server(n) => (4, n),
            Token::Signal => (5, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(number))
    }

    fn from_data(data: epoll::EventData) -> Token {
        let (kind, number) = (data.u64() >> 32, data.u64() as u32);
        match kind {
            1 => Token::Udp(number as u8),
            2 => Token::Tcp(number as u8),
            3 => Token::Client(number),
            4 => Token::Server(number),
            5 => Token::Signal,
            _ => Token::Channel,
        }
    }
}

fn now() -> Time {
    Time(narrowgate_sys::link::now_ms())
}

/// What was asked is answered within this time, or not at all.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Messages taken from one socket at a time.
const BATCH: usize = 64;
