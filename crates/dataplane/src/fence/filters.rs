//! Devices and their tc filters, as far as the fence needs them: which stand, and which are ours.
//! Blocking calls over rtnetlink; a runtime of one thread, owned here, drives the connection while
//! a call waits. Adds and removes nothing. Tests: tests/tests/lab_host_fence.rs.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use aya::programs::TcAttachType;
use aya::programs::tc::TcHandle;
use futures::TryStreamExt;
use quorate_model::id::DeviceName;
use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};
use rtnetlink::{Error as RouteError, Handle};
use tokio::task::JoinHandle;

use super::HANDLE;
use super::error::{FenceError, FenceStep};
use crate::blocking::Blocking;

/// No answer of rtnetlink takes long, but it may wait for another holder of RTNL.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
pub(super) struct Filters {
    runtime: Blocking,
    handle: Handle,
    connection: JoinHandle<()>,
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filters").finish_non_exhaustive()
    }
}

impl Filters {
    /// Opens a connection in the calling thread's network namespace. No right is needed.
    pub(super) fn open() -> Result<Self, FenceError> {
        let fail = |error: io::Error| FenceError::from_io(FenceStep::OpenSocket, &error);
        let made = Blocking::new(|runtime| {
            let (connection, handle, _no_groups) = rtnetlink::new_connection()?;
            Ok((handle, runtime.spawn(connection)))
        });
        let (runtime, (handle, connection)) = made.map_err(fail)?;
        Ok(Self { runtime, handle, connection })
    }

    fn wait<T>(
        &self,
        doing: impl Fn() -> FenceStep,
        answer: impl Future<Output = Result<T, RouteError>>,
    ) -> Result<T, FenceError> {
        let no_answer = |cause: String| FenceError::NoAnswer { doing: doing(), cause };
        let answer = async { tokio::time::timeout(ANSWER_TIMEOUT, answer).await };
        match self.runtime.wait(answer) {
            Some(Ok(Ok(value))) => Ok(value),
            Some(Ok(Err(RouteError::NetlinkError(message)))) => {
                Err(FenceError::from_errno(doing(), message.raw_code().saturating_abs()))
            }
            Some(Ok(Err(error))) => Err(no_answer(error.to_string())),
            Some(Err(_)) | None => Err(no_answer(format!("no answer within {ANSWER_TIMEOUT:?}"))),
        }
    }

    /// Every device of this namespace but lo.
    pub(super) fn devices(&self) -> Result<Vec<DeviceName>, FenceError> {
        let request = self.handle.link().get().execute();
        let links: Vec<LinkMessage> =
            self.wait(|| FenceStep::ReadDevices, async { Box::pin(request).try_collect().await })?;
        let others = links.iter().filter(|link| !is_loopback(link));
        Ok(others.filter_map(|link| name(link)?.parse().ok()).collect())
    }

    pub(super) fn device(&self, device: &DeviceName) -> Result<Device, FenceError> {
        let request = self.handle.link().get().match_name(device.to_string()).execute();
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
        let request = self.handle.traffic_filter(device.index).get();
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

impl Drop for Filters {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn is_loopback(link: &LinkMessage) -> bool {
    link.header.link_layer_type == LinkLayerType::Loopback
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
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
