//! The index from prefixes to subscribers: what a topic costs that somebody waits for, and one that nobody does.
//!
//! Topics repeat for ever in practice, so most answers come out of the index's cache; the walk itself is measured with
//! more topics than the cache holds.

use divan::{black_box, Bencher};
use pulsewire::pattern::PrefixIndex;

fn main() {
    divan::main();
}

const PREFIXES: [usize; 4] = [10, 500, 10_000, 100_000];
/// Enough that each falls out of the cache before it comes again.
const MANY_TOPICS: usize = 1 << 17;
const SUBSCRIBERS: u32 = 100;

fn prefix(number: usize) -> String {
    format!("tick.{:02}.{number:06}.", number % 100)
}

/// So many prefixes, dealt out to a hundred subscribers.
fn index(prefixes: usize) -> PrefixIndex {
    let mut index = PrefixIndex::with_seed(7);
    for (number, subscriber) in (0..prefixes).zip((0..SUBSCRIBERS).cycle()) {
        index.insert(&prefix(number), subscriber);
    }
    index
}

fn look_up(bencher: Bencher<'_, '_>, prefixes: usize, topics: &[String]) {
    let mut index = index(prefixes);
    let (mut topics, mut matched) = (topics.iter().cycle(), Vec::new());
    bencher.bench_local(|| {
        let topic = topics.next().expect("a cycle has no end");
        matched.clear();
        index.matching(black_box(topic), &mut matched);
        matched.len()
    });
}

#[divan::bench(args = PREFIXES, sample_size = 1_000)]
fn hit_repeated(bencher: Bencher<'_, '_>, prefixes: usize) {
    let topics: Vec<String> = (0..64).map(|number| prefix(number % prefixes) + "SHFE").collect();
    look_up(bencher, prefixes, &topics);
}

#[divan::bench(args = PREFIXES, sample_size = 1_000)]
fn miss_repeated(bencher: Bencher<'_, '_>, prefixes: usize) {
    let topics: Vec<String> = (0..64).map(|number| format!("order.{number:06}.SHFE")).collect();
    look_up(bencher, prefixes, &topics);
}

#[divan::bench(args = PREFIXES, sample_size = 1_000)]
fn hit_walked(bencher: Bencher<'_, '_>, prefixes: usize) {
    let topics: Vec<String> =
        (0..MANY_TOPICS).map(|number| format!("{}{number:06}", prefix(number % prefixes))).collect();
    look_up(bencher, prefixes, &topics);
}

/// Each begins like a prefix that is held, and goes another way at its end.
#[divan::bench(args = PREFIXES, sample_size = 1_000)]
fn miss_walked(bencher: Bencher<'_, '_>, prefixes: usize) {
    let near = |number: usize| prefix(number % prefixes).trim_end_matches('.').to_owned();
    let topics: Vec<String> =
        (0..MANY_TOPICS).map(|number| format!("{}_{number:06}", near(number))).collect();
    look_up(bencher, prefixes, &topics);
}

#[divan::bench(args = PREFIXES, sample_size = 1_000)]
fn insert_and_remove(bencher: Bencher<'_, '_>, prefixes: usize) {
    let mut index = index(prefixes);
    bencher.bench_local(|| {
        index.insert(black_box("tick.50.new."), 7);
        index.remove(black_box("tick.50.new."), 7)
    });
}
