//! Devices and their tc filters, as far as the fence needs them: which stand, and which are ours.
//! Blocking calls over rtnetlink. Adds and removes nothing. Tests: tests/tests/lab_host_fence.rs.

use std::future::Future;

use aya::programs::TcAttachType;
use aya::programs::tc::TcHandle;
use futures::TryStreamExt;
use quorate_model::id::DeviceName;
use rtnetlink::packet_route::link::{LinkLayerType, LinkMessage};
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};
use rtnetlink::{Error as RouteError, Handle};

use super::HANDLE;
use super::error::{FenceError, FenceStep};
use crate::netlink::{ANSWER_TIMEOUT, Connection, name};

/// A device that can carry a fence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device {
    index: i32,
    /// Whether its frames have an Ethernet header; else they have none.
    pub(super) ethernet: bool,
}

/// One filter of ours, of this process or an earlier one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    /// The kernel's number of its program.
    pub(super) program: u32,
}

/// What is found on one side of a device.
#[derive(Debug)]
pub(super) struct Ours {
    /// Ours, in the order in which they run.
    pub(super) filters: Vec<Filter>,
    /// Whether a filter of another runs first: it can let a packet past ours.
    pub(super) overtaken: bool,
}

/// A connection to rtnetlink in one network namespace.
#[derive(Debug)]
pub(super) struct Filters {
    connection: Connection,
}

impl Filters {
    /// Opens a connection in the calling thread's network namespace. No right is needed.
    pub(super) fn open() -> Result<Self, FenceError> {
        let opened = Connection::open();
        let connection =
            opened.map_err(|error| FenceError::from_io(FenceStep::OpenSocket, &error))?;
        Ok(Self { connection })
    }

    fn requests(&self) -> &Handle {
        self.connection.requests()
    }

    fn wait<T>(
        &self,
        doing: impl Fn() -> FenceStep,
        answer: impl Future<Output = Result<T, RouteError>>,
    ) -> Result<T, FenceError> {
        let no_answer = |cause: String| FenceError::NoAnswer { doing: doing(), cause };
        match self.connection.wait(answer) {
            Some(Ok(value)) => Ok(value),
            Some(Err(RouteError::NetlinkError(message))) => {
                Err(FenceError::from_errno(doing(), message.raw_code().saturating_abs()))
            }
            Some(Err(error)) => Err(no_answer(error.to_string())),
            None => Err(no_answer(format!("no answer within {ANSWER_TIMEOUT:?}"))),
        }
    }

    /// Every device of this namespace but lo.
    pub(super) fn devices(&self) -> Result<Vec<DeviceName>, FenceError> {
        let request = self.requests().link().get().execute();
        let links: Vec<LinkMessage> =
            self.wait(|| FenceStep::ReadDevices, async { Box::pin(request).try_collect().await })?;
        let others = links.iter().filter(|link| !is_loopback(link));
        Ok(others.filter_map(name).collect())
    }

    pub(super) fn device(&self, device: &DeviceName) -> Result<Device, FenceError> {
        let request = self.requests().link().get().match_name(device.to_string()).execute();
        let doing = || FenceStep::ReadFilters(device.clone());
        let link = self.wait(doing, async { Box::pin(request).try_next().await })?;
        let link = link.ok_or_else(|| FenceError::NoDevice(device.clone()))?;
        if link.header.link_layer_type == LinkLayerType::Infiniband {
            return Err(FenceError::UnsupportedDevice(device.clone()));
        }
        let index = i32::try_from(link.header.index);
        let index = index.map_err(|_| FenceError::NoDevice(device.clone()))?;
        Ok(Device { index, ethernet: link.header.link_layer_type == LinkLayerType::Ether })
    }

    /// The filters of ours on one side of a device, in the order in which they run, and whether one
    /// of another's runs before them.
    pub(super) fn ours(
        &self,
        name: &DeviceName,
        device: Device,
        side: TcAttachType,
    ) -> Result<Ours, FenceError> {
        let request = self.requests().traffic_filter(device.index).get();
        let request =
            if side == TcAttachType::Ingress { request.ingress() } else { request.egress() };
        let doing = || FenceStep::ReadFilters(name.clone());
        let found: Vec<TcMessage> =
            self.wait(doing, async { Box::pin(request.execute()).try_collect().await })?;
        // The kernel tells of each priority without a handle first, and then of its filters. Other
        // chains run only where a filter of chain 0 sends a packet there.
        let mut filters =
            found.iter().filter(|message| handle(message) != 0 && chain(message) == 0);
        let overtaken = filters.next().is_some_and(|first| filter_of_ours(first).is_none());
        Ok(Ours { filters: found.iter().filter_map(filter_of_ours).collect(), overtaken })
    }
}

fn is_loopback(link: &LinkMessage) -> bool {
    link.header.link_layer_type == LinkLayerType::Loopback
}

fn handle(message: &TcMessage) -> u32 {
    let handle = message.header.handle;
    u32::from(handle.major) << 16 | u32::from(handle.minor)
}

fn chain(message: &TcMessage) -> u32 {
    let chain = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Chain(chain) => Some(*chain),
        _ => None,
    });
    chain.unwrap_or(0)
}

fn filter_of_ours(message: &TcMessage) -> Option<Filter> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let program = options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    })?;
    // Known by its handle and not by its program's name: without CAP_PERFMON aya finds out nothing
    // about names, and gives none.
    let found = message.header.handle;
    let ours = TcHandle::new(found.major, found.minor) == HANDLE;
    let priority = u16::try_from(message.header.info >> 16).ok()?;
    let handle = handle(message);
    ours.then_some(Filter { priority, handle, program })
}
