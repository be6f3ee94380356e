//! A process that needs little gives the rest away: capabilities, user, files, system calls. In that order, and never back.

use crate::io;
use alloc::vec::Vec;
use rustix::process::{Gid, Uid};

/// The user and group that own nothing (`nobody`, `nogroup` on Debian and OpenWrt alike).
pub const NOBODY: u32 = 65534;

/// Closes every descriptor from `first` on: what a careless parent of our parent left open is none of a child's business.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range(2) takes three numbers. Called before anything here owns a descriptor at or above `first`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a descriptor at a number, replacing what was there, and leaves it open for good: others find it by that number.
pub fn place(descriptor: rustix::fd::OwnedFd, number: i32) -> io::Result<()> {
    use rustix::fd::{AsRawFd, IntoRawFd};
    if descriptor.as_raw_fd() == number {
        let _kept = descriptor.into_raw_fd();
        return Ok(());
    }
    // SAFETY: both are plain numbers. What was at `number` is closed: the caller gives it away by calling this.
    let result = unsafe { libc::dup3(descriptor.as_raw_fd(), number, libc::O_CLOEXEC) };
    if result == number { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives up all capabilities and, as root, the user and the groups; sets `no_new_privs`. An error if a capability is left.
/// For a process of one thread: the others would keep theirs.
pub fn drop_privileges() -> io::Result<()> {
    use rustix::thread::{
        CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    };
    set_no_new_privs(true)?;
    let _ = clear_ambient_capability_set(); // Linux before 4.3 has none
    if rustix::process::geteuid().is_root() {
        for capability in 0..64 {
            // SAFETY: prctl(2) takes five numbers here. EINVAL beyond the last capability is no failure, nor EPERM without
            // CAP_SETPCAP: with no_new_privs no exec gains what the bounding set would allow.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
        }
        // In a user namespace or container these ids may not exist; the capabilities go in any case.
        let _ = set_thread_groups(&[]);
        let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        let _ = set_thread_res_gid(gid, gid, gid);
        let _ = set_thread_res_uid(uid, uid, uid);
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        },
    )?;
    let left = capabilities(None)?;
    if left.effective.is_empty() && left.permitted.is_empty() && left.inheritable.is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Takes every file away (Landlock, Linux 5.13): no path can be opened, made, changed or run any more. False where the kernel has no Landlock.
pub fn deny_files() -> io::Result<bool> {
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
    }
    const ALL_OF_THE_FIRST_VERSION: u64 = (1 << 13) - 1;
    let ruleset = Ruleset { handled_access_fs: ALL_OF_THE_FIRST_VERSION };
    // SAFETY: the pointer and size are those of `ruleset`, which outlives the call; the layout is `struct landlock_ruleset_attr`.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0u32)
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => Ok(false),
            _ => Err(error),
        };
    }
    // SAFETY: a descriptor and flags; it needs no_new_privs, else it is EPERM.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0u32) };
    let error = io::Error::last_os_error();
    // SAFETY: the descriptor was made above and is used nowhere else.
    unsafe { libc::close(fd as i32) };
    if result == 0 { Ok(true) } else { Err(error) }
}

/// Lets only these system calls through from now on (seccomp(2)), and setsockopt(2) for `option` at the level `SOL_SOCKET`; every
/// other one fails with EPERM. It needs `no_new_privs`.
///
/// Not "kill": a forbidden call that a C library tries in passing must not cost the node its DNS, and a call that fails did nothing either.
pub fn allow_system_calls(allowed: &[libc::c_long], option: libc::c_int) -> io::Result<()> {
    let mut program = Vec::with_capacity(allowed.len() * 2 + 12);
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let skip_one_unless = |k: u32| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (allow, deny) =
        (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | (libc::EPERM as u32 & libc::SECCOMP_RET_DATA));
    let ret = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data: nr at 0, arch at 4. Another architecture's numbers (x86's 32-bit calls) mean something else: refused.
    program.push(statement(load, 4));
    program.push(libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 1,
        jf: 0,
        k: ARCHITECTURE,
    });
    program.push(statement(ret, deny));
    program.push(statement(load, 0));
    // x32's numbers have bit 30 set and are equal to none of these.
    for number in allowed {
        program.push(skip_one_unless(*number as u32));
        program.push(statement(ret, allow));
    }
    // The six arguments are 64 bits wide and begin at 16.
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    #[cfg(any(target_arch = "x86", target_arch = "s390x"))]
    {
        // Its first argument says which call; the others are behind a pointer, where no filter looks.
        let skipped = 2 * SOCKET_CALLS.len() as u8 + 2;
        program.push(libc::sock_filter { jf: skipped, ..skip_one_unless(libc::SYS_socketcall as u32) });
        program.push(statement(load, 16 + low));
        for call in SOCKET_CALLS {
            program.push(skip_one_unless(*call));
            program.push(statement(ret, allow));
        }
        program.push(statement(ret, deny));
    }
    // Level and option are setsockopt's second and third.
    for (load_at, value) in
        [(None, libc::SYS_setsockopt as u32), (Some(24), libc::SOL_SOCKET as u32), (Some(32), option as u32)]
    {
        program.extend(load_at.map(|at| statement(load, at + low)));
        program.push(libc::sock_filter { jt: 1, jf: 0, ..skip_one_unless(value) });
        program.push(statement(ret, deny));
    }
    program.push(statement(ret, allow));
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the pointer is to a program of `len` instructions that outlives the call; the kernel checks and copies it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a loop over sockets that it was given needs, and no more. There is no way here to a new socket but accept4(2) and
/// what the parent sends: not socket, not socketpair, io_uring_*, pidfd_getfd, ptrace, open or execve.
pub const SOCKET_LOOP: &[libc::c_long] = &[
    // waiting; the newest first, since the filter is walked from the top
    #[cfg(not(any(
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "riscv32",
        target_arch = "loongarch64"
    )))]
    libc::SYS_epoll_wait, // glibc's epoll_wait(3), wherever there is one: rustix calls it on powerpc and MIPS
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // messages
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    #[cfg(any(
        target_arch = "mips",
        target_arch = "arm",
        target_arch = "powerpc",
        target_arch = "powerpc64"
    ))]
    libc::SYS_recv,
    #[cfg(any(
        target_arch = "mips",
        target_arch = "arm",
        target_arch = "powerpc",
        target_arch = "powerpc64"
    ))]
    libc::SYS_send,
    // to a server, and back to no server with connect(AF_UNSPEC)
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_getsockopt, // SO_ERROR
    libc::SYS_getsockname,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_clock_gettime, // where the vDSO has no CLOCK_BOOTTIME
    #[cfg(target_pointer_width = "32")]
    403, // clock_gettime64, the same number on all that have it
    #[cfg(target_pointer_width = "32")]
    417, // recvmmsg_time64
    libc::SYS_getrandom,
    // memory, for the allocator
    libc::SYS_mmap,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_mmap2,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    #[cfg(target_pointer_width = "32")]
    422, // futex_time64
    // the last words of a panic, and the end
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same by socketcall(2) (linux/net.h), which glibc and rustix take on 32-bit x86, and glibc on s390x. Not setsockopt: its
/// option could not be told. (`bind_to_device` makes that call by its own number, which both have since Linux 4.3.)
#[cfg(any(target_arch = "x86", target_arch = "s390x"))]
const SOCKET_CALLS: &[u32] = &[
    17, // recvmsg
    16, // sendmsg
    12, // recvfrom
    11, // sendto
    19, // recvmmsg
    20, // sendmmsg
    10, // recv
    9,  // send
    3,  // connect
    18, // accept4
    15, // getsockopt
    6,  // getsockname
    13, // shutdown
];

/// `AUDIT_ARCH_*` (linux/audit.h) of what this is built for.
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "x86") {
    0x4000_0003
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else if cfg!(all(target_arch = "arm", target_endian = "little")) {
    0x4000_0028
} else if cfg!(target_arch = "arm") {
    0x0000_0028
} else if cfg!(all(target_arch = "mips", target_endian = "little")) {
    0x4000_0008
} else if cfg!(target_arch = "mips") {
    0x0000_0008
} else if cfg!(all(target_arch = "mips64", target_endian = "little")) {
    0xc000_0008
} else if cfg!(target_arch = "mips64") {
    0x8000_0008
} else if cfg!(target_arch = "riscv64") {
    0xc000_00f3
} else if cfg!(target_arch = "riscv32") {
    0x4000_00f3
} else if cfg!(target_arch = "loongarch64") {
    0xc000_0102
} else if cfg!(target_arch = "powerpc") {
    0x0000_0014
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    0xc000_0015
} else if cfg!(target_arch = "powerpc64") {
    0x8000_0015
} else if cfg!(target_arch = "s390x") {
    0x8000_0016
} else {
    panic!("no seccomp architecture is known for this target: add it here")
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// Run by the next test in a process of its own: there is no way back out of a sandbox. It ends with the number of the first thing that went wrong.
    #[test]
    #[ignore = "it gives up all rights: run by `a_sandbox_holds`"]
    fn inside() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let child = std::process::id() as libc::c_long;
        drop_privileges().unwrap();
        let marked =
            crate::socket::set_mark(std::os::fd::AsFd::as_fd(&udp), 1, 1).map_err(|e| e.raw_os_error());
        let files = deny_files();
        let opened = std::fs::File::open("/proc/self/status").map(drop).map_err(|e| e.raw_os_error());
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        allow_system_calls(SOCKET_LOOP, crate::socket::BIND_TO_DEVICE).unwrap();
        let denied = |number: libc::c_long, a: libc::c_long, b: libc::c_long, c: libc::c_long| {
            // SAFETY: numbers and null pointers only; the kernel refuses each before it looks at them, or finds nothing there.
            let result = unsafe { libc::syscall(number, a, b, c, 0, 0) };
            result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
        };
        let checks = [
            marked == Err(Some(libc::EPERM)),
            !matches!(files, Ok(true)) || opened == Err(Some(libc::EACCES)),
            denied(libc::SYS_socket, libc::AF_INET.into(), libc::SOCK_DGRAM.into(), 0),
            #[cfg(any(target_arch = "x86", target_arch = "s390x"))]
            [1, 2, 4, 5, 8, 14].into_iter().all(|call| denied(libc::SYS_socketcall, call, 0, 0)),
            denied(libc::SYS_socketpair, libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0),
            denied(libc::SYS_io_uring_setup, 4, 0, 0),
            denied(libc::SYS_pidfd_open, child, 0, 0),
            denied(libc::SYS_pidfd_getfd, 0, 0, 0),
            denied(libc::SYS_ptrace, libc::PTRACE_TRACEME as _, 0, 0),
            denied(libc::SYS_process_vm_readv, child, 0, 0),
            denied(libc::SYS_openat, libc::AT_FDCWD.into(), 0, 0),
            denied(libc::SYS_execve, 0, 0, 0),
            denied(libc::SYS_unshare, libc::CLONE_NEWUSER.into(), 0, 0),
            denied(libc::SYS_setns, udp.as_raw_fd().into(), 0, 0),
            denied(libc::SYS_bpf, 0, 0, 0),
            denied(
                libc::SYS_setsockopt,
                udp.as_raw_fd().into(),
                libc::SOL_SOCKET.into(),
                libc::SO_MARK.into(),
            ),
            denied(libc::SYS_setsockopt, udp.as_raw_fd().into(), libc::IPPROTO_IP.into(), 62),
            denied(libc::SYS_bind, udp.as_raw_fd().into(), 0, 0),
            // And what is needed still works.
            udp.send_to(b"x", udp.local_addr().unwrap()).is_ok() && udp.recv_from(&mut [0; 4]).is_ok(),
            crate::socket::bind_to_device(std::os::fd::AsFd::as_fd(&other), 1).is_ok(),
        ];
        let wrong = checks.iter().position(|ok| !ok);
        std::process::exit(wrong.map_or(0, |n| n as i32 + 1));
    }

    #[test]
    fn a_sandbox_holds() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--test-threads=1", "sandbox::tests::inside"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "the number is that of the check which failed\n{text}");
        assert!(text.contains("running 1 test"), "{text}");
    }
}
