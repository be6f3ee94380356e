//! bpf(2): load a program, make a map, attach to a cgroup or a device. The instructions are written by the caller (narrowgate-kernel);
//! here they are only handed over. Kernel document: Documentation/userspace-api/ebpf/syscall.rst.

use crate::io;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::size_of;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One instruction, laid out as the kernel reads it (RFC 9669, section 3).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    /// Destination register in the low half, source register in the high half (the other way round on big endian).
    pub registers: u8,
    /// Offset of a jump, in instructions, or of a memory access, in bytes.
    pub offset: i16,
    /// The constant.
    pub constant: i32,
}

/// Where a program is attached, in a cgroup but for the last; it says the program's type too.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A socket of AF_INET or AF_INET6 is made.
    SocketCreate = 2,
    /// bind(2) to an IPv4 address.
    Bind4 = 8,
    /// bind(2) to an IPv6 address.
    Bind6 = 9,
    /// connect(2) to an IPv4 address.
    Connect4 = 10,
    /// connect(2) on an IPv6 socket.
    Connect6 = 11,
    /// A datagram to an IPv4 address written beside it.
    Sendmsg4 = 14,
    /// A datagram to an IPv6 address written beside it.
    Sendmsg6 = 15,
    /// The source of a datagram received on an IPv4 socket.
    Recvmsg4 = 19,
    /// The source of a datagram received on an IPv6 socket.
    Recvmsg6 = 20,
    /// getpeername(2) on an IPv4 socket.
    Getpeername4 = 29,
    /// getpeername(2) on an IPv6 socket.
    Getpeername6 = 30,
    /// A frame on its way out by a device (Linux 6.6), behind nftables' egress hook.
    DeviceEgress = 47,
}

impl Hook {
    fn program_type(self) -> u32 {
        match self {
            Hook::SocketCreate => 9, // BPF_PROG_TYPE_CGROUP_SOCK
            Hook::DeviceEgress => 3, // BPF_PROG_TYPE_SCHED_CLS
            _ => 18,                 // BPF_PROG_TYPE_CGROUP_SOCK_ADDR
        }
    }
}

/// Why a program was not loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The kernel's refusal.
    pub error: io::Error,
    /// What its verifier said; empty where the refusal was not the verifier's.
    pub log: String,
}

/// While it lives, programs and maps are not refused for RLIMIT_MEMLOCK: before Linux 5.11 they count as locked memory, of
/// which a process may have 64 KiB. Does nothing where the limit cannot be raised.
#[derive(Debug)]
pub struct Unlimited {
    before: Option<Rlimit>,
}

impl Unlimited {
    /// Raises the limit.
    #[allow(clippy::new_without_default)] // it is no value, it does something
    pub fn new() -> Unlimited {
        let before = getrlimit(Resource::Memlock);
        let raised = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_ok();
        Unlimited { before: raised.then_some(before) }
    }
}

impl Drop for Unlimited {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = setrlimit(Resource::Memlock, before); // lower than now: always allowed
        }
    }
}

/// Loads a program. `name` shows in `bpftool prog`: 15 bytes of it, letters, digits and `_`.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; EACCES or EINVAL from the verifier, with its log.
pub fn load(hook: Hook, name: &str, program: &[Insn]) -> Result<OwnedFd, LoadError> {
    let mut attr = LoadAttr {
        program_type: hook.program_type(),
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        // The programs are this project's; the kernel asks for a licence it knows before it allows some helpers.
        license: c"Dual BSD/GPL".as_ptr() as u64,
        name: object_name(name),
        expected_attach_type: hook as u32,
        ..LoadAttr::default()
    };
    // SAFETY: `insns` and `license` point to memory that outlives the call, and `count` is the number of instructions.
    let error = match unsafe { bpf(PROG_LOAD, &mut attr) } {
        // SAFETY: the kernel made this descriptor for us (close on exec, as all of bpf(2)'s).
        Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) => error,
    };
    let mut log = Vec::new();
    if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL)) {
        log.resize(64 * 1024, 0u8);
        attr.log_level = 1;
        attr.log_size = 64 * 1024;
        attr.log = log.as_mut_ptr() as u64;
        // SAFETY: as above; the log is written to `log`, no more than `log_size` bytes.
        if let Ok(fd) = unsafe { bpf(PROG_LOAD, &mut attr) } {
            // SAFETY: as above.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        log.truncate(log.iter().position(|byte| *byte == 0).unwrap_or(log.len()));
    }
    Err(LoadError { error, log: String::from_utf8_lossy(&log).into_owned() })
}

/// Makes a hash map that forgets what was longest unused when it is full.
///
/// # Errors
/// EPERM without CAP_BPF, ENOMEM.
pub fn lru_hash(name: &str, key_size: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    const LRU_HASH: u32 = 9;
    let mut attr = MapAttr {
        kind: LRU_HASH,
        key_size,
        value_size,
        entries,
        name: object_name(name),
        ..MapAttr::default()
    };
    // SAFETY: the attributes hold no pointers.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    // SAFETY: the kernel made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, beside those that are there. It stays until [`detach`] or until the cgroup is gone.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, or where another program claimed the hook for itself.
pub fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
    const ALLOW_MULTI: u32 = 2;
    let mut attr = AttachAttr::new(cgroup, program, hook, ALLOW_MULTI);
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Attaches a program to the device of that number at [`Hook::DeviceEgress`], behind others, whatever the device is called. It stays until the descriptor is closed
/// or the device is gone.
///
/// # Errors
/// EINVAL before Linux 6.6 or without CONFIG_NET_XGRESS, ENODEV, EPERM without CAP_NET_ADMIN.
pub fn link_to_device(program: BorrowedFd<'_>, index: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkAttr {
        program: program.as_raw_fd(),
        target: index,
        attach_type: Hook::DeviceEgress as u32,
        ..LinkAttr::default()
    };
    // SAFETY: the attributes hold no pointers.
    let fd = unsafe { bpf(LINK_CREATE, &mut attr) }?;
    // SAFETY: the kernel made this descriptor for us (close on exec, as all of bpf(2)'s).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes a program off a cgroup.
///
/// # Errors
/// ENOENT when it is not attached there.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook) -> io::Result<()> {
    let mut attr = AttachAttr::new(cgroup, program, hook, 0);
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The programs attached to a cgroup itself (not to those above it), up to 64.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn attached(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target: cgroup.as_raw_fd(),
        attach_type: hook as u32,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..QueryAttr::default()
    };
    // SAFETY: `ids` points to room for `count` numbers.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let mut programs = Vec::new();
    for id in ids.iter().take(attr.count as usize) {
        let mut attr = IdAttr { id: *id, ..IdAttr::default() };
        // SAFETY: the attributes hold no pointers.
        match unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) } {
            // SAFETY: the kernel made this descriptor for us.
            Ok(fd) => programs.push(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {} // gone meanwhile
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

/// Whether a program was loaded with this name, 15 bytes at most.
pub fn is_called(program: BorrowedFd<'_>, name: &str) -> bool {
    // struct bpf_prog_info; its name is at byte 64, since Linux 4.15.
    let mut info = Info { before: [0; 8], name: [0; 16] };
    let pointer = core::ptr::from_mut(&mut info).expose_provenance();
    let mut attr = InfoAttr { fd: program.as_raw_fd(), len: 80, info: pointer as u64 };
    // SAFETY: `info` points to `len` bytes.
    let told = unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) };
    told.is_ok() && info.name == object_name(name)
}

fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes().take(15)).for_each(|(place, byte)| *place = byte);
    bytes
}

/// # Safety
/// `A` is the kernel's structure for `command`, and what its pointers point to is valid for what the command does.
unsafe fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes are valid for their size; the rest is the caller's promise.
    unsafe { call(command, core::ptr::from_mut(attr).cast(), size_of::<A>()) }
}

/// # Safety
/// As [`bpf`]; `attr` is valid for `len` bytes.
#[inline(never)]
unsafe fn call(command: libc::c_long, attr: *mut libc::c_void, len: usize) -> io::Result<i32> {
    // SAFETY: it is the caller's promise.
    let got = unsafe { libc::syscall(libc::SYS_bpf, command, attr, len) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as i32) }
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct AttachAttr {
    target: i32,
    program: i32,
    attach_type: u32,
    flags: u32,
}

impl AttachAttr {
    fn new(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, hook: Hook, flags: u32) -> AttachAttr {
        AttachAttr {
            target: cgroup.as_raw_fd(),
            program: program.as_raw_fd(),
            attach_type: hook as u32,
            flags,
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    program: i32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: i32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

#[repr(C)]
struct InfoAttr {
    fd: i32,
    len: u32,
    info: u64,
}

/// The machine's number of the level of socket options that [`SO_MARK`] is in.
pub const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
/// The machine's number of the option.
pub const SO_MARK: u32 = libc::SO_MARK as u32;

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
