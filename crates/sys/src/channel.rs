//! The channel between a parent and its child: whole messages, with descriptors beside them (`SCM_RIGHTS`, unix(7)).

use crate::io;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// As many descriptors as one message may carry here; the kernel's own limit is 253 (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 64;

/// Two ends of a channel of whole messages, both non-blocking and closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one message with its descriptors. `WouldBlock` when the other side does not read.
pub fn send(channel: BorrowedFd<'_>, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(channel, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What came by the channel.
#[derive(Debug)]
pub enum Received {
    /// A message of so many bytes, which are in the buffer now, and its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// Nothing is there.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Takes one message. One that is longer than the buffer, or had more descriptors than fit, is an error: half a message means nothing.
pub fn receive(channel: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let got = match rustix::net::recvmsg(channel, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
        Ok(got) => got,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
        Err(Errno::CONNRESET) => return Ok(Received::Closed),
        Err(error) => return Err(error.into()),
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let truncated = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if got.flags.intersects(truncated) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if got.bytes == 0 {
        return Ok(Received::Closed); // a message here is never empty
    }
    Ok(Received::Message(got.bytes, descriptors))
}

/// A copy of descriptor `number` of the process `pid` (pidfd_getfd(2), Linux 5.6). It needs the right to trace that process.
pub fn take_from(pid: u32, number: i32) -> io::Result<OwnedFd> {
    crate::process::descriptor_of(crate::process::pidfd(pid)?.as_fd(), number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_brings_its_descriptors_along() {
        let (a, b) = pair().unwrap();
        let (c, d) = pair().unwrap();
        send(a.as_fd(), b"two", &[c.as_fd(), d.as_fd()]).unwrap();
        drop(d);
        let mut buffer = [0; 16];
        let Received::Message(3, descriptors) = receive(b.as_fd(), &mut buffer).unwrap() else { panic!() };
        assert_eq!((&buffer[..3], descriptors.len()), (&b"two"[..], 2));
        send(c.as_fd(), b"through", &[]).unwrap();
        let Received::Message(7, _) = receive(descriptors[1].as_fd(), &mut buffer).unwrap() else { panic!() };
    }

    #[test]
    fn nothing_and_the_end_are_different() {
        let (a, b) = pair().unwrap();
        let mut buffer = [0; 16];
        assert!(matches!(receive(b.as_fd(), &mut buffer).unwrap(), Received::Nothing));
        drop(a);
        assert!(matches!(receive(b.as_fd(), &mut buffer).unwrap(), Received::Closed));
    }

    #[test]
    fn half_a_message_is_an_error() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"too long", &[]).unwrap();
        assert!(receive(b.as_fd(), &mut [0; 4]).is_err());
    }

    #[test]
    fn a_descriptor_is_taken_from_a_process() {
        let (a, b) = pair().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&b);
        let copy = take_from(std::process::id(), number).unwrap();
        drop(b);
        send(a.as_fd(), b"x", &[]).unwrap();
        assert!(matches!(receive(copy.as_fd(), &mut [0; 4]).unwrap(), Received::Message(1, _)));
        assert!(take_from(0, 0).is_err());
    }
}
