//! Bytes written down once. Changing the format means changing the files under `tests/vectors/`, on purpose.
//!
//! A vector is a block of lines: a name, then hex, to be read without its white space; lines that begin with `#` are
//! comments. The bytes were put together from `src/wire/PROTOCOL.md` by hand and script, not by the encoder that they
//! judge. In `bad.hex` and `overlong.hex` a line with `!` between name and hex says what is to come of the bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pulsewire::wire::{
    ByeCode, Deframer, Error, Frame, Gap, Heartbeat, Hello, Ids, Kind, Last, Lost, Prefixes, Publish,
    Refusal, RejectCode, Reply, Request, Role, SessionId, Settle, Start, Status, Subscribe, Subscribed,
    Unsubscribe, Welcome, HANDSHAKE_MAX_FRAME,
};

struct Vector {
    name: String,
    /// What the line with `!` says; empty where there is none.
    remark: String,
    bytes: Vec<u8>,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "vectors"].iter().collect()
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = folder().join(file).with_extension("hex");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Vec<Vector> = text.split("\n\n").filter_map(vector).collect();
    assert!(!vectors.is_empty(), "{} holds no vector", path.display());
    vectors
}

fn vector(block: &str) -> Option<Vector> {
    let mut lines =
        block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    let name = lines.next()?.to_owned();
    let remark = lines.next_if(|line| line.starts_with('!')).map_or("", |line| line[1..].trim()).to_owned();
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let pairs = digits.as_bytes().chunks_exact(2);
    assert!(pairs.len() > 0 && pairs.remainder().is_empty(), "{name}: {} hex digits", digits.len());
    let hex = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes =
        pairs.map(|pair| hex(pair).unwrap_or_else(|| panic!("{name}: {pair:?} is not hex"))).collect();
    Some(Vector { name, remark, bytes })
}

/// What a fresh connection makes of the bytes, up to the first error.
fn read(bytes: &[u8], limit: u32, mut each: impl FnMut(Frame<'_>)) -> Result<(), Error> {
    let mut deframer = Deframer::new();
    let mut input = bytes;
    while let Some(body) = deframer.next(&mut input, limit)? {
        each(Frame::decode(body)?);
    }
    assert_eq!(deframer.partial_len(), 0, "the bytes end inside a frame");
    Ok(())
}

fn ids(ids: &[u64]) -> Ids<'static> {
    let mut region = Vec::new();
    ids.iter().for_each(|id| Ids::push(&mut region, *id));
    Ids::from_bytes(region.leak()).unwrap()
}

fn prefixes(prefixes: &[&str]) -> Prefixes<'static> {
    let mut region = Vec::new();
    prefixes.iter().for_each(|prefix| Prefixes::push(&mut region, prefix).unwrap());
    Prefixes::from_bytes(region.leak()).unwrap()
}

fn repeated(letter: &str, count: usize) -> &'static str {
    letter.repeat(count).leak()
}

const SESSION: SessionId = SessionId([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]);
const MIB_16: u32 = 16 * 1024 * 1024;

/// What the vectors mean: file and name, and the frame.
fn meanings() -> Vec<(&'static str, Frame<'static>)> {
    let mut all = handshakes();
    all.extend(endings());
    all.extend(calls());
    all.extend(replies());
    all.extend(sets());
    all.extend(streams());
    all
}

fn handshakes() -> Vec<(&'static str, Frame<'static>)> {
    let hello = |role, session, attempt, max_frame, stream| {
        Frame::Hello(Hello::new(role, session, attempt, max_frame, stream))
    };
    vec![
        ("hello requester", hello(Role::Requester, SESSION, 0, MIB_16, "")),
        ("hello subscriber-of-the-main-stream", hello(Role::Subscriber, SESSION, 7, 4096, "")),
        ("hello subscriber-of-a-named-stream", hello(Role::Subscriber, SESSION, u64::MAX, u32::MAX, "ticks")),
        (
            "hello longest-stream-name",
            hello(Role::Subscriber, SessionId::default(), 1, 65_536, repeated("s", 255)),
        ),
        ("welcome new-session", Frame::Welcome(Welcome::new(0x0123_4567_89ab_cdef, false, 10_000, MIB_16))),
        ("welcome known-session", Frame::Welcome(Welcome::new(u64::MAX, true, 1, 4096))),
    ]
}

fn endings() -> Vec<(&'static str, Frame<'static>)> {
    let reject = |code, text| Frame::Reject { code, text };
    let bye = |code, text| Frame::Bye { code, text };
    vec![
        ("reject not-hello", reject(RejectCode::NotHello, "not the pulsewire protocol")),
        ("reject version", reject(RejectCode::Version, "version 1 is spoken here")),
        ("reject role", reject(RejectCode::Role, "no functions here")),
        ("reject unknown-stream", reject(RejectCode::UnknownStream, "no stream \"ticks\"")),
        ("reject full", reject(RejectCode::Full, "16384 connections")),
        ("reject frame-limit", reject(RejectCode::FrameLimit, "publications of up to 1048576 bytes")),
        ("reject shutting-down", reject(RejectCode::ShuttingDown, "")),
        ("reject code-of-a-later-version", reject(RejectCode::Other(0xbeef), "später")),
        ("bye stopped", bye(ByeCode::Stopped, "")),
        ("bye protocol", bye(ByeCode::Protocol, "unexpected Publish frame")),
        ("bye too-slow", bye(ByeCode::TooSlow, "blocked for 5 s")),
        ("bye replaced", bye(ByeCode::Replaced, "")),
        ("bye limit", bye(ByeCode::Limit, "prefixes of all subscribers are above 67108864 bytes")),
        ("bye code-of-a-later-version", bye(ByeCode::Other(0), "日本")),
    ]
}

fn calls() -> Vec<(&'static str, Frame<'static>)> {
    let request = |id, time_left_ms, function, settled: &[u64], arguments| Frame::Request {
        header: Request { id, time_left_ms, function, settled: ids(settled) },
        arguments,
    };
    let settle = |all_but, which: &[u64]| Frame::Settle(Settle { all_but, ids: ids(which) });
    let seventeen: Vec<u64> = (1..=17).collect();
    vec![
        ("request no-arguments", request(1, 30_000, "ping", &[], b"")),
        ("request arguments-and-settled-ids", request(258, 1, "add", &[255, 256], &[2, 4])),
        ("request expired-before-it-was-sent", request(2, 0, "add", &[1], &[0])),
        ("request empty-name-and-largest-numbers", request(u64::MAX, u32::MAX, "", &[u64::MAX], b"")),
        ("request longest-name", request(3, 1_000, repeated("f", 255), &[], b"")),
        ("request seventeen-settled-ids", request(99, 5_000, "query_history", &seventeen, b"IF2406.CFFEX")),
        ("settle these", settle(false, &[1, 2, 3])),
        ("settle all-but-these", settle(true, &[0x0102_0304_0506_0708])),
        ("settle all", settle(true, &[])),
        ("settle none", settle(false, &[])),
    ]
}

fn replies() -> Vec<(&'static str, Frame<'static>)> {
    let reply = |id, status, payload: &'static str| Frame::Reply {
        header: Reply { id, status },
        payload: payload.as_bytes(),
    };
    vec![
        ("reply ok", reply(1, Status::Ok, "\x0c")),
        ("reply ok-with-empty-result", reply(2, Status::Ok, "")),
        ("reply failed", reply(3, Status::Failed, "no such contract: IF2406")),
        ("reply unknown-function", reply(4, Status::UnknownFunction, "")),
        ("reply bad-arguments", reply(5, Status::BadArguments, "2 bytes too many")),
        ("reply panicked", reply(6, Status::Panicked, "index out of bounds")),
        ("reply not-executed-expired", reply(7, Status::NotExecuted(Refusal::Expired), "")),
        ("reply not-executed-full", reply(8, Status::NotExecuted(Refusal::Full), "1024 calls in flight")),
        ("reply not-executed-shutting-down", reply(9, Status::NotExecuted(Refusal::ShuttingDown), "")),
        ("reply not-executed-settled", reply(10, Status::NotExecuted(Refusal::Settled), "")),
        ("reply result-not-kept", reply(11, Status::ResultNotKept, "")),
        ("reply dropped", reply(12, Status::Dropped, "")),
    ]
}

fn sets() -> Vec<(&'static str, Frame<'static>)> {
    let subscribe = |ticket, snapshot, start, set: &[&str]| {
        Frame::Subscribe(Subscribe { ticket, snapshot, start, prefixes: prefixes(set) })
    };
    let unsubscribe =
        |ticket, set: &[&str]| Frame::Unsubscribe(Unsubscribe { ticket, prefixes: prefixes(set) });
    let subscribed = |ticket, position| Frame::Subscribed(Subscribed { ticket, position });
    let resume = Start::Resume { next_seq: 1_001, accounted: 640 };
    vec![
        (
            "subscribe complete-set-starting-fresh",
            subscribe(1, false, Some(Start::Fresh), &["tick.", "order."]),
        ),
        (
            "subscribe complete-set-starting-from-a-number",
            subscribe(2, true, Some(Start::From { seq: 1_000 }), &[""]),
        ),
        ("subscribe complete-set-resuming", subscribe(3, false, Some(resume), &["tick.rb2410.SHFE"])),
        ("subscribe empty-set-starting-fresh", subscribe(4, false, Some(Start::Fresh), &[])),
        ("subscribe more-to-come", subscribe(5, false, None, &["a", "b", "c"])),
        ("subscribe with-snapshot", subscribe(6, true, None, &["order."])),
        ("subscribe everything", subscribe(7, false, Some(Start::Fresh), &[""])),
        (
            "subscribe prefixes-of-two-languages-and-the-longest",
            subscribe(u64::MAX, false, None, &["锡.", "zinn.ä", repeated("p", 255)]),
        ),
        ("unsubscribe two-prefixes", unsubscribe(8, &["tick.", "order."])),
        ("unsubscribe everything", unsubscribe(9, &[""])),
        ("unsubscribe nothing", unsubscribe(10, &[])),
        ("subscribed at-the-beginning", subscribed(1, 0)),
        ("subscribed later", subscribed(2, 0x0001_0002_0003_0004)),
    ]
}

fn streams() -> Vec<(&'static str, Frame<'static>)> {
    let heartbeat = |wall_clock_ns, position| Frame::Heartbeat(Heartbeat { wall_clock_ns, position });
    let publish = |seq, topic, data| Frame::Publish { header: Publish { seq, topic }, data };
    let last = |seq, topic, data| Frame::Last { header: Last { seq, topic }, data };
    let gap = |before, after, lost| Frame::Gap(Gap { before, after, lost });
    const DATA: &[u8] = &[0xde, 0xad, 0xbe, 0xef];
    vec![
        ("heartbeat to-a-requester", heartbeat(1_700_000_000_000_000_000, 0)),
        ("heartbeat to-a-subscriber", heartbeat(1_700_000_000_123_456_789, 42)),
        ("heartbeat largest-numbers", heartbeat(u64::MAX, u64::MAX)),
        ("publish first-of-an-epoch", publish(0, "tick.rb2410.SHFE", DATA)),
        ("publish worked-example", publish(5, "tick.rb", DATA)),
        ("publish no-topic-and-no-data", publish(1, "", b"")),
        ("publish topic-above-127-bytes", publish(2, repeated("t", 128), &[0])),
        ("publish longest-topic-and-largest-number", publish(u64::MAX, repeated("t", 255), &[1, 2, 3])),
        ("publish topic-of-another-script", publish(3, "行情.螺纹", "¥".as_bytes())),
        ("last of-a-topic", last(17, "order.42", b"filled")),
        ("last no-topic-and-no-data", last(0, "", b"")),
        ("gap exact", gap(100, 5_000, Lost::Exact(37))),
        ("gap at-most", gap(100, 5_000, Lost::AtMost(4_900))),
        ("gap largest-numbers", gap(0, u64::MAX, Lost::Exact(u64::MAX))),
    ]
}

/// Every kind that this version knows, with the name of its file.
fn kinds() -> Vec<(Kind, String)> {
    let known = (0..=u8::MAX).filter_map(|byte| Kind::from_byte(byte).ok());
    known.map(|kind| (kind, format!("{kind:?}").to_lowercase())).collect()
}

#[test]
fn every_vector_is_what_its_frame_is_written_as_and_reads_back() {
    let mut meanings: BTreeMap<&str, Frame<'_>> = meanings().into_iter().collect();
    for (kind, file) in kinds() {
        for vector in vectors(&file) {
            let name = format!("{file} {}", vector.name);
            let frame = meanings.remove(&*name).unwrap_or_else(|| panic!("nobody says what {name} means"));
            assert_eq!(frame.kind(), kind, "{name}");
            let mut bytes = Vec::new();
            frame.encode(u32::MAX, &mut bytes).unwrap();
            assert_eq!(bytes, vector.bytes, "{name}: written differently");
            let mut count = 0;
            let outcome = read(&vector.bytes, u32::MAX, |read| {
                assert_eq!(read, frame, "{name}: read differently");
                count += 1;
            });
            assert_eq!((outcome, count), (Ok(()), 1), "{name}");
        }
    }
    assert!(meanings.is_empty(), "no vector: {:?}", meanings.keys());
}

#[test]
fn every_file_of_vectors_is_read() {
    let mut expected: Vec<String> = kinds().into_iter().map(|(_, file)| file + ".hex").collect();
    expected.extend(["bad.hex".to_owned(), "overlong.hex".to_owned()]);
    expected.sort();
    let entries = fs::read_dir(folder()).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn bad_bytes_are_refused_with_the_error_that_is_written_beside_them() {
    for vector in vectors("bad") {
        let outcome = read(&vector.bytes, HANDSHAKE_MAX_FRAME, |_| {});
        let error = outcome.expect_err(&vector.name);
        assert_eq!(format!("{error:?}"), vector.remark, "{}", vector.name);
    }
}

#[test]
fn varints_longer_than_necessary_are_read_and_never_written() {
    let meanings: BTreeMap<&str, Frame<'_>> = meanings().into_iter().collect();
    for vector in vectors("overlong") {
        let frame = meanings[&*vector.remark];
        let mut count = 0;
        let outcome = read(&vector.bytes, u32::MAX, |read| {
            assert_eq!(read, frame, "{}", vector.name);
            count += 1;
        });
        assert_eq!((outcome, count), (Ok(()), 1), "{}", vector.name);
        let mut bytes = Vec::new();
        frame.encode(u32::MAX, &mut bytes).unwrap();
        assert!(bytes.len() < vector.bytes.len(), "{}", vector.name);
    }
}
