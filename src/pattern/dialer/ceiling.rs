//! The most memory that a client can hold: a sum that is known before it starts.

use super::super::inbox::EventKind;
use super::super::requester::{fronts_bytes, CALL_BYTES, REQUEST_FRONT_BYTES};
use super::super::spares::Spares;
use super::super::subscriber::{Subscriber, CHANGE_BYTES, MOST_NOTICES};
use super::super::{Buffers, Machine, CHUNK_BYTES};
use super::{ConnectionEvent, MOST_EVENTS};
use crate::session::{Limits, Session, MOST_TEXT_BYTES};
use crate::wire::{LENGTH_BYTES, MAX_NAME_BYTES};

/// The most bytes of memory that a client can hold, part by part.
///
/// | part | what it is, with the [`Limits`] behind it |
/// |---|---|
/// | `requests` | calls without an outcome: their arguments, and while there is room the buffers of the last large ones (`held_requests_bytes`), and for each of `max_in_flight` its name and its places in tables |
/// | `results` | results that have come and were not taken: `max_frame_bytes` for each of the calls that the application leaves so |
/// | `partial_frames` | what has not come whole: `max_frame_bytes` for each connection |
/// | `inboxes` | events that wait, and as many that are being read: for each subscription twice `inbox_bytes`, with one more frame and one more read, in buffers that grow by doubling |
/// | `sets` | prefixes of each subscription (`max_prefixes`, `max_prefix_bytes`), as they are held and as they are sent, and up to twice as many changes that were not answered |
/// | `buffers` | the request that is being written (`max_frame_bytes`), what is read at once, buffers to be used again, and what has happened to connections that nobody has looked at |
///
/// A server decides how much of this there is, whatever it sends. What a user's own types decode into and encode to
/// (17 KiB are kept for each thread that encodes, and up to a sixteenth of `held_requests_bytes` for each that calls with large arguments or has
/// large results, until 64 in a row were small), what callbacks hold, and threads' stacks are not in it, nor what the
/// allocator adds to each allocation. A buffer that grows holds its old memory beside the new one while it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // The table above is their documentation.
pub struct ClientCeiling {
    pub requests: u64,
    pub results: u64,
    pub partial_frames: u64,
    pub inboxes: u64,
    pub sets: u64,
    pub buffers: u64,
}

impl ClientCeiling {
    /// That of a client with so many subscriptions at once, whose application leaves at most so many calls at once
    /// whose results have come and were not taken: as many as it has threads, if each waits for what it calls.
    pub fn of(limits: &Limits, subscriptions: usize, results: usize) -> Self {
        let (subscriptions, results) = (subscriptions as u64, results as u64);
        let connections = subscriptions + 1;
        let frame = u64::from(limits.max_frame_bytes) + LENGTH_BYTES as u64;
        let read = u64::from(limits.read_bytes);
        // Subscriptions are read more at once than calls.
        let most_read = Subscriber::READS_AT_ONCE as u64 * read;
        let inbox = 2 * limits.inbox_bytes + frame + EVENTS_PER_READ_BYTE * most_read;
        let sending = frame + (REQUEST_FRONT_BYTES + 2 * CHUNK_BYTES) as u64;
        ClientCeiling {
            requests: limits.held_requests_bytes
                + fronts_bytes(limits.held_requests_bytes)
                + u64::from(limits.max_in_flight) * CALL_BYTES,
            results: results.saturating_mul(frame + CALL_BYTES),
            partial_frames: connections * frame,
            // One that is filled and one that is read, each with room for twice what it holds.
            inboxes: subscriptions * 2 * 2 * inbox,
            sets: subscriptions * set_bytes(limits),
            buffers: most_read + sending + Spares::CEILING_BYTES as u64 + connections * per_connection(),
        }
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        let parts = [self.requests, self.results, self.partial_frames, self.inboxes, self.sets, self.buffers];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// A connection, whatever it is for, beside what is counted elsewhere.
fn per_connection() -> u64 {
    let events = (MOST_EVENTS + MOST_NOTICES) * (2 * size_of::<ConnectionEvent>() + MOST_TEXT_BYTES);
    (Buffers::CEILING_BYTES + size_of::<Session>() + events + FIXED_BYTES) as u64
}

/// A subscription's set.
fn set_bytes(limits: &Limits) -> u64 {
    let (prefixes, bytes) = (u64::from(limits.max_prefixes), limits.max_prefix_bytes);
    // The set, and those of it whose snapshot is still to come.
    let held = 2 * (bytes + prefixes * TREE_BYTES);
    // All of it is sent in each handshake: gathered, and then in a queue that grows by doubling.
    let sent = 3 * (bytes + 2 * prefixes);
    let unanswered = 2 * prefixes * 2 * (MAX_NAME_BYTES as u64 + CHANGE_BYTES);
    held + sent + unanswered
}

/// An event of the shortest frame takes so much more than the frame.
const EVENTS_PER_READ_BYTE: u64 = (size_of::<EventKind>() as u64 + 24).div_ceil(SHORTEST_FRAME_BYTES);
/// A publication without topic or data.
const SHORTEST_FRAME_BYTES: u64 = LENGTH_BYTES as u64 + 1 + 8 + 1;
/// An entry of up to 24 bytes in a tree whose nodes are at least half full.
const TREE_BYTES: u64 = 64;
/// What the driver knows of a connection, and of who waits for it.
const FIXED_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_and_each_result_adds_its_part() {
        let limits = Limits::tiny();
        let one = ClientCeiling::of(&limits, 1, 1);
        let more = ClientCeiling::of(&limits, 3, 5);
        assert_eq!(more.inboxes, 3 * one.inboxes);
        assert_eq!(more.results, 5 * one.results);
        assert_eq!(more.requests, one.requests);
        assert!(one.inboxes >= 4 * limits.inbox_bytes);
        assert!(one.total_bytes() <= 6 * 1024 * 1024, "{one:#?}");
        assert_eq!(ClientCeiling::of(&Limits::default(), 0, usize::MAX).total_bytes(), u64::MAX);
    }
}
