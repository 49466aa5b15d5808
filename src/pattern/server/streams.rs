//! The server's streams of publications: the main one and those that were added, each with its own log, sequence and
//! index.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::log::Slot;
use super::super::publisher::{
    Blocked, Gate, Prepared, PublishError, Published, Publisher, PublisherStats, SlowPolicy, StreamError,
    StreamId, StreamOptions, Turn,
};
use super::super::ConnId;
use super::{wake, Server};
use crate::session::{CloseReason, Limits};
use crate::time::Instant;
use crate::wire::{ByeCode, MAX_NAME_BYTES};

/// The main stream and those that were added. A stream stays for the life of its server.
#[derive(Debug)]
pub(super) struct Streams {
    seed: u64,
    /// Invariant: the main one comes first. Names are different from each other.
    streams: Vec<(Box<str>, Publisher)>,
}

impl Streams {
    pub(super) fn new(limits: &Limits, seed: u64) -> Self {
        let main = Publisher::new(limits, StreamOptions::default(), seed);
        Streams { seed, streams: alloc::vec![(Box::from(""), main)] }
    }

    pub(super) fn main(&self) -> &Publisher {
        &self.streams[0].1
    }

    pub(super) fn find(&self, name: &str) -> Option<StreamId> {
        let index = self.streams.iter().position(|(other, _)| **other == *name)?;
        u32::try_from(index).ok().map(StreamId)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Publisher> {
        Some(&self.streams.get(id.index())?.1)
    }

    /// The stream of a subscriber's record, or one that a user names.
    #[inline]
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Publisher> {
        Some(&mut self.streams.get_mut(id.index())?.1)
    }

    /// Bytes of memory that large frames take on their way out, beside the logs.
    pub(super) fn large_bytes(&self) -> u64 {
        self.streams.iter().map(|(_, publisher)| publisher.large_bytes()).sum()
    }

    /// Nobody publishes any more, at no gate either.
    pub(super) fn stop(&mut self) {
        self.streams.iter_mut().for_each(|(_, publisher)| publisher.stop());
    }

    /// Nobody publishes or follows any more.
    pub(super) fn release(&mut self, limits: &Limits) {
        *self = Streams::new(limits, self.seed);
    }

    /// Subscribers of all streams.
    pub(super) fn subscribers(&self) -> u64 {
        self.streams.iter().map(|(_, publisher)| publisher.subscribers()).sum()
    }

    fn add(&mut self, limits: &Limits, name: &str, options: StreamOptions) -> Result<StreamId, StreamError> {
        Publisher::check_options(limits, &options)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(StreamError::NameTooLong { len: name.len(), limit: MAX_NAME_BYTES });
        }
        if self.find(name).is_some() {
            return Err(StreamError::Exists);
        }
        let id = u32::try_from(self.streams.len()).ok().filter(|id| *id < limits.max_streams);
        let id = id.ok_or(StreamError::TooMany { limit: limits.max_streams })?;
        // Each index has a seed of its own, as far as somebody who tries topics can tell.
        let seed = self.seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(id));
        self.seed = seed;
        self.streams.push((Box::from(name), Publisher::new(limits, options, seed)));
        Ok(StreamId(id))
    }
}

/// A publisher that had to wait goes on when such a part of the log has become free.
const ROOM_PART: u64 = 8;

impl Server {
    /// Adds a stream. Its name is what subscribers ask for; it stays for the life of the server.
    ///
    /// # Errors
    /// The name is too long or taken, there are too many, the log's size cannot be, or the server is stopping.
    pub fn add_stream(&mut self, name: &str, options: StreamOptions) -> Result<StreamId, StreamError> {
        if self.stopping {
            return Err(StreamError::Stopped);
        }
        self.streams.add(&self.limits, name, options)
    }

    /// Makes the main stream another one than the default. Only while nothing was published on it and nobody follows.
    ///
    /// # Errors
    /// The log's size cannot be, or the stream is in use.
    pub fn set_main_stream(&mut self, options: StreamOptions) -> Result<(), StreamError> {
        Publisher::check_options(&self.limits, &options)?;
        if self.head() > 0 || self.streams.main().subscribers() > 0 {
            return Err(StreamError::Exists);
        }
        let seed = self.streams.seed;
        self.streams.streams[0].1 = Publisher::new(&self.limits, options, seed);
        Ok(())
    }

    /// The stream of this name; the empty name is the main one's.
    pub fn stream(&self, name: &str) -> Option<StreamId> {
        self.streams.find(name)
    }

    /// The sequence number of a stream's next publication.
    pub fn head_of(&self, stream: StreamId) -> Option<u64> {
        self.streams.get(stream).map(Publisher::head)
    }

    /// Where publications that nobody wants pass, for any thread that has no lock on this server. It leads nowhere once the
    /// server is stopped, or has another stream in this one's place.
    pub fn gate(&self, stream: StreamId) -> Option<Arc<Gate>> {
        self.streams.get(stream).map(|publisher| Arc::clone(publisher.gate()))
    }

    /// What a stream has counted so far.
    pub fn stream_stats(&mut self, stream: StreamId) -> Option<PublisherStats> {
        let mut stats = self.streams.get(stream)?.stats();
        for (_, record) in self.records.iter_mut() {
            if let Some(follower) = record.follower().filter(|follower| follower.stream == stream) {
                stats.sent += follower.sent;
                stats.lost += follower.lost;
                stats.snapshot_messages += follower.snapshot_messages;
            }
        }
        Some(stats)
    }

    /// Publishes: numbers the data, stores it if it matches anybody or all are kept, and announces what there is to
    /// write.
    ///
    /// # Errors
    /// The topic or the data is too long, there is no such stream, the server is stopping, or the stream's policy is to
    /// block and connected subscribers have not read what would have to make room for it and for the publication that has
    /// waited longest: then it may [wait](Server::wait_for_room). No sequence number was used.
    #[inline(always)] // Else the result is copied over memory, and the release of the lock waits for that.
    pub fn publish_on(
        &mut self,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        self.publish_as(stream, None, topic, data)
    }

    /// A publication that found no room waits for it from now on, until [`Server::end_wait`]: whoever comes later, and those
    /// who have waited shorter, leave it what it needs. It is to be tried again with [`Server::publish_waiting`] when
    /// something was written; [`Server::put_out_slow`] makes room.
    ///
    /// # Errors
    /// It can never be published.
    pub fn wait_for_room(
        &mut self,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<Turn, PublishError> {
        if self.stopping {
            return Err(PublishError::Stopped);
        }
        let publisher = self.streams.get_mut(stream).ok_or(PublishError::UnknownStream)?;
        let prepared = publisher.prepare(topic, data)?;
        Ok(publisher.begin_wait(prepared))
    }

    /// Publishes what has waited, see [`Server::publish_on`]. It goes on waiting, until [`Server::end_wait`].
    ///
    /// # Errors
    /// As for [`Server::publish_on`].
    pub fn publish_waiting(
        &mut self,
        stream: StreamId,
        turn: Turn,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        self.publish_as(stream, Some(turn), topic, data)
    }

    /// Publishes what comes now, or what has waited.
    #[inline(always)] // As above.
    fn publish_as(
        &mut self,
        stream: StreamId,
        turn: Option<Turn>,
        topic: &str,
        data: &[u8],
    ) -> Result<Published, PublishError> {
        if self.stopping {
            return Err(PublishError::Stopped);
        }
        let publisher = self.streams.get_mut(stream).ok_or(PublishError::UnknownStream)?;
        let prepared = publisher.prepare(topic, data)?;
        let seq = match publisher.pass_over(prepared) {
            Some(seq) => Ok(seq),
            None => self.publish_prepared(stream, turn, prepared, topic, data),
        };
        match seq {
            Ok(seq) => Ok(Published { seq, subscribers: prepared.subscribers }),
            Err(Blocked { subscribers }) => Err(PublishError::WouldBlock { subscribers }),
        }
    }

    /// A publication waits no longer, whatever has become of it.
    pub fn end_wait(&mut self, stream: StreamId, turn: Turn) {
        if let Some(publisher) = self.streams.get_mut(stream) {
            publisher.end_wait(turn);
        }
    }

    /// Whether no other publication has waited longer: then it waits for nobody but slow subscribers.
    pub fn is_first_to_wait(&self, stream: StreamId, turn: Turn) -> bool {
        self.streams.get(stream).is_none_or(|publisher| publisher.is_first(turn))
    }

    /// The same, once it is known whom it is for, or that it is to be kept. Returns its number.
    fn publish_prepared(
        &mut self,
        stream: StreamId,
        turn: Option<Turn>,
        prepared: Prepared,
        topic: &str,
        data: &[u8],
    ) -> Result<u64, Blocked> {
        let mut publisher = self.streams.get_mut(stream).expect("it was prepared by this stream");
        if publisher.policy() == SlowPolicy::Block {
            let first = publisher.first_after(prepared, turn);
            if first.is_some() || self.budget.is_over() {
                self.find_room(stream, first)?;
                publisher = self.streams.get_mut(stream).expect("a stream stays");
            }
        }
        let longest = publisher.longest();
        let (peers, records, actions) = (&mut self.peers, &mut self.records, &mut self.actions);
        let scarce = self.budget.is_scarce();
        let seq = publisher.publish(&mut self.budget, prepared, topic, data, |log, slot, place| {
            let Some((_, record)) = records.in_slot(slot) else { return 0 };
            let conn = record.conn;
            let Some(follower) = record.follower() else { return 0 };
            let grown = match place {
                Some(place) => follower.handle_match(place, log, scarce),
                None => {
                    follower.quiet = false;
                    0
                }
            };
            if let Some((conn, peer)) = conn.and_then(|conn| Some((conn, peers.get_mut(conn)?))) {
                wake(conn, peer, actions);
            }
            grown
        });
        let grown = publisher.longest();
        if grown > longest {
            self.put_out_small_readers(stream, grown);
        }
        if self.budget.is_over() {
            self.shed_positions();
        }
        Ok(seq)
    }

    /// Whether nobody who is slow withholds room in the log, or memory for places; else the publication is refused.
    #[cold]
    fn find_room(&mut self, stream: StreamId, first: Option<Slot>) -> Result<(), Blocked> {
        let slow = self.slow(stream, first).len();
        match self.streams.get_mut(stream) {
            Some(publisher) if slow > 0 => Err(publisher.note_blocked(slow)),
            _ => Ok(()),
        }
    }

    /// Ends the connections of those for whom this publication has waited long enough; then it finds room. They may
    /// come back, and what they miss until then is counted. Returns how many there were.
    ///
    /// # Errors
    /// It can never be published.
    pub fn put_out_slow(
        &mut self,
        now: Instant,
        stream: StreamId,
        topic: &str,
        data: &[u8],
    ) -> Result<usize, PublishError> {
        if self.stopping {
            return Err(PublishError::Stopped);
        }
        let publisher = self.streams.get_mut(stream).ok_or(PublishError::UnknownStream)?;
        let prepared = publisher.prepare(topic, data)?;
        // Nobody is blamed for room that others wait for.
        let first = publisher.first_after(prepared, publisher.first_turn());
        let slow = self.slow(stream, first);
        for conn in &slow {
            let Some(peer) = self.peers.get_mut(*conn) else { continue };
            peer.session.abort(now, ByeCode::TooSlow, "a publication waited no longer for this subscriber");
            self.leave(*conn, CloseReason::TooSlow);
            self.part(*conn);
            if let Some(publisher) = self.streams.get_mut(stream) {
                publisher.note_put_out();
            }
        }
        Ok(slow.len())
    }

    /// Whether a stream that loses nothing has room for this publication, which waits, and many more: whoever is connected
    /// has read the oldest part of its log. Also if the publication can never be made.
    pub fn has_room_for_more(&mut self, stream: StreamId, turn: Turn, topic: &str, data: &[u8]) -> bool {
        let Some(publisher) = self.streams.get_mut(stream).filter(|_| !self.stopping) else { return true };
        let Ok(prepared) = publisher.prepare(topic, data) else { return true };
        let oldest = publisher.log().first_slot() + publisher.log().len_messages() as u64 / ROOM_PART;
        let first = publisher.first_after(prepared, Some(turn)).map_or(oldest, |first| first.max(oldest));
        self.slow(stream, Some(first)).is_empty()
    }

    /// The connected subscribers of a stream that loses nothing who need what lies before `first`, which has to go for a
    /// publication, or have so many places to remember that there is no room for more.
    fn slow(&mut self, stream: StreamId, first: Option<Slot>) -> Vec<ConnId> {
        let above = self.budget.positions_to_shed_above(self.streams.subscribers());
        let Some(publisher) = self.streams.get_mut(stream) else { return Vec::new() };
        if first.is_none() && above.is_none() {
            return Vec::new();
        }
        let mut floor = publisher.log().next_slot();
        let mut slow = Vec::new();
        for (_, record) in self.records.iter_mut() {
            let Some(conn) = record.conn else { continue };
            let Some(follower) = record.follower() else { continue };
            if follower.stream != stream || follower.incoming.is_some() {
                continue;
            }
            let needs = follower.needs(publisher.log()).unwrap_or(Slot::MAX);
            floor = floor.min(needs);
            if first.is_some_and(|first| needs < first)
                || above.is_some_and(|above| follower.pending() > above)
            {
                slow.push(conn);
            }
        }
        publisher.note_floor(floor);
        slow
    }
}
