//! What a server publishes, on which of its streams, and how it waits where one of them loses nothing.

use pulsewire::pattern::{PublishError, Server, SlowPolicy, StreamId};
use pulsewire::time::{Duration, Instant};

use super::super::super::dice::Dice;
use super::super::super::oracle::{self, Log};
use super::super::super::streams::Plan;
use super::super::{Phase, Surroundings, TOPICS};
use super::Service;

/// What a server publishes.
pub struct Feeds {
    feeds: Vec<Feed>,
    /// When the next burst comes.
    pub next_at: Instant,
    block_timeout: Duration,
    /// Publications, and those that were tried in vain.
    pub commands: u64,
}

/// One stream.
struct Feed {
    plan: Plan,
    id: StreamId,
    blocked: Option<Blocked>,
    /// Subscribers put out.
    put_out: u64,
}

/// A publication that waits for room.
struct Blocked {
    topic: &'static str,
    len: usize,
    until: Instant,
}

/// How soon a publication that waits is tried again if nothing happens.
const RETRY: Duration = Duration::from_millis(20);

impl Feeds {
    /// Gives a new server its streams.
    pub fn new(machine: &mut Server, plans: &[Plan], now: Instant, block_timeout: Duration) -> Self {
        let feeds = plans.iter().map(|plan| {
            let id = match plan.name {
                "" => machine.set_main_stream(plan.options).map(|()| StreamId::MAIN),
                name => machine.add_stream(name, plan.options),
            };
            let id = id.expect("few streams, and logs of a possible size");
            assert_eq!(machine.stream(plan.name), Some(id));
            Feed { plan: *plan, id, blocked: None, put_out: 0 }
        });
        Feeds { feeds: feeds.collect(), next_at: now, block_timeout, commands: 0 }
    }

    /// Publishes what is due, and tries again what was blocked.
    pub fn turn(
        &mut self,
        around: &mut Surroundings<'_>,
        machine: &mut Server,
        service: Service,
        dice: &mut Dice,
    ) {
        for stream in 0..self.feeds.len() {
            self.try_again(around, machine, stream);
        }
        if around.now < self.next_at || !publishes(around.phase) {
            return;
        }
        self.next_at = around.now + dice.millis(1, service.publish_every_ms);
        for _ in 0..=dice.mostly_small(service.largest_burst) {
            let stream = dice.index(self.feeds.len());
            let topic = *dice.pick(&TOPICS);
            let len = usize::try_from(dice.mostly_small(service.largest_publication)).unwrap();
            if self.feeds[stream].blocked.is_none() && !self.publish(around, machine, stream, topic, len) {
                let until = around.now + self.block_timeout;
                self.feeds[stream].blocked = Some(Blocked { topic, len, until });
                around.oracle.report.blocked += 1;
            }
        }
    }

    fn try_again(&mut self, around: &mut Surroundings<'_>, machine: &mut Server, stream: usize) {
        let Some(Blocked { topic, len, until }) = self.feeds[stream].blocked.take() else { return };
        if self.publish(around, machine, stream, topic, len) {
            return;
        }
        if around.now < until {
            self.feeds[stream].blocked = Some(Blocked { topic, len, until });
            return;
        }
        let id = self.feeds[stream].id;
        let put_out = machine.put_out_slow(around.now, id, topic, &vec![0; len]).expect("within the limits");
        assert!(put_out > 0, "it would block, and nobody is slow");
        self.feeds[stream].put_out += put_out as u64;
        around.oracle.report.put_out += put_out as u64;
        assert!(self.publish(around, machine, stream, topic, len), "nobody is slow any more");
    }

    /// False if that would be waiting for somebody.
    fn publish(
        &mut self,
        around: &mut Surroundings<'_>,
        machine: &mut Server,
        stream: usize,
        topic: &'static str,
        len: usize,
    ) -> bool {
        self.commands += 1;
        let Feed { plan, id, .. } = self.feeds[stream];
        let log = Log { epoch: machine.epoch(), stream };
        let seq = machine.head_of(id).expect("it was added");
        match machine.publish_on(id, topic, &oracle::data(log, seq, len)) {
            Ok(published) => {
                around.oracle.published(log, published.seq, topic, len);
                true
            }
            Err(PublishError::WouldBlock { subscribers }) => {
                assert!(plan.options.policy == SlowPolicy::Block && subscribers > 0);
                assert_eq!(machine.head_of(id), Some(seq), "what is not published has no number");
                false
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// When there is something to do next.
    pub fn next(&self, now: Instant, phase: Phase) -> Instant {
        let burst = if publishes(phase) { self.next_at } else { Instant::NEVER };
        let blocked = self.feeds.iter().filter_map(|feed| feed.blocked.as_ref());
        blocked.map(|blocked| blocked.until.min(now + RETRY)).fold(burst, Instant::min)
    }

    /// Subscribers of all streams.
    pub fn subscribers(&self, machine: &mut Server) -> u64 {
        let stats = self.feeds.iter().filter_map(|feed| machine.stream_stats(feed.id));
        stats.map(|stats| stats.subscribers).sum()
    }

    pub fn check_bounds(&self, machine: &mut Server) {
        for Feed { plan, id, put_out, .. } in &self.feeds {
            let stats = machine.stream_stats(*id).expect("it was added");
            assert!(stats.log_messages <= plan.log_messages);
            assert!(stats.log_bytes <= plan.log_bytes);
            assert!(stats.log_memory_bytes <= plan.log_bytes + plan.log_messages * LOG_ENTRY_BYTES);
            assert_eq!(stats.last_dropped, 0, "worlds have room for the newest message of each topic");
            assert!(stats.last_topics <= if plan.options.last_value { TOPICS.len() as u64 } else { 0 });
            assert_eq!(stats.put_out, *put_out, "who is put out is counted");
        }
    }

    /// Nothing waits for anybody.
    pub fn expect_nothing_blocked(&self) {
        let blocked = self.feeds.iter().find(|feed| feed.blocked.is_some());
        assert!(blocked.is_none(), "a publication on {:?} still waits", blocked.map(|feed| feed.plan.name));
    }
}

/// What the log's index takes for each message.
const LOG_ENTRY_BYTES: u64 = 16;

fn publishes(phase: Phase) -> bool {
    matches!(phase, Phase::Trouble | Phase::Probing)
}
