use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;

use proptest::prelude::*;

use super::*;

/// The index beside a linear scan, which is obviously right.
struct Pair {
    index: PrefixIndex,
    model: BTreeSet<(String, u32)>,
}

impl Pair {
    fn new(seed: u64, cache_bytes: usize) -> Self {
        let mut index = PrefixIndex::with_seed(seed);
        index.limit_cache(cache_bytes);
        Pair { index, model: BTreeSet::new() }
    }

    fn insert(&mut self, prefix: &str, subscriber: u32) {
        let is_new = self.model.insert((prefix.into(), subscriber));
        assert_eq!(self.index.insert(prefix, subscriber), is_new, "insert {prefix:?} {subscriber}");
        self.check();
    }

    fn remove(&mut self, prefix: &str, subscriber: u32) {
        let was_held = self.model.remove(&(prefix.into(), subscriber));
        assert_eq!(self.index.remove(prefix, subscriber), was_held, "remove {prefix:?} {subscriber}");
        self.check();
    }

    fn expect_agreement(&mut self, topic: &str) {
        let expected: BTreeSet<u32> = self
            .model
            .iter()
            .filter(|(prefix, _)| topic.starts_with(prefix.as_str()))
            .map(|(_, subscriber)| *subscriber)
            .collect();
        let mut out = vec![99];
        self.index.matching(topic, &mut out);
        assert_eq!(out[0], 99, "what was there stays");
        assert_eq!(out[1..], expected.iter().copied().collect::<Vec<_>>(), "topic {topic:?}");
        assert_eq!(self.index.matches_any(topic), !expected.is_empty(), "topic {topic:?}");
        self.index.cache.check();
    }

    fn check(&self) {
        self.index.trie.check();
        assert_eq!(self.index.len(), self.model.len());
        assert_eq!(self.index.is_empty(), self.model.is_empty());
        assert!(self.index.bytes() >= self.model.iter().map(|(prefix, _)| prefix.len()).sum());
        assert!(!self.model.is_empty() || self.index.bytes() == 0);
    }
}

fn matching(index: &mut PrefixIndex, topic: &str) -> Vec<u32> {
    let mut out = Vec::new();
    index.matching(topic, &mut out);
    out
}

#[derive(Debug, Clone)]
enum Op {
    Insert(String, u32),
    Remove(String, u32),
    Match(String),
}

/// Few letters and short words, so that prefixes meet; 'é' and 'è' share their first byte of two.
fn word(longest: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', 'b', '.', 'é', 'è']), 0..=longest)
        .prop_map(|letters| letters.into_iter().collect())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (word(5), 0u32..4).prop_map(|(prefix, subscriber)| Op::Insert(prefix, subscriber)),
        2 => (word(5), 0u32..4).prop_map(|(prefix, subscriber)| Op::Remove(prefix, subscriber)),
        4 => word(8).prop_map(Op::Match),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn index_agrees_with_starts_with(
        ops in prop::collection::vec(op(), 0..120),
        seed: u64,
        cache_bytes in prop::sample::select(vec![0, 8 * 1024, PrefixIndex::CACHE_BYTES]),
    ) {
        let mut pair = Pair::new(seed, cache_bytes);
        let mut topics = BTreeSet::new();
        for op in ops {
            match op {
                Op::Insert(prefix, subscriber) => pair.insert(&prefix, subscriber),
                Op::Remove(prefix, subscriber) => pair.remove(&prefix, subscriber),
                Op::Match(topic) => {
                    pair.expect_agreement(&topic);
                    topics.insert(topic);
                }
            }
        }
        // All topics again and again: now the cache answers, and its places are fought for.
        for topic in topics.iter().chain(&topics) {
            pair.expect_agreement(topic);
        }
        for (prefix, subscriber) in pair.model.clone() {
            pair.remove(&prefix, subscriber);
        }
    }

    #[test]
    fn subscribers_in_any_number_come_once_and_in_order(
        holders in prop::collection::vec((0usize..5, 0u32..1000), 0..300),
    ) {
        let mut pair = Pair::new(7, PrefixIndex::CACHE_BYTES);
        for (len, subscriber) in holders {
            pair.insert(&"abcd"[..len], subscriber);
        }
        for topic in ["", "a", "ab", "abc", "abcd", "abcde", "abd"] {
            pair.expect_agreement(topic);
        }
    }
}

#[test]
fn empty_index_matches_nobody_and_holds_no_memory() {
    let mut index = PrefixIndex::new();
    assert_eq!(matching(&mut index, ""), [0; 0]);
    assert_eq!(matching(&mut index, "a"), [0; 0]);
    assert!(!index.matches_any(""));
    assert!(!index.remove("", 0));
    assert_eq!((index.len(), index.bytes()), (0, 0));
}

#[test]
fn empty_prefix_matches_every_topic() {
    let mut index = PrefixIndex::new();
    assert!(index.insert("", 3));
    assert_eq!(matching(&mut index, ""), [3]);
    assert_eq!(matching(&mut index, "anything"), [3]);
    assert!(index.remove("", 3));
    assert_eq!(matching(&mut index, "anything"), [0; 0]);
}

#[test]
fn prefix_longer_than_the_topic_does_not_match() {
    let mut index = PrefixIndex::new();
    index.insert("tick.rb", 0);
    assert_eq!(matching(&mut index, "tick."), [0; 0]);
    assert_eq!(matching(&mut index, "tick.ag"), [0; 0]);
    assert_eq!(matching(&mut index, "tick.rb"), [0]);
    assert_eq!(matching(&mut index, "tick.rb2410"), [0]);
}

#[test]
fn overlapping_prefixes_deliver_once() {
    let mut index = PrefixIndex::new();
    for prefix in ["", "t", "tick.", "tick.rb"] {
        index.insert(prefix, 5);
    }
    index.insert("tick.", 2);
    assert_eq!(matching(&mut index, "tick.rb2410"), [2, 5]);
    assert_eq!(matching(&mut index, "bar"), [5]);
    assert!(index.remove("", 5));
    assert_eq!(matching(&mut index, "bar"), [0; 0]);
    assert_eq!(matching(&mut index, "tick.rb2410"), [2, 5]);
}

#[test]
fn repeated_insert_and_absent_remove_are_refused() {
    let mut index = PrefixIndex::new();
    assert!(index.insert("ab", 0));
    assert!(!index.insert("ab", 0));
    assert!(index.insert("ab", 1));
    assert_eq!(index.len(), 2);
    assert!(!index.remove("a", 0), "a part of a label is no prefix");
    assert!(!index.remove("abc", 0));
    assert!(!index.remove("ab", 2));
    assert!(index.remove("ab", 0));
    assert!(!index.remove("ab", 0));
    assert_eq!(matching(&mut index, "abc"), [1]);
}

#[test]
fn characters_that_share_bytes_are_told_apart() {
    let mut index = PrefixIndex::new();
    for (prefix, subscriber) in [("行情.螺纹", 0), ("行情.", 1), ("衍", 2), ("é", 3), ("è", 4)] {
        index.insert(prefix, subscriber);
    }
    assert_eq!(matching(&mut index, "行情.螺纹2410"), [0, 1]);
    assert_eq!(matching(&mut index, "行情.热卷"), [1]);
    assert_eq!(matching(&mut index, "衍生"), [2]);
    assert_eq!(matching(&mut index, "ê"), [0; 0]);
    index.trie.check();
}

#[test]
fn cached_answer_is_not_used_after_a_change() {
    let mut index = PrefixIndex::new();
    index.insert("a", 0);
    for _ in 0..2 {
        assert_eq!(matching(&mut index, "ab"), [0]);
        assert_eq!(matching(&mut index, "b"), [0; 0]);
    }
    index.insert("", 1);
    assert_eq!(matching(&mut index, "ab"), [0, 1]);
    assert_eq!(matching(&mut index, "b"), [1]);
    index.remove("a", 0);
    assert_eq!(matching(&mut index, "ab"), [1]);
}

#[test]
fn repeated_topics_come_from_the_cache_also_if_nobody_has_them() {
    let mut index = PrefixIndex::new();
    for prefix in ["tick.", "a.b.c.d.e.x", "a.b.c.d.y", "a.b.c.z", "a.b.w", "a.v"] {
        index.insert(prefix, 0);
    }
    let parts_early = "bar.rb";
    assert!(matching(&mut index, parts_early).is_empty());
    assert_eq!(index.cache.bytes(), 0, "what parts from all prefixes early needs no cache");
    for topic in ["tick.rb", "a.b.c.d.e.f"] {
        let hash = index.cache.hash(topic.as_bytes());
        assert_eq!(index.cache.find(hash, topic.as_bytes(), index.generation), None);
        let answer = matching(&mut index, topic);
        assert_eq!(index.cache.find(hash, topic.as_bytes(), index.generation), Some(&answer[..]));
    }
}

#[test]
fn cache_keeps_within_its_bytes_and_most_of_what_fits() {
    let mut index = PrefixIndex::with_seed(1);
    for subscriber in 0..100 {
        index.insert("tick.", subscriber);
    }
    index.insert("large", 0);
    for limit in [8 * 1024, 64 * 1024, PrefixIndex::CACHE_BYTES] {
        index.limit_cache(limit);
        for round in 0..3 {
            for topic in 0..3_000 {
                assert_eq!(matching(&mut index, &format!("tick.{}", topic * (round + 1))).len(), 100);
                assert!(index.cache.bytes() <= limit, "{} bytes above {limit}", index.cache.bytes());
            }
        }
        index.cache.check();
    }
    let topics = 0..1_000;
    let found = topics.clone().filter(|topic| {
        let topic = format!("tick.{topic}");
        matching(&mut index, &topic);
        index.cache.find(index.cache.hash(topic.as_bytes()), topic.as_bytes(), index.generation).is_some()
    });
    assert_eq!(found.count(), topics.len());
}

#[test]
fn long_chain_of_prefixes_needs_no_deep_stack() {
    const DEPTH: usize = 10_000;
    let long = "x".repeat(DEPTH);
    let mut index = PrefixIndex::new();
    for len in 0..=DEPTH {
        assert!(index.insert(&long[..len], u32::try_from(len % 3).expect("small")));
    }
    index.trie.check();
    assert_eq!(matching(&mut index, &long), [0, 1, 2]);
    for len in (0..=DEPTH).step_by(2) {
        assert!(index.remove(&long[..len], u32::try_from(len % 3).expect("small")));
    }
    index.trie.check();
    assert_eq!(index.len(), DEPTH / 2);
    drop(index);
}

#[test]
fn removing_all_of_many_prefixes_gives_all_memory_back() {
    let prefixes: Vec<String> =
        (0..65_536u32).map(|n| format!("{:x}.{n}", n.wrapping_mul(0x9E37_79B9))).collect();
    let mut index = PrefixIndex::new();
    for prefix in &prefixes {
        assert!(index.insert(prefix, 1));
    }
    index.trie.check();
    let full = index.bytes();
    assert_eq!(matching(&mut index, &prefixes[77]), [1]);
    for prefix in &prefixes[1..] {
        assert!(index.remove(prefix, 1));
    }
    index.trie.check();
    index.limit_cache(0);
    assert!(
        index.bytes() < full / 500,
        "{} of {full} bytes for one prefix of {}",
        index.bytes(),
        prefixes.len()
    );
    assert_eq!(matching(&mut index, &prefixes[0]), [1]);
    assert!(index.remove(&prefixes[0], 1));
    assert_eq!(index.bytes(), 0);
}

#[test]
fn a_million_subscriptions_and_unsubscriptions_keep_the_arena_flat() {
    let mut index = PrefixIndex::new();
    for n in 0..50 {
        index.insert(&format!("stays.{n}"), n);
    }
    let mut most = (0, 0);
    for n in 0..1_000_000u32 {
        let prefix = format!("stays.{}", n % 9_973);
        assert!(index.insert(&prefix, 100));
        if n == 20_000 {
            most = (index.trie.arena_len(), index.bytes());
        }
        assert!(index.remove(&prefix, 100));
    }
    index.trie.check();
    assert!(index.trie.arena_len() <= most.0, "{} nodes, once {}", index.trie.arena_len(), most.0);
    assert!(index.bytes() <= most.1 + 1024, "{} bytes, once {}", index.bytes(), most.1);
}

#[test]
fn subscribers_of_one_prefix_leave_no_memory_behind() {
    let mut index = PrefixIndex::new();
    for subscriber in 0..16_384 {
        index.insert("tick.", subscriber);
    }
    assert_eq!(matching(&mut index, "tick.rb").len(), 16_384);
    for subscriber in 1..16_384 {
        index.remove("tick.", subscriber);
    }
    index.trie.check();
    assert!(index.trie.bytes() < 1024, "{} bytes for one subscriber", index.trie.bytes());
}

/// Prints what a match costs; run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "measures, asserts nothing"]
fn measure_ten_thousand_prefixes() {
    extern crate std;
    let prefixes: Vec<String> =
        (0..10_000).map(|n| format!("tick.{:05}.EXCH{}", n * 7 % 10_000, n % 6)).collect();
    let mut index = PrefixIndex::new();
    let begun = std::time::Instant::now();
    for (subscriber, prefix) in (0..100).cycle().zip(&prefixes) {
        index.insert(prefix, subscriber);
    }
    std::println!("insert: {} ns", begun.elapsed().as_nanos() / 10_000);
    std::println!("{} bytes for {} pairs", index.bytes(), index.len());
    let mut out = Vec::new();
    for (name, topics, cache_bytes) in [
        ("1 topic, cache", 1, 1 << 20),
        ("1 topic, none", 1, 0),
        ("500 topics, cache", 500, 1 << 20),
        ("500 topics, none", 500, 0),
        ("10 000 topics, cache", 10_000, 1 << 20),
        ("10 000 topics, none", 10_000, 0),
    ] {
        index.limit_cache(cache_bytes);
        let mut found = 0;
        let begun = std::time::Instant::now();
        for _ in 0..1_000 {
            for topic in &prefixes[..topics] {
                out.clear();
                index.matching(topic, &mut out);
                found += out.len();
            }
        }
        let each = begun.elapsed().as_nanos() / (1_000 * topics as u128);
        std::println!("{name}: {each} ns, {found} found, {} bytes", index.bytes());
    }
}
