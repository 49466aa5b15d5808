#![cfg(target_has_atomic = "64")]

use alloc::format;

use super::*;

/// A stream's head with its index, and nothing else of it.
struct Stream {
    head: Head,
    index: PrefixIndex,
}

impl Stream {
    fn new() -> Self {
        let limits = Limits::default();
        Stream { head: Head::new(&limits, 7, limits.max_frame_bytes, true), index: PrefixIndex::new() }
    }

    /// One whose gate is open.
    fn open() -> Self {
        let mut stream = Stream::new();
        stream.pass(OPENING);
        assert!(stream.is_open());
        stream
    }

    fn is_open(&self) -> bool {
        self.head.is_open
    }

    fn gate(&self) -> Arc<Gate> {
        Arc::clone(self.head.gate())
    }

    /// So many publications that nobody wants, one after the other under the lock.
    fn pass(&mut self, count: u32) {
        (0..count).for_each(|_| {
            self.head.take_unwanted(&self.index);
        });
    }

    fn insert(&mut self, prefix: &str) {
        self.head.note_wanted(prefix);
        self.index.insert(prefix, 1);
    }

    fn remove(&mut self, prefix: &str) {
        self.index.remove(prefix, 1);
        self.head.note_removed();
    }

    /// Publishes as a thread does: at the gate, else under the lock.
    fn publish(&mut self, topic: &str) -> u64 {
        if let Some(published) = self.head.gate().pass_over(topic, b"") {
            assert!(!self.index.matches_any(topic), "{topic} was wanted");
            return published.seq;
        }
        match self.index.matches_any(topic) {
            true => self.head.take_wanted(),
            false => self.head.take_unwanted(&self.index),
        }
    }
}

#[test]
fn gate_opens_after_some_in_a_row_that_nobody_wants_and_goes_on_with_their_numbers() {
    let mut stream = Stream::new();
    stream.insert("a");
    let gate = stream.gate();
    for seq in 0..u64::from(OPENING) {
        assert_eq!(gate.pass_over("b", b""), None, "it is shut");
        assert_eq!(stream.publish("b"), seq);
    }
    for seq in u64::from(OPENING)..100 {
        assert_eq!(gate.pass_over("b", b""), Some(Published { seq, subscribers: 0 }));
    }
    assert_eq!(gate.pass_over("a", b""), None);
    assert_eq!(stream.publish("a"), 100, "a number for both");
    assert_eq!(stream.head.get(), 101);
}

#[test]
fn gate_is_shut_while_most_are_wanted() {
    let mut stream = Stream::open();
    stream.insert("a");
    (0..100).for_each(|_| {
        stream.publish("b");
    });
    assert!(stream.is_open());
    stream.publish("a");
    assert!(stream.is_open(), "one in a hundred");
    let unwanted = FEW - 1;
    (0..unwanted).for_each(|_| {
        stream.publish("b");
    });
    stream.publish("a");
    assert!(!stream.is_open(), "two close to each other");
    for _ in 0..100 {
        (0..unwanted).for_each(|_| {
            stream.publish("b");
        });
        stream.publish("a");
        assert!(!stream.is_open());
    }
    assert_eq!(stream.head.get(), 8 + 100 + 1 + 4 + 400);
}

#[test]
fn who_comes_after_a_publication_was_looked_up_has_it_looked_up_again() {
    let mut stream = Stream::open();
    let gate = stream.gate();
    let found = gate.look("a.b", b"").expect("nobody wants it");
    stream.insert("a");
    assert_eq!(stream.head.get(), found, "so it would be the first one that is wanted");
    assert!(!gate.take(found), "nobody wanted it then");
    stream.pass(OPENING);
    assert!(stream.is_open());
    assert!(!gate.take(found), "open again, but with another number");
    assert_eq!(gate.look("a.b", b""), None);
}

#[test]
fn what_was_looked_up_before_the_gate_was_shut_for_good_does_not_pass() {
    let mut stream = Stream::open();
    let gate = stream.gate();
    let found = gate.look("a", b"").expect("nobody wants it");
    stream.head.shut_for_good();
    assert!(!gate.take(found));
    stream.pass(10 * OPENING);
    assert_eq!(gate.pass_over("a", b""), None);
    let (stream, gate) = (Stream::open(), gate);
    let other = stream.gate();
    drop(stream);
    assert_eq!(
        (other.pass_over("a", b""), gate.pass_over("a", b"")),
        (None, None),
        "nor when the stream is gone"
    );
}

#[test]
fn what_may_be_too_long_is_looked_at_by_the_stream() {
    let mut stream = Stream::open();
    let gate = stream.gate();
    let most = Limits::default().max_frame_bytes as usize;
    let topic = "a".repeat(MAX_NAME_BYTES + 1);
    assert!(gate.pass_over(&topic[1..], b"").is_some());
    assert_eq!(gate.pass_over(&topic, b""), None);
    assert!(gate.pass_over("", &alloc::vec![0; most - FRAME_BYTES as usize]).is_some());
    assert_eq!(gate.pass_over("", &alloc::vec![0; most - FRAME_BYTES as usize + 1]), None);
    stream.head.shut();
    assert_eq!(stream.head.get(), u64::from(OPENING) + 2);
}

#[test]
fn prefixes_that_come_and_go_do_not_fill_the_sieve() {
    let mut stream = Stream::new();
    let stays: [&str; 3] = ["stays", "so", "do I"];
    stays.iter().for_each(|prefix| stream.insert(prefix));
    for n in 0..20_000 {
        let prefix = format!("{n:05}");
        stream.insert(&prefix);
        stream.remove(&prefix);
        if n % 100 == 0 {
            stream.pass(OPENING);
        }
    }
    stream.pass(OPENING);
    let gate = stream.gate();
    let passed = (0..20_000).filter(|n| gate.look(&format!("{n:05}"), b"").is_some()).count();
    assert!(passed > 19_000, "{passed} of 20 000");
    assert!(stays.iter().all(|prefix| gate.look(prefix, b"").is_none()), "what is still wanted");
    stays.iter().for_each(|prefix| stream.remove(prefix));
    stream.head.shut();
    stream.pass(OPENING);
    assert!(stays.iter().all(|prefix| gate.look(prefix, b"").is_some()), "nobody wants anything any more");
}

#[test]
fn with_a_great_many_prefixes_the_gate_stays_shut() {
    let mut stream = Stream::new();
    let prefix = |n: usize| format!("{n:06}");
    let most = MOST_NODES * stream.gate().sieve.len();
    (0..most).for_each(|n| stream.insert(&prefix(n)));
    stream.pass(10 * OPENING);
    assert!(!stream.is_open());
    (0..most / 2).for_each(|n| stream.remove(&prefix(n)));
    stream.pass(10 * OPENING);
    assert!(stream.is_open());
}
