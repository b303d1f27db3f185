//! What a voter keeps of its promises on disk.

use std::time::Duration;

use quorate_model::id::Epoch;

use super::{DecodeError, FORMAT, check_format, name, nanoseconds};
use crate::peer::v1 as peer;

pub use quorate_model::ownership::voter::DurablePromises as Promises;

impl From<&Promises> for peer::StoredPromises {
    fn from(promises: &Promises) -> Self {
        Self {
            format: FORMAT,
            longest_ns: nanoseconds(promises.longest),
            floors: promises
                .floors
                .iter()
                .map(|(group, epoch)| peer::StoredFloor {
                    group: group.as_str().to_owned(),
                    epoch: epoch.0,
                })
                .collect(),
        }
    }
}

impl TryFrom<peer::StoredPromises> for Promises {
    type Error = DecodeError;

    fn try_from(stored: peer::StoredPromises) -> Result<Self, DecodeError> {
        check_format("StoredPromises", stored.format)?;
        let floors = stored
            .floors
            .into_iter()
            .map(|floor| Ok((name("StoredFloor.group", &floor.group)?, Epoch(floor.epoch))))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { longest: Duration::from_nanos(stored.longest_ns), floors })
    }
}
