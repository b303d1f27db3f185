//! What a failover costs with ten thousand real servers, beside what it costs with two: the bed and
//! the faults are those of the bench of failover.

use super::{Failover, Options, Shape};
use crate::dice::Dice;
use crate::failover::bench::strike_owner;
use crate::failover::fault::Fault;
use crate::failover::quorate::{Quorate, Setup, Timing};
use crate::failover::statistics::{Distribution, milliseconds};
use crate::lab::{LabError, in_vm};

const SEED: u64 = 4;
const FAULTS: [Fault; 3] = [Fault::CutSilently, Fault::Kill, Fault::Move];
const FEW: Shape = Shape { services: 1, servers: 2 };

/// Each fault so many times on one deployment, then on the other.
pub(super) fn run(options: Options, say: &mut dyn FnMut(&str)) -> Result<Vec<Failover>, LabError> {
    say("=== failovers");
    // An emulated machine keeps no short lease.
    let timing = if in_vm() { Timing::WAN } else { Timing::LAN };
    let bed = |name: &str, shape: Shape| {
        let services = shape.services_toml(1);
        Quorate::new(Setup { services, ..Setup::one_group(name, 3, timing) })
    };
    let mut dice = Dice::new(SEED);
    let mut rows: Vec<Failover> = FAULTS
        .iter()
        .map(|fault| Failover {
            fault: fault.to_string(),
            few: Distribution::default(),
            many: Distribution::default(),
        })
        .collect();
    // One after the other: the daemons of both at once would share two emulated processors.
    for (name, shape) in [("bench_ipvs_few", FEW), ("bench_ipvs_many", Shape::WIDE)] {
        let mut bed = bed(name, shape)?;
        for (row, fault) in rows.iter_mut().zip(FAULTS) {
            for _ in 0..options.rounds {
                let gap = strike_owner(&mut bed, fault, &mut dice)?.gap;
                say(&format!("{shape}: {fault}: {} ms", milliseconds(Some(gap))));
                if shape == FEW { row.few.add(gap) } else { row.many.add(gap) }
            }
        }
    }
    Ok(rows)
}
