//! AF_PACKET sockets (packet(7)) on one device, from safe functions: `nix` makes the socket and reads from it,
//! `pnet_datalink` binds it, for which the standard libraries have no address type.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use pnet_datalink::{Channel, Config, DataLinkSender, NetworkInterface};

/// A packet socket that is bound to one device.
pub struct PacketSocket {
    /// For reading; it does not block.
    pub fd: OwnedFd,
    sender: Box<dyn DataLinkSender>,
}

impl PacketSocket {
    /// Binds one to a device of this thread's network namespace. It sees every frame of the device, sent or received.
    pub fn open(device: &str) -> io::Result<Self> {
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        // Enough for a burst while the reader is not scheduled; nothing that the node sends may be missed.
        setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20))?;
        let interface = NetworkInterface {
            name: device.to_owned(),
            description: String::new(),
            index: if_nametoindex(device)?,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        let binding = Config { socket_fd: Some(fd.try_clone()?.into_raw_fd()), ..Config::default() };
        match pnet_datalink::channel(&interface, binding)? {
            Channel::Ethernet(sender, _) => Ok(Self { fd, sender }),
            _ => Err(io::Error::other("this is no Ethernet device")),
        }
    }

    /// Sends a whole frame.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sender.send_to(frame, None).unwrap_or_else(|| Err(io::Error::other("the frame is too long")))
    }
}
