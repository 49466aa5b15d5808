extern crate std;

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use std::panic::{catch_unwind, AssertUnwindSafe};

use proptest::prelude::*;

use super::*;

const KIB: usize = 1024;

fn log(bytes: usize, messages: usize) -> Log {
    Log::new(LogLimits { bytes, messages })
}

/// Bytes that tell one frame from any other and the place in it.
fn frame(seq: u64, len: usize) -> Vec<u8> {
    seq.to_le_bytes()
        .into_iter()
        .cycle()
        .zip(0u8..=250)
        .map(|(byte, place)| byte ^ place)
        .cycle()
        .take(len)
        .collect()
}

fn push(log: &mut Log, seq: u64, len: usize) -> Slot {
    let frame = frame(seq, len);
    let foretold = log.first_slot_after(len);
    let slot = log.push_with(seq, len, |bytes| bytes.copy_from_slice(&frame));
    assert_eq!(log.first_slot(), foretold, "what a push evicts is known before");
    check(log);
    slot
}

/// Pushes a frame of that length under the next sequence number.
fn push_next(log: &mut Log, len: usize) -> Slot {
    push(log, log.span().end, len)
}

fn check(log: &Log) {
    let accounted = log.segments.iter().map(|segment| segment.bytes.len()).sum::<usize>();
    assert_eq!(log.capacity_bytes(), accounted + log.spare.as_ref().map_or(0, |spare| spare.len()));
    assert!(log.capacity_bytes() <= log.limits.bytes, "{log:?}");
    assert!(log.len_bytes() <= log.capacity_bytes(), "{log:?}");
    assert!(log.len_messages() <= log.limits.messages, "{log:?}");
    assert!(log.index_bytes() + log.capacity_bytes() <= log.limits.ceiling_bytes(), "{log:?}");
    assert_eq!(log.next_slot() - log.first_slot(), log.len_messages() as u64);
    for (at, segment) in log.segments.iter().enumerate() {
        assert!(segment.first < log.slots_end(at), "a segment without a frame");
    }
    let held = (log.first_slot()..log.next_slot()).map(|slot| log.frame(slot).expect("held").len());
    assert_eq!(log.len_bytes(), held.sum::<usize>());
    let recovery = log.recovery_slot();
    assert!(log.first_slot() <= recovery && (recovery < log.next_slot() || log.is_empty()), "{log:?}");
}

/// Follows the log as a subscriber's connection does.
#[derive(Default)]
struct Reader {
    slot: Slot,
    offset: usize,
    received: Vec<u8>,
}

impl Reader {
    /// Takes one run; false if there was none.
    fn read(&mut self, log: &Log, max: usize, before: u64) -> bool {
        let Some(run) = log.run(self.slot, self.offset, max, before) else { return false };
        assert!(run.bytes.len() <= max);
        self.received.extend_from_slice(run.bytes);
        if run.next == self.slot {
            self.offset += run.bytes.len();
            assert_eq!(run.bytes.len(), max, "only the limit cuts a frame");
        } else {
            self.offset = 0;
        }
        self.slot = run.next;
        true
    }
}

#[derive(Debug, Clone)]
enum Op {
    Push { gap: u64, len: usize },
    Read { max: usize, before: u64 },
    Find { seq: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u64..3, 5usize..200).prop_map(|(gap, len)| Op::Push { gap, len }),
        1 => (0u64..3, 200usize..2_048).prop_map(|(gap, len)| Op::Push { gap, len }),
        2 => (0usize..2_000, 0u64..40).prop_map(|(max, before)| Op::Read { max, before }),
        1 => (0u64..200).prop_map(|seq| Op::Find { seq }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_agrees_with_a_list_of_all_frames(
        ops in prop::collection::vec(op(), 0..300),
        messages in prop::sample::select(vec![0, 1, 2, 10, 64, 1_000]),
    ) {
        let mut log = log(8 * KIB, messages);
        let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut reader = Reader::default();
        let mut expected = Vec::new();
        for op in ops {
            match op {
                Op::Push { gap, len } => {
                    let seq = log.span().end + gap;
                    let (first, held, reserved) = (log.first_slot(), log.len_messages(), log.capacity_bytes());
                    prop_assert_eq!(push(&mut log, seq, len), all.len() as u64);
                    all.push((seq, frame(seq, len)));
                    expected.extend(frame(seq, len));
                    let evicted = log.first_slot() - first;
                    let for_bytes = reserved + len.max(KIB) > 8 * KIB;
                    prop_assert!(evicted == 0 || for_bytes || evicted == 1 && held == messages.max(1), "too early");
                }
                Op::Read { max, before } => {
                    let before = log.span().start + before;
                    let (slot, seen) = (reader.slot, reader.received.len());
                    let read = reader.read(&log, max, before);
                    let lapped = slot < log.first_slot();
                    prop_assert_eq!(read, !lapped && log.seq(slot).is_some_and(|seq| seq < before));
                    prop_assert!((slot..reader.slot).all(|slot| log.seq(slot) < Some(before)));
                    prop_assert_eq!(&expected[seen..reader.received.len()], &reader.received[seen..]);
                    if lapped {
                        reader = Reader { slot: log.recovery_slot(), ..Reader::default() };
                        expected = all.iter().skip(to_usize(reader.slot)).flat_map(|(_, frame)| frame.clone()).collect();
                    }
                }
                Op::Find { seq } => {
                    let seq = log.span().start.saturating_sub(100) + seq;
                    let held = all.iter().skip(to_usize(log.first_slot()));
                    let below = held.filter(|(other, _)| *other < seq).count() as u64;
                    prop_assert_eq!(log.slot_at_or_after(seq), log.first_slot() + below);
                }
            }
            let first = to_usize(log.first_slot());
            for (slot, (seq, frame)) in (0..).zip(&all) {
                let is_held = slot >= first as u64;
                prop_assert_eq!(log.seq(slot), is_held.then_some(*seq));
                prop_assert_eq!(log.frame(slot), is_held.then_some(&frame[..]));
            }
            prop_assert_eq!(log.seq(log.next_slot()), None);
            if let Some((newest, _)) = all.last() {
                prop_assert_eq!(log.span(), all[first].0..newest + 1);
            }
        }
    }

    #[test]
    fn no_more_goes_for_two_frames_than_was_foretold(
        pairs in prop::collection::vec((1..=16 * KIB, 1..=16 * KIB), 1..60),
        messages in 2usize..40,
    ) {
        let mut log = log(64 * KIB, messages);
        for (len, kept) in pairs {
            push_both(&mut log, len, kept);
        }
    }

    #[test]
    fn reader_in_runs_of_any_size_receives_every_byte(
        lens in prop::collection::vec(1usize..10_000, 1..100),
        sizes in prop::collection::vec(1usize..20_000, 1..20),
    ) {
        let mut log = log(4096 * KIB, 1_000);
        let mut expected = Vec::new();
        let mut reader = Reader::default();
        let mut sizes = sizes.into_iter().cycle();
        for len in lens {
            let slot = push_next(&mut log, len);
            expected.extend_from_slice(log.frame(slot).expect("just stored"));
            reader.read(&log, sizes.next().expect("a cycle"), u64::MAX);
        }
        while reader.read(&log, sizes.next().expect("a cycle"), u64::MAX) {}
        prop_assert_eq!(reader.slot, log.next_slot());
        prop_assert!(reader.received == expected);
    }
}

fn to_usize(slot: Slot) -> usize {
    usize::try_from(slot).expect("a small test")
}

#[test]
fn unused_log_holds_nothing() {
    let log = Log::new(LogLimits::default());
    assert_eq!((log.capacity_bytes(), log.index_bytes(), log.len_bytes(), log.len_messages()), (0, 0, 0, 0));
    assert_eq!(
        (log.first_slot(), log.next_slot(), log.recovery_slot(), log.slot_at_or_after(7)),
        (0, 0, 0, 0)
    );
    assert_eq!(
        (log.seq(0), log.frame(0), log.run(0, 0, 100, u64::MAX), log.span()),
        (None, None, None, 0..0)
    );
    assert!(log.is_empty());
}

#[test]
fn first_frame_reserves_one_segment() {
    let mut log = Log::new(LogLimits::default());
    assert_eq!(push(&mut log, 5, 100), 0);
    assert_eq!(log.capacity_bytes(), 64 * KIB);
    assert_eq!(log.span(), 5..6);
}

#[test]
fn entry_of_the_index_takes_sixteen_bytes() {
    assert_eq!(size_of::<Entry>(), 16);
    assert_eq!(LogLimits::default().ceiling_bytes(), 5 * KIB * KIB);
}

#[test]
fn run_ends_at_the_limit_the_bound_and_the_segment() {
    let mut log = log(64 * KIB, 100);
    for seq in [10, 11, 13, 14] {
        push(&mut log, seq, 2_500);
    }
    let run =
        |slot, offset, max, before| log.run(slot, offset, max, before).map(|run| (run.bytes.len(), run.next));
    assert_eq!(run(0, 0, 5_000, u64::MAX), Some((5_000, 2)), "two whole frames");
    assert_eq!(run(0, 0, 4_999, u64::MAX), Some((2_500, 1)), "never a part of the second");
    assert_eq!(run(0, 0, 2_499, u64::MAX), Some((2_499, 0)), "a part of the first");
    assert_eq!(run(0, 2_499, 1, u64::MAX), Some((1, 1)), "its last byte");
    assert_eq!(run(0, 100, 4_900, u64::MAX), Some((4_900, 2)), "its rest and the next");
    assert_eq!(run(0, 0, usize::MAX, u64::MAX), Some((7_500, 3)), "the fourth is in the next segment");
    assert_eq!(run(3, 0, usize::MAX, u64::MAX), Some((2_500, 4)));
    assert_eq!(run(0, 0, usize::MAX, 13), Some((5_000, 2)));
    assert_eq!(run(0, 0, usize::MAX, 12), Some((5_000, 2)));
    assert_eq!(run(2, 0, usize::MAX, 13), None);
    assert_eq!(run(4, 0, usize::MAX, u64::MAX), None, "yet to come");
    assert_eq!(run(0, 2_500, usize::MAX, u64::MAX), None, "beyond the frame");
    assert_eq!(run(0, usize::MAX, usize::MAX, u64::MAX), None, "beyond everything");
    assert_eq!(run(0, 0, 0, u64::MAX), Some((0, 0)));
}

#[test]
fn message_limit_evicts_one_by_one() {
    let mut log = log(64 * KIB, 3);
    for seq in 0..10 {
        push(&mut log, seq, 10);
        assert_eq!(log.len_messages() as u64, (seq + 1).min(3));
    }
    assert_eq!(log.span(), 7..10);
    assert_eq!(log.len_bytes(), 30);
}

#[test]
fn byte_limit_evicts_the_oldest_segment() {
    let mut log = log(64 * KIB, 1_000);
    for _ in 0..32 {
        push_next(&mut log, 2 * KIB);
    }
    assert_eq!((log.first_slot(), log.len_bytes()), (0, 64 * KIB), "filled to the last byte");
    push_next(&mut log, 1);
    assert_eq!((log.first_slot(), log.len_bytes()), (4, 56 * KIB + 1));
}

#[test]
fn frame_of_a_quarter_is_stored_and_a_larger_one_refused() {
    let mut log = log(1024 * KIB, 1_000);
    assert_eq!(log.max_frame_bytes(), 256 * KIB);
    for len in [100, 256 * KIB, 100] {
        push_next(&mut log, len);
    }
    assert_eq!(log.run(0, 0, usize::MAX, u64::MAX).map(|run| run.next), Some(1), "a large frame lies alone");
    assert_eq!(log.run(1, 0, usize::MAX, u64::MAX).map(|run| run.next), Some(2));
    for _ in 0..10 {
        push_next(&mut log, 256 * KIB);
    }
    assert_eq!(log.len_messages(), 4);
    let refused = catch_unwind(AssertUnwindSafe(|| push_next(&mut log, 256 * KIB + 1)));
    assert!(refused.is_err());
    check(&log);
}

/// Pushes a frame and another one; what goes for them is no more than was foretold.
fn push_both(log: &mut Log, len: usize, kept: usize) {
    let foretold = log.first_slot_after_both(len, kept);
    push_next(log, len);
    push_next(log, kept);
    assert!(log.first_slot() <= foretold, "{} and not {foretold} of {log:?}", log.first_slot());
}

#[test]
fn there_is_room_for_two_also_if_the_first_one_takes_a_larger_buffer_than_it_needs() {
    let mut log = log(64 * KIB, 1_024);
    push_next(&mut log, 12 * KIB);
    for _ in 0..6 {
        push_next(&mut log, 8 * KIB);
    }
    assert_eq!((log.segments.len(), log.capacity_bytes()), (7, 60 * KIB));
    // The first one takes the 12 KiB of the oldest, and leaves 4 KiB for the second.
    push_both(&mut log, KIB, 16 * KIB);
    assert_eq!(log.segments.iter().map(|segment| segment.bytes.len()).max(), Some(16 * KIB));
}

#[test]
fn lapped_reader_finds_nothing_and_goes_on_at_the_recovery_slot() {
    let mut log = log(64 * KIB, 1_000);
    let mut reader = Reader::default();
    push_next(&mut log, 100);
    assert!(reader.read(&log, 50, u64::MAX));
    while log.first_slot() == 0 {
        push_next(&mut log, 100);
    }
    assert_eq!((log.seq(0), log.frame(0)), (None, None));
    assert!(!reader.read(&log, 50, u64::MAX), "the rest of its frame is gone");
    let mut reader = Reader { slot: log.recovery_slot(), ..Reader::default() };
    assert!(reader.read(&log, 50, u64::MAX));
}

#[test]
fn recovery_leaves_a_quarter_of_the_log_before_the_next_lap() {
    for (len, messages) in [(100, 1_000_000), (100, 200), (3_000, 1_000_000), (16 * KIB, 1_000_000), (5, 7)] {
        let mut log = log(64 * KIB, messages);
        push_next(&mut log, len);
        assert_eq!(log.recovery_slot(), 0, "nothing is given up while there is room");
        while log.first_slot() < 10 {
            push_next(&mut log, len);
        }
        let recovery = log.recovery_slot();
        let given_up = recovery - log.first_slot();
        let mut pushed = 0;
        while log.first_slot() <= recovery {
            push_next(&mut log, len);
            pushed += 1;
        }
        // A frame's share of its segment, the unused end included; segments have 8 KiB here.
        let share = len.max(8 * KIB / (8 * KIB / len).max(1));
        let quarter = (messages / 4).min(16 * KIB / share);
        assert!(pushed > quarter, "{pushed} frames of {len} bytes of a quarter {quarter}");
        assert!(given_up <= (quarter + 16 * KIB / len) as u64, "{given_up} frames of {len} bytes");
    }
}

/// Where all the log's buffers lie.
fn buffers(log: &Log) -> BTreeSet<*const u8> {
    log.segments.iter().map(|segment| &segment.bytes).chain(&log.spare).map(|bytes| bytes.as_ptr()).collect()
}

#[test]
fn steady_stream_allocates_nothing() {
    // Limited by bytes, by messages, in frames larger than a segment, and in frames of both kinds.
    for (messages, lens) in [
        (100_000, vec![50, 300, 7]),
        (500, vec![50, 300, 7]),
        (100_000, vec![9_000]),
        (100_000, vec![8_192, 100]),
    ] {
        let mut log = log(64 * KIB, messages);
        let mut lens = lens.into_iter().cycle();
        let mut push_many = |log: &mut Log| {
            for _ in 0..2_000 {
                let len = lens.next().expect("a cycle");
                log.push_with(log.span().end, len, |bytes| bytes.fill(0));
            }
        };
        push_many(&mut log);
        let (all, index, segments) = (buffers(&log), log.index_bytes(), log.segments.capacity());
        for _ in 0..10 {
            push_many(&mut log);
            assert!(buffers(&log).is_subset(&all), "a new buffer");
            assert_eq!((log.index_bytes(), log.segments.capacity()), (index, segments));
        }
        check(&log);
    }
}

#[test]
fn frame_whose_encoding_panics_leaves_no_trace() {
    for before in 0..3 {
        let mut log = log(64 * KIB, 2);
        for _ in 0..before {
            push_next(&mut log, 8 * KIB);
        }
        let next = log.next_slot();
        for len in [100, 16 * KIB] {
            let end = log.span().end;
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                log.push_with(end, len, |bytes| {
                    bytes.fill(1);
                    panic!("an encoder's mistake");
                })
            }));
            assert!(panicked.is_err());
            assert_eq!(log.next_slot(), next);
        }
        let slot = push_next(&mut log, 50);
        let seq = log.seq(slot).expect("just stored");
        assert_eq!(log.frame(slot), Some(&frame(seq, 50)[..]));
        push_next(&mut log, 8 * KIB);
        push_next(&mut log, 10 * KIB);
        push_next(&mut log, 10 * KIB);
        check(&log);
    }
}

#[test]
fn log_of_no_bytes_stores_no_frame() {
    let mut log = log(0, 0);
    assert_eq!(log.max_frame_bytes(), 0);
    assert!(catch_unwind(AssertUnwindSafe(|| push_next(&mut log, 1))).is_err());
    assert!(log.is_empty());
}

/// Prints what a push and a run cost; run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "measures, asserts nothing"]
fn measure_push_and_run() {
    const PUSHES: usize = 10_000_000;
    let mut log = Log::new(LogLimits::default());
    let mut reader = Reader::default();
    let frame = [7; 200];
    let mut runs = 0;
    let begun = std::time::Instant::now();
    for seq in 0..PUSHES as u64 {
        log.push_with(seq, frame.len(), |bytes| bytes.copy_from_slice(&frame));
    }
    std::println!("push: {} ns", begun.elapsed().as_nanos() / PUSHES as u128);
    reader.slot = log.first_slot();
    let begun = std::time::Instant::now();
    while let Some(run) = log.run(reader.slot, 0, 16 * KIB, u64::MAX) {
        reader.slot = run.next;
        runs += 1;
    }
    std::println!("run of 16 KiB: {} ns", begun.elapsed().as_nanos() / runs);
}
