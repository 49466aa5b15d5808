//! A client that calls, and checks how each call ends.

use std::collections::BTreeMap;

use pulsewire::pattern::{CallOptions, Requester, REQUEST_FRONT_BYTES};
use pulsewire::time::{Duration, Instant};

use super::super::dice::Dice;
use super::super::driver::Driver;
use super::super::lifeline::Lifeline;
use super::super::network::Node;
use super::super::oracle::{Ending, Token};
use super::super::tap::Tap;
use super::{session_id, Phase, Process, Setup, Surroundings, Tally};

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

/// How soon a call is answered when nothing hinders it: sooner than the next heartbeat would come by.
const PROMPT: Duration = Duration::from_millis(800);

/// Most between two such calls.
const LONGEST_PAUSE_MS: u64 = 100;

pub struct Caller {
    node: Node,
    machine: Requester,
    driver: Driver,
    lifeline: Lifeline,
    calls: Calls,
    /// The driver and the application may both be so late.
    grace: Duration,
    max_in_flight: u64,
    held_bytes: u64,
    call_at: Instant,
    start_at: Option<Instant>,
    open: BTreeMap<u64, Open>,
    next_token: Token,
    probes: u64,
    commands: u64,
    dice: Dice,
}

/// A call without an end.
#[derive(Debug)]
struct Open {
    token: Token,
    deadline: Instant,
    bytes: u64,
}

impl Caller {
    pub fn new(setup: Setup, calls: Calls) -> Self {
        let Setup { node, limits, schedule, addresses, habits, mut dice } = setup;
        let session = session_id(&mut dice);
        let lifeline = Lifeline::new(schedule, &limits, habits.grace());
        let (max_in_flight, held_bytes) = (u64::from(limits.max_in_flight), limits.held_requests_bytes);
        let mut machine = Requester::new(limits, schedule.policy, addresses, session, dice.random());
        machine.start();
        let mut driver = Driver::new(node, habits, dice.split());
        driver.tap = Some(Tap::default());
        Caller {
            node,
            machine,
            driver,
            lifeline,
            calls,
            grace: habits.grace(),
            max_in_flight,
            held_bytes,
            call_at: Instant::ZERO,
            start_at: None,
            open: BTreeMap::new(),
            next_token: 0,
            probes: 0,
            commands: 0,
            dice,
        }
    }

    fn act(&mut self, around: &mut Surroundings<'_>) {
        if self.start_at.is_some_and(|at| at <= around.now || around.calm()) {
            self.start_at = None;
            self.machine.renew(session_id(&mut self.dice));
            self.machine.start();
            self.commands += 1;
        }
        match around.phase {
            Phase::Trouble => self.call(around),
            Phase::Probing => self.probe(around),
            Phase::Settling | Phase::Over => {}
        }
    }

    fn call(&mut self, around: &mut Surroundings<'_>) {
        if around.now < self.call_at {
            return;
        }
        self.call_at = around.now + self.dice.millis(0, self.calls.every_ms);
        if self.start_at.is_none() && self.dice.permille(self.calls.rests) {
            self.machine.stop(around.now);
            self.lifeline.interrupt();
            self.commands += 1;
            self.start_at = Some(around.now + self.dice.millis(0, 3_000));
        }
        for _ in 0..=self.dice.mostly_small(self.calls.largest_burst) {
            let options = CallOptions {
                deadline: around.now + self.dice.millis(1, self.calls.longest_timeout_ms),
                idempotent: self.dice.permille(self.calls.idempotent),
                fail_fast: self.dice.permille(100),
            };
            let padding = self.dice.mostly_small(self.calls.largest_arguments);
            self.call_once(around, options, padding);
        }
    }

    /// Nothing hinders anybody: one call after the other is answered at once, and sometimes a few together, and large
    /// ones as well.
    fn probe(&mut self, around: &mut Surroundings<'_>) {
        if around.now < self.call_at || !self.open.is_empty() {
            return;
        }
        self.call_at = around.now + self.dice.millis(1, LONGEST_PAUSE_MS);
        let options = CallOptions { deadline: around.now + PROMPT, idempotent: false, fail_fast: true };
        let (burst, padding) = match self.probes % 4 {
            0 | 1 => (1, 0),
            2 => (self.max_in_flight.min(4), 100),
            _ => (1, self.calls.largest_arguments),
        };
        self.probes += 1;
        for _ in 0..burst {
            self.call_once(around, options, padding);
        }
    }

    fn call_once(&mut self, around: &mut Surroundings<'_>, options: CallOptions, padding: u64) {
        let token = (self.node as u64) << 32 | self.next_token;
        self.next_token += 1;
        let mut arguments = token.to_le_bytes().to_vec();
        arguments.resize(8 + usize::try_from(padding).unwrap(), 7);
        let called = if self.next_token.is_multiple_of(2) {
            self.machine.call(around.now, "f", &arguments, options)
        } else {
            let mut buffer = vec![0; REQUEST_FRONT_BYTES];
            buffer.extend_from_slice(&arguments);
            self.machine.call_in_place(around.now, "f", &mut buffer, options)
        };
        let CallOptions { deadline, idempotent, .. } = options;
        self.commands += 1;
        match called {
            Ok(id) => {
                around.oracle.called(token, idempotent, around.phase == Phase::Probing);
                let open = Open { token, deadline, bytes: arguments.len() as u64 };
                assert!(self.open.insert(id, open).is_none(), "ids are not used again");
            }
            Err(why) => assert!(!around.serving(), "{} was refused as {why:?}", self.node),
        }
    }

    fn look(&mut self, around: &mut Surroundings<'_>) {
        while let Some(done) = self.machine.poll_done() {
            let open = self.open.remove(&done.id).expect("only what was called ends, and once");
            let tap = self.driver.tap.as_ref().expect("it has one");
            let idle_since =
                self.driver.idle_since(around.network).map(|at| at.max(around.clock.awake_since));
            let ending = Ending {
                late: around.clock.lateness(around.world(), open.deadline),
                grace: self.grace,
                may_have_left: tap.may_have_left(open.token),
                // Where kernels take next to nothing, bytes come as slowly as if there were none.
                idle_since: idle_since.filter(|_| around.network.weather.short_writes < 100),
            };
            self.commands += 1;
            around.oracle.ended(around.world(), ending, open.token, done.outcome);
        }
        while let Some(event) = self.machine.poll_connection_event() {
            self.lifeline.saw(around.now, around.clock, self.driver.last_gone(), event);
        }
        assert!(self.open.len() as u64 <= self.max_in_flight);
        assert!(self.open.values().map(|open| open.bytes).sum::<u64>() <= self.held_bytes);
    }
}

impl Process for Caller {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        if around.calm() {
            self.driver.calm_down();
        }
        self.driver.input(around.now, &mut self.machine, around.network);
        self.look(around);
        self.act(around);
        self.driver.output(around.now, &mut self.machine, around.network);
        if self.driver.dials > 0 {
            self.lifeline.dialled(around.now);
        }
        self.look(around);
        assert!(self.driver.connections() <= 1, "one connection at a time");
        let next = self.driver.next_turn(around.now, &self.machine);
        match around.phase {
            Phase::Trouble => next.min(self.call_at).min(self.start_at.unwrap_or(Instant::NEVER)),
            Phase::Probing if self.open.is_empty() => next.min(self.call_at),
            _ => next,
        }
    }

    fn check(&mut self, around: &Surroundings<'_>) {
        for open in self.open.values() {
            let late = around.clock.lateness(around.world(), open.deadline);
            assert!(late <= self.grace, "{} waits for {open:?}, which was over {late:?} ago", self.node);
        }
        self.lifeline.check(around.clock, around.world(), false);
        if around.serving() {
            let connected = self.machine.is_connected() && self.driver.dials == 0;
            assert!(connected, "{} is not connected: {:?}", self.node, self.lifeline.last);
        }
    }

    fn expect_settled(&mut self, around: &Surroundings<'_>) {
        self.check(around);
        assert!(self.open.is_empty(), "{} waits for {:?}", self.node, self.open);
        assert!(self.probes > 4, "{} was served {} times", self.node, self.probes);
    }

    fn tally(&self) -> Tally {
        let Driver { turns, events, trace, .. } = self.driver;
        Tally { turns, events: events + self.commands, trace }
    }
}
