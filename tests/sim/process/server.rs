//! A host that runs a server, kills it, and starts it again with a new epoch.

mod feeds;

use std::collections::{BTreeSet, VecDeque};

use pulsewire::pattern::{
    CloseReason, ConnId, Limits, Machine, NotStarted, Roles, Server, ServerEvent, Status, Ticket, Work,
    ANSWER_FRONT_BYTES,
};
use pulsewire::time::{Duration, Instant};

use super::super::dice::{mix, Dice};
use super::super::driver::{Driver, Habits};
use super::super::network::Node;
use super::super::oracle::{result, Token};
use super::super::streams::Plan;
use super::super::tap::token_of;
use super::{Process, Surroundings, Tally};
use feeds::Feeds;

/// How the application of a server behaves.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub longest_call_ms: u64,
    pub largest_result: u64,
    pub publish_every_ms: u64,
    pub largest_burst: u64,
    pub largest_publication: u64,
}

impl Service {
    /// One that answers and publishes so that everybody can follow at once.
    fn calm(self) -> Service {
        Service {
            longest_call_ms: 5,
            largest_result: self.largest_result.min(100),
            publish_every_ms: 200,
            largest_burst: 2,
            largest_publication: self.largest_publication.min(1_000),
        }
    }
}

pub struct Host {
    node: Node,
    address: usize,
    limits: Limits,
    habits: Habits,
    service: Service,
    plans: Vec<Plan>,
    life: Option<Life>,
    lives: u64,
    /// Of the lives that are over.
    before: Tally,
    dice: Dice,
}

/// Who is with a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guests {
    pub connections: u64,
    pub half_open: u64,
    pub subscribers: u64,
}

/// From a start to a death.
struct Life {
    machine: Server,
    driver: Driver,
    /// One lane: what waits, and what runs until when.
    lane: VecDeque<Work>,
    running: Option<(Ticket, Token, Instant)>,
    feeds: Feeds,
    joined: BTreeSet<ConnId>,
    stopping: bool,
    commands: u64,
    /// When it had its turns.
    turns: Vec<Instant>,
}

impl Host {
    pub fn new(
        node: Node,
        address: usize,
        limits: Limits,
        habits: Habits,
        service: Service,
        plans: Vec<Plan>,
        dice: Dice,
    ) -> Self {
        let before = Tally::default();
        Host { node, address, limits, habits, service, plans, life: None, lives: 0, before, dice }
    }

    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// Connections, those in their handshake among them, and subscribers, those without a connection among them.
    pub fn guests(&mut self) -> Guests {
        let Some(Life { machine, feeds, .. }) = &mut self.life else { return Guests::default() };
        let subscribers = feeds.subscribers(machine);
        let stats = machine.stats();
        Guests { connections: stats.connections, half_open: stats.half_open, subscribers }
    }

    /// Starts a new life. Its epoch tells it from every other one in the world.
    pub fn start(&mut self, around: &mut Surroundings<'_>) {
        self.lives += 1;
        let epoch = (1 + self.address as u64) << 32 | self.lives;
        around.network.listeners[self.address] = Some(self.node);
        let mut machine = Server::new(Roles::Both, self.limits.clone(), epoch, self.dice.bits());
        self.life = Some(Life {
            feeds: Feeds::new(&mut machine, &self.plans, around.now, self.limits.block_timeout),
            machine,
            driver: Driver::new(self.node, self.habits, self.dice.split()),
            lane: VecDeque::new(),
            running: None,
            joined: BTreeSet::new(),
            stopping: false,
            commands: 0,
            turns: vec![around.now],
        });
    }

    /// The process is gone, with all it knew.
    pub fn kill(&mut self, around: &mut Surroundings<'_>, silently: bool) {
        if self.life.is_some() {
            self.before = self.tally();
            self.life = None;
            around.network.listeners[self.address] = None;
            around.network.kill(self.node, silently);
        }
    }

    /// It is asked to stop, and dies when it has said all it had to say.
    pub fn stop(&mut self, around: &mut Surroundings<'_>) {
        if let Some(life) = &mut self.life {
            around.network.listeners[self.address] = None;
            around.network.disturb_all(self.node, Instant::NEVER);
            life.machine.stop(around.now);
            life.stopping = true;
        }
    }

    fn check_bounds(&mut self) {
        let Some(life) = &mut self.life else { return };
        let (stats, limits) = (life.machine.stats(), &self.limits);
        assert!(stats.connections <= u64::from(limits.max_connections));
        assert!(stats.half_open <= u64::from(limits.max_half_open));
        // One refusal for each session finds room in any case, and a refusal has no payload.
        let sessions = u64::from(limits.max_connections) + u64::from(limits.max_detached);
        let entries = limits.queued_arguments_bytes + sessions * 256;
        assert!(stats.replier.queued_bytes <= entries);
        assert!(stats.replier.result_bytes <= limits.results_bytes + entries);
        life.feeds.check_bounds(&mut life.machine);
        let subscribers = life.feeds.subscribers(&mut life.machine);
        assert!(subscribers <= stats.connections + u64::from(limits.max_detached));
    }
}

impl Life {
    /// Since when a connection may have been ending of which this turn is told that it has ended: what is left to say
    /// and what is still to be read take up to `linger` each, and the turn that sees this may come late.
    fn has_ended_since(&self, linger: Duration) -> Instant {
        (0..2).fold(*self.turns.last().expect("its start"), |since, _| {
            let earlier = self.turns.partition_point(|turn| *turn + linger <= since);
            self.turns[earlier.saturating_sub(1)]
        })
    }

    fn listen(&mut self, around: &mut Surroundings<'_>, limits: &Limits) {
        let epoch = self.machine.epoch();
        while let Some(event) = self.machine.poll_event() {
            match event {
                ServerEvent::Work(work) => self.lane.push_back(work),
                ServerEvent::Joined { conn, .. } => {
                    assert!(self.joined.insert(conn), "ids are never reused");
                    let client = self.driver.client_of(around.network, conn).expect("it was accepted");
                    around.oracle.visits.joined(around.now, epoch, client, conn);
                }
                ServerEvent::Left { conn, reason, .. } => {
                    let joined = self.joined.remove(&conn);
                    // Strangers may be turned away for what they say, our own clients never.
                    assert!(!joined || !matches!(reason, CloseReason::Protocol(_)), "{reason:?}");
                    if let Some(client) = self.driver.client_of(around.network, conn).filter(|_| joined) {
                        let since = self.has_ended_since(limits.linger);
                        around.oracle.visits.left(around.now, since, epoch, client, conn, &reason);
                    }
                    if reason == CloseReason::NotReading {
                        let gone = self.driver.gone(conn).expect("it has just ended");
                        gone.expect_starved(around.now, limits.not_reading_timeout);
                    }
                }
                event => panic!("nobody knows {event:?}"),
            }
        }
    }

    fn work(&mut self, around: &mut Surroundings<'_>, service: Service, dice: &mut Dice) {
        if let Some((ticket, token, _)) = self.running.take_if(|(_, _, until)| *until <= around.now) {
            let len = usize::try_from(dice.mostly_small(service.largest_result)).unwrap();
            self.commands += 1;
            let waited_for = match dice.index(10) {
                0 => self.machine.reply(ticket, Status::Failed, b"no"),
                _ if token.is_multiple_of(2) => self.machine.reply(ticket, Status::Ok, &result(token, len)),
                _ => {
                    let mut buffer = Vec::new();
                    self.machine.lend_for_answer(&mut buffer);
                    buffer.resize(ANSWER_FRONT_BYTES, 0);
                    buffer.extend_from_slice(&result(token, len));
                    self.machine.reply_in_place(ticket, Status::Ok, &mut buffer)
                }
            };
            if waited_for {
                around.oracle.answered(around.world(), token);
            }
        }
        while self.running.is_none() {
            let Some(work) = self.lane.pop_front() else { break };
            self.commands += 1;
            match self.machine.start(around.now, work.ticket) {
                Ok(arguments) => {
                    assert!(around.now < work.deadline, "its caller has given up");
                    let token = token_of(&arguments).expect("callers send their token");
                    around.oracle.executed(token);
                    self.machine.give_back(arguments);
                    let takes = Duration::from_micros(dice.mostly_small(service.longest_call_ms * 1_000));
                    self.running = Some((work.ticket, token, around.now + takes));
                }
                Err(NotStarted::Expired) => assert!(around.now >= work.deadline),
                Err(NotStarted::Withdrawn | NotStarted::Started) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

impl Process for Host {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        let Some(life) = &mut self.life else { return Instant::NEVER };
        let mut service = self.service;
        if around.calm() {
            life.driver.calm_down();
            service = service.calm();
            let next_at = &mut life.feeds.next_at;
            *next_at = (*next_at).min(around.now + Duration::from_millis(service.publish_every_ms));
        }
        life.machine.handle_wall_clock(around.now.as_micros() * 1_000);
        life.driver.input(around.now, &mut life.machine, around.network);
        life.listen(around, &self.limits);
        life.work(around, service, &mut self.dice);
        if !life.stopping {
            life.feeds.turn(around, &mut life.machine, service, &mut self.dice);
        }
        life.driver.output(around.now, &mut life.machine, around.network);
        life.listen(around, &self.limits);
        life.turns.push(around.now);
        let mut next = life.driver.next_turn(around.now, &life.machine);
        if let Some((_, _, until)) = life.running {
            next = next.min(until);
        } else if !life.lane.is_empty() {
            next = around.now; // Calls can come to light at the end of a turn.
        }
        if !life.stopping {
            next = next.min(life.feeds.next(around.now, around.phase));
        }
        if life.stopping && life.machine.is_flushed() && life.driver.holds_nothing() {
            self.kill(around, false);
            return Instant::NEVER;
        }
        self.check_bounds();
        next
    }

    fn check(&mut self, around: &Surroundings<'_>) {
        assert!(!around.serving() || self.is_alive(), "every server is up in the end");
    }

    fn expect_settled(&mut self, _around: &Surroundings<'_>) {
        let life = self.life.as_mut().expect("every server is up in the end");
        assert!(life.lane.is_empty() && life.running.is_none(), "all work is done");
        life.feeds.expect_nothing_blocked();
        let replier = life.machine.stats().replier;
        assert_eq!((replier.queued_bytes, replier.result_bytes), (0, 0), "all calls are settled");
    }

    fn tally(&self) -> Tally {
        let Some(life) = &self.life else { return self.before };
        let Driver { turns, events, trace, .. } = life.driver;
        let Tally { turns: turns_before, events: events_before, trace: trace_before } = self.before;
        Tally {
            turns: turns_before + turns,
            events: events_before + events + life.commands + life.feeds.commands,
            trace: mix(trace_before, trace),
        }
    }
}
