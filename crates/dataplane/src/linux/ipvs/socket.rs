//! A generic netlink socket for one user: requests in batches with their answers matched by
//! sequence number, and dumps drained to their end. It knows no IPVS.
//!
//! `neli::socket` gives the socket; its router is not used, since it has no batches and no
//! time-outs (reference/ipvs-netlink.md §2). Tests: the contract suite, in the lab.

use std::fmt;
use std::io;
use std::time::Duration;

use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

use super::wire::{Attributes, Malformed, Messages, RequestHead, Writer};
use crate::error::Errno;
use crate::sys;

/// The most requests in one send: their acknowledgements must fit the receive buffer.
pub(super) const BATCH_MAX: usize = 128;
/// The kernel sizes the messages of a dump by the receiver's buffer, up to 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
const SOCKET_BUFFER_BYTES: i32 = 1024 * 1024;
/// Netlink answers before the send returns, so waiting at all means that an answer was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The controller's own family (GENL_ID_CTRL).
const CONTROLLER: u16 = 16;

/// Why a request got no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The kernel said no.
    Errno(Errno),
    /// The kernel said nothing.
    NoAnswer,
    /// The kernel said what is not understood.
    Garbled,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Garbled
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            // ENOBUFS: the receive buffer ran over, and answers are lost.
            Some(libc::EAGAIN | libc::ENOBUFS) => Self::NoAnswer,
            _ => Self::Errno(Errno::of(&error)),
        }
    }
}

/// The socket, its buffers and the last sequence number.
pub(super) struct Socket {
    socket: NlSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. No right is needed.
    pub(super) fn open() -> io::Result<Self> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        sys::set_receive_timeout(&socket, ANSWER_TIMEOUT)?;
        sys::set_receive_buffer(&socket, SOCKET_BUFFER_BYTES)?;
        sys::set_netlink_cap_ack(&socket)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BYTES], sequence: 0 })
    }

    /// The number of a family by its name; `None` where the kernel has none and could load none.
    pub(super) fn family(&mut self, name: &str) -> Result<Option<u16>, Failure> {
        let mut found = None;
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        let asked = self.ask(
            CONTROLLER,
            |writer, head| {
                writer.message(head, CtrlCmd::Getfamily.into(), |writer| {
                    writer.put(CtrlAttr::FamilyName, &text);
                });
            },
            |attributes| {
                for attribute in attributes {
                    let (kind, payload) = attribute?;
                    if CtrlAttr::from(kind) == CtrlAttr::FamilyId {
                        found = Some(payload.u16()?);
                    }
                }
                Ok(())
            },
        );
        match asked {
            Ok(()) => found.map(Some).ok_or(Failure::Garbled),
            Err(Failure::Errno(Errno(libc::ENOENT))) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Sends one request, hands its answer to `read`, and waits for the acknowledgement.
    pub(super) fn ask(
        &mut self,
        family: u16,
        request: impl FnOnce(&mut Writer, &RequestHead),
        read: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Failure> {
        self.converse(family, NlmF::ACK, request, read)
    }

    /// Sends one request for a dump, and hands every message of it to `read`. The dump is drained
    /// whatever `read` says.
    pub(super) fn dump(
        &mut self,
        family: u16,
        request: impl FnOnce(&mut Writer, &RequestHead),
        read: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Failure> {
        self.converse(family, NlmF::DUMP, request, read)
    }

    fn converse(
        &mut self,
        family: u16,
        flags: NlmF,
        request: impl FnOnce(&mut Writer, &RequestHead),
        mut read: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Failure> {
        let head = self.head(family, flags);
        let mut writer = Writer::default();
        request(&mut writer, &head);
        self.send(&writer)?;
        let mut result = Ok(());
        loop {
            let received = self.receive()?;
            for message in Messages(received) {
                let message = message?;
                if message.sequence != head.sequence {
                    continue; // A late answer to a request that was given up.
                }
                if NlmF::from_bits_retain(message.flags).contains(NlmF::DUMP_INTR) {
                    result = Err(Failure::NoAnswer);
                }
                match Nlmsg::from(message.kind) {
                    Nlmsg::Error | Nlmsg::Done => {
                        // A dump that ends well may end with an empty NLMSG_DONE.
                        return match message.errno().unwrap_or(0) {
                            0 => result,
                            errno => Err(Failure::Errno(Errno(errno))),
                        };
                    }
                    _ if message.kind == family => {
                        let read = read(message.attributes()).map_err(Failure::from);
                        result = result.and(read);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends up to [`BATCH_MAX`] requests at once and returns the answer to each, in their order.
    /// The kernel does them in order and goes on after one that fails.
    pub(super) fn batch<T>(
        &mut self,
        family: u16,
        items: &[T],
        request: impl Fn(&mut Writer, &RequestHead, &T),
    ) -> Vec<Result<(), Failure>> {
        debug_assert!(items.len() <= BATCH_MAX, "acknowledgements may overrun the buffer");
        let mut writer = Writer::default();
        let first = self.sequence.wrapping_add(1);
        for item in items {
            let head = self.head(family, NlmF::ACK);
            request(&mut writer, &head, item);
        }
        let mut answers = vec![Err(Failure::NoAnswer); items.len()];
        if writer.is_empty() {
            return answers;
        }
        if let Err(error) = self.send(&writer) {
            answers.fill(Err(error.into()));
            return answers;
        }
        let mut missing = items.len();
        while missing > 0 {
            let Ok(received) = self.receive() else { break };
            for message in Messages(received) {
                let Ok(message) = message else { break };
                let place = usize::try_from(message.sequence.wrapping_sub(first)).ok();
                let Some(answer) = place.and_then(|place| answers.get_mut(place)) else { continue };
                if Nlmsg::from(message.kind) != Nlmsg::Error {
                    continue;
                }
                *answer = match message.errno() {
                    Some(0) => Ok(()),
                    Some(errno) => Err(Failure::Errno(Errno(errno))),
                    None => Err(Failure::Garbled),
                };
                missing = missing.saturating_sub(1);
            }
        }
        answers
    }

    fn head(&mut self, family: u16, flags: NlmF) -> RequestHead {
        self.sequence = self.sequence.wrapping_add(1);
        RequestHead { family, flags: (NlmF::REQUEST | flags).bits(), sequence: self.sequence }
    }

    fn send(&self, writer: &Writer) -> io::Result<()> {
        loop {
            match self.socket.send(writer.bytes(), Msg::empty()) {
                Ok(sent) if sent == writer.bytes().len() => return Ok(()),
                Ok(_) => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.socket.recv(&mut self.buffer, Msg::empty()) {
                Ok((length, _)) => return Ok(self.buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
