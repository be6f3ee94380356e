//! A parent that does as it is told by lines on stdin, for the tests: what a daemon does with a resolver, step by step.
//!
//! `resolver LISTEN MARK` starts one (`LISTEN` an address, or the pid of a resolver to take over from; `MARK` 0 for none). Then: `servers ADDR…`,
//! `waiting`, `stats`, `wait` (for the next event). Each answers with a line. Its first line is the child's pid and the address.

use narrowgate_forwarder::child;
use narrowgate_forwarder::engine::{Limits, Set, UplinkState, Upstreams};
use narrowgate_forwarder::parent::{Event, Listener, Resolver, end_orphan};
use narrowgate_model::Mark;
use narrowgate_sys::socket;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::BufRead;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == child::ARGUMENT) {
        return child::main().into();
    }
    let mark: Option<Mark> = arguments[1].parse().ok();
    let old: Option<u32> = arguments[0].parse().ok();
    let listeners = match old {
        Some(pid) => Listener::take_from(pid).unwrap(),
        None => vec![Listener::bind(arguments[0].parse().unwrap(), mark).unwrap()],
    };
    let pair = mark.map(|mark| (mark.value, mark.mask));
    let mut resolver =
        Resolver::spawn("test", Limits::default(), listeners, move |kind| socket::unbound(kind, pair))
            .unwrap();
    if let Some(pid) = old {
        end_orphan(pid).unwrap();
    }
    println!("{} {}", resolver.pid(), resolver.listeners().next().unwrap());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("servers") => {
                let servers = words.map(|word| word.parse().unwrap()).collect();
                let set = Set { servers, state: UplinkState::Up, detail: String::new() };
                resolver.update(Upstreams::single(set)).unwrap();
                println!("ok");
            }
            Some("waiting") => {
                let detail = "uplink wan: no address yet".to_owned();
                let set = Set { servers: Vec::new(), state: UplinkState::Waiting, detail };
                resolver.update(Upstreams::single(set)).unwrap();
                println!("ok");
            }
            Some("stats") => resolver.ask_stats().unwrap(),
            _ => {
                let events = loop {
                    poll(&mut [PollFd::new(&resolver.fd(), PollFlags::IN)], None).unwrap();
                    let events = resolver.on_readable();
                    if !events.is_empty() {
                        break events;
                    }
                };
                for event in events {
                    match event {
                        Event::Ready(_) => println!("ready {}", resolver.pid()),
                        Event::Stats(stats) => {
                            println!("stats {} {}", stats.counters.queries, stats.counters.answers)
                        }
                        Event::Restarted { times, .. } => println!("restarted {times} {}", resolver.pid()),
                        Event::Found((name, addrs)) => {
                            println!("found {} {addrs:?}", String::from_utf8_lossy(&name).escape_debug())
                        }
                        Event::Peer { name, answered } => {
                            println!("peer {} {answered}", String::from_utf8_lossy(&name).escape_debug())
                        }
                        Event::Down(error) => println!("down {error}"),
                    }
                }
            }
        }
    }
    ExitCode::SUCCESS
}
