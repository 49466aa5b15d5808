//! What a subscriber has received and the application has not looked at yet: one ordered stream of events.

use alloc::boxed::Box;
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Message { seq: u64, topic_len: u8, data_len: u32, snapshot: bool },
    Other(EventKind),
}

/// Events in the order in which they happened, in two buffers that are used again.
///
/// A subscriber fills one batch while its application reads another, and the two are exchanged when it is through: no
/// lock and no allocation per message.
#[derive(Debug, Default)]
pub struct Batch {
    topics: String,
    data: Vec<u8>,
    entries: Vec<Entry>,
    /// What the events of connections take that are boxed.
    boxed_bytes: usize,
    /// The next event to read, and where its topic and data begin.
    next: usize,
    topic_at: usize,
    data_at: usize,
}

impl Batch {
    /// An empty batch, which holds no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next event, or `None` at the end.
    #[allow(clippy::should_implement_trait)] // It lends from itself, which Iterator cannot express.
    pub fn next(&mut self) -> Option<Event<'_>> {
        let entry = self.entries.get(self.next)?;
        self.next += 1;
        Some(match entry {
            Entry::Message { seq, topic_len, data_len, snapshot } => {
                let (topic_at, data_at) = (self.topic_at, self.data_at);
                self.topic_at += usize::from(*topic_len);
                self.data_at += *data_len as usize;
                let topic = &self.topics[topic_at..self.topic_at];
                let data = &self.data[data_at..self.data_at];
                match snapshot {
                    false => Event::Message { seq: *seq, topic, data },
                    true => Event::Snapshot { seq: *seq, topic, data },
                }
            }
            Entry::Other(kind) => Event::Other(kind.clone()),
        })
    }

    /// All events have been read.
    pub fn is_read(&self) -> bool {
        self.next == self.entries.len()
    }

    /// Forgets what was read, and keeps its buffers unless they are large and were hardly used.
    pub(crate) fn clear(&mut self) {
        let used = self.size();
        self.topics.clear();
        self.data.clear();
        self.entries.clear();
        self.boxed_bytes = 0;
        (self.next, self.topic_at, self.data_at) = (0, 0, 0);
        if used < Self::KEPT_BYTES && self.data.capacity() > 4 * Self::KEPT_BYTES {
            self.data.shrink_to(Self::KEPT_BYTES);
            self.topics.shrink_to(Self::KEPT_BYTES);
            self.entries.shrink_to(Self::KEPT_BYTES / size_of::<Entry>());
        }
    }

    const KEPT_BYTES: usize = 64 * 1024;

    /// Bytes that wait to be read, with the entries' own.
    pub(crate) fn size(&self) -> usize {
        self.topics.len() + self.data.len() + self.entries.len() * size_of::<Entry>() + self.boxed_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push_message(&mut self, seq: u64, topic: &str, data: &[u8]) {
        self.push_data(seq, topic, data, false);
    }

    pub(crate) fn push_snapshot(&mut self, seq: u64, topic: &str, data: &[u8]) {
        self.push_data(seq, topic, data, true);
    }

    fn push_data(&mut self, seq: u64, topic: &str, data: &[u8], snapshot: bool) {
        self.topics.push_str(topic);
        self.data.extend_from_slice(data);
        let topic_len = u8::try_from(topic.len()).expect("the decoder refuses longer topics");
        let data_len = u32::try_from(data.len()).expect("frames are limited to a u32");
        self.entries.push(Entry::Message { seq, topic_len, data_len, snapshot });
    }

    pub(crate) fn push(&mut self, kind: EventKind) {
        if let (EventKind::Position(new), Some(Entry::Other(EventKind::Position(last)))) =
            (&kind, self.entries.last_mut())
        {
            // Heartbeats do not pile up while nobody reads.
            *last = *new;
            return;
        }
        if let (true, Some(Entry::Other(last))) = (is_retry(&kind), self.entries.last_mut()) {
            if is_retry(last) {
                // Nor do failed attempts to reach a server that is away.
                *last = kind;
                return;
            }
        }
        if matches!(kind, EventKind::Connection(_)) {
            self.boxed_bytes += BOXED_BYTES;
        }
        self.entries.push(Entry::Other(kind));
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
}
