//! A client that calls, and checks how each call ends.

use std::collections::BTreeMap;

use pulsewire::pattern::{CallOptions, ConnectionEvent, Limits, Reconnect, Requester, SessionId};
use pulsewire::time::{Duration, Instant};

use super::super::dice::Dice;
use super::super::driver::{Driver, Habits};
use super::super::network::Node;
use super::super::oracle::Token;
use super::{expect_no_quarrel, Process, Surroundings};

/// How the application of a requester behaves.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    pub every_ms: u64,
    pub largest_burst: u64,
    pub largest_arguments: u64,
    pub longest_timeout_ms: u64,
    /// So many of a thousand calls may run twice.
    pub idempotent: u64,
    /// In so many of a thousand turns in which it calls it stops instead, and starts again later.
    pub rests: u64,
}

pub struct Caller {
    node: Node,
    machine: Requester,
    driver: Driver,
    calls: Calls,
    /// The driver and the application may both be so late.
    grace: Duration,
    max_in_flight: u64,
    call_at: Instant,
    start_at: Option<Instant>,
    tokens: BTreeMap<u64, Token>,
    next_token: Token,
    /// For whoever wonders why it is not connected.
    last_event: Option<ConnectionEvent>,
    dice: Dice,
}

impl Caller {
    pub fn new(
        node: Node,
        limits: Limits,
        reconnect: Reconnect,
        addresses: usize,
        habits: Habits,
        calls: Calls,
        mut dice: Dice,
    ) -> Self {
        let session = session_id(&mut dice);
        let max_in_flight = u64::from(limits.max_in_flight);
        let mut machine = Requester::new(limits, reconnect, addresses, session, dice.random());
        machine.start();
        Caller {
            node,
            machine,
            driver: Driver::new(node, habits, dice.split()),
            calls,
            grace: Duration::from_micros(habits.oversleep_us + 1_000),
            max_in_flight,
            call_at: Instant::ZERO,
            start_at: None,
            tokens: BTreeMap::new(),
            next_token: 0,
            last_event: None,
            dice,
        }
    }

    fn call(&mut self, around: &mut Surroundings<'_>) {
        if let Some(at) = self.start_at {
            if at <= around.now || around.calm {
                self.start_at = None;
                self.machine.renew(session_id(&mut self.dice));
                self.machine.start();
            }
        }
        if around.now < self.call_at || around.calm {
            return;
        }
        self.call_at = around.now + self.dice.millis(0, self.calls.every_ms);
        if self.start_at.is_none() && self.dice.permille(self.calls.rests) {
            self.machine.stop(around.now);
            self.start_at = Some(around.now + self.dice.millis(0, 3_000));
        }
        for _ in 0..=self.dice.mostly_small(self.calls.largest_burst) {
            self.call_once(around);
        }
    }

    fn call_once(&mut self, around: &mut Surroundings<'_>) {
        let token = (self.node as u64) << 32 | self.next_token;
        self.next_token += 1;
        let mut arguments = token.to_le_bytes().to_vec();
        let padding = self.dice.mostly_small(self.calls.largest_arguments);
        arguments.resize(8 + usize::try_from(padding).unwrap(), 7);
        let deadline = around.now + self.dice.millis(1, self.calls.longest_timeout_ms);
        let idempotent = self.dice.permille(self.calls.idempotent);
        let fail_fast = self.dice.permille(100);
        let options = CallOptions { deadline, idempotent, fail_fast };
        if let Ok(id) = self.machine.call(around.now, "f", &arguments, options) {
            around.oracle.called(token, deadline, idempotent);
            assert!(self.tokens.insert(id, token).is_none(), "ids are not used again");
        }
    }

    fn look(&mut self, around: &mut Surroundings<'_>) {
        while let Some(done) = self.machine.poll_done() {
            let token = self.tokens.remove(&done.id).expect("only what was called ends, and once");
            around.oracle.ended(around.now, self.grace, token, done.outcome);
        }
        while let Some(event) = self.machine.poll_connection_event() {
            expect_no_quarrel(&event);
            self.last_event = Some(event);
        }
        assert!(self.tokens.len() as u64 <= self.max_in_flight);
    }
}

pub fn session_id(dice: &mut Dice) -> SessionId {
    let bits = (u128::from(dice.bits()) << 64) | u128::from(dice.bits());
    SessionId(bits.to_le_bytes())
}

impl Process for Caller {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        self.driver.input(around.now, &mut self.machine, around.network);
        self.look(around);
        self.call(around);
        self.driver.output(around.now, &mut self.machine, around.network);
        self.look(around);
        let next = self.driver.next_turn(around.now, &self.machine);
        match (around.calm, self.start_at) {
            (true, _) => next,
            (false, Some(at)) => next.min(self.call_at).min(at),
            (false, None) => next.min(self.call_at),
        }
    }

    fn expect_settled(&mut self, around: &Surroundings<'_>) {
        assert!(self.tokens.is_empty(), "{} waits for {:?}", self.node, self.tokens);
        let connected = self.machine.is_connected();
        assert!(connected, "{} is not connected at {:?}: {:?}", self.node, around.now, self.last_event);
    }

    fn trace(&self) -> (u64, u64) {
        (self.driver.turns, self.driver.trace)
    }
}
