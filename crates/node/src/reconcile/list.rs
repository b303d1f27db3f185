//! A durable list of what this node puts into its kernel, written before the kernel is: after a
//! crash the next daemon knows what is its own. One entry a line, replaced as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, Family, ServiceKey};
use quorate_model::routing::RoutingEntry;
use quorate_model::spec::Protocol;
use quorate_model::sync::SyncSettings;

use crate::identity::file::write_durably;

/// Longest list that is read: 16 MiB hold more VIPs and services than a configuration may.
const BYTES_MAX: u64 = 16 << 20;

/// Why a list can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file can't be read or written.
    #[error("cannot {doing} {}: {cause}; the daemon keeps there what it put into the kernel: check the disk and the directory's owner", .path.display())]
    File {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A line means nothing.
    #[error("{}:{line}: {text:?} is no entry; the file was changed by something else than quorated: look at the kernel (ip address, ip route, ip rule, ipvsadm -ln), then remove the file", .path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Its text.
        text: String,
    },
}

/// What a list holds.
pub(super) trait Entry: Ord + Clone {
    /// The entry as one line.
    fn line(&self) -> String;
    /// The entry of a line.
    fn parse(line: &str) -> Option<Self>;
}

impl Entry for DeviceAddress {
    fn line(&self) -> String {
        format!("{} {}", self.device, self.net)
    }

    fn parse(line: &str) -> Option<Self> {
        let (device, net) = line.split_once(' ')?;
        Some(Self { device: DeviceName::from_str(device).ok()?, net: IpNet::from_str(net).ok()? })
    }
}

impl Entry for ServiceKey {
    fn line(&self) -> String {
        match self {
            Self::At { protocol, address } => format!("{protocol} {address}"),
            Self::Marked { mark, family: Family::V4 } => format!("mark {mark}"),
            Self::Marked { mark, family: Family::V6 } => format!("mark6 {mark}"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        let family = match kind {
            "mark" => Family::V4,
            "mark6" => Family::V6,
            _ => return Some(Self::at(Protocol::named(kind)?, rest.parse().ok()?)),
        };
        Some(Self::Marked { mark: rest.parse::<NonZeroU32>().ok()?, family })
    }
}

impl Entry for RoutingEntry {
    fn line(&self) -> String {
        self.to_string()
    }

    fn parse(line: &str) -> Option<Self> {
        line.parse().ok()
    }
}

impl Entry for SyncSettings {
    fn line(&self) -> String {
        let Self { device, id, group, port, ttl, max_len } = self;
        format!("{device} {id} {group} {port} {ttl} {}", max_len.unwrap_or(0))
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, id, group, port, ttl, max_len] = fields.as_slice() else { return None };
        Some(Self {
            device: device.parse().ok()?,
            id: id.parse().ok()?,
            group: group.parse().ok()?,
            port: port.parse().ok()?,
            ttl: ttl.parse().ok()?,
            max_len: Some(max_len.parse().ok()?).filter(|&length| length > 0),
        })
    }
}

/// A durable set.
#[derive(Debug)]
pub(super) struct List<T> {
    path: PathBuf,
    entries: BTreeSet<T>,
}

impl<T: Entry> List<T> {
    /// Reads the list; a file that is not there is an empty one.
    pub(super) fn open(path: PathBuf) -> Result<Self, ListError> {
        let failed = |cause| ListError::File { doing: "read", path: path.clone(), cause };
        let text = match fs::metadata(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(failed(cause)),
            Ok(meta) if meta.len() > BYTES_MAX => {
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is too long")));
            }
            Ok(_) => fs::read_to_string(&path).map_err(failed)?,
        };
        let mut entries = BTreeSet::new();
        for (number, text) in text.lines().enumerate() {
            let Some(entry) = T::parse(text) else {
                return Err(ListError::Entry { path, line: number + 1, text: text.to_owned() });
            };
            entries.insert(entry);
        }
        Ok(Self { path, entries })
    }

    pub(super) fn entries(&self) -> &BTreeSet<T> {
        &self.entries
    }

    /// Adds entries, durably; nothing is written where all are there already.
    pub(super) fn add<'a>(&mut self, new: impl Iterator<Item = &'a T>) -> Result<(), ListError>
    where
        T: 'a,
    {
        let mut entries = self.entries.clone();
        entries.extend(new.cloned());
        self.replace(entries)
    }

    /// Makes the list hold just these, durably.
    pub(super) fn replace(&mut self, entries: BTreeSet<T>) -> Result<(), ListError> {
        if entries == self.entries {
            return Ok(());
        }
        let write = |cause| ListError::File { doing: "write", path: self.path.clone(), cause };
        let text: String = entries.iter().map(|entry| entry.line() + "\n").collect();
        write_durably(&self.path, text.as_bytes()).map_err(write)?;
        self.entries = entries;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(text: &str) -> DeviceAddress {
        DeviceAddress::parse(text).unwrap()
    }

    #[test]
    fn what_was_added_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vips");
        let entries = [vip("eth0 192.0.2.1/32"), vip("eth1 2001:db8::1/128")];
        let mut list = List::open(path.clone()).unwrap();
        list.add(entries.iter()).unwrap();
        let mut again: List<DeviceAddress> = List::open(path.clone()).unwrap();
        assert_eq!(again.entries(), &BTreeSet::from(entries.clone()));
        again.replace([entries[0].clone()].into()).unwrap();
        let last: List<DeviceAddress> = List::open(path).unwrap();
        assert_eq!(last.entries().len(), 1);
    }

    #[test]
    fn a_service_is_read_as_it_was_written() {
        for text in
            ["tcp 192.0.2.1:80", "udp [2001:db8::1]:53", "sctp 192.0.2.1:80", "mark 1", "mark6 7"]
        {
            assert_eq!(ServiceKey::parse(text).unwrap().line(), text);
        }
        for text in ["icmp 192.0.2.1:80", "mark 0", "mark x", "mark"] {
            assert!(ServiceKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn sync_daemons_are_read_as_they_were_written() {
        for text in ["eth1 1 224.0.0.81 8848 1 0", "lan0 255 ff05::51 1 9 1460"] {
            assert_eq!(SyncSettings::parse(text).unwrap().line(), text);
        }
        assert!(SyncSettings::parse("eth1 256 224.0.0.81 8848 1 0").is_none());
    }

    #[test]
    fn a_line_that_means_nothing_is_an_error_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vips");
        fs::write(&path, "eth0 192.0.2.1/32\nrubbish\n").unwrap();
        let error = List::<DeviceAddress>::open(path).unwrap_err();
        assert!(error.to_string().contains(":2: \"rubbish\""), "{error}");
    }
}
