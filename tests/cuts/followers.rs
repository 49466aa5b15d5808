//! Followers: threads that read a subscription, each in its way, and keep its account.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pulsewire::{Event, Lost, Subscription};

use super::account::Account;
use super::exchange::is_wrong;
use super::feed::{self, topic, Data, Set};
use super::support::{Random, LONG};
use super::watch::Watch;

/// What is asked for and taken back, beside the first prefix. Some change nothing that matches.
const CHANGES: [&str; 6] = ["tick.ag.1", "tick.rb", "tick.", "trade.", "order", "trade.ag"];
/// Between two looks at whether all is over.
const LOOK: Duration = Duration::from_millis(50);
/// A slow one reads so many events and then naps.
const SIPS: u64 = 60;
const NAP: Duration = Duration::from_millis(40);

/// How a subscription is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Quick,
    /// More slowly than is published.
    Slow,
    /// Its set is changed all the time.
    Changing,
}

pub struct Follower<'a> {
    pub number: usize,
    pub name: &'static str,
    pub manner: Manner,
    pub subscription: Subscription<Data>,
    pub account: Account,
    pub watch: &'a Watch,
    pub random: Random,
    /// Prefixes in the set, with how often each was added.
    set: BTreeMap<&'static str, u64>,
    /// The life of the server that it is connected to, or was.
    connected_to: u64,
    /// Events until the next change of the set.
    rest: u64,
}

impl<'a> Follower<'a> {
    pub fn new(
        (number, name, manner): (usize, &'static str, Manner),
        prefix: &'static str,
        subscription: Subscription<Data>,
        watch: &'a Watch,
        random: Random,
    ) -> Self {
        let account = Account::new(Set::of([prefix]));
        let set = BTreeMap::from([(prefix, 1)]);
        Follower { number, name, manner, subscription, account, watch, random, set, connected_to: 0, rest: 0 }
    }

    /// Reads until everything is accounted for that was published before the end, and gives the account.
    pub fn run(mut self) -> (&'static str, Account) {
        let mut events = 0;
        let mut since = Instant::now();
        while !(self.is_through() || self.watch.is_over() && self.watch.has_failed()) {
            if self.manner == Manner::Slow && !self.watch.is_over() {
                events += 1;
                if events % SIPS == 0 {
                    std::thread::park_timeout(NAP);
                }
            }
            match self.subscription.recv_timeout(LOOK) {
                Some(event) => {
                    since = Instant::now();
                    if let Err(wrong) = self.handle(event) {
                        self.watch.wrong(format!("{}: {wrong}", self.name));
                        break;
                    }
                }
                // What came last may have been a mere position.
                None => {
                    let reached =
                        self.account.epoch().map(|_| self.account.reached(self.subscription.position()));
                    if let Some(Err(wrong)) = reached {
                        self.watch.wrong(format!("{}: {wrong}", self.name));
                        break;
                    }
                    if since.elapsed() > LONG {
                        self.watch.wrong(format!("{}: nothing comes any more", self.name));
                        break;
                    }
                }
            }
            if self.manner == Manner::Changing {
                self.change();
            }
        }
        self.compare_with_stats();
        (self.name, self.account)
    }

    fn is_through(&self) -> bool {
        self.watch.end().is_some_and(|(epoch, head)| {
            self.account.epoch() == Some(epoch) && self.account.position() >= head
        })
    }

    fn handle(&mut self, event: Event<Data>) -> Result<(), String> {
        match event {
            Event::Message { topic: under, seq, data } => {
                let epoch = self.account.epoch().unwrap_or(0);
                if under != topic(epoch, seq) || data != feed::data(epoch, seq) {
                    return Err(format!("{under:?} {seq} of {:x} in {epoch:x}: other bytes", data.0));
                }
                self.watch.0.followed[self.number].store(epoch, Ordering::Relaxed);
                self.account.message(seq)
            }
            Event::Lost { after, lost: Lost::Exact(lost), .. } => {
                let lossless = self.watch.0.lossless.lock().unwrap();
                if self.account.epoch().is_some_and(|epoch| lossless.contains(&epoch)) {
                    return Err(format!("{lost} lost before {after}, and the log has them"));
                }
                drop(lossless);
                self.account.lost(after, lost)
            }
            Event::Subscribed { position } => self.account.subscribed(self.connected_to, position),
            Event::Restarted { epoch, from } => self.account.restarted(epoch, from),
            Event::Connected { epoch } => {
                self.connected_to = epoch;
                Ok(())
            }
            Event::Disconnected(reason) => is_wrong(&reason).map_or(Ok(()), Err),
            Event::RetryIn { .. } => Ok(()),
            // Nothing was forgotten, so nothing is lost that nobody counted.
            other => Err(format!("{other:?}")),
        }
    }

    /// Adds a prefix or takes one back, when the last change is in force.
    fn change(&mut self) {
        if !self.account.is_settled() || self.watch.is_over() {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        self.rest = self.random.below(100);
        let prefix = CHANGES[self.random.below(CHANGES.len() as u64) as usize];
        let count = self.set.entry(prefix).or_default();
        let changed = if *count > 0 && self.random.below(3) > 0 {
            *count -= 1;
            self.subscription.remove(prefix)
        } else {
            *count += 1;
            self.subscription.add(prefix)
        };
        changed.expect("the set is small, and its prefixes are counted here as well");
        let set: Vec<&str> =
            self.set.iter().filter(|(_, count)| **count > 0).map(|(prefix, _)| *prefix).collect();
        self.account.ask(Set::of(set));
    }

    /// What the subscription counted itself is what it told.
    fn compare_with_stats(&self) {
        let stats = self.subscription.stats();
        let (received, lost) = self
            .account
            .tallies()
            .fold((0, 0), |(received, lost), tally| (received + tally.received, lost + tally.lost));
        if (stats.received, stats.lost, stats.lost_at_most) != (received, lost, 0) {
            self.watch.wrong(format!("{}: {received} received and {lost} lost, but {stats:?}", self.name));
        }
    }
}
