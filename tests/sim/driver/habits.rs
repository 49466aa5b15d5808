//! How a driver goes about its work.

use pulsewire::time::Duration;

/// How a driver goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Most that it wakes late for a timer.
    pub oversleep_us: u64,
    /// Most bytes of one read.
    pub read_bytes: usize,
    /// In so many of a thousand writes another thread is writing, and the machine learns later what became of it.
    pub holds: u64,
    /// Most that it learns it late.
    pub longest_hold_ms: u64,
    /// In so many of a thousand turns it asks for timers that are not due.
    pub fidgets: u64,
}

impl Habits {
    /// None that would hinder anybody.
    pub const CALM: Habits =
        Habits { oversleep_us: 1, read_bytes: 65_536, holds: 0, longest_hold_ms: 0, fidgets: 0 };

    /// The most that it can be late for anything.
    pub fn grace(&self) -> Duration {
        Duration::from_micros(self.oversleep_us + 1_000)
    }
}
