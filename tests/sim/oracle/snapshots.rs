//! The snapshots that one subscription was given, against those that it asked for.

use std::collections::BTreeSet;

use super::super::process::TOPICS;
use super::{place, Log, Oracle};

/// The snapshots that one subscription was given, against those that it asked for.
///
/// The values of a snapshot stand directly in front of the answer that ends it. Of several answers in a row, with one
/// position, each ends what the others end.
#[derive(Default)]
pub struct Snapshots {
    /// Values that have come since the last snapshot's end: of one that is under way, or, if `ended_at`, of that one.
    seen: Vec<(u64, &'static str)>,
    /// The position of the answers that have just ended it.
    ended_at: Option<u64>,
    /// Prefixes that a snapshot was asked for, and that the end of the handshake brings at the latest.
    owed: BTreeSet<&'static str>,
    /// Those that the snapshot that has just ended had to bring.
    due: BTreeSet<&'static str>,
}

impl Snapshots {
    /// The next handshake has to bring these.
    pub fn owe(&mut self, prefixes: impl IntoIterator<Item = &'static str>) {
        self.owed.extend(prefixes);
    }

    pub fn is_under_way(&self) -> bool {
        self.ended_at.is_none() && !self.seen.is_empty()
    }

    /// A value has come.
    pub fn saw(&mut self, oracle: &Oracle, log: Log, seq: u64, topic: &'static str) {
        self.flush(oracle, log);
        let last = self.seen.last().map(|(last, _)| *last);
        assert!(last < Some(seq), "the values of a snapshot ascend: {seq} after {last:?}");
        self.seen.push((seq, topic));
    }

    /// An answer with this position has come.
    pub fn answered(&mut self, oracle: &Oracle, log: Log, position: u64) {
        if self.ended_at != Some(position) {
            self.flush(oracle, log);
        }
        let all = oracle.all(log);
        for (seq, topic) in &self.seen {
            assert!(*seq < position, "the value {seq} lies above the snapshot's end at {position}");
            let newer = all[place(seq + 1)..place(position)].iter().find(|newer| newer.topic == *topic);
            assert!(newer.is_none(), "the value {seq} of {topic:?} is not the newest below {position}");
        }
        self.ended_at = Some(position);
    }

    /// The answer was one to a question that asked for these.
    pub fn asked_for(&mut self, prefixes: impl IntoIterator<Item = &'static str>, in_force: bool) {
        let brings = if in_force { &mut self.due } else { &mut self.owed };
        brings.extend(prefixes);
    }

    /// The answer ended a handshake: what is owed has come with it.
    pub fn handshake_ended(&mut self) {
        self.due.append(&mut self.owed);
    }

    /// The prefix is no longer in the set.
    pub fn give_up(&mut self, prefix: &str) {
        self.owed.remove(prefix);
        self.due.remove(prefix);
    }

    /// Something else than an answer has come: the snapshot that has ended is all there is of it.
    pub fn flush(&mut self, oracle: &Oracle, log: Log) {
        let Some(position) = self.ended_at.take() else { return };
        let (seen, due) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.due));
        if !oracle.plan(log).options.last_value {
            return;
        }
        let all = oracle.all(log);
        let (before, after) = all.split_at(place(position));
        for topic in TOPICS {
            let matches = due.iter().any(|prefix| topic.starts_with(prefix));
            let has_value = || before.iter().any(|publication| publication.topic == topic);
            let was_seen = || seen.iter().any(|(_, seen)| *seen == topic);
            let moved_on = || after.iter().any(|publication| publication.topic == topic);
            assert!(
                !matches || !has_value() || was_seen() || moved_on(),
                "the snapshot for {due:?} that ended at {position} has no value of {topic:?}, only {seen:?}"
            );
        }
    }

    /// The connection is gone, and what had come of a snapshot is worth nothing.
    pub fn interrupted(&mut self) {
        self.seen.clear();
    }
}
