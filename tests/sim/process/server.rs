//! A host that runs a server, kills it, and starts it again with a new epoch.

use std::collections::{BTreeSet, VecDeque};

use pulsewire::pattern::{
    CloseReason, ConnId, Limits, Machine, NotStarted, Roles, Server, ServerEvent, Status, Ticket, Work,
};
use pulsewire::time::{Duration, Instant};

use super::super::dice::{mix, Dice};
use super::super::driver::{Driver, Habits};
use super::super::network::Node;
use super::super::oracle::{result, Token};
use super::{Process, Surroundings, TOPICS};

/// How the application of a server behaves.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub longest_call_ms: u64,
    pub largest_result: u64,
    pub publish_every_ms: u64,
    pub largest_burst: u64,
    pub largest_publication: u64,
}

pub struct Host {
    node: Node,
    address: usize,
    limits: Limits,
    habits: Habits,
    service: Service,
    life: Option<Life>,
    lives: u64,
    turns: u64,
    trace: u64,
    dice: Dice,
}

/// From a start to a death.
struct Life {
    machine: Server,
    driver: Driver,
    /// One lane: what waits, and what runs until when.
    lane: VecDeque<Work>,
    running: Option<(Ticket, Token, Instant)>,
    publish_at: Instant,
    joined: BTreeSet<ConnId>,
    stopping: bool,
}

impl Host {
    pub fn new(
        node: Node,
        address: usize,
        limits: Limits,
        habits: Habits,
        service: Service,
        dice: Dice,
    ) -> Self {
        Host { node, address, limits, habits, service, life: None, lives: 0, turns: 0, trace: 0, dice }
    }

    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// Starts a new life. Its epoch tells it from every other one in the world.
    pub fn start(&mut self, around: &mut Surroundings<'_>) {
        self.lives += 1;
        let epoch = (1 + self.address as u64) << 32 | self.lives;
        around.network.listeners[self.address] = Some(self.node);
        self.life = Some(Life {
            machine: Server::new(Roles::Both, self.limits.clone(), epoch, self.dice.bits()),
            driver: Driver::new(self.node, self.habits, self.dice.split()),
            lane: VecDeque::new(),
            running: None,
            publish_at: around.now,
            joined: BTreeSet::new(),
            stopping: false,
        });
    }

    /// The process is gone, with all it knew.
    pub fn kill(&mut self, around: &mut Surroundings<'_>, silently: bool) {
        if let Some(life) = self.life.take() {
            self.turns += life.driver.turns;
            self.trace = mix(self.trace, life.driver.trace);
            around.network.listeners[self.address] = None;
            around.network.kill(around.now, self.node, silently);
        }
    }

    /// It is asked to stop, and dies when it has said all it had to say.
    pub fn stop(&mut self, around: &mut Surroundings<'_>) {
        if let Some(life) = &mut self.life {
            around.network.listeners[self.address] = None;
            life.machine.stop(around.now);
            life.stopping = true;
        }
    }

    fn check_bounds(&mut self) {
        let Some(life) = &mut self.life else { return };
        let (stats, limits) = (life.machine.stats(), &self.limits);
        assert!(stats.connections <= u64::from(limits.max_connections));
        assert!(stats.half_open <= u64::from(limits.max_half_open));
        // What cannot be refused any more is the refusal itself.
        let refusals = u64::from(limits.max_connections) * u64::from(limits.max_in_flight) * 2 * 160;
        assert!(stats.replier.queued_bytes <= limits.queued_arguments_bytes + refusals);
        assert!(stats.replier.result_bytes <= limits.results_bytes + refusals);
        assert!(stats.publisher.log_messages <= u64::from(limits.log_messages));
        assert!(stats.publisher.log_bytes <= limits.log_bytes);
    }
}

impl Life {
    fn work(&mut self, around: &mut Surroundings<'_>, service: Service, dice: &mut Dice) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                ServerEvent::Work(work) => self.lane.push_back(work),
                ServerEvent::Joined { conn, .. } => assert!(self.joined.insert(conn), "ids are never reused"),
                ServerEvent::Left { conn, reason, .. } => {
                    // Strangers may be turned away for what they say, our own clients never.
                    let accused = self.joined.remove(&conn) && matches!(reason, CloseReason::Protocol(_));
                    assert!(!accused, "{reason:?}");
                }
                event => panic!("nobody knows {event:?}"),
            }
        }
        if let Some((ticket, token, _)) = self.running.take_if(|(_, _, until)| *until <= around.now) {
            let len = usize::try_from(dice.mostly_small(service.largest_result)).unwrap();
            match dice.index(10) {
                0 => self.machine.reply(ticket, Status::Failed, b"no"),
                _ => self.machine.reply(ticket, Status::Ok, &result(token, len)),
            };
        }
        while self.running.is_none() {
            let Some(work) = self.lane.pop_front() else { break };
            match self.machine.start(around.now, work.ticket) {
                Ok(arguments) => {
                    assert!(around.now < work.deadline, "its caller has given up");
                    let token =
                        Token::from_le_bytes(arguments[..8].try_into().expect("callers send their token"));
                    around.oracle.executed(token);
                    let takes = Duration::from_micros(dice.mostly_small(service.longest_call_ms * 1_000));
                    self.running = Some((work.ticket, token, around.now + takes));
                }
                Err(NotStarted::Expired) => assert!(around.now >= work.deadline),
                Err(NotStarted::Withdrawn | NotStarted::Started) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn publish(&mut self, around: &mut Surroundings<'_>, service: Service, dice: &mut Dice) {
        if around.now < self.publish_at || self.stopping || around.calm {
            return;
        }
        self.publish_at = around.now + dice.millis(1, service.publish_every_ms);
        let epoch = self.machine.epoch();
        for _ in 0..=dice.mostly_small(service.largest_burst) {
            let topic = *dice.pick(&TOPICS);
            let len = usize::try_from(dice.mostly_small(service.largest_publication)).unwrap();
            let seq = self.machine.head();
            let data = super::super::oracle::data(epoch, seq, len);
            let published = self.machine.publish(topic, &data).expect("within the limits");
            around.oracle.published(epoch, published.seq, topic, len);
        }
    }
}

impl Process for Host {
    fn turn(&mut self, around: &mut Surroundings<'_>) -> Instant {
        let Some(life) = &mut self.life else { return Instant::NEVER };
        life.machine.handle_wall_clock(around.now.as_micros() * 1_000);
        life.driver.input(around.now, &mut life.machine, around.network);
        life.work(around, self.service, &mut self.dice);
        life.publish(around, self.service, &mut self.dice);
        life.driver.output(around.now, &mut life.machine, around.network);
        let mut next = life.driver.next_turn(around.now, &life.machine);
        if let Some((_, _, until)) = life.running {
            next = next.min(until);
        }
        if !around.calm && !life.stopping {
            next = next.min(life.publish_at);
        }
        if life.stopping && life.machine.is_flushed() && life.driver.holds_nothing() {
            self.kill(around, false);
            return Instant::NEVER;
        }
        self.check_bounds();
        next
    }

    fn expect_settled(&mut self, _around: &Surroundings<'_>) {
        let life = self.life.as_mut().expect("every server is up in the end");
        assert!(life.lane.is_empty() && life.running.is_none(), "all work is done");
        let replier = life.machine.stats().replier;
        assert_eq!((replier.queued_bytes, replier.result_bytes), (0, 0), "all calls are settled");
    }

    fn trace(&self) -> (u64, u64) {
        let (turns, trace) = self.life.as_ref().map_or((0, 0), |life| (life.driver.turns, life.driver.trace));
        (self.turns + turns, mix(self.trace, trace))
    }
}
