//! The only `unsafe` of the workspace: socket options that no safe crate of ours offers, frames
//! over AF_PACKET, BPF maps mapped into memory, a thread's scheduling, the heap's free pages. Every
//! function is safe to call with any argument. It decides nothing and knows no protocol. What needs
//! it is tested by the contract suite (tests/src/contract.rs).
#![allow(unsafe_code, reason = "this module is where the workspace keeps it")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

fn set_option<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `value` is a live reference, and `length` is the size of what it refers to; the
    // kernel only reads that many bytes.
    let done =
        unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a receive fail with EAGAIN after this time.
pub(crate) fn set_receive_timeout(socket: &impl AsRawFd, timeout: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: timeout.as_secs().try_into().map_err(io::Error::other)?,
        tv_usec: timeout.subsec_micros().into(),
    };
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
}

/// Makes the receive buffer this large: past the sysctl's limit where CAP_NET_ADMIN allows it, and
/// else as large as that limit.
pub(crate) fn set_receive_buffer(socket: &impl AsRawFd, bytes: i32) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
        .or_else(|_| set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
}

/// Keeps the request's payload out of netlink error messages.
pub(crate) fn set_netlink_cap_ack(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1_i32)
}

/// A socket that sends link-layer frames as they are, and receives none.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    sending(libc::SOCK_RAW)
}

/// A socket that sends packets to neighbours, under a link-layer header that the kernel makes, without
/// waiting, and receives none.
pub(crate) fn neighbour_socket() -> io::Result<OwnedFd> {
    sending(libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)
}

fn sending(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes no pointers. Protocol 0 subscribes to no frames.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened, is valid, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket that receives the frames of one protocol (in host byte order) that a device gets, as
/// they are, and never waits. An empty filter takes them all.
pub(crate) fn listening_socket(
    device_index: u32,
    protocol: u16,
    filter: &[libc::sock_filter],
) -> io::Result<OwnedFd> {
    listening(libc::SOCK_RAW, (device_index, protocol), filter)
}

/// A socket that receives the packets of one protocol (in host byte order) that any device gets, without
/// link-layer headers, before the kernel judges them, and never waits.
pub(crate) fn packets_of(protocol: u16, filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    listening(libc::SOCK_DGRAM, (0, protocol), filter)
}

/// Keeps connection tracking from putting what a raw socket sends together (ip(7)), and so IPVS from
/// taking it for a client's.
pub(crate) fn set_no_defragmentation(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_NODEFRAG, &1_i32)
}

fn listening(
    kind: i32,
    (device_index, protocol): (u32, u16),
    filter: &[libc::sock_filter],
) -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes no pointers. Protocol 0 subscribes to no frames until it is bound.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened, is valid, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if !filter.is_empty() {
        let len = libc::c_ushort::try_from(filter.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
        // The kernel copies the `len` instructions of the live slice, and checks each; it changes
        // none of them.
        set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    }
    let (to, length) = link_layer(device_index, protocol)?;
    // SAFETY: `to` is a live `sockaddr_ll` and its size is passed. The kernel only reads it.
    let bound = unsafe { libc::bind(fd, std::ptr::from_ref(&to).cast(), length) };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// A filter that takes the frames whose bytes at these places are these.
pub(crate) fn bytes_equal(wanted: &[(u32, u8)]) -> Vec<libc::sock_filter> {
    // BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K (linux/bpf_common.h).
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = Vec::new();
    for &(place, value) in wanted {
        filter.push(step(LOAD_BYTE, 0, place));
        // Equal goes on behind the rejection that follows.
        filter.push(libc::sock_filter { jt: 1, ..step(JUMP_IF_EQUAL, 0, value.into()) });
        filter.push(step(RETURN, 0, 0));
    }
    filter.push(step(RETURN, 0, u32::MAX));
    filter
}

/// Takes one frame that waits in a socket; one that is longer than the buffer is cut.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is a live slice that is ours alone, and its own length is passed.
    let received =
        unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

fn link_layer(
    device_index: u32,
    protocol: u16,
) -> io::Result<(libc::sockaddr_ll, libc::socklen_t)> {
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeroes is a valid value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    to.sll_protocol = protocol.to_be();
    to.sll_ifindex = i32::try_from(device_index).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>();
    Ok((to, libc::socklen_t::try_from(length).map_err(io::Error::other)?))
}

/// Sends one whole frame, link-layer header included, out of the device with this index.
pub(crate) fn send_frame(socket: &OwnedFd, device_index: u32, frame: &[u8]) -> io::Result<()> {
    send(socket, link_layer(device_index, 0)?, frame)
}

/// A neighbour's link-layer address, as a packet socket takes it: of at most 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkAddress {
    bytes: [u8; 8],
    length: u8,
}

impl LinkAddress {
    /// One of these bytes; none where they are too many.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let mut address = Self { bytes: [0; 8], length: u8::try_from(bytes.len()).ok()? };
        address.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(address)
    }
}

/// Sends one packet of a protocol (in host byte order) to a neighbour, out of the device with this index.
pub(crate) fn send_to_neighbour(
    socket: &OwnedFd,
    (device_index, protocol): (u32, u16),
    neighbour: LinkAddress,
    packet: &[u8],
) -> io::Result<()> {
    let (mut to, length) = link_layer(device_index, protocol)?;
    (to.sll_addr, to.sll_halen) = (neighbour.bytes, neighbour.length);
    send(socket, (to, length), packet)
}

fn send(
    socket: &OwnedFd,
    (to, length): (libc::sockaddr_ll, libc::socklen_t),
    frame: &[u8],
) -> io::Result<()> {
    // SAFETY: `frame` is a live slice and its own length is passed; `to` is a live `sockaddr_ll` and
    // its size is passed. The kernel only reads both.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            std::ptr::from_ref(&to).cast(),
            length,
        )
    };
    match usize::try_from(sent) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(sent) if sent == frame.len() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero)),
    }
}

/// The words of an array map of 64-bit values (BPF_F_MMAPABLE), mapped into memory: a store takes
/// effect in the kernel at once, with no system call.
#[derive(Debug)]
pub(crate) struct MappedWords {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory is only ever reached through `&AtomicU64`, and stays mapped until the last
// owner drops it.
unsafe impl Send for MappedWords {}
// SAFETY: as above.
unsafe impl Sync for MappedWords {}

impl MappedWords {
    /// Maps the first `count` words of the map.
    pub(crate) fn map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = count.checked_mul(size_of::<u64>()).ok_or_else(invalid)?;
        // SAFETY: no address is asked for, so nothing that is mapped already is touched. The kernel
        // refuses what is no such map, and a length past its end.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(invalid)?;
        Ok(Self { start, count })
    }

    /// As many words of ordinary memory, all zero.
    pub(crate) fn in_memory(count: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = count.checked_mul(size_of::<u64>()).ok_or_else(invalid)?;
        // SAFETY: no address and no file are given: the kernel makes new, private, zeroed memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(invalid)?;
        Ok(Self { start, count })
    }

    /// One word; none past the end.
    pub(crate) fn get(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.count {
            return None;
        }
        // SAFETY: the index is within the mapping, which is page-aligned, lives as long as `self`,
        // and is valid for any content. The kernel reads each word as a whole.
        Some(unsafe { self.start.add(index).as_ref() })
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; every reference into it borrows from `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}

/// Gives free pages of the heap back to the system (malloc_trim(3)); only glibc keeps many.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointers, and touches free memory only, under the allocator's
    // own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the calling thread this real-time priority under SCHED_RR (sched(7)); threads and programs
/// that it starts do not inherit it.
pub(crate) fn schedule_round_robin(priority: i32) -> io::Result<()> {
    // SAFETY: `sched_param` is one integer (on glibc), for which all zeroes is a valid value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: 0 is the calling thread; `parameters` is a live `sched_param` that the kernel only
    // reads.
    let done = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
