//! The calls that one session has at the server.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::ascending::Ascending;
use crate::time::Instant;

/// The calls of one session.
#[derive(Debug)]
pub(crate) struct CallTable {
    pub(super) entries: Ascending<Entry>,
    /// Calls whose answer is to be written, in the order in which they were answered.
    pub(super) to_write: VecDeque<u64>,
    /// The newest id seen.
    pub(super) last_id: u64,
    /// The newest id seen on the present connection: on each, ids ascend.
    pub(super) last_here: u64,
    /// Requests that were refused without an entry, and whose answers are to be written.
    pub(super) turned_away: VecDeque<u64>,
    /// The first of all that may come again. On a connection ids ascend, so none does before the next one; there the
    /// client says first which it still has, and all others are over.
    pub(super) first_turned_away: u64,
    /// Entries of calls that still run and whose callers have their outcome: they count against no bound of calls.
    pub(super) settled_running: u32,
    /// Bytes of memory that the replier counts for this table.
    pub(super) counted: u32,
    /// The client has said something, so it has been told whether its record is a new one.
    pub(crate) is_heard: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// The arguments of a call that has not started, or the frame of an answer, which is empty once a large one has been
    /// written.
    pub(super) bytes: Vec<u8>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Queued {
        deadline: Instant,
        /// Where in its bytes the arguments begin.
        begin: u32,
    },
    /// Its arguments are with its function, and count until it has its answer.
    Running {
        held: u64,
        settled: bool,
    },
    Done {
        written: bool,
    },
}

impl Entry {
    /// The call has its answer: whether it was written, and its frame.
    pub(super) fn answer(&mut self) -> Option<(&mut bool, &mut Vec<u8>)> {
        match &mut self.state {
            State::Done { written } => Some((written, &mut self.bytes)),
            _ => None,
        }
    }
}

impl CallTable {
    /// What a table takes that has no entry: itself, a few places, and the list of answers to be written.
    pub(in super::super) const FIXED_BYTES: usize =
        size_of::<Self>() + Self::FEW_BYTES + 4 * MOST_TURNED_AWAY * size_of::<u64>();

    /// Memory for a few entries and their answers.
    const FEW_BYTES: usize = Ascending::<Entry>::most_places(0) * Ascending::<Entry>::PLACE_BYTES
        + 2 * TO_WRITE_SLACK * size_of::<u64>();

    /// The table of a session that has just begun.
    pub(crate) fn new() -> Self {
        CallTable {
            entries: Ascending::new(),
            to_write: VecDeque::new(),
            last_id: 0,
            last_here: 0,
            turned_away: VecDeque::new(),
            first_turned_away: u64::MAX,
            settled_running: 0,
            counted: 0,
            is_heard: false,
        }
    }

    /// No call is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that it holds for entries, beyond what any table may.
    pub(super) fn memory(&self) -> u32 {
        let bytes = self.entries.memory() + self.to_write.capacity() * size_of::<u64>();
        u32::try_from(bytes.saturating_sub(Self::FEW_BYTES)).unwrap_or(u32::MAX)
    }

    /// So many answers of requests without an entry wait to be written that no more is read meanwhile.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.turned_away.len() >= MOST_TURNED_AWAY
    }

    /// Whether an id that is behind the newest one and has no entry may be that of a request that was refused without one.
    /// It was not run, and never is.
    pub(super) fn may_have_turned_away(&self, id: u64) -> bool {
        (self.first_turned_away..=self.last_id).contains(&id)
    }
}

/// What an entry of a table takes beside its arguments, for the budget.
///
/// Three places of 48 bytes, when the table is as large as may be for what is in it; its place in the list of answers to
/// be written, the slack of its buffer, and an answer without payload take the rest.
pub(in super::super) const ENTRY_OVERHEAD: u64 = 256;
const _: () = assert!(3 * Ascending::<Entry>::PLACE_BYTES <= 144);

/// Ids of calls that are gone that a list of answers to be written may hold before it is looked through.
pub(super) const TO_WRITE_SLACK: usize = 16;

/// Answers of requests without an entry that may wait before no more is read.
const MOST_TURNED_AWAY: usize = 16;
