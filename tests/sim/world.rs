//! The world: who takes part, whose turn is next, and which trouble comes when.

use std::collections::BTreeSet;

use pulsewire::time::{Duration, Instant};

use super::dice::{mix, Dice};
use super::network::{End, Network};
use super::oracle::Oracle;
use super::process::{Host, Process, Surroundings};
use super::Report;

/// Which troubles come, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Troubles {
    /// How long it lasts, before the calm.
    pub lasts: Duration,
    /// At least and at most so long between two troubles: each has time to do its work.
    pub pause_ms: (u64, u64),
    /// Some of these come, others not, by their bits.
    pub kinds: u64,
}

/// A trouble; see [`World::trouble`].
const KINDS: u64 = 9;
/// After the last trouble: long enough for every timeout, reconnect and heartbeat there is.
const CALM: Duration = Duration::from_secs(50);

pub struct World {
    pub now: Instant,
    network: Network,
    oracle: Oracle,
    hosts: Vec<Host>,
    clients: Vec<Box<dyn Process>>,
    /// When each takes its next turns: first the hosts, then the clients.
    wakes: Vec<BTreeSet<Instant>>,
    troubles: Troubles,
    trouble_at: Instant,
    /// Hosts that are to come back, and when.
    returns: Vec<(Instant, usize)>,
    dice: Dice,
}

impl World {
    pub fn new(
        network: Network,
        hosts: Vec<Host>,
        clients: Vec<Box<dyn Process>>,
        troubles: Troubles,
        dice: Dice,
    ) -> Self {
        let wakes = vec![BTreeSet::from([Instant::ZERO]); hosts.len() + clients.len()];
        let returns = (0..hosts.len()).map(|host| (Instant::ZERO, host)).collect();
        World {
            now: Instant::ZERO,
            network,
            oracle: Oracle::default(),
            hosts,
            clients,
            wakes,
            troubles,
            trouble_at: Instant::ZERO,
            returns,
            dice,
        }
    }

    /// Lives through all troubles and the calm after them, and checks what has to be true in the end.
    pub fn run(mut self) -> Report {
        let calm_at = Instant::ZERO + self.troubles.lasts;
        let end = calm_at + CALM;
        self.trouble_at = Instant::ZERO + self.pause();
        while self.now < end {
            let calm = self.now >= calm_at;
            self.bring_back(calm);
            if self.now >= self.trouble_at {
                self.trouble_at = self.now + self.pause();
                if self.trouble_at >= calm_at {
                    self.trouble_at = Instant::NEVER;
                }
                self.trouble();
            }
            self.turns(calm);
            let returns = self.returns.iter().map(|(at, _)| *at);
            let phase = if calm { end } else { calm_at };
            let wakes = self.wakes.iter().filter_map(|wakes| wakes.first().copied());
            let next = wakes.chain(returns).chain([self.trouble_at, phase]).min();
            self.now = next.unwrap_or(end).max(self.now);
            if self.now == calm_at {
                (0..self.wakes.len()).for_each(|node| self.wake(node, calm_at));
            }
        }
        self.settle()
    }

    fn turns(&mut self, calm: bool) {
        for node in 0..self.wakes.len() {
            if self.wakes[node].first().is_none_or(|at| *at > self.now) {
                continue;
            }
            self.wakes[node] = self.wakes[node].split_off(&(self.now + Duration::from_micros(1)));
            let World { now, network, oracle, hosts, clients, .. } = self;
            let around = &mut Surroundings { now: *now, network, oracle, calm };
            let next = match node.checked_sub(hosts.len()) {
                None => hosts[node].turn(around),
                Some(client) => clients[client].turn(around),
            };
            self.wake(node, next);
            self.wake_whom_it_concerns();
        }
    }

    fn wake(&mut self, node: usize, at: Instant) {
        // A stranger has no turns.
        if let Some(wakes) = self.wakes.get_mut(node).filter(|_| at != Instant::NEVER) {
            wakes.insert(at.max(self.now));
        }
    }

    fn wake_whom_it_concerns(&mut self) {
        for (node, at) in self.network.take_wakes() {
            self.wake(node, at);
        }
    }

    fn bring_back(&mut self, calm: bool) {
        for (at, host) in std::mem::take(&mut self.returns) {
            if at > self.now && !calm {
                self.returns.push((at, host));
                continue;
            }
            let World { now, network, oracle, hosts, .. } = self;
            let around = &mut Surroundings { now: *now, network, oracle, calm };
            if hosts[host].is_alive() {
                hosts[host].kill(around, false); // It was to stop, and has not got that far.
            }
            hosts[host].start(around);
            self.wake(host, self.now);
        }
    }

    fn pause(&mut self) -> Duration {
        let (least, most) = self.troubles.pause_ms;
        self.dice.millis(least, most)
    }

    fn trouble(&mut self) {
        let kind = self.dice.between(0, KINDS - 1);
        if self.troubles.kinds & (1 << kind) == 0 {
            return;
        }
        self.oracle.report.troubles += 1;
        let living = self.network.living();
        if kind < 5 && !living.is_empty() {
            let link = *self.dice.pick(&living);
            match kind {
                0 => self.network.reset(self.now, link),
                1 => self.network.freeze(link, self.now + self.dice.millis(10, 9_000)),
                2 => self.network.cut(self.now, link),
                3 => self.network.half_close(self.now, link, End::Client),
                _ => self.network.half_close(self.now, link, End::Server),
            }
        } else if kind < 8 {
            let host = self.dice.index(self.hosts.len());
            let silently = self.dice.permille(300);
            let World { now, network, oracle, hosts, .. } = self;
            let around = &mut Surroundings { now: *now, network, oracle, calm: false };
            match kind {
                5 if hosts[host].is_alive() => hosts[host].kill(around, silently),
                6 if hosts[host].is_alive() => hosts[host].stop(around),
                7 => network.unreachable_until[host] = *now + self.dice.millis(10, 5_000),
                _ => return,
            }
            if kind < 7 {
                self.returns.push((self.now + self.dice.millis(1, 4_000), host));
                self.wake(host, self.now);
            }
        } else {
            self.stranger();
        }
        self.wake_whom_it_concerns();
    }

    /// Somebody who does not speak the protocol connects, says something, and perhaps stays.
    fn stranger(&mut self) {
        let host = self.dice.index(self.hosts.len());
        if !self.hosts[host].is_alive() || self.network.listeners[host].is_none() {
            return;
        }
        let link = self.network.connect(self.now, usize::MAX, host);
        let junk: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0x16, 3, 1, 2, 0, 1, 0],
            &[0xff; 8],
            b"\x40\x00\x00\x00\x01PLSW\x01",
            b"",
        ];
        let _ = self.network.write(self.now, link, End::Client, junk[self.dice.index(junk.len())]);
        if self.dice.permille(500) {
            self.network.close(self.now, link, End::Client);
        }
    }

    fn settle(mut self) -> Report {
        let World { now, network, oracle, hosts, clients, .. } = &mut self;
        let around = Surroundings { now: *now, network, oracle, calm: true };
        hosts.iter_mut().for_each(|host| host.expect_settled(&around));
        clients.iter_mut().for_each(|client| client.expect_settled(&around));
        self.oracle.expect_all_calls_ended();
        let mut report = self.oracle.report;
        let hosts = self.hosts.iter().map(Process::trace);
        for (turns, trace) in hosts.chain(self.clients.iter().map(|client| client.trace())) {
            report.turns += turns;
            report.trace = mix(report.trace, trace);
        }
        report.seeds = 1;
        report.connections = self.network.len() as u64;
        report.virtual_seconds = self.now.as_micros() / 1_000_000;
        report
    }
}
