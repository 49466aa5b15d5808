//! The three clients and what each of them does.

use std::time::Duration;

use crate::feed::{Feed, TOPIC_ROOT};

/// One client: what it follows, how fast it reads, how often it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    pub follows: Follows,
    pub reads: Reads,
    pub queries_per_second: u32,
    pub orders_per_second: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The empty prefix.
    Everything,
    /// All ticks, by their common prefix.
    AllTicks,
    /// Some symbols of one venue.
    SomeSymbols,
}

/// When a client takes what has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// As soon as it comes.
    Always,
    /// In turns with something else that keeps it away for longer than the server's log reaches back. It has little
    /// memory to spare, too.
    InTurns { reading: Duration, away: Duration },
}

pub const CLIENTS: [Profile; 3] = [
    Profile {
        name: "everything",
        follows: Follows::Everything,
        reads: Reads::Always,
        queries_per_second: 100,
        orders_per_second: 100,
    },
    Profile {
        name: "one prefix",
        follows: Follows::SomeSymbols,
        reads: Reads::Always,
        queries_per_second: 400,
        orders_per_second: 200,
    },
    Profile {
        name: "slow",
        follows: Follows::AllTicks,
        reads: Reads::InTurns { reading: Duration::from_millis(500), away: Duration::from_millis(2_500) },
        queries_per_second: 10,
        orders_per_second: 20,
    },
];

impl Profile {
    /// The prefix that it subscribes to.
    pub fn prefix<'a>(&self, feed: &'a Feed) -> &'a str {
        match self.follows {
            Follows::Everything => "",
            Follows::AllTicks => TOPIC_ROOT,
            Follows::SomeSymbols => feed.busy_prefix(),
        }
    }
}
