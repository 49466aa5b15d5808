//! What a subscriber has received and the application has not looked at yet: one ordered stream of events.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::ConnectionEvent;
use crate::session::MOST_TEXT_BYTES;
use crate::wire::Lost;

/// One event of a subscription, borrowing from its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A publication.
    Message {
        /// Its sequence number.
        seq: u64,
        /// Its topic.
        topic: &'a str,
        /// Its data.
        data: &'a [u8],
    },
    /// The newest message of a topic from before the subscription, or from before a refresh. It counts as nothing
    /// received.
    Snapshot {
        /// The number under which it was published.
        seq: u64,
        /// Its topic.
        topic: &'a str,
        /// Its data.
        data: &'a [u8],
    },
    /// Anything else.
    Other(EventKind),
}

/// The events of a subscription beside messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Messages were lost between the two positions.
    Lost {
        /// The position before.
        before: u64,
        /// The position after.
        after: u64,
        /// How many.
        lost: Lost,
    },
    /// The set that was asked for is in force from this position on.
    Subscribed {
        /// What [`Subscriber::subscribe`](super::Subscriber::subscribe) returned; 0 for the set of a handshake.
        ticket: u64,
        /// The position.
        position: u64,
    },
    /// The server is another one than before: a new account begins.
    Restarted {
        /// The server's new life.
        epoch: u64,
        /// The position from which on messages are received.
        from: u64,
    },
    /// Everything matching below this position has been received or reported lost.
    Position(u64),
    /// Something happened to the connection.
    Connection(Box<ConnectionEvent>),
}

/// One event in the order of all. Invariant: 16 bytes, there may be a great many.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of a message.
    seq: u64,
    data_len: u32,
    /// Bytes of its topic behind that of the last message; `SAME_TOPIC`: it is of the same topic as that one.
    topic_len: u16,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Message,
    Snapshot,
    /// The next one of the others.
    Other,
}

/// No topic is so long.
const SAME_TOPIC: u16 = u16::MAX;

/// Events in the order in which they happened, in a few buffers that are used again.
///
/// A subscriber fills one batch while its application reads another, and the two are exchanged when it is through: no
/// lock and no allocation per message. Messages of one topic that follow each other share its text.
#[derive(Debug, Default)]
pub struct Batch {
    topics: String,
    data: Vec<u8>,
    entries: Vec<Entry>,
    others: VecDeque<EventKind>,
    /// What the events of connections take that are boxed.
    boxed_bytes: usize,
    /// Bytes of the last message's topic, which `topics` ends with.
    last_topic_len: usize,
    /// The next event to read.
    next: usize,
    /// Where the topic of the message that was read last begins and ends, and its data ends.
    topic_at: usize,
    topic_end: usize,
    data_end: usize,
}

impl Batch {
    /// An empty batch, which holds no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next event, or `None` at the end.
    #[allow(clippy::should_implement_trait)] // It lends from itself, which Iterator cannot express.
    #[inline]
    pub fn next(&mut self) -> Option<Event<'_>> {
        let Entry { seq, data_len, topic_len, what } = *self.entries.get(self.next)?;
        self.next += 1;
        if what == What::Other {
            return self.next_other();
        }
        if topic_len != SAME_TOPIC {
            self.topic_at = self.topic_end;
            self.topic_end += usize::from(topic_len);
        }
        let data_at = self.data_end;
        self.data_end += data_len as usize;
        let topic = &self.topics[self.topic_at..self.topic_end];
        let data = &self.data[data_at..self.data_end];
        Some(match what {
            What::Snapshot => Event::Snapshot { seq, topic, data },
            _ => Event::Message { seq, topic, data },
        })
    }

    #[cold]
    fn next_other(&mut self) -> Option<Event<'_>> {
        self.others.pop_front().map(Event::Other)
    }

    /// All events have been read.
    #[inline]
    pub fn is_read(&self) -> bool {
        self.next == self.entries.len()
    }

    /// Forgets what was read, and keeps its buffers unless they are large and were hardly used.
    pub(crate) fn clear(&mut self) {
        let used = self.size();
        self.topics.clear();
        self.data.clear();
        self.entries.clear();
        self.others.clear();
        (self.boxed_bytes, self.last_topic_len) = (0, 0);
        (self.next, self.topic_at, self.topic_end, self.data_end) = (0, 0, 0, 0);
        if used < Self::KEPT_BYTES && self.data.capacity() > 4 * Self::KEPT_BYTES {
            self.data.shrink_to(Self::KEPT_BYTES);
            self.topics.shrink_to(Self::KEPT_BYTES);
            self.entries.shrink_to(Self::KEPT_BYTES / size_of::<Entry>());
        }
    }

    const KEPT_BYTES: usize = 64 * 1024;

    /// Bytes that wait to be read, with the entries' own.
    pub(crate) fn size(&self) -> usize {
        let others = self.others.len() * size_of::<EventKind>() + self.boxed_bytes;
        self.topics.len() + self.data.len() + self.entries.len() * size_of::<Entry>() + others
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push_message(&mut self, seq: u64, topic: &str, data: &[u8]) {
        self.push_topic(topic);
        self.push_data(What::Message, seq, topic.len(), data);
    }

    pub(crate) fn push_snapshot(&mut self, seq: u64, topic: &str, data: &[u8]) {
        self.push_topic(topic);
        self.push_data(What::Snapshot, seq, topic.len(), data);
    }

    /// A message whose topic nobody has looked at yet. False if it is no text: then nothing was done.
    #[inline]
    pub(crate) fn push_unchecked_message(&mut self, seq: u64, topic: &[u8], data: &[u8]) -> bool {
        let last = self.topics.len() - self.last_topic_len;
        if self.topics.as_bytes()[last..] == *topic && last + topic.len() > 0 {
            // Neither looked at nor copied again.
            self.push_data(What::Message, seq, usize::from(SAME_TOPIC), data);
            return true;
        }
        let Ok(topic) = core::str::from_utf8(topic) else { return false };
        self.push_message(seq, topic, data);
        true
    }

    fn push_topic(&mut self, topic: &str) {
        self.topics.push_str(topic);
        self.last_topic_len = topic.len();
    }

    #[inline]
    fn push_data(&mut self, what: What, seq: u64, topic_len: usize, data: &[u8]) {
        self.data.extend_from_slice(data);
        let topic_len = u16::try_from(topic_len).expect("the decoder refuses longer topics");
        let data_len = u32::try_from(data.len()).expect("frames are limited to a u32");
        self.entries.push(Entry { seq, data_len, topic_len, what });
    }

    pub(crate) fn push(&mut self, kind: EventKind) {
        let last = self.entries.last().filter(|last| last.what == What::Other);
        if let Some(last) = last.and_then(|_| self.others.back_mut()) {
            if let (EventKind::Position(new), EventKind::Position(last)) = (&kind, &mut *last) {
                // Heartbeats do not pile up while nobody reads.
                *last = *new;
                return;
            }
            if is_retry(&kind) && is_retry(last) {
                // Nor do failed attempts to reach a server that is away.
                *last = kind;
                return;
            }
        }
        if matches!(kind, EventKind::Connection(_)) {
            self.boxed_bytes += BOXED_BYTES;
        }
        self.others.push_back(kind);
        self.entries.push(Entry { seq: 0, data_len: 0, topic_len: 0, what: What::Other });
    }
}

/// What an event of a connection takes at most, with the peer's words in it.
const BOXED_BYTES: usize = size_of::<ConnectionEvent>() + MOST_TEXT_BYTES;

fn is_retry(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Connection(event) if matches!(**event, ConnectionEvent::RetryIn { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_in_order_and_positions_do_not_pile_up() {
        let mut batch = Batch::new();
        batch.push_message(7, "tick.a", b"one");
        batch.push(EventKind::Position(8));
        batch.push(EventKind::Position(9));
        batch.push_message(9, "", b"");
        batch.push_message(10, "tick.b", b"three");
        assert_eq!(batch.next(), Some(Event::Message { seq: 7, topic: "tick.a", data: b"one" }));
        assert_eq!(batch.next(), Some(Event::Other(EventKind::Position(9))));
        assert_eq!(batch.next(), Some(Event::Message { seq: 9, topic: "", data: b"" }));
        assert!(!batch.is_read());
        assert_eq!(batch.next(), Some(Event::Message { seq: 10, topic: "tick.b", data: b"three" }));
        assert!(batch.is_read());
        assert_eq!(batch.next(), None);
        batch.clear();
        assert!(batch.is_empty() && batch.size() == 0);
    }

    #[test]
    fn messages_of_one_topic_share_its_text_and_each_has_its_own() {
        let said = [("tick.a", 1), ("tick.a", 2), ("tick.b", 3), ("tick.b", 4), ("", 5), ("", 6), ("a", 7)];
        let said = said.map(|(topic, seq)| (topic, [b'0' + seq; 3], u64::from(seq)));
        let mut batch = Batch::new();
        for round in 0..3 {
            for (topic, data, seq) in &said {
                let seq = *seq;
                assert!(batch.push_unchecked_message(seq, topic.as_bytes(), data));
                assert!(!batch.push_unchecked_message(seq, b"\xff", b"nothing of it stays"));
                if seq == 3 {
                    batch.push(EventKind::Position(4));
                    batch.push_snapshot(1, "tick.c", b"new");
                    batch.push_message(3, "tick.b", b"again");
                }
            }
            assert_eq!(batch.topics, "tick.atick.btick.ctick.ba", "in round {round}");
            for (topic, data, seq) in &said {
                let seq = *seq;
                assert_eq!(batch.next(), Some(Event::Message { seq, topic, data }));
                if seq == 3 {
                    assert_eq!(batch.next(), Some(Event::Other(EventKind::Position(4))));
                    assert_eq!(batch.next(), Some(Event::Snapshot { seq: 1, topic: "tick.c", data: b"new" }));
                    assert_eq!(batch.next(), Some(Event::Message { seq, topic, data: b"again" }));
                }
            }
            assert!(batch.is_read() && batch.next().is_none());
            batch.clear();
        }
        assert_eq!(size_of::<Entry>(), 16);
    }
}
