//! Whole machines, hand to hand in memory: what a call and a publication cost with no socket and no thread between
//! the two ends.

mod support;

use divan::counter::ItemsCount;
use divan::{black_box, Bencher};
use pulsewire::pattern::{Batch, CallOptions, Event, Outcome, ServerEvent};
use pulsewire::time::Duration;
use pulsewire::Status;
use support::{Linked, NOW};

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [16, 256, 4_096, 65_536];
/// Calls or messages under way at once.
const BATCH: usize = 64;

/// One call at a time: encoded, decoded, entered, started, answered, settled.
#[divan::bench(args = SIZES, sample_size = 64)]
fn round_trip(bencher: Bencher<'_, '_>, size: usize) {
    let mut linked = Linked::requester();
    let arguments = vec![0x5a; size];
    bencher.bench_local(|| call(&mut linked, &arguments, 1));
}

#[divan::bench(args = SIZES, sample_size = 4)]
fn pipelined_calls(bencher: Bencher<'_, '_>, size: usize) {
    let mut linked = Linked::requester();
    let arguments = vec![0x5a; size];
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| call(&mut linked, &arguments, BATCH));
}

fn call(linked: &mut Linked<pulsewire::pattern::Requester>, arguments: &[u8], count: usize) {
    let options =
        CallOptions { deadline: NOW + Duration::from_secs(30), idempotent: false, fail_fast: false };
    for _ in 0..count {
        linked.client.call(NOW, "echo", black_box(arguments), options).expect("there is room");
    }
    linked.turn();
    while let Some(event) = linked.server.poll_event() {
        let ServerEvent::Work(work) = event else { continue };
        let arguments = linked.server.start(NOW, work.ticket).expect("nobody took it back");
        linked.server.reply(work.ticket, Status::Ok, &arguments);
    }
    linked.turn();
    let answers = std::iter::from_fn(|| linked.client.poll_done());
    assert_eq!(answers.filter(|done| matches!(done.outcome, Outcome::Value(_))).count(), count);
}

/// From the publisher's `publish` to the application's hands.
#[divan::bench(args = [16, 64, 256, 1_024, 16_384], sample_size = 16)]
fn publications_delivered(bencher: Bencher<'_, '_>, size: usize) {
    deliver(bencher, "", size);
}

/// The same for a subscriber of one topic, which has a ring of places instead of a cursor.
#[divan::bench(args = [16, 64, 256, 1_024, 16_384], sample_size = 16)]
fn publications_delivered_by_prefix(bencher: Bencher<'_, '_>, size: usize) {
    deliver(bencher, "tick.rb2410.", size);
}

fn deliver(bencher: Bencher<'_, '_>, prefix: &str, size: usize) {
    let mut linked = Linked::subscriber(prefix);
    let (data, mut batch) = (vec![0x5a; size], Batch::new());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            linked.server.publish("tick.rb2410.SHFE", black_box(&data)).expect("it is within every limit");
        }
        linked.turn();
        let mut messages = 0;
        while linked.client.exchange(&mut batch) {
            while let Some(event) = batch.next() {
                messages += usize::from(matches!(event, Event::Message { .. }));
            }
        }
        assert_eq!(messages, BATCH);
    });
}
