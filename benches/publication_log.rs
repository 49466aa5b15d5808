//! The publication log, which is private: through a server's `publish`, and through the chunks that it then has to
//! write.

mod support;

use divan::counter::{BytesCount, ItemsCount};
use divan::{black_box, Bencher};
use support::Linked;

fn main() {
    divan::main();
}

const SIZES: [usize; 5] = [16, 64, 256, 1_024, 16_384];
const BATCH: usize = 64;

/// Appended to a log that is full, so that the oldest goes: the only subscriber reads nothing.
#[divan::bench(args = SIZES, sample_size = 1_000)]
fn append(bencher: Bencher<'_, '_>, size: usize) {
    let mut linked = Linked::subscriber("");
    let data = vec![0x5a; size];
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| linked.server.publish("tick.rb2410.SHFE", black_box(&data)).is_ok());
}

/// Appended, and written in chunks of many: what one delivery costs the publisher without the system call.
#[divan::bench(args = SIZES, sample_size = 16)]
fn append_and_write(bencher: Bencher<'_, '_>, size: usize) {
    let mut linked = Linked::subscriber("");
    let data = vec![0x5a; size];
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            linked.server.publish("tick.rb2410.SHFE", black_box(&data)).expect("it is within every limit");
        }
        while linked.discard_chunk() > 0 {}
    });
}

/// Nobody wants it: matched, numbered, and not stored.
#[divan::bench(sample_size = 1_000)]
fn miss(bencher: Bencher<'_, '_>) {
    let mut linked = Linked::subscriber("tick.rb2410.");
    let data = [0x5a; 64];
    bencher.bench_local(|| linked.server.publish("tick.rb2411.SHFE", black_box(&data)).is_ok());
}
