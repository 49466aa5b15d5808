//! The streams of a world's servers: how many, and what each is to be.

use pulsewire::pattern::{Limits, Retain, SlowPolicy, StreamOptions};

use super::dice::Dice;

/// The names of the streams, the main one's first.
pub const NAMES: [&str; 3] = ["", "ticks", "trades"];

/// Most streams of one server.
pub const MOST: u32 = 3;

/// What a stream is to be, the same at every server of a world.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub name: &'static str,
    pub options: StreamOptions,
    pub log_messages: u64,
    pub log_bytes: u64,
    /// There is room to remember every place in the log: only the log itself loses anything.
    pub is_roomy: bool,
}

impl Plan {
    /// One to three of them.
    pub fn some(dice: &mut Dice, limits: &Limits) -> Vec<Plan> {
        let streams = 1 + dice.index(NAMES.len());
        NAMES[..streams].iter().map(|name| Plan::one(name, dice, limits)).collect()
    }

    fn one(name: &'static str, dice: &mut Dice, limits: &Limits) -> Plan {
        use SlowPolicy::{Block, SkipToNewest, SkipToOldest};
        let policy = *dice.pick(&[SkipToOldest, SkipToOldest, SkipToNewest, Block]);
        let retain = *dice.pick(&[Retain::Matched, Retain::Matched, Retain::All]);
        let mut options = StreamOptions::default().policy(policy).retain(retain);
        options.last_value = dice.permille(600);
        options.log_messages = *dice.pick(&[None, Some(4), Some(30)]);
        options.log_bytes = *dice.pick(&[None, Some(16 * 1024)]);
        Plan {
            name,
            options,
            log_messages: u64::from(options.log_messages.unwrap_or(limits.log_messages)),
            log_bytes: options.log_bytes.unwrap_or(limits.log_bytes),
            is_roomy: limits.positions_bytes >= ROOMY_BYTES,
        }
    }

    /// Whether a log has room for so many publications of so many bytes together, whatever their sizes: segments are
    /// not filled to the last byte, and go as a whole.
    pub fn has_room(&self, messages: u64, bytes: u64) -> bool {
        messages <= self.log_messages && bytes + messages * FRAME_BYTES <= self.log_bytes / 8
    }
}

/// Enough for the places of all followers of a world in all of its logs.
pub const ROOMY_BYTES: u64 = 100_000;
/// More than a frame has beside its data.
const FRAME_BYTES: u64 = 48;
