//! Processes: a machine, its driver, and an application that uses it without mercy.

mod caller;
mod follower;
mod server;

pub use caller::{Caller, Calls};
pub use follower::{Follower, Reading};
pub use server::{Host, Service};

use pulsewire::pattern::{Cause, CloseReason, ConnectionEvent};
use pulsewire::time::Instant;

use super::network::Network;
use super::oracle::Oracle;

/// What a turn of a process may touch.
pub struct Surroundings<'a> {
    pub now: Instant,
    pub network: &'a mut Network,
    pub oracle: &'a mut Oracle,
    /// The troubles are over: nothing new is begun, what was begun comes to its end.
    pub calm: bool,
}

/// One that takes part.
pub trait Process {
    /// Does what there is to do, and says when it wants to be asked again.
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant;
    /// Checks what has to be true when all has been quiet for long enough.
    fn expect_settled(&mut self, around: &Surroundings<'_>);
    /// Turns so far, and the hash of what was read and written in them.
    fn trace(&self) -> (u64, u64);
}

/// Topics, and prefixes that match many, few, one or none of them.
pub const TOPICS: [&str; 8] = ["", "a", "ab", "abc", "b.one", "b.two", "b.two.more", "c"];
pub const PREFIXES: [&str; 8] = ["a", "ab", "abcd", "b.", "b.two", "c", "cc", "b.one"];

/// Two machines of ours never accuse each other of breaking the protocol, whatever the network does.
pub fn expect_no_quarrel(event: &ConnectionEvent) {
    let reason = match event {
        ConnectionEvent::Disconnected { reason } => reason,
        ConnectionEvent::RetryIn { cause: Cause::Closed(reason), .. } => reason,
        _ => return,
    };
    assert!(!matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
}
