//! A client that follows the publications, more or less quickly, and keeps its account.

use pulsewire::pattern::{Batch, Limits, Place, SubscribeError, SubscribeOptions, Subscriber};
use pulsewire::time::{Duration, Instant};

use super::super::dice::{mix, Dice};
use super::super::driver::{Driver, Habits};
use super::super::lifeline::{Lifeline, Schedule};
use super::super::network::Node;
use super::super::oracle::{Account, Following, Oracle};
use super::super::streams;
use super::{session_id, Phase, Process, Setup, Surroundings, Tally, PREFIXES};

/// How the application of a subscriber behaves.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The stream that it follows.
    pub stream: usize,
    /// It asks for snapshots.
    pub snapshots: bool,
    /// It looks at what has come after so long at the most.
    pub every_ms: u64,
    /// In so many of a thousand looks it changes its set.
    pub changes: u64,
    /// In so many of a thousand looks it stops, and starts again later.
    pub rests: u64,
    /// In so many of a thousand looks it asks for a snapshot anew.
    pub refreshes: u64,
    /// In so many of a thousand looks its process ends, and another one begins where that one had been.
    pub deaths: u64,
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
    limits: Limits,
    schedule: Schedule,
    addresses: usize,
    habits: Habits,
    account: Account,
    /// What the application has written down.
    saved: Option<Place>,
    everything: bool,
    /// From so many bytes on that wait to be looked at it need not dial.
    far_behind: u64,
    batch: Batch,
    look_at: Instant,
    start_at: Option<Instant>,
    commands: u64,
    /// Of the processes that have ended.
    before: Tally,
    dice: Dice,
}

impl Follower {
    pub fn new(setup: Setup, reading: Reading, oracle: &Oracle) -> Self {
        let Setup { node, limits, schedule, addresses, habits, mut dice } = setup;
        let prefix = first_prefix(&mut dice);
        let following = Following {
            name: node,
            stream: reading.stream,
            prefix,
            snapshots: reading.snapshots,
            from: None,
        };
        let mut machine = machine(&following, &limits, schedule, addresses, &mut dice);
        machine.start();
        Follower {
            node,
            machine,
            driver: Driver::new(node, habits, dice.split()),
            lifeline: Lifeline::new(schedule, &limits, habits.grace()),
            reading,
            account: Account::new(following, oracle),
            saved: None,
            everything: prefix.is_empty(),
            far_behind: 2 * limits.inbox_bytes,
            limits,
            schedule,
            addresses,
            habits,
            batch: Batch::new(),
            look_at: Instant::ZERO,
            start_at: None,
            commands: 0,
            before: Tally::default(),
            dice,
        }
    }

    /// The process is gone. Another one takes its place in a while, with what was written down.
    fn die(&mut self, around: &mut Surroundings<'_>) {
        self.before = self.tally();
        self.commands = 0;
        around.network.kill(self.node, false);
        let prefix = first_prefix(&mut self.dice);
        // What was looked at since it was written down is looked at again.
        let from = if self.dice.permille(500) { self.saved } else { self.account.place() };
        let Reading { stream, snapshots, .. } = self.reading;
        let following = Following { name: self.node, stream, prefix, snapshots, from };
        self.machine = machine(&following, &self.limits, self.schedule, self.addresses, &mut self.dice);
        self.driver = Driver::new(self.node, self.habits, self.dice.split());
        self.lifeline = Lifeline::new(self.schedule, &self.limits, self.habits.grace());
        self.account = Account::new(following, around.oracle);
        self.everything = prefix.is_empty();
        self.start_at = Some(around.now + self.dice.millis(0, 3_000));
        around.oracle.report.rebirths += u64::from(from.is_some());
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
        if self.dice.permille(self.reading.refreshes) {
            self.commands += 1;
            match self.machine.refresh() {
                Ok(ticket) => self.account.refreshed(ticket),
                Err(SubscribeError::TooManyUnanswered { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        if self.dice.permille(SAVES) {
            self.saved = self.account.place();
        }
        if self.start_at.is_none() && self.dice.permille(self.reading.deaths) {
            return self.die(around);
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
            Ok(ticket) if add => self.account.subscribed_to(ticket, prefix),
            Ok(ticket) => self.account.unsubscribed_from(ticket, prefix),
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
            self.account.renewed();
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
        let Tally { turns: turns_before, events: events_before, trace: trace_before } = self.before;
        Tally {
            turns: turns_before + turns,
            events: events_before + events + self.commands,
            trace: mix(trace_before, trace),
        }
    }
}

/// In so many of a thousand looks it writes down how far it has got.
const SAVES: u64 = 200;

fn first_prefix(dice: &mut Dice) -> &'static str {
    match dice.permille(300) {
        true => "",
        false => PREFIXES[dice.index(PREFIXES.len())],
    }
}

fn machine(
    following: &Following,
    limits: &Limits,
    schedule: Schedule,
    addresses: usize,
    dice: &mut Dice,
) -> Subscriber {
    let mut options = SubscribeOptions::default().stream(streams::NAMES[following.stream]);
    options.snapshot = following.snapshots;
    options.from = following.from;
    let (session, random) = (session_id(dice), dice.random());
    let machine = Subscriber::with(
        limits.clone(),
        schedule.policy,
        addresses,
        session,
        random,
        following.prefix,
        options,
    );
    machine.expect("a short prefix, and the name of a stream")
}
