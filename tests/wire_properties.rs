//! What holds for all frames and all bytes: chopping changes nothing, encode and decode are inverse, no bytes panic,
//! an error is final, and memory follows what came, not what was promised.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, Index};

use pulsewire::wire::{
    ByeCode, Deframer, Error, Frame, Gap, Heartbeat, Hello, Ids, Kind, Last, Lost, Prefixes, Publish,
    Refusal, RejectCode, Reply, Request, Role, SessionId, Settle, Start, Status, Subscribe, Subscribed,
    Unsubscribe, Welcome, LENGTH_BYTES, MAX_NAME_BYTES,
};

/// What a vector of bytes takes at the least.
const LEAST_CAPACITY: usize = 8;

/// A frame that owns its parts; which of them it uses depends on the kind.
#[derive(Debug, Clone)]
struct Parts {
    kind: Kind,
    numbers: [u64; 2],
    number: u32,
    code: u16,
    flag: bool,
    session: [u8; 16],
    role: Role,
    status: Status,
    start: Option<Start>,
    lost: Lost,
    name: String,
    text: String,
    payload: Vec<u8>,
    ids: Vec<u8>,
    prefixes: Vec<u8>,
}

impl Parts {
    fn frame(&self) -> Frame<'_> {
        let [first, second] = self.numbers;
        let (name, payload) = (&*self.name, &*self.payload);
        let ids = Ids::from_bytes(&self.ids).unwrap();
        let prefixes = Prefixes::from_bytes(&self.prefixes).unwrap();
        match self.kind {
            Kind::Hello => {
                Frame::Hello(Hello::new(self.role, SessionId(self.session), first, self.number, name))
            }
            Kind::Welcome => Frame::Welcome(Welcome::new(first, self.flag, self.number, !self.number)),
            Kind::Reject => Frame::Reject { code: RejectCode::from_code(self.code), text: &self.text },
            Kind::Heartbeat => Frame::Heartbeat(Heartbeat { wall_clock_ns: first, position: second }),
            Kind::Bye => Frame::Bye { code: ByeCode::from_code(self.code), text: &self.text },
            Kind::Request => {
                let header = Request { id: first, time_left_ms: self.number, function: name, settled: ids };
                Frame::Request { header, arguments: payload }
            }
            Kind::Settle => Frame::Settle(Settle { all_but: self.flag, ids }),
            Kind::Reply => Frame::Reply { header: Reply { id: first, status: self.status }, payload },
            Kind::Subscribe => {
                let Parts { flag: snapshot, start, .. } = *self;
                Frame::Subscribe(Subscribe { ticket: first, snapshot, start, prefixes })
            }
            Kind::Unsubscribe => Frame::Unsubscribe(Unsubscribe { ticket: first, prefixes }),
            Kind::Subscribed => Frame::Subscribed(Subscribed { ticket: first, position: second }),
            Kind::Publish => Frame::Publish { header: Publish { seq: first, topic: name }, data: payload },
            Kind::Last => Frame::Last { header: Last { seq: first, topic: name }, data: payload },
            Kind::Gap => Frame::Gap(Gap { before: first, after: second, lost: self.lost }),
            kind => panic!("{kind:?} is new: say here how to build it"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.frame().encode(u32::MAX, &mut bytes).unwrap();
        bytes
    }
}

fn known_kinds() -> Vec<Kind> {
    (0..=u8::MAX).filter_map(|byte| Kind::from_byte(byte).ok()).collect()
}

fn status() -> impl Strategy<Value = Status> {
    use Refusal::*;
    let refusal = select(vec![Expired, Full, ShuttingDown, Settled]);
    let plain = [
        Status::Ok,
        Status::Failed,
        Status::UnknownFunction,
        Status::BadArguments,
        Status::Panicked,
        Status::ResultNotKept,
        Status::Dropped,
    ];
    prop_oneof![select(plain.to_vec()), refusal.prop_map(Status::NotExecuted)]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Fresh),
        any::<u64>().prop_map(|seq| Start::From { seq }),
        any::<(u64, u64)>().prop_map(|(next_seq, accounted)| Start::Resume { next_seq, accounted }),
    ]
}

fn lost() -> impl Strategy<Value = Lost> {
    prop_oneof![any::<u64>().prop_map(Lost::Exact), any::<u64>().prop_map(Lost::AtMost)]
}

/// Names up to their limit, with the limit itself and both sides of a varint's second byte.
fn name() -> impl Strategy<Value = String> {
    let lengths = [0, 1, 127, 128, MAX_NAME_BYTES].to_vec();
    prop_oneof!["[a-z.]{0,20}", "\\PC{0,60}", select(lengths).prop_map(|length| "n".repeat(length))]
}

fn regions() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (vec(any::<u64>(), 0..40), vec(name(), 0..6)).prop_map(|(ids, prefixes)| {
        let (mut id_region, mut prefix_region) = (Vec::new(), Vec::new());
        ids.iter().for_each(|id| Ids::push(&mut id_region, *id));
        prefixes.iter().for_each(|prefix| Prefixes::push(&mut prefix_region, prefix).unwrap());
        (id_region, prefix_region)
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let plain = (select(known_kinds()), any::<([u64; 2], u32, u16, bool, [u8; 16])>());
    let enums =
        (select(vec![Role::Requester, Role::Subscriber]), status(), proptest::option::of(start()), lost());
    let payload = prop_oneof![vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..5_000)];
    let texts = (name(), "\\PC{0,80}", payload, regions());
    (plain, enums, texts).prop_map(|(plain, enums, texts)| {
        let (kind, (numbers, number, code, flag, session)) = plain;
        let (role, status, start, lost) = enums;
        let (name, text, payload, (ids, prefixes)) = texts;
        Parts {
            kind,
            numbers,
            number,
            code,
            flag,
            session,
            role,
            status,
            start,
            lost,
            name,
            text,
            payload,
            ids,
            prefixes,
        }
    })
}

/// Bytes that are frames but for a few of them, so that errors are found deep inside and not only at the door.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<Index>(), any::<u8>()), 1..4);
    (vec(parts(), 1..4), damage, any::<Index>()).prop_map(|(frames, damage, end)| {
        let mut bytes = stream(&frames);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() * 2).max(1));
        bytes
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), damaged()]
}

fn stream(frames: &[Parts]) -> Vec<u8> {
    frames.iter().flat_map(Parts::bytes).collect()
}

/// Lengths of pieces, which repeat; 0 is a read that brought nothing.
fn chopping() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        vec(0..8_usize, 1..10).prop_map(|mut lengths| {
            lengths.push(1);
            lengths
        }),
        vec(1..3_000_usize, 1..10),
        Just(vec![usize::MAX]),
    ]
}

fn chop<'a>(mut bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (piece, rest) = bytes.split_at((*lengths.next()?).min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

/// Feeds the pieces, looks at the memory after each, and says what came out and which error ended it.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: u32) -> (Vec<Vec<u8>>, Result<(), Error>) {
    let mut deframer = Deframer::new();
    let mut bodies = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            match deframer.next(&mut input, limit) {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(deframer.capacity(), 0);
                    return (bodies, Err(error));
                }
            }
        }
        assert!(input.is_empty(), "not yet means that everything was taken in");
        check_memory(&deframer);
    }
    (bodies, Ok(()))
}

/// What is held was fed, with room for as much again at the most, and never more than the frame will need.
fn check_memory(deframer: &Deframer) {
    let held = deframer.capacity();
    assert!(held <= 2 * deframer.partial_len() + LEAST_CAPACITY);
    assert!(deframer.announced_len().is_none_or(|announced| held as u64 <= announced.max(8)));
    assert!(deframer.partial_len() > 0 || held == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_chopping_yields_the_same_frames(frames in vec(parts(), 0..8), lengths in chopping()) {
        let bytes = stream(&frames);
        let (bodies, outcome) = cut(chop(&bytes, &lengths), u32::MAX);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(bodies.len(), frames.len());
        for (body, parts) in bodies.iter().zip(&frames) {
            prop_assert_eq!(Frame::decode(body), Ok(parts.frame()));
        }
    }

    #[test]
    fn decode_is_the_inverse_of_encode(parts in parts(), before in vec(any::<u8>(), 0..10)) {
        let frame = parts.frame();
        let mut out = before.clone();
        frame.encode(u32::MAX, &mut out).unwrap();
        let (kept, bytes) = out.split_at(before.len());
        prop_assert_eq!(kept, before);
        let (length, body) = bytes.split_at(LENGTH_BYTES);
        prop_assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        prop_assert_eq!(Kind::from_byte(body[0]), Ok(parts.kind));
        prop_assert_eq!(Frame::decode(body), Ok(frame));
    }

    #[test]
    fn frame_is_written_up_to_its_limit_and_not_above(parts in parts()) {
        let len = u32::try_from(parts.bytes().len() - LENGTH_BYTES).unwrap();
        let mut out = Vec::new();
        let error = parts.frame().encode(len - 1, &mut out).unwrap_err();
        prop_assert_eq!((error.len, error.limit), (u64::from(len), len - 1));
        prop_assert!(out.is_empty());
        prop_assert_eq!(parts.frame().encode(len, &mut out), Ok(()));
    }

    #[test]
    fn no_body_makes_decode_panic(body in any_bytes()) {
        let _ = Frame::decode(&body);
    }

    #[test]
    fn no_header_makes_decode_panic(kind in select(known_kinds()), header in vec(any::<u8>(), 0..80)) {
        let mut body = vec![kind as u8];
        body.extend(header);
        let _ = Frame::decode(&body);
    }

    #[test]
    fn cut_off_headers_are_errors_or_shorter_payloads(parts in parts(), end in any::<Index>()) {
        let bytes = parts.bytes();
        let body = &bytes[LENGTH_BYTES..];
        let cut = &body[..end.index(body.len())];
        if let Ok(frame) = Frame::decode(cut) {
            prop_assert!(has_payload(&parts.frame()), "{:?} became {:?}", parts.frame(), frame);
        }
    }

    #[test]
    fn bytes_behind_a_frame_without_payload_are_refused(parts in parts(), extra in vec(any::<u8>(), 1..10)) {
        let mut body = parts.bytes().split_off(LENGTH_BYTES);
        body.extend(&extra);
        let trailing = Error::TrailingBytes { kind: parts.kind, count: extra.len() as u64 };
        if !has_payload(&parts.frame()) {
            prop_assert_eq!(Frame::decode(&body), Err(trailing));
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_come_out_as_in_one(bytes in any_bytes(), lengths in chopping(), limit in 1..6_000_u32) {
        let whole = cut(std::iter::once(&*bytes), limit);
        let pieces = cut(chop(&bytes, &lengths), limit);
        prop_assert_eq!(&whole, &pieces);
        for body in &whole.0 {
            prop_assert!((1..=limit as usize).contains(&body.len()));
            let _ = Frame::decode(body);
        }
    }

    #[test]
    fn fuzz_body_accepts_any_bytes(bytes in any_bytes()) {
        pulsewire::fuzz::decoder(&bytes);
    }

    #[test]
    fn nothing_comes_after_an_error(
        before in vec(parts(), 0..3),
        excess in 1..=1_000_u32,
        after in vec(parts(), 1..3),
        lengths in chopping(),
        empty in any::<bool>(),
    ) {
        let limit = 100_000;
        let len = if empty { 0 } else { limit + excess };
        let error = if empty { Error::Empty } else { Error::FrameTooLong { len, limit } };
        let (good, bad, later) = (stream(&before), len.to_le_bytes(), stream(&after));
        let bytes: Vec<u8> = [&good[..], &bad, &later].concat();

        let (bodies, outcome) = cut(chop(&bytes, &lengths), limit);
        prop_assert_eq!((bodies.len(), outcome), (before.len(), Err(error)));

        let mut deframer = Deframer::new();
        let mut input = &bad[..];
        prop_assert_eq!(deframer.next(&mut input, limit), Err(error));
        for piece in chop(&later, &lengths) {
            let mut input = piece;
            prop_assert_eq!(deframer.next(&mut input, u32::MAX), Err(error));
        }
    }

    #[test]
    fn limit_is_exact(limit in 1..5_000_u32, excess in 1..100_u32, lengths in chopping()) {
        let frame = |len: u32| [&len.to_le_bytes()[..], &vec![7; len as usize]].concat();
        let (bodies, outcome) = cut(chop(&frame(limit), &lengths), limit);
        prop_assert_eq!((bodies.len(), outcome), (1, Ok(())));

        let len = limit + excess;
        for len in [limit + 1, len, i32::MAX.unsigned_abs(), u32::MAX] {
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend([7; 50]);
            let (bodies, outcome) = cut(chop(&bytes, &lengths), limit);
            prop_assert_eq!((bodies.len(), outcome), (0, Err(Error::FrameTooLong { len, limit })));
        }
    }

    #[test]
    fn promised_length_reserves_nothing(len in 1_000_u32.., came in 0..200_usize, lengths in chopping()) {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.resize(LENGTH_BYTES + came, 7);
        let mut deframer = Deframer::new();
        for piece in chop(&bytes, &lengths) {
            let mut input = piece;
            prop_assert_eq!(deframer.next(&mut input, u32::MAX), Ok(None));
            check_memory(&deframer);
        }
        prop_assert_eq!(deframer.partial_len(), bytes.len());
    }
}

fn has_payload(frame: &Frame<'_>) -> bool {
    use Kind::*;
    matches!(frame.kind(), Reject | Bye | Request | Reply | Publish | Last)
}
