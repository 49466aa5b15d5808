use alloc::vec::Vec;

use super::*;
use crate::wire::{Heartbeat, LENGTH_BYTES};

const INTERVAL: u64 = 10_000;

/// A session on a virtual clock, in milliseconds.
struct Talk {
    now: Instant,
    session: Session,
}

impl Talk {
    fn greeting(side: Side) -> Self {
        Talk { now: Instant::ZERO, session: Session::new(Instant::ZERO, side, &Arc::new(Limits::default())) }
    }

    fn established(side: Side) -> Self {
        let mut talk = Self::greeting(side);
        talk.session.establish(Instant::ZERO, 1_000_000);
        talk.session.expect_heartbeats_every(10_000);
        talk
    }

    /// Moves the clock; every timer on the way is due at its own moment.
    fn at(&mut self, millis: u64) -> &mut Self {
        self.now = Instant::from_millis(millis);
        self
    }

    fn drained(&mut self) -> &mut Self {
        self.session.handle_drained(self.now);
        self
    }

    /// A read brings bytes, of which `held` belong to a frame that is not whole yet.
    fn heard(&mut self, bytes: &[u8]) -> &mut Self {
        self.session.handle_heard();
        let mut deframer = self.session.lend_deframer();
        let mut input = bytes;
        let mut frames = false;
        while deframer.next(&mut input, 1_000_000).unwrap().is_some() {
            frames = true;
        }
        self.session.return_deframer(deframer);
        self.session.handle_decoded(self.now, frames);
        self
    }

    fn expect_wake(&mut self, millis: u64, timer: Timer) -> &mut Self {
        assert_eq!(self.session.poll_timeout(), Some((Instant::from_millis(millis), timer)));
        self
    }

    fn expect_no_wake(&mut self) -> &mut Self {
        assert_eq!(self.session.poll_timeout(), None);
        self
    }

    fn expect_open(&mut self) -> &mut Self {
        assert_eq!(self.session.handle_timeout(self.now), None);
        self
    }

    fn expect_closed(&mut self, reason: CloseReason) {
        assert_eq!(self.session.handle_timeout(self.now), Some(reason));
    }

    /// Writes what there is as far as the kernel takes it, and says what it was.
    fn write(&mut self, most: usize) -> Vec<u8> {
        let chunk = match self.session.take(Vec::new()).expect("no chunk is out") {
            Taken::Rest(chunk, _) | Taken::Fresh(chunk) => chunk,
        };
        if chunk.bytes().is_empty() {
            self.session.untake(chunk);
            self.session.handle_nothing_to_write();
            return Vec::new();
        }
        let taken = chunk.bytes()[..most.min(chunk.bytes().len())].to_vec();
        self.session.put_back(self.now, chunk, taken.len());
        taken
    }

    fn queue_heartbeat(&mut self) -> &mut Self {
        self.session.send_control(&Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position: 0 }));
        self
    }
}

fn bye(code: ByeCode, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Bye { code, text }.encode(4_096, &mut bytes).unwrap();
    bytes
}

#[test]
fn silent_server_is_given_up_after_the_timeout_and_not_before() {
    let mut talk = Talk::established(Side::Client);
    talk.expect_no_wake();
    talk.at(0).drained().expect_wake(30_000, Timer::Silence);
    talk.at(25_000).heard(b"\x05").expect_wake(55_000, Timer::Progress);
    talk.at(25_000).drained();
    talk.at(54_999).expect_open();
    talk.heard(&[0, 0, 0, 12, 1, 2, 3, 4]);
    talk.at(60_000).drained().expect_wake(90_000, Timer::Silence);
    talk.at(89_999).expect_open();
    talk.at(90_000).expect_closed(CloseReason::Silent);
}

#[test]
fn client_that_does_not_read_never_calls_its_server_silent() {
    let mut talk = Talk::established(Side::Client);
    talk.at(0).drained();
    talk.at(5_000).session.pause();
    talk.expect_no_wake();
    talk.at(100_000).drained().expect_no_wake();
    talk.at(1_000_000).expect_open();
    talk.session.unpause();
    talk.expect_no_wake();
    talk.at(1_000_001).drained().expect_wake(1_030_001, Timer::Silence);
}

#[test]
fn server_says_a_heartbeat_after_each_quiet_interval() {
    let mut talk = Talk::established(Side::Server);
    talk.expect_wake(INTERVAL, Timer::Heartbeat);
    talk.at(9_999).expect_open();
    assert!(!talk.session.poll_heartbeat(talk.now));
    talk.at(10_000).expect_open();
    assert!(talk.session.wants_heartbeat());
    talk.expect_no_wake(); // It waits for its place in the stream of bytes, not for a moment.
    assert!(talk.session.poll_heartbeat(talk.now));
    assert!(!talk.session.poll_heartbeat(talk.now), "one is enough");
    talk.queue_heartbeat().expect_wake(20_000, Timer::Heartbeat);
    talk.at(15_000).write(usize::MAX);
    talk.expect_wake(25_000, Timer::Heartbeat);
}

#[test]
fn busy_server_says_no_heartbeat() {
    let mut talk = Talk::established(Side::Server);
    for second in 1..100 {
        talk.at(second * 1_000).expect_open();
        talk.queue_heartbeat().write(usize::MAX);
        talk.expect_wake(second * 1_000 + INTERVAL, Timer::Heartbeat);
    }
}

#[test]
fn handshake_has_one_deadline_however_many_bytes_trickle_in() {
    for side in [Side::Client, Side::Server] {
        let mut talk = Talk::greeting(side);
        talk.expect_wake(5_000, Timer::Handshake);
        talk.at(1_000).heard(&[40]).expect_wake(5_000, Timer::Handshake);
        talk.at(4_999).heard(&[0, 0]).expect_open();
        talk.at(5_000).expect_closed(CloseReason::HandshakeTimeout);
    }
}

#[test]
fn begun_frame_that_does_not_grow_is_given_up() {
    let mut talk = Talk::established(Side::Server);
    talk.session.poll_heartbeat(talk.now);
    talk.at(1_000).heard(&[0, 0, 8, 0]).heard(&[1; 1_000]);
    talk.at(10_000).expect_open();
    talk.session.poll_heartbeat(talk.now);
    talk.at(20_000).heard(&[1; 70_000]);
    talk.at(20_000).expect_open();
    talk.session.poll_heartbeat(talk.now);
    talk.at(30_000).expect_open();
    talk.session.poll_heartbeat(talk.now);
    talk.at(40_000).expect_open();
    talk.at(49_999).heard(&[1; 60_000]).expect_wake(50_000, Timer::Progress);
    talk.at(50_000).expect_closed(CloseReason::FrameStalled { received: 131_004 });
}

#[test]
fn peer_that_takes_nothing_is_given_up_and_one_that_is_owed_nothing_is_not() {
    let mut talk = Talk::established(Side::Client);
    talk.queue_heartbeat();
    talk.at(1_000).write(0);
    talk.expect_wake(121_000, Timer::NotReading);
    talk.at(100_000).write(1);
    talk.expect_wake(220_000, Timer::NotReading);
    talk.at(219_999).write(usize::MAX);
    talk.expect_no_wake();
    talk.queue_heartbeat().write(0);
    talk.at(339_999).expect_closed(CloseReason::NotReading);

    // What had waited was withdrawn: there is nothing that the peer should have taken.
    let mut talk = Talk::established(Side::Client);
    let Ok(Taken::Fresh(mut chunk)) = talk.session.take(Vec::new()) else { panic!("nothing is begun") };
    chunk.buffer().extend_from_slice(&[9, 0, 0, 0, 6, 1, 0, 0, 0, 0, 0, 0, 0]);
    talk.session.put_back(talk.now, chunk, 0);
    talk.expect_wake(120_000, Timer::NotReading);
    assert_eq!(talk.write(usize::MAX), [0; 0]);
    talk.expect_no_wake();
}

#[test]
fn orderly_close_says_bye_after_the_roles_last_frames() {
    let mut talk = Talk::established(Side::Server);
    talk.queue_heartbeat();
    talk.at(1_000).session.close(Instant::from_millis(1_000), ByeCode::Stopped, "bye");
    talk.expect_wake(1_200, Timer::Linger);
    assert!(talk.session.takes_role_frames() && talk.session.is_closing());
    assert!(!talk.session.poll_shutdown(talk.now), "the heartbeat is unsent");
    let heartbeat = talk.write(usize::MAX);
    assert_eq!(heartbeat[LENGTH_BYTES], 4);
    assert!(!talk.session.poll_shutdown(talk.now), "the Bye is unsaid");
    talk.session.say_farewell();
    assert!(!talk.session.takes_role_frames());
    assert_eq!(talk.write(usize::MAX), bye(ByeCode::Stopped, "bye"));
    assert!(talk.at(1_100).session.poll_shutdown(Instant::from_millis(1_100)));
    assert!(!talk.session.poll_shutdown(talk.now), "once");
    talk.expect_wake(1_300, Timer::Linger);
    talk.at(1_300).expect_closed(CloseReason::ByUs);
}

#[test]
fn abort_says_bye_as_soon_as_a_begun_frame_is_finished_and_a_second_close_says_nothing() {
    let mut talk = Talk::established(Side::Server);
    talk.queue_heartbeat();
    let begun = talk.write(7);
    talk.session.abort(talk.now, ByeCode::Protocol, "wrong");
    talk.session.close(talk.now, ByeCode::Stopped, "stopped");
    assert!(!talk.session.takes_role_frames());
    let rest = talk.write(usize::MAX);
    assert_eq!(begun.len() + rest.len(), LENGTH_BYTES + 17 + bye(ByeCode::Protocol, "wrong").len());
    assert!(rest.ends_with(&bye(ByeCode::Protocol, "wrong")));
    assert!(talk.session.poll_shutdown(talk.now));
}

#[test]
fn close_without_a_word_waits_for_nothing_but_a_begun_frame() {
    let mut talk = Talk::established(Side::Server);
    talk.session.close_silently(talk.now);
    assert!(talk.session.poll_shutdown(talk.now));
    talk.at(200).expect_closed(CloseReason::ByUs);
}

#[test]
fn closing_connection_is_read_even_if_it_was_paused() {
    let mut talk = Talk::established(Side::Client);
    talk.session.pause();
    assert!(talk.session.is_paused());
    talk.session.close(talk.now, ByeCode::Stopped, "");
    assert!(!talk.session.is_paused());
}

#[test]
fn announced_interval_stretches_the_timeout_to_three_of_them() {
    let mut talk = Talk::established(Side::Client);
    talk.session.expect_heartbeats_every(20_000);
    talk.at(0).drained().expect_wake(60_000, Timer::Silence);
}

#[test]
fn long_words_are_shortened_at_a_letter() {
    let text = "ä".repeat(1_000);
    assert_eq!(shortened(&text).len(), 512);
    assert_eq!(shortened(&text[..10]), "äääää");
    let odd = alloc::format!("x{text}");
    assert_eq!(shortened(&odd).len(), 511);
}
