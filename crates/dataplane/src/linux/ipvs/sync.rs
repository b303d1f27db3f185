//! The sync daemons over netlink: requests and answers. Tests: below, and the contract suite.

use quorate_model::id::DeviceName;
use quorate_model::sync::{SyncRole, SyncSettings, SyncStep};

use super::wire::{
    Attributes, BACKUP, Command, DaemonAttr, MASTER, Malformed, RequestHead, TopAttr, Writer,
};

/// Appends the request for all daemons.
pub(super) fn get(writer: &mut Writer, head: &RequestHead) {
    writer.message(head, Command::GetDaemon.into(), |_| {});
}

/// Appends the request that does this step.
pub(super) fn step(writer: &mut Writer, head: &RequestHead, step: &SyncStep) {
    let number = |role: SyncRole| match role {
        SyncRole::Master => MASTER,
        SyncRole::Backup => BACKUP,
    };
    let (command, role, settings) = match step {
        SyncStep::Start(role, settings) => (Command::NewDaemon, role, Some(settings)),
        SyncStep::Stop(role) => (Command::DeleteDaemon, role, None),
    };
    writer.message(head, command.into(), |writer| {
        writer.nested(TopAttr::Daemon, |writer| {
            writer.put(DaemonAttr::State, &number(*role).to_ne_bytes());
            if let Some(settings) = settings {
                put_settings(writer, settings);
            }
        });
    });
}

fn put_settings(writer: &mut Writer, settings: &SyncSettings) {
    let SyncSettings { device, id, group, port, ttl, max_len } = settings;
    writer.put(DaemonAttr::Device, &[device.as_str().as_bytes(), &[0]].concat());
    writer.put(DaemonAttr::Id, &u32::from(*id).to_ne_bytes());
    match group {
        std::net::IpAddr::V4(group) => writer.put(DaemonAttr::Group, &group.octets()),
        std::net::IpAddr::V6(group) => writer.put(DaemonAttr::Group6, &group.octets()),
    }
    // In host order, unlike the ports of services.
    writer.put(DaemonAttr::Port, &port.to_ne_bytes());
    writer.put(DaemonAttr::Ttl, &[*ttl]);
    if let Some(max_len) = max_len {
        writer.put(DaemonAttr::MaxLen, &max_len.to_ne_bytes());
    }
}

/// A daemon that runs.
pub(super) fn daemon(attributes: Attributes<'_>) -> Result<(SyncRole, SyncSettings), Malformed> {
    let (mut role, mut device, mut id, mut group) = (None, None, None, None);
    let (mut port, mut ttl, mut max_len) = (0, 0, None);
    for attribute in super::read::top(attributes, TopAttr::Daemon)? {
        let (kind, payload) = attribute?;
        match DaemonAttr::from(kind) {
            DaemonAttr::State => role = Some(payload.u32()?),
            DaemonAttr::Device => {
                device = payload.text().and_then(|n| n.parse::<DeviceName>().ok())
            }
            DaemonAttr::Id => id = u8::try_from(payload.u32()?).ok(),
            DaemonAttr::Group => group = Some(payload.bytes4()?.into()),
            DaemonAttr::Group6 => group = Some(payload.bytes16()?.into()),
            DaemonAttr::Port => port = payload.u16()?,
            DaemonAttr::Ttl => ttl = payload.u8()?,
            DaemonAttr::MaxLen => max_len = Some(payload.u16()?),
            DaemonAttr::UnrecognizedConst(_) => {}
        }
    }
    let role = match role {
        Some(MASTER) => SyncRole::Master,
        Some(BACKUP) => SyncRole::Backup,
        _ => return Err(Malformed),
    };
    let (Some(device), Some(id), Some(group)) = (device, id, group) else { return Err(Malformed) };
    Ok((role, SyncSettings { device, id, group, port, ttl, max_len }))
}

#[cfg(test)]
mod tests {
    use super::super::wire::Messages;
    use super::*;

    const HEAD: RequestHead = RequestHead { family: 30, flags: 5, sequence: 7 };

    #[test]
    fn every_setting_that_is_written_reads_back() {
        for group in ["224.0.0.81", "ff05::51"] {
            for max_len in [None, Some(1_400)] {
                let want = SyncSettings {
                    device: "eth1".parse().unwrap(),
                    id: 255,
                    group: group.parse().unwrap(),
                    port: 8848,
                    ttl: 3,
                    max_len,
                };
                for role in SyncRole::ALL {
                    let mut writer = Writer::default();
                    step(&mut writer, &HEAD, &SyncStep::Start(role, want.clone()));
                    let message = Messages(writer.bytes()).next().unwrap().unwrap();
                    assert_eq!(daemon(message.attributes()), Ok((role, want.clone())));
                }
            }
        }
    }

    /// include/uapi/linux/ip_vs.h: IPVS_DAEMON_ATTR_STATE alone.
    #[test]
    fn the_end_of_a_daemon_names_its_role_alone() {
        let mut writer = Writer::default();
        step(&mut writer, &HEAD, &SyncStep::Stop(SyncRole::Backup));
        let body = &writer.bytes()[16..];
        let want = [10, 1, 0, 0, 0x0c, 0, 3, 0x80, 0x08, 0, 1, 0, 2, 0, 0, 0];
        assert_eq!(body, want);
    }
}
