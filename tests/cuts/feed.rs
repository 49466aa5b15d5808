//! What is published: under each number, in each life of the server, one thing that anybody can say beforehand.

use std::ops::Range;

/// Some are prefixes of others, and one of all.
pub const TOPICS: [&str; 12] = [
    "tick.ag",
    "tick.ag.1",
    "tick.ag.2",
    "tick.au",
    "tick.rb",
    "tick.rb.1",
    "tick.",
    "trade.ag",
    "trade.rb",
    "trade",
    "order",
    "",
];

/// A publication: the life of the server, its number in it, and bytes that follow from both.
pub type Data = (u64, u64, Vec<u8>);

/// Bits that nobody would guess.
pub fn mixed(a: u64, b: u64) -> u64 {
    let mut bits = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// So many bytes, which follow from `bits`.
pub fn bytes(bits: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (bits >> (at % 8 * 8)) as u8 ^ at as u8).collect()
}

fn index(epoch: u64, seq: u64) -> usize {
    (mixed(epoch, seq) % TOPICS.len() as u64) as usize
}

pub fn topic(epoch: u64, seq: u64) -> &'static str {
    TOPICS[index(epoch, seq)]
}

/// Mostly small, at times longer than one write.
pub fn data(epoch: u64, seq: u64) -> Data {
    let bits = mixed(seq, epoch);
    let most = match bits % 256 {
        0 => 60_000,
        1..=8 => 4_000,
        _ => 150,
    };
    (epoch, seq, bytes(bits, (bits >> 16) as usize % most))
}

/// The topics that a set of prefixes matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set(u32);

impl Set {
    pub fn of<'a>(prefixes: impl IntoIterator<Item = &'a str> + Clone) -> Self {
        let matches = |topic: &str| prefixes.clone().into_iter().any(|prefix| topic.starts_with(prefix));
        let bits = TOPICS.iter().enumerate().filter(|(_, topic)| matches(topic)).map(|(index, _)| 1 << index);
        Set(bits.sum())
    }

    pub fn has(self, epoch: u64, seq: u64) -> bool {
        self.0 >> index(epoch, seq) & 1 == 1
    }

    /// Publications among these that it matches.
    pub fn count(self, epoch: u64, seqs: Range<u64>) -> u64 {
        seqs.filter(|seq| self.has(epoch, *seq)).count() as u64
    }
}
