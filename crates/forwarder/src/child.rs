//! The child: a process with nothing but its sockets.
//!
//! It is this program again (`/proc/self/exe`), with the argument [`ARGUMENT`] and the channel as its standard input, so that
//! nothing of the parent's memory is in it. Its descriptors, for whoever takes over from a dead parent
//! ([`Listener::take_from`](crate::parent::Listener::take_from)):
//!
//! | number | what |
//! |---|---|
//! | 0, 3 | the channel |
//! | 4 + 2n, 5 + 2n | the n-th listener's UDP and TCP sockets |
//! | above | the epoll, and the sockets to servers |
//!
//! Before it reads a single byte of a stranger's it has no capability, no user, no file (Landlock), and only the system calls of
//! [`SOCKET_LOOP`](narrowgate_sys::sandbox::SOCKET_LOOP). When the parent dies it goes on with the servers that it knows. SIGTERM ends it.

use crate::control::{MAX_MESSAGE, Sandbox, ToChild, ToParent};
use crate::driver::{Driver, Listening};
use alloc::boxed::Box;
use alloc::vec::Vec;
use narrowgate_sys::channel::{self, Received};
use narrowgate_sys::datagrams::SendBatch;
use narrowgate_sys::io;
use narrowgate_sys::process::ExitCode;
use narrowgate_sys::sandbox;
use narrowgate_sys::signal::{Signal, Signals};
use rustix::fd::{AsFd, OwnedFd};

/// The hidden first argument by which the program knows that it is a child.
pub const ARGUMENT: &str = "resolver-child";
/// The number of the first listening socket.
pub const FIRST_LISTENER: i32 = 4;
/// Addresses that one resolver listens on at most.
pub const MAX_LISTENERS: usize = 8;

/// What the program does when its first argument is [`ARGUMENT`]. It returns when the parent is gone, if it does not outlive it, or on an error, which it has told on stderr.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            narrowgate_sys::eprintln!("narrowgate: resolver: {error}; the parent starts it again");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // `ps` and `ss -p` would call it "exe".
    let _ = rustix::thread::set_name(c"narrowgate-dns");
    sandbox::close_from(3)?;
    // Number 3, since that is the lowest that is free.
    let channel = io::stdin().try_clone_to_owned()?;
    // A signal that the parent waits for by descriptor is blocked here as well.
    narrowgate_sys::signal::unblock_all()?;
    let (limits, alone, listeners) = first_message(&channel)?;
    // Behind the listening sockets, whose numbers are known outside.
    let signals = Signals::new(&[Signal::Term])?;
    // It lasts as long as the process: nothing of it is ever given back.
    let driver = Box::leak(Driver::new(limits, alone, listeners, channel, signals)?);
    let _ = narrowgate_sys::memory::forget_start();
    sandbox::drop_privileges()?;
    let files = sandbox::deny_files().unwrap_or(false);
    let calls =
        match sandbox::allow_system_calls(sandbox::SOCKET_LOOP, narrowgate_sys::socket::BIND_TO_DEVICE) {
            Ok(()) => true,
            // A router's kernel may be built without. Then no capability, no user and no file must do; the guard is there in any case.
            Err(error) if matches!(error.raw_os_error(), Some(NOT_BUILT_IN | NOT_SUPPORTED)) => false,
            Err(error) => return Err(error),
        };
    driver.tell(&ToParent::Ready(Sandbox { files, calls }));
    driver.run()
}

#[inline(never)]
fn first_message(channel: &OwnedFd) -> io::Result<(crate::engine::Limits, bool, Vec<Listening>)> {
    let mut buffer = vec![0; MAX_MESSAGE];
    // It lies there since before this process began.
    let Received::Message(length, mut descriptors) = channel::receive(channel.as_fd(), &mut buffer)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let mut places = Vec::new();
    if let Some(ToChild::Start { limits, alone, listeners }) = buffer.get(..length).and_then(ToChild::decode)
        && descriptors.len() == 2 * listeners.len()
        && listeners.len() <= MAX_LISTENERS
    {
        for addr in listeners.iter().rev() {
            if let (Some(tcp), Some(udp)) = (descriptors.pop(), descriptors.pop()) {
                places.push(Listening { addr: *addr, udp, tcp, replies: SendBatch::default() });
            }
        }
        return Ok((limits, alone, places));
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no whole start message of this version"))
}

/// ENOSYS: no such system call.
const NOT_BUILT_IN: i32 = rustix::io::Errno::NOSYS.raw_os_error();
/// EINVAL: no `CONFIG_SECCOMP_FILTER`.
const NOT_SUPPORTED: i32 = rustix::io::Errno::INVAL.raw_os_error();
