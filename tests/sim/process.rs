//! Processes: a machine, its driver, and an application that uses it without mercy.

mod caller;
mod follower;
mod server;

pub use caller::{Caller, Calls};
pub use follower::{Follower, Reading};
pub use server::{Guests, Host, Service};

use pulsewire::pattern::{Limits, SessionId};
use pulsewire::time::Instant;

use super::clock::Clock;
use super::dice::Dice;
use super::driver::Habits;
use super::lifeline::Schedule;
use super::network::{Network, Node};
use super::oracle::Oracle;

/// Where in its life a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Anything happens, and everybody does what he likes.
    Trouble,
    /// No trouble comes any more and nothing new is begun; what was begun comes to its end.
    Settling,
    /// Everybody is connected and served at once.
    Probing,
    /// As before, and nobody asks for anything more.
    Over,
}

/// What a turn of a process may touch.
pub struct Surroundings<'a> {
    /// What its own clock shows.
    pub now: Instant,
    pub clock: &'a Clock,
    pub network: &'a mut Network,
    pub oracle: &'a mut Oracle,
    pub phase: Phase,
    /// When the phase began, in the world's time.
    pub phase_since: Instant,
}

impl Surroundings<'_> {
    pub fn calm(&self) -> bool {
        self.phase > Phase::Trouble
    }

    /// Nothing hinders anybody any more.
    pub fn serving(&self) -> bool {
        self.phase > Phase::Settling
    }

    /// The world's time.
    pub fn world(&self) -> Instant {
        self.network.now
    }
}

/// What a process counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub turns: u64,
    /// What changed its machine.
    pub events: u64,
    /// The hash of what was read and written.
    pub trace: u64,
}

/// One that takes part.
pub trait Process {
    /// Does what there is to do, and says when, by its own clock, it wants to be asked again.
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant;
    /// Checks, every now and then, what has to be true at any moment.
    fn check(&mut self, around: &Surroundings<'_>);
    /// Checks what has to be true when all has been quiet for long enough.
    fn expect_settled(&mut self, around: &Surroundings<'_>);
    fn tally(&self) -> Tally;
}

/// What every client is made with.
pub struct Setup {
    pub node: Node,
    pub limits: Limits,
    pub schedule: Schedule,
    pub addresses: usize,
    pub habits: Habits,
    pub dice: Dice,
}

/// Topics, and prefixes that match many, few, one or none of them.
pub const TOPICS: [&str; 8] = ["", "a", "ab", "abc", "b.one", "b.two", "b.two.more", "c"];
pub const PREFIXES: [&str; 8] = ["a", "ab", "abcd", "b.", "b.two", "c", "cc", "b.one"];

fn session_id(dice: &mut Dice) -> SessionId {
    let bits = (u128::from(dice.bits()) << 64) | u128::from(dice.bits());
    SessionId(bits.to_le_bytes())
}
