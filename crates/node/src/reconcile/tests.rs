//! The reconcile threads on a kernel in memory. What a thread does is awaited as the event that
//! it sends; nothing here sleeps or measures time.

use quorate_dataplane::fake::FakeKernel;
use quorate_dataplane::{DeviceState, MacAddress};
use quorate_model::id::DeviceName;

use super::*;

mod addresses;
mod purge;
mod questions;
mod release;
mod services;

/// Far more than a thread ever needs: only a thread that never answers takes so long.
const NEVER: Duration = Duration::from_secs(30);
/// Events that may wait for a test.
const EVENTS: usize = 64;

fn eth(number: u32) -> DeviceName {
    format!("eth{number}").parse().unwrap()
}

fn up() -> DeviceState {
    DeviceState::Up { index: 2, mac: Some(MacAddress([2, 0, 0, 0, 0, 1])) }
}

fn on(kernel: &FakeKernel) -> MakeDataplane {
    let mut dataplane = kernel.dataplane();
    dataplane.arm_fence(&[]).unwrap();
    Box::new(move || Ok(Box::new(dataplane) as Box<dyn Dataplane>))
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(NEVER, events.recv()).await.unwrap().unwrap()
}
