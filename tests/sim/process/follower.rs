//! A client that follows the publications, more or less quickly, and keeps its account.

use pulsewire::pattern::{Batch, Limits, Reconnect, SubscribeError, Subscriber};
use pulsewire::time::Instant;

use super::super::dice::Dice;
use super::super::driver::{Driver, Habits};
use super::super::network::Node;
use super::super::oracle::Account;
use super::caller::session_id;
use super::{expect_no_quarrel, Process, Surroundings, PREFIXES};

/// How the application of a subscriber behaves.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// It looks at what has come after so long at the most.
    pub every_ms: u64,
    /// In so many of a thousand looks it changes its set.
    pub changes: u64,
    /// In so many of a thousand looks it stops, and starts again later.
    pub rests: u64,
}

pub struct Follower {
    node: Node,
    machine: Subscriber,
    driver: Driver,
    reading: Reading,
    account: Account,
    everything: bool,
    inbox_bytes: u64,
    batch: Batch,
    look_at: Instant,
    start_at: Option<Instant>,
    dice: Dice,
}

impl Follower {
    pub fn new(
        node: Node,
        limits: Limits,
        reconnect: Reconnect,
        addresses: usize,
        habits: Habits,
        reading: Reading,
        mut dice: Dice,
    ) -> Self {
        let prefix = if dice.permille(300) { "" } else { *dice.pick(&PREFIXES) };
        let session = session_id(&mut dice);
        // Beyond its bound come one read, and the largest event that one byte of it may end.
        let inbox_bytes =
            2 * limits.inbox_bytes + 16 * habits.read_bytes as u64 + u64::from(limits.max_frame_bytes);
        let machine = Subscriber::new(limits, reconnect, addresses, session, dice.random(), prefix);
        let mut machine = machine.expect("a short prefix");
        machine.start();
        Follower {
            node,
            machine,
            driver: Driver::new(node, habits, dice.split()),
            reading,
            account: Account::new(node, prefix),
            everything: prefix.is_empty(),
            inbox_bytes,
            batch: Batch::new(),
            look_at: Instant::ZERO,
            start_at: None,
            dice,
        }
    }

    fn look(&mut self, around: &mut Surroundings<'_>) {
        if around.now < self.look_at {
            return;
        }
        let every = if around.calm { 400 } else { self.reading.every_ms };
        self.look_at = around.now + self.dice.millis(0, every);
        if self.machine.exchange(&mut self.batch) {
            while let Some(event) = self.batch.next() {
                self.account.saw(around.oracle, &event);
            }
        }
        while let Some(event) = self.machine.poll_connection_event() {
            expect_no_quarrel(&event);
        }
        if around.calm {
            return;
        }
        if self.dice.permille(self.reading.changes) {
            self.change();
        }
        if self.start_at.is_none() && self.dice.permille(self.reading.rests) {
            self.machine.stop(around.now);
            self.start_at = Some(around.now + self.dice.millis(0, 3_000));
        }
    }

    fn change(&mut self) {
        let prefix = if self.everything { "" } else { *self.dice.pick(&PREFIXES) };
        let add = self.everything || self.dice.permille(500);
        let ticket = if add { self.machine.subscribe(prefix) } else { self.machine.unsubscribe(prefix) };
        match ticket {
            Ok(ticket) => self.account.asked(ticket, prefix, add),
            Err(SubscribeError::NotSubscribed) => {
                assert!(!add && !self.account.wanted().contains_key(prefix))
            }
            Err(SubscribeError::TooManyUnanswered { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

impl Process for Follower {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        if self.start_at.is_some_and(|at| at <= around.now || around.calm) {
            self.start_at = None;
            self.machine.renew(session_id(&mut self.dice));
            self.machine.start();
        }
        self.driver.input(around.now, &mut self.machine, around.network);
        self.look(around);
        self.driver.output(around.now, &mut self.machine, around.network);
        let waiting = self.machine.stats().inbox_bytes;
        assert!(waiting <= self.inbox_bytes, "{waiting} bytes wait to be looked at");
        let next = self.driver.next_turn(around.now, &self.machine).min(self.look_at.max(around.now));
        self.start_at.map_or(next, |at| next.min(at))
    }

    fn expect_settled(&mut self, around: &Surroundings<'_>) {
        assert!(self.machine.is_connected(), "{} is not connected at {:?}", self.node, around.now);
        self.account.expect_balanced(around.oracle);
    }

    fn trace(&self) -> (u64, u64) {
        (self.driver.turns, self.driver.trace)
    }
}
