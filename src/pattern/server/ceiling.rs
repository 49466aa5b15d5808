//! The most memory that a server can hold: a sum that is known before it starts.

use super::super::admission::FREE_BYTES;
use super::super::follower::{Follower, FEW_BYTES, POSITION_BYTES};
use super::super::log::LogLimits;
use super::super::peers::Peers;
use super::super::prefix::PrefixIndex;
use super::super::publisher::{Gate, LargeFrames};
use super::super::replier::{CallTable, Names, Replier, ENTRY_OVERHEAD};
use super::super::spares::Spares;
use super::super::{Buffers, CHUNK_BYTES};
use super::ends::MOST_EVENTS;
use super::{Peer, Record, ServerEvent, StreamOptions};
use crate::session::{Chunk, CloseReason, Limits};
use crate::wire::LENGTH_BYTES;

/// The most bytes of memory that a server can hold, part by part.
///
/// | part | what it is, with the [`Limits`] behind it |
/// |---|---|
/// | `connections` | `max_connections` times the fixed part of one: its state, a frame of up to 4 KiB that has not come whole, a few control frames; and for them and `max_detached` more what is kept of a session beside what is named below |
/// | `partial_frames` | larger frames that have not come whole: `partial_frames_bytes`, or one frame if that is more |
/// | `calls` | arguments and table entries, refused calls included: `queued_arguments_bytes` and a sixty-fourth more, and one call for each session |
/// | `results` | answers that are kept or wait, and a few buffers of the last large messages while there is room: `results_bytes` |
/// | `send_queues` | frames that were begun, and answers that subscribers have not read: `send_queues_bytes`, and the chunk that is being written |
/// | `prefixes` | the sets of all subscribers and their places in the indexes: `prefixes_bytes` |
/// | `positions` | places in logs: `positions_bytes`, and one subscriber's replay |
/// | `last_values` | newest messages: `last_values_bytes`, if any stream keeps them |
/// | `streams` | each stream's log (`log_bytes`, 16 bytes for each of `log_messages`) the cache of its index, and what sifts out publications that nobody wants |
/// | `lanes` | calls in each lane that their callers have given up, and in each, and for inline functions, the buffers of the last arguments (48 KiB) and of the answer (a sixty-fourth of `results_bytes` and 16 KiB, at least 48 KiB) |
/// | `buffers` | what is read at once, what has come of it and not been looked at, buffers to be used again |
///
/// What a user's own types decode into and encode to (17 KiB are kept for each thread that encodes), what functions
/// hold, and threads' stacks are not in it, nor what the allocator adds to each allocation. A table that grows holds its
/// old memory beside the new one while it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The table above is their documentation.
pub struct MemoryCeiling {
    pub connections: u64,
    pub partial_frames: u64,
    pub calls: u64,
    pub results: u64,
    pub send_queues: u64,
    pub prefixes: u64,
    pub positions: u64,
    pub last_values: u64,
    pub streams: u64,
    pub lanes: u64,
    pub buffers: u64,
}

impl MemoryCeiling {
    /// That of a server with these streams, the main one included, and so many lanes.
    pub fn of(limits: &Limits, streams: &[StreamOptions], lanes: usize) -> Self {
        let sessions = u64::from(limits.max_connections) + u64::from(limits.max_detached);
        let frame = u64::from(limits.max_frame_bytes) + LENGTH_BYTES as u64;
        let read = u64::from(limits.read_bytes);
        let keeps_last = streams.iter().any(|stream| stream.last_value);
        let per_read = (read / LEAST_REQUEST_BYTES).next_power_of_two();
        MemoryCeiling {
            connections: u64::from(limits.max_connections) * per_connection() + sessions * per_session(),
            partial_frames: limits.partial_frames_bytes.max(frame) + read,
            calls: limits.queued_arguments_bytes + sessions * ENTRY_OVERHEAD + Replier::room_bytes(limits),
            results: limits.results_bytes,
            send_queues: limits.send_queues_bytes + frame + 2 * CHUNK_BYTES as u64,
            prefixes: limits.prefixes_bytes,
            positions: limits.positions_bytes + replay_bytes(limits, streams),
            last_values: if keeps_last { limits.last_values_bytes } else { 0 },
            streams: streams.iter().map(|stream| stream_bytes(limits, stream, sessions)).sum(),
            lanes: lanes as u64 * (limits.most_in_lane() as u64 * LANE_JOB_BYTES)
                + (lanes as u64 + 1) * last_call_bytes(limits),
            buffers: read
                + (Buffers::CEILING_BYTES + Spares::CEILING_BYTES + Names::CEILING_BYTES) as u64
                + 2 * (MOST_EVENTS as u64 + limits.most_in_lane() as u64 + per_read)
                    * size_of::<ServerEvent>() as u64,
        }
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.connections
            + self.partial_frames
            + self.calls
            + self.results
            + self.send_queues
            + self.prefixes
            + self.positions
            + self.last_values
            + self.streams
            + self.lanes
            + self.buffers
    }
}

impl Limits {
    /// The most bytes of memory that a server with these limits, its main stream and one lane of functions can hold;
    /// [`MemoryCeiling`] has the parts. At most 512 MiB by default and 4 MiB for [`Limits::tiny`].
    pub fn memory_ceiling(&self) -> u64 {
        MemoryCeiling::of(self, &[StreamOptions::default()], 1).total_bytes()
    }

    /// A larger buffer of arguments or of an answer is not kept for the next call in the same place.
    pub(crate) const KEPT_BY_LANE_BYTES: usize = 48 * 1024;

    /// A larger buffer is not lent for an answer that is yet to be encoded: who runs functions may have one for as long as
    /// they run. 1 MiB by default, and what is around it.
    pub(crate) fn lent_answer_bytes(&self) -> usize {
        const AROUND_BYTES: usize = 16 * 1024;
        usize::try_from(self.results_bytes / 64).unwrap_or(usize::MAX).saturating_add(AROUND_BYTES)
    }

    /// Calls that wait in one lane, those that their callers have given up included. Only a lane that hangs gets there.
    pub(crate) fn most_in_lane(&self) -> usize {
        const MOST: u64 = 32_768;
        usize::try_from((self.queued_arguments_bytes / ENTRY_OVERHEAD).clamp(16, MOST)).unwrap_or(16)
    }
}

/// A connection, whatever it is for.
fn per_connection() -> u64 {
    let partial = FREE_BYTES + LENGTH_BYTES as u64;
    let boxed = (size_of::<Chunk>() + size_of::<CloseReason>()) as u64;
    Peers::<Peer>::MEMORY_EACH + partial + boxed + CONTROL_BYTES + TREE_BYTES + DRIVER_BYTES
}

/// A session, connected or not.
fn per_session() -> u64 {
    let role = CallTable::FIXED_BYTES.max(size_of::<Follower>() + FEW_BYTES) as u64;
    Peers::<Record>::MEMORY_EACH + role + 3 * TREE_BYTES
}

/// One subscriber's places, if it is given all that the longest log has, before others make room; and what grows by a
/// little for each.
fn replay_bytes(limits: &Limits, streams: &[StreamOptions]) -> u64 {
    let longest = streams.iter().map(|stream| u64::from(stream.log_messages.unwrap_or(limits.log_messages)));
    2 * POSITION_BYTES * longest.max().unwrap_or(0)
}

fn stream_bytes(limits: &Limits, options: &StreamOptions, sessions: u64) -> u64 {
    let log = LogLimits {
        bytes: usize::try_from(options.log_bytes.unwrap_or(limits.log_bytes)).unwrap_or(usize::MAX),
        messages: options.log_messages.unwrap_or(limits.log_messages) as usize,
    };
    let index = PrefixIndex::cache_bytes(limits.prefixes_bytes) as u64 + sessions * SUBSCRIBER_BYTES;
    let large = LargeFrames::ceiling_bytes(limits);
    log.ceiling_bytes() as u64 + index + Gate::sieve_bytes(limits) as u64 + SEGMENTS_BYTES + large
}

/// The buffers of the last arguments and the last answer in a place where functions run, or the one lent for the next.
fn last_call_bytes(limits: &Limits) -> u64 {
    let answer = limits.lent_answer_bytes().max(Limits::KEPT_BY_LANE_BYTES);
    (Limits::KEPT_BY_LANE_BYTES + answer) as u64
}
/// The shortest Request frame: a name of one byte and one settled id, without which the next one finds no room.
const LEAST_REQUEST_BYTES: u64 = 29;
/// Control frames that wait, with the room that they grow into.
const CONTROL_BYTES: u64 = 512;
/// An entry of up to 56 bytes in a tree whose nodes are at least half full.
const TREE_BYTES: u64 = 144;
/// What the driver knows of a connection: its socket, its places in three tables and those in queues.
const DRIVER_BYTES: u64 = 384;
/// A job in a lane's queue.
const LANE_JOB_BYTES: u64 = 40;
/// A subscriber's stamp in an index, and its places in three lists that may have twice the room.
const SUBSCRIBER_BYTES: u64 = 8 + 3 * 2 * 4;
/// What a log knows of its segments.
const SEGMENTS_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;

    #[test]
    fn the_presets_stay_below_what_is_promised() {
        let (default, tiny) = (Limits::default().memory_ceiling(), Limits::tiny().memory_ceiling());
        let parts = |limits: &Limits| MemoryCeiling::of(limits, &[StreamOptions::default()], 1);
        assert!(default <= 512 * 1024 * 1024, "{default}: {:#?}", parts(&Limits::default()));
        assert!(tiny <= 4 * 1024 * 1024, "{tiny}: {:#?}", parts(&Limits::tiny()));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_idle_connection_is_a_few_hundred_bytes() {
        let sizes = [
            ("Peer", size_of::<Peer>(), 256),
            ("Session", size_of::<Session>(), 184),
            ("Record", size_of::<Record>(), 64),
            ("Follower", size_of::<Follower>(), 232),
            ("CallTable", size_of::<CallTable>(), 144),
        ];
        for (name, size, most) in sizes {
            assert!(size <= most, "a {name} has grown to {size} bytes; there is one for each connection");
        }
    }

    #[test]
    fn each_stream_and_each_lane_adds_its_part() {
        let limits = Limits::tiny();
        let one = MemoryCeiling::of(&limits, &[StreamOptions::default()], 1);
        let last = StreamOptions::default().last_value(true).log_bytes(1024 * 1024);
        let two = MemoryCeiling::of(&limits, &[StreamOptions::default(), last], 2);
        assert_eq!(two.last_values, limits.last_values_bytes);
        assert!(two.streams - one.streams >= 1024 * 1024);
        assert_eq!(
            two.lanes - one.lanes,
            one.lanes - last_call_bytes(&limits),
            "inline functions have a buffer of their own"
        );
        assert!(two.total_bytes() > one.total_bytes() + 1024 * 1024);
    }
}
