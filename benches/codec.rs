//! Frames: values into bytes and bytes into values, and the cutting of a stream into frames.

use divan::counter::{BytesCount, ItemsCount};
use divan::{black_box, Bencher};
use pulsewire::wire::{Deframer, Frame, Ids, Publish, Request, LENGTH_BYTES};

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [16, 256, 4_096, 65_536];
const LIMIT: u32 = 16 * 1024 * 1024;
/// Frames in a stream that is cut.
const FRAMES: usize = 256;

fn publication(data: &[u8]) -> Frame<'_> {
    Frame::Publish { header: Publish { seq: 123_456_789, topic: "tick.rb2410.SHFE" }, data }
}

fn request(arguments: &[u8]) -> Frame<'_> {
    let header =
        Request { id: 123_456_789, time_left_ms: 30_000, function: "send_order", settled: Ids::default() };
    Frame::Request { header, arguments }
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(LIMIT, &mut bytes).expect("it is within every limit");
    bytes
}

fn encode(bencher: Bencher<'_, '_>, frame: &Frame<'_>) {
    let mut bytes = Vec::new();
    bencher.counter(BytesCount::new(encoded(frame).len())).bench_local(|| {
        bytes.clear();
        black_box(frame).encode(LIMIT, &mut bytes)
    });
}

fn decode(bencher: Bencher<'_, '_>, frame: &Frame<'_>) {
    let bytes = encoded(frame);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Frame::decode(black_box(&bytes[LENGTH_BYTES..])).is_ok());
}

#[divan::bench(args = SIZES)]
fn encode_publication(bencher: Bencher<'_, '_>, size: usize) {
    encode(bencher, &publication(&vec![0x5a; size]));
}

#[divan::bench(args = SIZES)]
fn decode_publication(bencher: Bencher<'_, '_>, size: usize) {
    decode(bencher, &publication(&vec![0x5a; size]));
}

#[divan::bench(args = SIZES)]
fn encode_request(bencher: Bencher<'_, '_>, size: usize) {
    encode(bencher, &request(&vec![0x5a; size]));
}

#[divan::bench(args = SIZES)]
fn decode_request(bencher: Bencher<'_, '_>, size: usize) {
    decode(bencher, &request(&vec![0x5a; size]));
}

/// A read that holds many whole frames; each is cut off and decoded.
#[divan::bench(args = [16, 256, 4_096])]
fn cut_stream(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = encoded(&publication(&vec![0x5a; size])).repeat(FRAMES);
    let mut deframer = Deframer::new();
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        let mut input = black_box(&bytes[..]);
        let mut frames = 0;
        while let Ok(Some(body)) = deframer.next(&mut input, LIMIT) {
            frames += usize::from(Frame::decode(body).is_ok());
        }
        assert_eq!(frames, FRAMES);
    });
}
