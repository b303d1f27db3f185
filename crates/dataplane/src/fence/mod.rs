//! The fence (design §4): the kernel's own block on VIP traffic, closed unless an unexpired lease
//! holds it open, and closing by itself with no process of ours running.
//!
//! The programs are bpf/fence.c, compiled to bpf/fence.o by `cargo xtask bpf`. They hang on every
//! device but lo as clsact filters, which outlive this process: that is the point. A [`Slot`] is
//! one VIP's deadline in memory that the kernel reads: opening it is one store. When to open it is
//! the lease's, not decided here. Tests: tests/tests/lab_host_fence.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::maps::{HashMap, MapData};
use aya::programs::TcAttachType;
use aya::programs::links::Link;
use aya::programs::tc::{
    NlOptions, SchedClassifier, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::{Ebpf, EbpfLoader};
use quorate_model::id::DeviceName;
use quorate_model::time::Instant;

use self::error::{program_errno, tc_errno};
use self::filters::{Device, Filter, Filters};
use crate::sys::MappedWords;

mod clock;
mod error;
mod filters;

pub use error::{FenceError, FenceStep};

/// As many addresses as one fence can hold (the size of its maps, bpf/fence.c).
pub const VIPS_AT_MOST: u32 = 4096;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/fence.o");

/// Ours are the first filters to run, before any that could let a packet past them; where another's
/// run before, the fence does not stand. A starting
/// daemon's goes to the one that its predecessor's does not have.
const PRIORITIES: [u16; 2] = [1, 2];
/// `QUOR`, for whoever reads `tc filter show`. Fixed, so that a priority holds one of ours only.
const HANDLE: TcHandle = TcHandle::new(0x5155, 0x4f52);
const SIDES: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// Whether a device's filters stand as they were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Both stand.
    InPlace,
    /// One or both are gone: VIP traffic passes there, whatever the slots say.
    Broken,
    /// Both stand, and another's program runs before one of them: it may let packets past it
    /// (TC_ACT_OK ends the tc filters of a side, TCX_PASS even all of them; tcx runs first, since
    /// Linux 6.6).
    Overtaken,
    /// The device is gone, and nothing passes.
    NoDevice,
}

/// An armed fence. Every call but those of [`Slot`] blocks (netlink); none may be made from a task
/// of an async runtime, nor from another network namespace than the one it was armed in.
///
/// Dropping it leaves the filters as they are; they close when their deadlines have passed.
pub struct Fence {
    filters: Filters,
    programs: Ebpf,
    vips: HashMap<MapData, [u8; 16], u32>,
    words: Arc<MappedWords>,
    taken: BTreeMap<IpAddr, Arc<u32>>,
    /// Given back; taken anew only once nobody can store to them as another address's.
    free: Vec<Arc<u32>>,
    devices: BTreeSet<DeviceName>,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("devices", &self.devices)
            .field("vips", &self.taken.keys())
            .finish_non_exhaustive()
    }
}

/// One VIP's place in the fence. Stores from any thread take effect at once, with no system call
/// and no lock; they never fail. It stays harmless after the VIP's removal.
#[derive(Debug, Clone)]
pub struct Slot {
    words: Arc<MappedWords>,
    index: Arc<u32>,
}

impl Slot {
    /// A slot that no kernel reads: for a kernel in memory.
    pub(crate) fn in_memory() -> io::Result<Self> {
        Ok(Self { words: Arc::new(MappedWords::in_memory(1)?), index: Arc::new(0) })
    }

    /// Lets the VIP's traffic pass until this point of the lease clock.
    pub fn open_until(&self, deadline: Instant) {
        self.store(deadline.0);
    }

    /// Lets none of it pass from now on.
    pub fn close(&self) {
        self.store(0);
    }

    /// Until when it is open; a point in the past where it is closed.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant(self.word().map_or(0, |word| word.load(Ordering::Acquire)))
    }

    fn word(&self) -> Option<&std::sync::atomic::AtomicU64> {
        self.words.get(usize::try_from(*self.index).ok()?)
    }

    fn store(&self, deadline: u64) {
        // Every slot's index is below the number of words; without one it would stay closed.
        if let Some(word) = self.word() {
            word.store(deadline, Ordering::Release);
        }
    }
}

impl Fence {
    /// Loads a fence in which these VIPs are closed, and puts it on these devices, before it takes
    /// off what earlier processes left there.
    ///
    /// `vips` are all addresses that may stand on this host from before: what a dead daemon's
    /// fence held shut must not pass between that fence and this one.
    ///
    /// # Errors
    /// Where any of it fails. The filters put so far stay; with them what was there before, where
    /// its successor could not be put. Arming again is safe.
    pub fn arm(devices: &[DeviceName], vips: &[IpAddr]) -> Result<Self, FenceError> {
        let filters = Filters::open()?;
        clock::must_be_the_kernels()?;
        // Type information of the kernel is for programs that look into its structures.
        let mut programs = EbpfLoader::new()
            .btf(None)
            .load(OBJECT)
            .map_err(|error| FenceError::of_load(&error))?;
        for (_, program) in programs.programs_mut() {
            let program = <&mut SchedClassifier>::try_from(program);
            program
                .and_then(SchedClassifier::load)
                .map_err(|error| FenceError::of_program_load(&error))?;
        }
        let words = Arc::new(map_deadlines(&programs)?);
        let map = programs.take_map("vips").ok_or_else(|| lacks("vips"))?;
        let entries = HashMap::try_from(map);
        let entries = entries.map_err(|error| FenceError::of_map(FenceStep::Load, &error))?;
        let mut fence = Self {
            filters,
            programs,
            vips: entries,
            words,
            taken: BTreeMap::new(),
            free: Vec::new(),
            devices: BTreeSet::new(),
        };
        for &vip in vips {
            fence.insert(vip)?;
        }
        for device in devices {
            fence.cover(device)?;
        }
        Ok(fence)
    }

    /// Puts the fence on a device, such as one that has just appeared, and takes other fences of
    /// ours off. Where it stands already, nothing is changed.
    ///
    /// # Errors
    /// Where it does not stand afterwards. [`Fence::check`] watches the device from then on.
    pub fn cover(&mut self, device: &DeviceName) -> Result<(), FenceError> {
        let found = self.filters.device(device)?;
        self.devices.insert(device.clone());
        add_qdisc(device)?;
        for side in SIDES {
            let program = self.program(found, side)?;
            let id = program_id(program)?;
            let there = self.filters.ours(device, found, side)?.filters;
            let is_current = |filter: &&Filter| filter.program == id;
            let mut others: Vec<&Filter> =
                there.iter().filter(|filter| !is_current(filter)).collect();
            if there.iter().find(is_current).is_none() {
                let free = |&priority: &u16| others.iter().all(|f| f.priority != priority);
                let priority = match (PRIORITIES.into_iter().find(free), others.pop()) {
                    (Some(priority), last) => {
                        others.extend(last);
                        priority
                    }
                    // Two predecessors, of which one died between its two steps: one may stand
                    // until ours does, the other makes room.
                    (None, Some(last)) => {
                        detach(device, side, *last)?;
                        last.priority
                    }
                    (None, None) => PRIORITIES[0],
                };
                let program = self.program_mut(found, side)?;
                attach(program, device, side, priority)?;
            }
            for filter in others {
                detach(device, side, *filter)?;
            }
        }
        match self.coverage(device)? {
            Coverage::InPlace | Coverage::Broken => Ok(()),
            Coverage::Overtaken => Err(FenceError::Overtaken(device.clone())),
            Coverage::NoDevice => Err(FenceError::NoDevice(device.clone())),
        }
    }

    /// Fences an address, closed; before it is configured. The slot of one that is fenced already
    /// stays as it is.
    ///
    /// # Errors
    /// Where it is not fenced: it must not be configured then.
    pub fn insert(&mut self, vip: IpAddr) -> Result<Slot, FenceError> {
        if let Some(slot) = self.slot(vip) {
            return Ok(slot);
        }
        let index = self.free_index()?;
        let slot = Slot { words: Arc::clone(&self.words), index: Arc::clone(&index) };
        slot.close();
        if let Err(error) = self.vips.insert(key(vip), *index, 0) {
            self.free.push(index);
            return Err(FenceError::of_map(FenceStep::Insert(vip), &error));
        }
        self.taken.insert(vip, index);
        Ok(slot)
    }

    /// The slot of an address that is fenced.
    #[must_use]
    pub fn slot(&self, vip: IpAddr) -> Option<Slot> {
        let index = self.taken.get(&vip)?;
        Some(Slot { words: Arc::clone(&self.words), index: Arc::clone(index) })
    }

    /// Lets an address go; after it is gone from the devices. One that is not fenced is let go
    /// already.
    ///
    /// # Errors
    /// Where it is still fenced; it is closed then.
    pub fn remove(&mut self, vip: IpAddr) -> Result<(), FenceError> {
        let Some(slot) = self.slot(vip) else { return Ok(()) };
        slot.close();
        self.vips
            .remove(&key(vip))
            .map_err(|error| FenceError::of_map(FenceStep::Remove(vip), &error))?;
        self.free.extend(self.taken.remove(&vip));
        Ok(())
    }

    /// Whether each covered device still has its filters, as the kernel tells.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn check(&self) -> Result<BTreeMap<DeviceName, Coverage>, FenceError> {
        self.devices.iter().map(|device| Ok((device.clone(), self.coverage(device)?))).collect()
    }

    /// Looks at every device there is: puts the fence on those that are new and back where it is
    /// gone, as many as it can. Returns the devices where it had to.
    ///
    /// # Errors
    /// Where it does not stand on every device afterwards: VIP traffic may pass there, and the VIPs
    /// have to go.
    pub fn mend(&mut self) -> Result<Vec<DeviceName>, FenceError> {
        let there = self.filters.devices()?;
        // One that is gone is no more to be looked at; when it comes back it is a new one.
        self.devices.retain(|device| there.contains(device));
        let mut mended = Vec::new();
        let mut failed = None;
        for device in there {
            let covered = match self.coverage(&device) {
                Ok(Coverage::InPlace) if self.devices.contains(&device) => continue,
                Ok(Coverage::Overtaken) if self.devices.contains(&device) => {
                    Err(FenceError::Overtaken(device.clone()))
                }
                Ok(Coverage::NoDevice) => continue,
                Ok(Coverage::InPlace | Coverage::Broken | Coverage::Overtaken) | Err(_) => {
                    self.cover(&device)
                }
            };
            match covered {
                Ok(()) => mended.push(device),
                Err(FenceError::NoDevice(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(mended), Err)
    }

    fn coverage(&self, device: &DeviceName) -> Result<Coverage, FenceError> {
        let look = || {
            let found = self.filters.device(device)?;
            let mut overtaken = false;
            for side in SIDES {
                let id = program_id(self.program(found, side)?)?;
                let ours = self.filters.ours(device, found, side)?;
                if !ours.filters.iter().any(|filter| filter.program == id) {
                    return Ok(Coverage::Broken);
                }
                // An error: a kernel that has no tcx, or a device that has just gone.
                let tcx = SchedClassifier::query_tcx(device.as_str(), side);
                overtaken |= ours.overtaken || tcx.is_ok_and(|(_, programs)| !programs.is_empty());
            }
            Ok(if overtaken { Coverage::Overtaken } else { Coverage::InPlace })
        };
        match look() {
            Err(FenceError::NoDevice(_)) => Ok(Coverage::NoDevice),
            other => other,
        }
    }

    fn program(&self, device: Device, side: TcAttachType) -> Result<&SchedClassifier, FenceError> {
        let name = program_name(device, side);
        let program = self.programs.program(name).ok_or_else(|| lacks(name))?;
        program.try_into().map_err(|error| FenceError::of_program_load(&error))
    }

    fn program_mut(
        &mut self,
        device: Device,
        side: TcAttachType,
    ) -> Result<&mut SchedClassifier, FenceError> {
        let name = program_name(device, side);
        let program = self.programs.program_mut(name).ok_or_else(|| lacks(name))?;
        program.try_into().map_err(|error| FenceError::of_program_load(&error))
    }

    fn free_index(&mut self) -> Result<Arc<u32>, FenceError> {
        // One that a removed VIP's slot still refers to would be opened by it.
        let unused = self.free.iter().position(|index| Arc::strong_count(index) == 1);
        if let Some(at) = unused {
            return Ok(self.free.swap_remove(at));
        }
        let used = u32::try_from(self.taken.len() + self.free.len()).unwrap_or(u32::MAX);
        if used < VIPS_AT_MOST { Ok(Arc::new(used)) } else { Err(FenceError::Full) }
    }
}

/// Every device of this namespace that a fence has to be on: all but lo.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn devices() -> Result<Vec<DeviceName>, FenceError> {
    Filters::open()?.devices()
}

/// Takes every fence of ours, of whatever process, off these devices; returns those where that
/// failed. Only once no VIP stands there: from then on all their traffic passes. The qdisc stays,
/// since others may use it.
///
/// # Errors
/// Where the kernel can't be asked at all.
pub fn purge(devices: &[DeviceName]) -> Result<Vec<(DeviceName, FenceError)>, FenceError> {
    let filters = Filters::open()?;
    let purge_one = |device: &DeviceName| {
        let found = filters.device(device)?;
        for side in SIDES {
            for filter in filters.ours(device, found, side)?.filters {
                detach(device, side, filter)?;
            }
        }
        Ok(())
    };
    let failed = devices.iter().filter_map(|device| match purge_one(device) {
        Ok(()) | Err(FenceError::NoDevice(_)) => None,
        Err(error) => Some((device.clone(), error)),
    });
    Ok(failed.collect())
}

fn map_deadlines(programs: &Ebpf) -> Result<MappedWords, FenceError> {
    let Some(aya::maps::Map::Array(map)) = programs.map("slots") else {
        return Err(lacks("slots"));
    };
    let words = usize::try_from(VIPS_AT_MOST).map_err(io::Error::other);
    words
        .and_then(|count| MappedWords::map(std::os::fd::AsFd::as_fd(map.fd()), count))
        .map_err(|error| FenceError::from_io(FenceStep::MapDeadlines, &error))
}

/// The object is part of this program; a test loads it.
fn lacks(name: &str) -> FenceError {
    FenceError::NoAnswer { doing: FenceStep::Load, cause: format!("the object has no {name}") }
}

fn program_name(device: Device, side: TcAttachType) -> &'static str {
    match (device.ethernet, side == TcAttachType::Ingress) {
        (true, true) => "quorate_in",
        (true, false) => "quorate_out",
        (false, true) => "quorate_l3_in",
        (false, false) => "quorate_l3_out",
    }
}

fn program_id(program: &SchedClassifier) -> Result<u32, FenceError> {
    let info = program.info().map_err(|error| FenceError::of_program_load(&error))?;
    Ok(info.id())
}

fn add_qdisc(device: &DeviceName) -> Result<(), FenceError> {
    match qdisc_add_clsact(device.as_str()) {
        Err(error) if tc_errno(&error) != Some(libc::EEXIST) => {
            Err(FenceError::of_tc(FenceStep::AddQdisc(device.clone()), &error))
        }
        _ => Ok(()),
    }
}

fn attach(
    program: &mut SchedClassifier,
    device: &DeviceName,
    side: TcAttachType,
    priority: u16,
) -> Result<(), FenceError> {
    let fail = |error: &_| FenceError::of_program(FenceStep::Attach(device.clone()), error);
    let options = NlOptions { priority, handle: HANDLE, classid: None };
    let id = program
        .attach_with_options(device.as_str(), side, TcAttachOptions::Netlink(options))
        .map_err(|error| fail(&error))?;
    let link = program.take_link(id).map_err(|error| fail(&error))?;
    // Dropping it would take the filter off: it has to outlive us. It holds nothing else.
    std::mem::forget(link);
    Ok(())
}

fn detach(device: &DeviceName, side: TcAttachType, filter: Filter) -> Result<(), FenceError> {
    let doing = || FenceStep::Detach(device.clone());
    let handle = TcHandle::from(filter.handle);
    let link = SchedClassifierLink::attached(device.as_str(), side, filter.priority, handle, None);
    let link = link.map_err(|error| FenceError::from_io(doing(), &error))?;
    match link.detach() {
        // Gone meanwhile.
        Err(error) if program_errno(&error) == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(|error| FenceError::of_program(doing(), &error)),
    }
}

/// An address as the map's key: IPv4 in its mapped form.
fn key(vip: IpAddr) -> [u8; 16] {
    match vip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
