//! The bytes of netlink: numbers of the IPVS family (include/uapi/linux/ip_vs.h), and writing and
//! walking messages and attributes. Pure: no socket, no meaning.
//!
//! Numbers are `neli`'s kind of constants; walking is our own, since it must not panic whatever the
//! bytes are (neli subtracts lengths unchecked) and must not allocate for each of the ten
//! attributes of ten thousand real servers. Tests: `tests.rs` beside this file.

use neli::consts::genl::{Cmd, NlAttrType};
use neli::neli_enum;

/// Commands of the IPVS family.
#[neli_enum(serialized_type = "u8")]
pub(super) enum Command {
    NewService = 1,
    SetService = 2,
    DeleteService = 3,
    GetService = 4,
    NewDestination = 5,
    SetDestination = 6,
    DeleteDestination = 7,
    GetDestination = 8,
    NewDaemon = 9,
    DeleteDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    SetInfo = 14,
    GetInfo = 15,
}

impl Cmd for Command {}

/// Attributes at the top of an IPVS message.
#[neli_enum(serialized_type = "u16")]
pub(super) enum TopAttr {
    Service = 1,
    Destination = 2,
    Daemon = 3,
    TimeoutTcp = 4,
    TimeoutTcpFin = 5,
    TimeoutUdp = 6,
}

impl NlAttrType for TopAttr {}

/// Attributes of a sync daemon.
#[neli_enum(serialized_type = "u16")]
pub(super) enum DaemonAttr {
    State = 1,
    Device = 2,
    Id = 3,
    MaxLen = 4,
    Group = 5,
    Group6 = 6,
    Port = 7,
    Ttl = 8,
}

impl NlAttrType for DaemonAttr {}

/// `IP_VS_STATE_MASTER`.
pub(super) const MASTER: u32 = 1;
/// `IP_VS_STATE_BACKUP`.
pub(super) const BACKUP: u32 = 2;

/// Attributes at the top of the answer to [`Command::GetInfo`].
#[neli_enum(serialized_type = "u16")]
pub(super) enum InfoAttr {
    Version = 1,
    ConnectionTableSize = 2,
}

impl NlAttrType for InfoAttr {}

/// Attributes of a service.
#[neli_enum(serialized_type = "u16")]
pub(super) enum ServiceAttr {
    Family = 1,
    Protocol = 2,
    Address = 3,
    Port = 4,
    FirewallMark = 5,
    Scheduler = 6,
    Flags = 7,
    Timeout = 8,
    Netmask = 9,
    Stats = 10,
    PersistenceEngine = 11,
    Stats64 = 12,
}

impl NlAttrType for ServiceAttr {}

/// Attributes of a destination.
#[neli_enum(serialized_type = "u16")]
pub(super) enum DestinationAttr {
    Address = 1,
    Port = 2,
    ForwardMethod = 3,
    Weight = 4,
    UpperThreshold = 5,
    LowerThreshold = 6,
    ActiveConnections = 7,
    InactiveConnections = 8,
    Stats = 10,
    Family = 11,
    Stats64 = 12,
    TunnelType = 13,
    TunnelPort = 14,
    TunnelFlags = 15,
}

impl NlAttrType for DestinationAttr {}

/// Attributes of statistics, the same in both widths.
#[neli_enum(serialized_type = "u16")]
pub(super) enum StatsAttr {
    Connections = 1,
    PacketsIn = 2,
    PacketsOut = 3,
    BytesIn = 4,
    BytesOut = 5,
    ConnectionRate = 6,
    PacketRateIn = 7,
    PacketRateOut = 8,
    ByteRateIn = 9,
    ByteRateOut = 10,
}

impl NlAttrType for StatsAttr {}

/// `IP_VS_SVC_F_PERSISTENT`.
pub(super) const FLAG_PERSISTENT: u32 = 0x1;
/// `IP_VS_SVC_F_HASHED`: the kernel's own, of no meaning to anyone else.
pub(super) const FLAG_HASHED: u32 = 0x2;

/// `IP_VS_SVC_F_ONEPACKET`.
pub(super) const FLAG_ONE_PACKET: u32 = 0x4;
/// `IP_VS_SVC_F_SCHED1`; the next two bits are SCHED2 and SCHED3.
pub(super) const FLAG_SCHEDULER_SHIFT: u32 = 3;
/// All three of them.
pub(super) const FLAG_SCHEDULER: u32 = 0x38;

/// `IP_VS_CONN_F_TUNNEL_TYPE_GUE`.
pub(super) const TUNNEL_GUE: u8 = 1;
/// `IP_VS_CONN_F_TUNNEL_TYPE_GRE`.
pub(super) const TUNNEL_GRE: u8 = 2;
/// `IP_VS_TUNNEL_ENCAP_FLAG_CSUM`.
pub(super) const TUNNEL_CHECKSUM: u16 = 1;
/// `IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM`.
pub(super) const TUNNEL_REMOTE_CHECKSUM: u16 = 2;

/// Bytes of a netlink header.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of a generic netlink header.
pub(super) const GENL_HEADER_BYTES: usize = 4;
const ATTR_HEADER_BYTES: usize = 4;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = !(3 << 14);

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// A growing request of one or more messages.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends one generic netlink message whose attributes `body` writes.
    pub(super) fn message(
        &mut self,
        head: &RequestHead,
        command: u8,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(head.family.to_ne_bytes());
        self.bytes.extend(head.flags.to_ne_bytes());
        self.bytes.extend(head.sequence.to_ne_bytes());
        // The port: 0 lets the kernel fill in the socket's own.
        self.bytes.extend([0; 4]);
        // Command, version of the family (1 for ours and for the controller), two reserved bytes.
        self.bytes.extend([command, 1, 0, 0]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn nested(&mut self, attr: impl Into<u16>, body: impl FnOnce(&mut Self)) {
        self.attr(attr.into() | NESTED, body);
    }

    pub(super) fn put(&mut self, attr: impl Into<u16>, payload: &[u8]) {
        self.attr(attr.into(), |writer| writer.bytes.extend(payload));
    }

    fn attr(&mut self, attr: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(attr.to_ne_bytes());
        body(self);
        // Our longest attribute is a service of some 120 bytes.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// What a request's netlink header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestHead {
    pub(super) family: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
}

/// One message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the generic netlink header; none where that is cut off.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(GENL_HEADER_BYTES..).unwrap_or_default())
    }

    /// The number that a message of kind NLMSG_ERROR or NLMSG_DONE opens with, as errno; 0 is
    /// "done".
    pub(super) fn errno(&self) -> Option<i32> {
        let code = self.payload.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*code).saturating_neg())
    }
}

/// Walks the messages of one receive. A length that can't be ends the walk with an error.
#[derive(Debug)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

/// Bytes that are no netlink message or attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.take();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Malformed))
    }
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(*self.0.first_chunk()?)).ok()?;
        let message = self.0.get(..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(message.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?),
            payload: message.get(HEADER_BYTES..)?,
        };
        // The last message of a receive need not be padded.
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// Walks attributes. A length that can't be ends the walk with an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, Payload<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.take();
        if attribute.is_none() {
            self.0 = &[];
        }
        Some(attribute.ok_or(Malformed))
    }
}

impl<'a> Attributes<'a> {
    fn take(&mut self) -> Option<(u16, Payload<'a>)> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let payload = self.0.get(ATTR_HEADER_BYTES..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, Payload(payload)))
    }
}

/// What an attribute holds, read as what the kernel's policy says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl<'a> Payload<'a> {
    pub(super) fn attributes(self) -> Attributes<'a> {
        Attributes(self.0)
    }

    fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.0.first_chunk::<N>().copied().ok_or(Malformed)
    }

    pub(super) fn u8(self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    pub(super) fn u16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn be16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn be32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// An unsigned number of 32 or 64 bits, by its length.
    pub(super) fn u32_or_u64(self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes).or_else(|_| self.u32().map(u64::from))
    }

    pub(super) fn bytes4(self) -> Result<[u8; 4], Malformed> {
        self.array()
    }

    pub(super) fn bytes16(self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    /// A text up to its first NUL; `None` where it isn't UTF-8.
    pub(super) fn text(self) -> Option<&'a str> {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(self.0.get(..end)?).ok()
    }
}
