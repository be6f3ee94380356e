//! The connection to `ubusd`: asks netifd for all its interfaces and listens to its events. Nothing here blocks.
//!
//! A connection goes like this: an object of our own is made known, which the events are sent to; netifd's object is looked up and
//! subscribed to, since what happens to routes alone is told to its subscribers only; its `dump` is called. All that is answered within [`PATIENCE`], or the connection is given up and another one is tried later,
//! each time later.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::time::Duration;
use narrowgate_model::Time;
use narrowgate_sys::path::PathBuf;
use narrowgate_wire::ubus::network::{self, Interface};
use narrowgate_wire::ubus::{self, Kind, Message};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// A connection, or the intention to have one.
pub struct Bus {
    paths: Vec<PathBuf>,
    line: Option<Line>,
    retry: Option<Time>,
    wait: Duration,
    trouble: Option<String>,
}

/// What comes from the bus.
#[derive(Debug)]
pub enum News {
    /// All of netifd's interfaces.
    Answer(Vec<Interface>),
    /// Something has changed: ask again.
    Hint,
    /// There is no answer, and why. It goes on trying by itself.
    Trouble(String),
}

/// An open connection.
struct Line {
    socket: OwnedFd,
    received: Vec<u8>,
    unsent: Vec<u8>,
    sequence: u16,
    /// The object that events come to.
    ears: Option<u32>,
    ears_request: u16,
    /// netifd's object.
    netifd: Option<u32>,
    /// The request that is under way, if one is, and until when it has time.
    request: Option<(Step, u16, Time)>,
    /// What `dump` has answered so far.
    answer: Option<Vec<Interface>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    LookUp,
    Dump,
}

/// Why a line is given up.
type Lost = String;

impl Bus {
    /// Nothing is opened before the first [`ask`](Self::ask). The first of `paths` where somebody listens is taken.
    pub fn new(paths: Vec<PathBuf>) -> Bus {
        Bus { paths, line: None, retry: None, wait: WAIT_MIN, trouble: None }
    }

    /// Whether an answer is awaited.
    pub fn asking(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.request.is_some())
    }

    /// Asks for all interfaces: [`News::Answer`] or [`News::Trouble`] will come.
    pub fn ask(&mut self, now: Time) {
        if self.line.is_none() {
            self.open(now);
        }
        if let Some(line) = &mut self.line {
            line.ask(now);
        }
    }

    /// What to poll for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(|line| line.socket.as_fd())
    }

    /// When [`next`](Self::next) wants to be called, though nothing can be read.
    pub fn next_timeout(&self) -> Option<Time> {
        let deadline = self.line.as_ref().and_then(|line| Some(line.request?.2));
        self.retry.into_iter().chain(deadline).min()
    }

    /// The next thing that has come. To be called until there is none, whenever the descriptor is readable or a time is over.
    pub fn next(&mut self, now: Time) -> Option<News> {
        if self.line.is_none() && self.retry.is_some_and(|at| at <= now) {
            self.ask(now);
        }
        let news = match self.line.as_mut().map(|line| line.pump(now)) {
            Some(Ok(news)) => news,
            Some(Err(lost)) => {
                self.lose(lost, now);
                None
            }
            None => None,
        };
        if let Some(News::Answer(_)) = news {
            self.wait = WAIT_MIN;
        }
        news.or_else(|| self.trouble.take().map(News::Trouble))
    }

    /// Ends the connection; it is not opened again before it is asked for.
    pub fn close(&mut self) {
        self.line = None;
        self.retry = None;
    }

    #[inline(never)]
    fn open(&mut self, now: Time) {
        self.retry = None;
        let mut refusal = None;
        for path in &self.paths {
            match connect(path) {
                Ok(socket) => {
                    self.line = Some(Line::new(socket));
                    return;
                }
                // The socket of the other version is not there, of course.
                Err(Errno::NOENT) if refusal.is_some() => {}
                Err(error) => refusal = Some(format!("{}: {error}", path.display())),
            }
        }
        let refusal = refusal.unwrap_or_else(|| "no path".to_owned());
        self.lose(format!("ubus cannot be reached ({refusal}): what was learnt last stays"), now);
    }

    fn lose(&mut self, trouble: String, now: Time) {
        self.line = None;
        self.retry = Some(now + self.wait);
        self.wait = (self.wait * 2).min(WAIT_MAX);
        self.trouble = Some(trouble);
    }
}

impl Line {
    fn new(socket: OwnedFd) -> Line {
        let mut line = Line {
            socket,
            received: Vec::new(),
            unsent: Vec::new(),
            sequence: 0,
            ears: None,
            ears_request: 0,
            netifd: None,
            request: None,
            answer: None,
        };
        line.ears_request = line.number();
        ubus::put_add_object(&mut line.unsent, line.ears_request);
        line
    }

    fn ask(&mut self, now: Time) {
        if self.request.is_some() {
            return;
        }
        let sequence = self.number();
        let step = match self.netifd {
            None => {
                ubus::put_lookup(&mut self.unsent, sequence, OBJECT);
                Step::LookUp
            }
            Some(object) => {
                ubus::put_call(&mut self.unsent, sequence, object, "dump", |_| {});
                Step::Dump
            }
        };
        self.answer = None;
        self.request = Some((step, sequence, now + PATIENCE));
    }

    #[inline(never)]
    fn pump(&mut self, now: Time) -> Result<Option<News>, Lost> {
        self.send()?;
        loop {
            if let Some(news) = self.take(now)? {
                self.send()?;
                return Ok(Some(news));
            }
            self.send()?;
            if !self.receive()? {
                break;
            }
        }
        match self.request {
            Some((_, _, deadline)) if deadline <= now => {
                Err("netifd does not answer on ubus: what was learnt last stays".to_owned())
            }
            _ => Ok(None),
        }
    }

    /// The messages that are there, up to the first that is news.
    fn take(&mut self, now: Time) -> Result<Option<News>, Lost> {
        let mut received = core::mem::take(&mut self.received);
        let mut start = 0;
        let mut news = None;
        while news.is_none() {
            let rest = received.get(start..).unwrap_or_default();
            let Some((message, len)) =
                ubus::next(rest).map_err(|_| "ubus says what is no message".to_owned())?
            else {
                break;
            };
            start += len;
            news = self.understand(message, now);
        }
        received.drain(..start.min(received.len()));
        self.received = received;
        Ok(news)
    }

    #[inline(never)]
    fn understand(&mut self, message: Message<'_>, now: Time) -> Option<News> {
        match message.kind {
            Kind::Invoke => {
                if message.object() != self.ears {
                    return None;
                }
                if message.method() == Some(ADDED) {
                    // Other objects come and go.
                    if message.data().is_some_and(|data| !names_netifd(data)) {
                        return None;
                    }
                    // A netifd that has ended does not answer any more: the new one is asked.
                    self.netifd = None;
                    if self.request.take().is_some() {
                        self.ask(now);
                    }
                }
                return Some(News::Hint);
            }
            Kind::Data if message.sequence == self.ears_request && self.ears.is_none() => {
                self.ears = message.object();
                if let Some(ears) = self.ears {
                    for pattern in [OBJECT, ADDED] {
                        let sequence = self.number();
                        ubus::put_listen(&mut self.unsent, sequence, ears, pattern);
                    }
                }
                return None;
            }
            _ => {}
        }
        let (step, sequence, _) = self.request?;
        if message.sequence != sequence {
            return None;
        }
        match (message.kind, step) {
            (Kind::Data, Step::LookUp) => self.netifd = message.object().or(self.netifd),
            (Kind::Data, Step::Dump) => self.answer = message.data().map(network::dump),
            (Kind::Status, _) => return self.finish(step, message.status().unwrap_or_default(), now),
            _ => {}
        }
        None
    }

    /// A request has ended.
    #[inline(never)]
    fn finish(&mut self, step: Step, status: u32, now: Time) -> Option<News> {
        self.request = None;
        match step {
            Step::LookUp if status == 0 && self.netifd.is_some() => {
                if let (Some(ears), Some(netifd)) = (self.ears, self.netifd) {
                    let sequence = self.number();
                    ubus::put_subscribe(&mut self.unsent, sequence, ears, netifd);
                }
                self.ask(now);
            }
            // netifd was started again and has another number now.
            Step::Dump if status == ubus::NOT_FOUND => {
                self.netifd = None;
                self.ask(now);
            }
            Step::Dump if status == 0 && self.answer.is_some() => {
                return self.answer.take().map(News::Answer);
            }
            _ => {
                self.netifd = None;
                // The bus tells nothing of objects that we may not call, and that is no error to it.
                let why = if status == 0 { "no access" } else { ubus::status_text(status) };
                let text = format!("netifd does not answer on ubus ({why}): what was learnt last stays");
                return Some(News::Trouble(text));
            }
        }
        None
    }

    fn number(&mut self) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&mut self) -> Result<(), Lost> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            // The rest goes when something comes, or with the connection when nothing does.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(lost(error)),
        }
        Ok(())
    }

    /// Whether something came. The buffer is in no other frame than this.
    #[inline(never)]
    fn receive(&mut self) -> Result<bool, Lost> {
        let mut buffer = [0; CHUNK];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => Err(lost(Errno::CONNRESET)),
            Ok((len, _)) => {
                self.received.extend_from_slice(buffer.get(..len).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(lost(error)),
        }
    }
}

fn lost(error: Errno) -> Lost {
    format!("the connection to ubus is lost ({error}): what was learnt last stays")
}

/// `ubus.object.add`: is it netifd's object that came?
fn names_netifd(data: &[u8]) -> bool {
    ubus::blob::field(data, "path").and_then(|f| f.text()) == Some(OBJECT)
}

/// Fails with EAGAIN instead of waiting where nobody takes connections up any more.
fn connect(path: &narrowgate_sys::path::Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// netifd's object with all interfaces, and the name of its events.
const OBJECT: &str = "network.interface";
/// The event that an object was made known.
const ADDED: &str = "ubus.object.add";
/// netifd answers in milliseconds; when it reloads its config, it is busy for longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The first wait before another connection; doubled up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Read at once: an answer for two interfaces is 2 KiB.
const CHUNK: usize = 4096;
