//! What a deployment must be able to do to be struck by faults, whoever's it is. Owns how each
//! fault is done and undone; never waits for what follows from it (`round` does).

use std::sync::Arc;
use std::time::Duration;

use crate::lab::observer::{Director, Observer};
use crate::lab::{LabError, Network, in_vm};

use super::fault::Fault;

/// A deployment with an observer, that stays up from fault to fault.
pub trait Bed {
    /// Its directors, in the observer's order.
    fn directors(&self) -> &[&'static str];
    /// Its network.
    fn network(&self) -> &Network;
    /// Its observer.
    fn observer(&self) -> Arc<Observer>;
    /// How many VIPs the observer asks for.
    fn vips(&self) -> u16;
    /// How often an owner is heard of.
    fn interval(&self) -> Duration;
    /// How long an owner may serve once it is not; for a system without leases, after what time
    /// of silence another takes over.
    fn lease(&self) -> Duration;
    /// What may pass from a blow until it has struck: a signal has to reach threads that run. In the
    /// virtual machine that takes its time.
    fn slack(&self) -> Duration {
        Duration::from_millis(if in_vm() { 500 } else { 5 })
    }

    /// Brings it into the state that it comes to by itself some time after a fault.
    ///
    /// # Errors
    /// When it can't be had.
    fn calm_down(&mut self) -> Result<(), LabError> {
        Ok(())
    }

    /// Ends a director's processes with SIGKILL, all of them at once.
    ///
    /// # Errors
    /// When they do not run.
    fn kill(&mut self, director: &str) -> Result<(), LabError>;
    /// Stops them where they stand.
    ///
    /// # Errors
    /// When they do not run.
    fn stop(&mut self, director: &str) -> Result<(), LabError>;
    /// Lets them go on.
    ///
    /// # Errors
    /// When they do not run.
    fn resume(&mut self, director: &str) -> Result<(), LabError>;
    /// Asks them to end (SIGTERM), and returns at once.
    ///
    /// # Errors
    /// When they do not run.
    fn terminate(&mut self, director: &str) -> Result<(), LabError>;
    /// Starts them, once what ended has ended.
    ///
    /// # Errors
    /// When they can't be started.
    fn start(&mut self, director: &str) -> Result<(), LabError>;
    /// Moves all groups of a director to another.
    ///
    /// # Errors
    /// When it fails, or the system has no such thing.
    fn move_from(&mut self, director: &str) -> Result<(), LabError>;
    /// Waits until it is whole by its own account: every director ready to take over.
    ///
    /// # Errors
    /// When it never is.
    fn settle(&mut self) -> Result<(), LabError>;

    /// The observer's number of a director.
    fn number(&self, director: &str) -> Director {
        let place = self.directors().iter().position(|name| *name == director);
        place.and_then(|place| u8::try_from(place).ok()).map_or(Director::STRANGER, Director)
    }

    /// The director of a number.
    fn name(&self, number: Director) -> Option<&'static str> {
        self.directors().get(usize::from(number.0)).copied()
    }

    /// Strikes; returns as soon as it is done.
    ///
    /// # Errors
    /// When it can't be done.
    fn strike(&mut self, fault: Fault, victim: &str) -> Result<(), LabError> {
        let others = others(self.directors(), victim);
        match fault {
            Fault::Kill => self.kill(victim),
            Fault::Restart => {
                self.kill(victim)?;
                self.start(victim)
            }
            Fault::Stop(_) => self.stop(victim),
            Fault::CutLink => self.network().cut(victim),
            Fault::CutSilently => self.network().cut_silently(victim),
            Fault::Isolate => self.network().partition(victim, &others),
            Fault::Mute => self.network().partition_one_way(victim, &others),
            Fault::Deafen => others
                .iter()
                .try_for_each(|other| self.network().partition_one_way(other, &[victim])),
            Fault::Terminate => self.terminate(victim),
            Fault::Move => self.move_from(victim),
        }
    }

    /// Undoes it.
    ///
    /// # Errors
    /// When it can't be done.
    fn heal(&mut self, fault: Fault, victim: &str) -> Result<(), LabError> {
        match fault {
            Fault::Kill | Fault::Terminate => self.start(victim),
            Fault::Stop(_) => self.resume(victim),
            Fault::CutLink | Fault::CutSilently => self.network().heal(victim),
            Fault::Isolate | Fault::Mute | Fault::Deafen => self.network().heal_partitions(),
            Fault::Restart | Fault::Move => Ok(()),
        }
    }
}

/// All of these but one.
pub(super) fn others(directors: &[&'static str], one: &str) -> Vec<&'static str> {
    directors.iter().copied().filter(|other| *other != one).collect()
}
