//! The world: who takes part, whose turn is next, and what has to be true of all of them together.
//!
//! ```text
//! trouble: storms and lulls ----> settling ----------> probing ------------> over
//! until enough has happened       everybody is back    everybody is served   heartbeats have come, all balances
//! ```

use std::collections::BTreeSet;

use pulsewire::time::{Duration, Instant};

use super::clock::Clock;
use super::dice::{mix, Dice};
use super::network::{Network, Node};
use super::oracle::Oracle;
use super::process::{Guests, Host, Phase, Process, Surroundings, Tally};
use super::trouble::{Storm, Troubles};
use super::Report;

/// After the last trouble: long enough for every timeout, reconnect and backlog there is.
const SETTLING: Duration = Duration::from_secs(35);
/// How long everybody is to be served at once.
const PROBING: Duration = Duration::from_millis(2_500);
/// Long enough for two heartbeats.
const OVER: Duration = Duration::from_millis(2_500);
/// How often everybody is looked at.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Fewer would be no schedule to speak of: the trouble goes on.
const LEAST_EVENTS: u64 = 1_000;
/// A world that takes more turns is going round in circles.
const MOST_TURNS: u64 = 3_000_000;

pub struct World {
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) hosts: Vec<Host>,
    clients: Vec<Box<dyn Process>>,
    pub(super) clocks: Vec<Clock>,
    /// When, in the world's time, each takes its next turns: first the hosts, then the clients.
    wakes: Vec<BTreeSet<Instant>>,
    /// Until then these have no turns.
    suspended_until: Vec<Instant>,
    pub(super) phase: Phase,
    phase_since: Instant,
    pub(super) storm: Storm,
    /// Hosts that are to come back, and when.
    pub(super) returns: Vec<(Instant, usize)>,
    check_at: Instant,
    turns: u64,
    /// What had changed a machine at the last check.
    events: u64,
    pub(super) dice: Dice,
}

impl World {
    pub fn new(
        network: Network,
        oracle: Oracle,
        hosts: Vec<Host>,
        clients: Vec<Box<dyn Process>>,
        troubles: Troubles,
        mut dice: Dice,
    ) -> Self {
        let nodes = hosts.len() + clients.len();
        let returns = (0..hosts.len()).map(|host| (Instant::ZERO, host)).collect();
        World {
            network,
            oracle,
            hosts,
            clients,
            clocks: (0..nodes).map(|_| Clock::default()).collect(),
            wakes: vec![BTreeSet::from([Instant::ZERO]); nodes],
            suspended_until: vec![Instant::ZERO; nodes],
            phase: Phase::Trouble,
            phase_since: Instant::ZERO,
            storm: Storm::new(troubles, &mut dice),
            returns,
            check_at: Instant::ZERO,
            turns: 0,
            events: 0,
            dice,
        }
    }

    /// Lives through all troubles and the calm after them, and checks what has to be true in the end.
    pub fn run(mut self) -> Report {
        while !(self.phase == Phase::Over && self.now() >= self.phase_since + OVER) {
            self.change_phase();
            self.bring_back();
            self.trouble();
            self.turns();
            self.check();
            let next = self.next();
            assert!(next != Instant::NEVER, "nobody wants anything any more");
            self.network.now = next.max(self.now());
        }
        self.settle()
    }

    pub(super) fn now(&self) -> Instant {
        self.network.now
    }

    /// When something is to be done next.
    fn next(&self) -> Instant {
        let wakes = self.wakes.iter().filter_map(|wakes| wakes.first().copied());
        let returns = self.returns.iter().map(|(at, _)| *at);
        let mine = [self.storm.next(), self.phase_ends().unwrap_or(Instant::NEVER), self.check_at];
        wakes.chain(returns).chain(mine).min().unwrap_or(Instant::NEVER)
    }

    fn phase_ends(&self) -> Option<Instant> {
        match self.phase {
            Phase::Trouble => None,
            Phase::Settling => Some(self.phase_since + SETTLING),
            Phase::Probing => Some(self.phase_since + PROBING),
            Phase::Over => Some(self.phase_since + OVER),
        }
    }

    fn change_phase(&mut self) {
        let next = match self.phase {
            Phase::Trouble if self.storm.has_lasted(self.now()) && self.events >= LEAST_EVENTS => {
                self.storm.end();
                self.network.calm_down();
                Phase::Settling
            }
            Phase::Settling if self.now() >= self.phase_since + SETTLING => Phase::Probing,
            Phase::Probing if self.now() >= self.phase_since + PROBING => Phase::Over,
            _ => return,
        };
        (self.phase, self.phase_since) = (next, self.now());
        for node in 0..self.wakes.len() {
            self.suspended_until[node] = self.suspended_until[node].min(self.now());
            self.clocks[node].awake_since = self.clocks[node].awake_since.min(self.now());
            self.wake(node, self.now());
        }
    }

    fn tallies(&self) -> impl Iterator<Item = Tally> + '_ {
        let hosts = self.hosts.iter().map(Process::tally);
        hosts.chain(self.clients.iter().map(|client| client.tally()))
    }

    fn turns(&mut self) {
        for node in 0..self.wakes.len() {
            if self.wakes[node].first().is_none_or(|at| *at > self.now()) {
                continue;
            }
            let later = self.now() + Duration::from_micros(1);
            self.wakes[node] = self.wakes[node].split_off(&later);
            let next = self.with(node, |process, around| process.turn(around));
            let next = self.clocks[node].world(next);
            self.wake(node, next);
            self.wake_whom_it_concerns();
            self.turns += 1;
            assert!(self.turns < MOST_TURNS, "the world goes round in circles");
        }
    }

    /// Lets a process see what it may see.
    fn with<T>(&mut self, node: Node, act: impl FnOnce(&mut dyn Process, &mut Surroundings<'_>) -> T) -> T {
        let World { network, oracle, hosts, clients, clocks, phase, phase_since, .. } = self;
        let clock = &clocks[node];
        let now = clock.shows(network.now);
        let mut around =
            Surroundings { now, clock, network, oracle, phase: *phase, phase_since: *phase_since };
        match node.checked_sub(hosts.len()) {
            None => act(&mut hosts[node], &mut around),
            Some(client) => act(&mut *clients[client], &mut around),
        }
    }

    /// The same for what is done to a host.
    pub(super) fn with_host(&mut self, host: usize, act: impl FnOnce(&mut Host, &mut Surroundings<'_>)) {
        let World { network, oracle, hosts, clocks, phase, phase_since, .. } = self;
        let clock = &clocks[host];
        let now = clock.shows(network.now);
        let mut around =
            Surroundings { now, clock, network, oracle, phase: *phase, phase_since: *phase_since };
        act(&mut hosts[host], &mut around);
    }

    pub(super) fn nodes(&self) -> usize {
        self.wakes.len()
    }

    pub(super) fn wake(&mut self, node: Node, at: Instant) {
        // A stranger has no turns.
        if let Some(wakes) = self.wakes.get_mut(node).filter(|_| at != Instant::NEVER) {
            wakes.insert(at.max(self.network.now).max(self.suspended_until[node]));
        }
    }

    /// A process gets no turns until then, also not those that it has asked for.
    pub(super) fn suspend(&mut self, node: Node, until: Instant) {
        self.suspended_until[node] = until;
        self.clocks[node].awake_since = until;
        self.wakes[node] = self.wakes[node].split_off(&until);
        self.wake(node, until);
        if node < self.hosts.len() {
            self.network.disturb_all(node, until);
        }
    }

    pub(super) fn wake_whom_it_concerns(&mut self) {
        for (node, at) in self.network.take_wakes() {
            self.wake(node, at);
        }
    }

    /// Starts the hosts whose time has come; when the trouble is over, all of them.
    fn bring_back(&mut self) {
        for (at, host) in std::mem::take(&mut self.returns) {
            if at > self.now() && self.phase == Phase::Trouble {
                self.returns.push((at, host));
                continue;
            }
            self.with_host(host, |host, around| {
                if host.is_alive() {
                    host.kill(around, false); // It was to stop, and has not got that far.
                }
                host.start(around);
            });
            self.suspended_until[host] = self.now();
            self.wake(host, self.now());
        }
    }

    fn check(&mut self) {
        if self.now() < self.check_at {
            return;
        }
        self.check_at = self.now() + CHECK_EVERY;
        self.events = self.tallies().map(|tally| tally.events).sum();
        for node in 0..self.nodes() {
            if self.suspended_until[node] <= self.now() {
                self.with(node, |process, around| process.check(around));
            }
        }
    }

    /// Looks at everybody for the last time, and at what only all of them together can say.
    fn settle(mut self) -> Report {
        for node in 0..self.nodes() {
            self.with(node, |process, around| process.expect_settled(around));
        }
        self.oracle.expect_all_calls_ended();
        let guests: Vec<Guests> = self.hosts.iter_mut().map(Host::guests).collect();
        let sum = |of: fn(&Guests) -> u64| guests.iter().map(of).sum::<u64>();
        let (clients, followers) = (self.clients.len() as u64, sum(|guests| guests.subscribers));
        assert_eq!(sum(|guests| guests.connections), clients, "everybody has one connection: {guests:?}");
        assert_eq!(sum(|guests| guests.half_open), 0, "{guests:?}");
        assert!(followers <= clients, "nobody is remembered for ever: {guests:?}");
        let mut report = self.oracle.report;
        for tally in self.tallies() {
            report.turns += tally.turns;
            report.events += tally.events;
            report.trace = mix(report.trace, tally.trace);
        }
        assert!(report.events >= LEAST_EVENTS);
        report.seeds = 1;
        report.least_events = report.events;
        report.connections = self.network.len() as u64;
        report.virtual_seconds = self.now().as_micros() / 1_000_000;
        report
    }
}
