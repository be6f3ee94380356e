//! A stand-in for ubusd with netifd behind it, in a thread: Debian has neither. It speaks the bus's protocol as far as a client
//! sees it, answers with what a real netifd answered, and can be late, hang, talk nonsense or go.

use super::ubus_json;
use narrowgate_wire::ubus::{self, Kind, blob};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Fine,
    /// Takes connections and reads, but says nothing.
    Hanging,
    /// Says what is no message.
    Garbage,
    /// netifd is not on the bus.
    NoNetifd,
}

struct State {
    mood: Mood,
    /// The interfaces, as JSON.
    interfaces: String,
    netifd: u32,
    /// Open connections with the numbers of their objects.
    lines: Vec<(UnixStream, Option<u32>)>,
    listening: Vec<(u32, String)>,
    /// Whose object is notified of what happens to which.
    subscribed: Vec<(u32, u32)>,
    dumps: usize,
    /// Answers are made, but not sent.
    held: bool,
    stopped: bool,
}

/// The bus; gone when dropped.
pub struct Ubusd {
    shared: Arc<(Mutex<State>, Condvar)>,
    path: PathBuf,
}

impl Ubusd {
    pub fn new(path: &Path) -> Ubusd {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let state = State {
            mood: Mood::Fine,
            interfaces: "[]".to_owned(),
            netifd: 0x8000_0011,
            lines: Vec::new(),
            listening: Vec::new(),
            subscribed: Vec::new(),
            dumps: 0,
            held: false,
            stopped: false,
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let mut state = of_thread.0.lock().unwrap();
                if state.stopped {
                    return;
                }
                let at = state.lines.len();
                state.lines.push((stream.try_clone().unwrap(), None));
                let of_line = Arc::clone(&of_thread);
                std::thread::spawn(move || serve(stream, at, &of_line));
            }
        });
        Ubusd { shared, path: path.to_owned() }
    }

    /// What netifd answers from now on, without telling anybody: recorded answers, each with its interface's name.
    pub fn set(&self, interfaces: &[(&str, &str)]) {
        let one = |(name, file): &(&str, &str)| {
            let text = miniserde::json::to_string(&ubus_json::read(file));
            format!("{{\"interface\":\"{name}\",{}", text.trim_start_matches('{'))
        };
        let list: Vec<String> = interfaces.iter().map(one).collect();
        self.set_json(&format!("[{}]", list.join(",")));
    }

    /// The same with a list of interfaces as JSON.
    pub fn set_json(&self, interfaces: &str) {
        self.state(|state| state.interfaces = interfaces.to_owned());
    }

    pub fn mood(&self, mood: Mood) {
        self.state(|state| state.mood = mood);
    }

    /// Whether answers that are made from now on wait to be sent.
    pub fn hold(&self, held: bool) {
        self.state(|state| state.held = held);
        self.shared.1.notify_all();
    }

    /// netifd is started again: its object has another number, and what it was asked is never answered.
    pub fn restart_netifd(&self) {
        self.state(|state| state.netifd += 1);
        self.shared.1.notify_all();
    }

    /// netifd notifies those who have subscribed to its object.
    pub fn notify(&self, method: &str) {
        self.state(|state| {
            for (line, object) in &mut state.lines {
                let Some(object) = object.filter(|o| state.subscribed.contains(&(*o, state.netifd))) else {
                    continue;
                };
                let mut out = Vec::new();
                ubus::put_call(&mut out, 9, object, method, |out| {
                    blob::put_field_string(out, "interface", "wan6")
                });
                let _ = line.write_all(&out);
            }
        });
    }

    /// Waits until somebody has subscribed to netifd's object.
    pub fn wait_for_subscriber(&self) {
        self.wait("nobody subscribes", |state| state.subscribed.iter().any(|(_, to)| *to == state.netifd));
    }

    /// Sends an event to all who listen to its name.
    pub fn event(&self, name: &str, field: (&str, &str)) {
        self.state(|state| {
            let ears: Vec<u32> = state
                .listening
                .iter()
                .filter(|(_, pattern)| pattern == name)
                .map(|(ears, _)| *ears)
                .collect();
            for (line, object) in &mut state.lines {
                let Some(object) = object.filter(|object| ears.contains(object)) else { continue };
                let mut out = Vec::new();
                ubus::put_call(&mut out, 9, object, name, |out| {
                    blob::put_field_string(out, field.0, field.1)
                });
                let _ = line.write_all(&out);
            }
        });
    }

    /// How often all interfaces were asked for.
    pub fn dumps(&self) -> usize {
        self.state(|state| state.dumps)
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.state(|state| state.lines.len())
    }

    /// Waits until somebody listens to this event.
    pub fn wait_for_ears(&self, name: &str) {
        self.wait(&format!("nobody listens to {name}"), |state| {
            state.listening.iter().any(|(_, pattern)| pattern == name)
        });
    }

    /// Waits until all interfaces were asked for that often.
    pub fn wait_for_dumps(&self, count: usize) {
        self.wait("nobody asks", |state| state.dumps >= count);
    }

    fn wait(&self, complaint: &str, wanted: impl Fn(&State) -> bool) {
        let state = self.shared.0.lock().unwrap();
        let wait = |state: &mut State| !wanted(state);
        let (_state, time) = self.shared.1.wait_timeout_while(state, Duration::from_secs(5), wait).unwrap();
        assert!(!time.timed_out(), "{complaint}");
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.0.lock().unwrap())
    }
}

impl Drop for Ubusd {
    fn drop(&mut self) {
        self.state(|state| {
            state.stopped = true;
            self.shared.1.notify_all();
            state.lines.iter().for_each(|(line, _)| drop(line.shutdown(std::net::Shutdown::Both)));
        });
        let _ = UnixStream::connect(&self.path); // wakes the thread that takes connections up
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, at: usize, shared: &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 512];
    let mut received = Vec::new();
    let greeting = {
        let mut out = Vec::new();
        let state = shared.0.lock().unwrap();
        match state.mood {
            Mood::Hanging => {}
            Mood::Garbage => out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            _ => ubus::put(&mut out, Kind::Hello, 0, |_| {}),
        }
        out
    };
    let _ = stream.write_all(&greeting);
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..len]);
        while let Some((message, len)) = ubus::next(&received).unwrap() {
            let mut state = shared.0.lock().unwrap();
            let netifd = state.netifd;
            let mut answer = answer(message, at, &mut state);
            shared.1.notify_all();
            let wait = |state: &mut State| state.held && !state.stopped && state.netifd == netifd;
            let state = shared.1.wait_while(state, wait).unwrap();
            if state.netifd != netifd {
                answer.clear();
            }
            drop(state);
            received.drain(..len);
            // In two parts, as a socket may.
            let (first, second) = answer.split_at(answer.len() / 2);
            if stream.write_all(first).and_then(|()| stream.write_all(second)).is_err() {
                return;
            }
        }
    }
}

fn answer(message: ubus::Message<'_>, at: usize, state: &mut State) -> Vec<u8> {
    let mut out = Vec::new();
    let sequence = message.sequence;
    if state.mood == Mood::Hanging {
        return out;
    }
    let mut status = 0;
    match (message.kind, message.method()) {
        (Kind::AddObject, _) => {
            let ears = 0x1000_0000 + at as u32;
            state.lines[at].1 = Some(ears);
            ubus::put(&mut out, Kind::Data, sequence, |out| blob::put_u32(out, ubus::OBJID, ears));
        }
        (Kind::Subscribe, _) => {
            let (Some(ears), Some(to)) = (message.object(), message.target()) else { panic!("{message:?}") };
            assert_eq!(state.lines[at].1, Some(ears), "the subscriber is not the client's own");
            state.subscribed.push((ears, to));
        }
        (Kind::Lookup, _) if state.mood == Mood::NoNetifd || message.path() != Some("network.interface") => {
            status = ubus::NOT_FOUND;
        }
        (Kind::Lookup, _) => ubus::put(&mut out, Kind::Data, sequence, |out| {
            blob::put_string(out, ubus::OBJPATH, "network.interface");
            blob::put_u32(out, ubus::OBJID, state.netifd);
        }),
        (Kind::Invoke, Some("register")) if message.object() == Some(ubus::EVENTS) => {
            let data = message.data().unwrap();
            let pattern = blob::field(data, "pattern").unwrap().text().unwrap().to_owned();
            let ears = blob::field(data, "object").unwrap().number().unwrap() as u32;
            state.listening.push((ears, pattern));
        }
        (Kind::Invoke, Some("dump"))
            if message.object() == Some(state.netifd) && state.mood == Mood::Fine =>
        {
            state.dumps += 1;
            let text = format!("{{\"interface\":{}}}", state.interfaces);
            let object: miniserde::json::Object = miniserde::json::from_str(&text).unwrap();
            ubus::put_data(&mut out, sequence, state.netifd, |out| out.extend(ubus_json::fields(&object)));
        }
        (Kind::Invoke, _) => status = ubus::NOT_FOUND,
        other => panic!("no client says {other:?}"),
    }
    ubus::put_status(&mut out, sequence, status);
    out
}
