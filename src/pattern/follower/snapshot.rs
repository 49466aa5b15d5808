//! The newest messages that a subscriber is given before the answer to its Subscribe.

use super::super::publisher::LastValues;
use super::super::set::PrefixSet;
use super::super::CHUNK_BYTES;
use crate::session::{Chunk, Fate};
use crate::wire::{publish_frame_len, Frame, Last};

/// The newest message of each topic that a set matches, below the position of the answer: read as it is written, in
/// the order of publication. What has moved to the position or above meanwhile comes from the log.
#[derive(Debug)]
pub(super) struct Snapshot {
    set: PrefixSet,
    /// Values below this number have been written or do not match.
    next: u64,
    /// A chunk with some of them is out.
    out: bool,
}

impl Snapshot {
    pub(super) fn new(set: PrefixSet) -> Self {
        Snapshot { set, next: 0, out: false }
    }

    pub(super) fn set(&self) -> &PrefixSet {
        &self.set
    }

    pub(super) fn is_out(&self) -> bool {
        self.out
    }

    /// Goes on to the next value that matches, below the position of the answer; false if there is none any more.
    pub(super) fn seek(&mut self, last: Option<&LastValues>, position: u64) -> bool {
        while let Some((seq, topic, _)) = last.and_then(|last| last.first_in(self.next, position)) {
            self.next = seq;
            if self.set.matches(topic) {
                return true;
            }
            self.next += 1;
        }
        false
    }

    /// Appends values until the chunk is full. The values of a chunk stand in no chunk with publications.
    pub(super) fn take(&mut self, chunk: &mut Chunk, last: Option<&LastValues>, position: u64) {
        while self.seek(last, position) {
            let Some((seq, topic, data)) = last.and_then(|last| last.first_in(self.next, position)) else {
                return;
            };
            let waiting = chunk.bytes().len();
            if waiting > 0 && waiting as u64 + publish_frame_len(topic, data) > CHUNK_BYTES as u64 {
                return;
            }
            Frame::Last { header: Last { seq, topic }, data }
                .encode(u32::MAX, chunk.buffer())
                .expect("it was published, so it fits, and every subscriber's limit was compared with it");
            self.next = seq + 1;
            self.out = true;
        }
    }

    /// Takes note of which were written or begun; the others are looked for again. Returns how many were given.
    pub(super) fn handle_written(&mut self, chunk: &Chunk, written: usize) -> u64 {
        self.out = false;
        let mut given = 0;
        for (seq, fate) in chunk.fates(written) {
            if fate == Fate::Untouched {
                self.next = seq;
                break;
            }
            given += 1;
        }
        given
    }
}
