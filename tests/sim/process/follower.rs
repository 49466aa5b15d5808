//! A client that follows the publications, more or less quickly, and keeps its account.

use pulsewire::pattern::{Batch, SubscribeError, Subscriber};
use pulsewire::time::{Duration, Instant};

use super::super::dice::Dice;
use super::super::driver::Driver;
use super::super::lifeline::Lifeline;
use super::super::network::Node;
use super::super::oracle::Account;
use super::{session_id, Phase, Process, Setup, Surroundings, Tally, PREFIXES};

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

/// Most between two looks when nothing hinders anybody.
const PROMPT_LOOK_MS: u64 = 40;
/// How soon a publication is there when nothing hinders it: sooner than the next heartbeat would come by.
const PROMPT: Duration = Duration::from_millis(800);

/// More than any publication takes.
const LARGEST_EVENT_BYTES: u64 = 5_000;
const ANSWER_BYTES: u64 = 64;

pub struct Follower {
    node: Node,
    machine: Subscriber,
    driver: Driver,
    lifeline: Lifeline,
    reading: Reading,
    account: Account,
    everything: bool,
    /// From so many bytes on that wait to be looked at it need not dial.
    far_behind: u64,
    batch: Batch,
    look_at: Instant,
    start_at: Option<Instant>,
    commands: u64,
    dice: Dice,
}

impl Follower {
    pub fn new(setup: Setup, reading: Reading) -> Self {
        let Setup { node, limits, schedule, addresses, habits, mut dice } = setup;
        let prefix = if dice.permille(300) { "" } else { *dice.pick(&PREFIXES) };
        let session = session_id(&mut dice);
        let far_behind = 2 * limits.inbox_bytes;
        let lifeline = Lifeline::new(schedule, &limits, habits.grace());
        let machine = Subscriber::new(limits, schedule.policy, addresses, session, dice.random(), prefix);
        let mut machine = machine.expect("a short prefix");
        machine.start();
        Follower {
            node,
            machine,
            driver: Driver::new(node, habits, dice.split()),
            lifeline,
            reading,
            account: Account::new(node, prefix),
            everything: prefix.is_empty(),
            far_behind,
            batch: Batch::new(),
            look_at: Instant::ZERO,
            start_at: None,
            commands: 0,
            dice,
        }
    }

    fn look(&mut self, around: &mut Surroundings<'_>) {
        if around.now < self.look_at {
            return;
        }
        let every = if around.calm() { PROMPT_LOOK_MS } else { self.reading.every_ms };
        self.look_at = around.now + self.dice.millis(0, every);
        if self.machine.exchange(&mut self.batch) {
            self.commands += 1;
            while let Some(event) = self.batch.next() {
                self.account.saw(around.oracle, &event);
            }
        }
        if around.calm() {
            return;
        }
        if self.dice.permille(self.reading.changes) {
            self.change();
        }
        if self.start_at.is_none() && self.dice.permille(self.reading.rests) {
            self.machine.stop(around.now);
            self.lifeline.interrupt();
            self.commands += 1;
            self.start_at = Some(around.now + self.dice.millis(0, 3_000));
        }
    }

    fn change(&mut self) {
        self.commands += 1;
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

    fn listen(&mut self, around: &Surroundings<'_>) {
        while let Some(event) = self.machine.poll_connection_event() {
            self.lifeline.saw(around.now, around.clock, self.driver.last_gone(), event);
        }
    }
}

impl Process for Follower {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        if around.calm() {
            self.driver.calm_down();
            self.look_at = self.look_at.min(around.now + Duration::from_millis(PROMPT_LOOK_MS));
        }
        if self.start_at.is_some_and(|at| at <= around.now || around.calm()) {
            self.start_at = None;
            self.machine.renew(session_id(&mut self.dice));
            self.machine.start();
            self.commands += 1;
        }
        self.driver.input(around.now, &mut self.machine, around.network);
        self.listen(around);
        self.look(around);
        self.driver.output(around.now, &mut self.machine, around.network);
        if self.driver.dials > 0 {
            self.lifeline.dialled(around.now);
        }
        self.listen(around);
        assert!(self.driver.connections() <= 1, "one connection at a time");
        // Beyond its bound come one read, and what one byte of it may end: the largest event, and an answer to all that
        // was asked for.
        let answers = ANSWER_BYTES * self.account.waits_for() as u64;
        let most = self.far_behind + 16 * self.driver.read_bytes() + LARGEST_EVENT_BYTES + answers;
        let waiting = self.machine.stats().inbox_bytes;
        assert!(waiting <= most, "{waiting} bytes wait to be looked at, and {most} may");
        let next = self.driver.next_turn(around.now, &self.machine).min(self.look_at.max(around.now));
        self.start_at.map_or(next, |at| next.min(at))
    }

    fn check(&mut self, around: &Surroundings<'_>) {
        let held = self.machine.stats().inbox_bytes >= self.far_behind;
        self.lifeline.check(around.clock, around.world(), held);
        if around.serving() {
            let connected = self.machine.is_connected() && self.driver.dials == 0;
            assert!(connected, "{} is not connected: {:?}", self.node, self.lifeline.last);
        }
        if around.phase == Phase::Over && around.world() >= around.phase_since + PROMPT {
            self.account.expect_nothing_owed(around.oracle);
        }
    }

    fn expect_settled(&mut self, around: &Surroundings<'_>) {
        self.check(around);
        self.account.expect_balanced(around.oracle);
    }

    fn tally(&self) -> Tally {
        let Driver { turns, events, trace, .. } = self.driver;
        Tally { turns, events: events + self.commands, trace }
    }
}
