//! Asking the neighbours of devices who has which address: packet sockets, and when to send and to
//! listen. The frames are in `crate::ask`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use quorate_model::claim::{Answer, Question};
use quorate_model::id::DeviceName;

use super::route::Route;
use crate::error::{DataplaneError, Errno, Operation};
use crate::{DeviceState, MacAddress, ask, sys};

/// How often an address is asked for (design §3).
const QUESTIONS: u32 = 3;
/// From one question to the next, and how long the last one's answers are waited for.
const SPACING: Duration = Duration::from_millis(100);
/// How often the sockets are read meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Frames that one look takes from one socket: nobody keeps this thread busy.
const FRAMES_MAX: usize = 1_024;
/// Longest frame that is of interest, and more: an ARP packet or an advertisement with options.
const FRAME_BYTES: usize = 512;

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// A device that is asked through.
struct Asked {
    device: DeviceName,
    index: u32,
    mac: MacAddress,
    addresses: BTreeSet<IpAddr>,
    sending: OwnedFd,
    listening: Vec<OwnedFd>,
}

/// Asks, and waits for the answers.
pub(super) fn ask(route: &Route, questions: &BTreeSet<Question>) -> BTreeMap<Question, Answer> {
    let mut by_device: BTreeMap<&DeviceName, BTreeSet<IpAddr>> = BTreeMap::new();
    for question in questions {
        by_device.entry(&question.device).or_default().insert(question.address);
    }
    let mut answers = BTreeMap::new();
    let mut asked = Vec::new();
    for (device, addresses) in by_device {
        match prepare(route, device, &addresses) {
            Ok(Some(ready)) => asked.push(ready),
            // A device without link-layer addresses (a tunnel) has no neighbours to ask.
            Ok(None) => answers.extend(all(device, &addresses, &Answer::Free)),
            Err(error) => {
                let failed = Answer::Failed(error.to_string());
                answers.extend(all(device, &addresses, &failed));
            }
        }
    }
    for asked in &asked {
        answers.extend(all(&asked.device, &asked.addresses, &Answer::Free));
    }
    if asked.is_empty() {
        return answers;
    }
    for _ in 0..QUESTIONS {
        for asked in &asked {
            asked.send(&mut answers);
        }
        let mut waited = Duration::ZERO;
        while waited < SPACING {
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
            for asked in &asked {
                asked.listen(&mut answers);
            }
        }
    }
    answers
}

fn all<'a>(
    device: &'a DeviceName,
    addresses: &'a BTreeSet<IpAddr>,
    answer: &'a Answer,
) -> impl Iterator<Item = (Question, Answer)> + 'a {
    let question = |&address: &IpAddr| Question { device: device.clone(), address };
    addresses.iter().map(move |address| (question(address), answer.clone()))
}

fn prepare(
    route: &Route,
    device: &DeviceName,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Option<Asked>, DataplaneError> {
    let doing = || Operation::Ask(device.clone());
    let (index, mac) = match route.device(device)? {
        DeviceState::Missing => {
            return Err(DataplaneError::NoDevice { doing: doing(), device: device.clone() });
        }
        DeviceState::Down => {
            let errno = Errno(libc::ENETDOWN);
            return Err(DataplaneError::Refused { doing: doing(), errno });
        }
        DeviceState::Up { mac: None, .. } => return Ok(None),
        DeviceState::Up { index, mac: Some(mac) } => (index, mac),
    };
    let fail = |error| DataplaneError::from_io(doing(), &error);
    let mut listening = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) {
        listening.push(sys::listening_socket(index, ETH_P_ARP, &[]).map_err(fail)?);
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        let filter = sys::bytes_equal(&ask::IS_ADVERTISEMENT);
        listening.push(sys::listening_socket(index, ETH_P_IPV6, &filter).map_err(fail)?);
    }
    let sending = sys::packet_socket().map_err(fail)?;
    let (device, addresses) = (device.clone(), addresses.clone());
    Ok(Some(Asked { device, index, mac, addresses, sending, listening }))
}

impl Asked {
    fn question(&self, address: IpAddr) -> Question {
        Question { device: self.device.clone(), address }
    }

    fn send(&self, answers: &mut BTreeMap<Question, Answer>) {
        for &address in &self.addresses {
            let frame = ask::question(self.mac, address);
            if let Err(error) = sys::send_frame(&self.sending, self.index, &frame) {
                let error = DataplaneError::from_io(Operation::Ask(self.device.clone()), &error);
                // What was heard already stays true.
                let answer = answers.entry(self.question(address)).or_insert(Answer::Free);
                if *answer == Answer::Free {
                    *answer = Answer::Failed(error.to_string());
                }
            }
        }
    }

    fn listen(&self, answers: &mut BTreeMap<Question, Answer>) {
        let mut frame = [0; FRAME_BYTES];
        for socket in &self.listening {
            for _ in 0..FRAMES_MAX {
                let length = match sys::receive(socket, &mut frame) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // Nothing more, or the device went down: the questions say so then.
                    Err(_) => break,
                };
                if let Some((address, mac)) = ask::answer(frame.get(..length).unwrap_or(&[]))
                    && self.addresses.contains(&address)
                    && mac != self.mac
                {
                    answers.insert(self.question(address), Answer::InUse(mac));
                }
            }
        }
    }
}
