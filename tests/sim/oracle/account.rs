//! What one subscription has seen, against what it had a right to.

use std::collections::BTreeMap;

use pulsewire::pattern::{ConnectionEvent, Event, EventKind, Lost, Place, Retain, SlowPolicy};

use super::super::network::Node;
use super::snapshots::Snapshots;
use super::{data, place, Log, Oracle};

/// What a subscription is to be.
#[derive(Debug, Clone, Copy)]
pub struct Following {
    pub name: Node,
    /// The stream that it follows, of whatever life of whatever server.
    pub stream: usize,
    pub prefix: &'static str,
    /// It asks for snapshots with every new prefix, and after a restart.
    pub snapshots: bool,
    /// Everything below it is known.
    pub from: Option<Place>,
}

/// A question of the subscription, until it is answered.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// A prefix, and whether its newest messages are wanted.
    Add(&'static str, bool),
    Remove(&'static str),
    Refresh,
}

/// What one subscription has seen, against what it had a right to.
pub struct Account {
    name: Node,
    stream: usize,
    epoch: Option<u64>,
    /// Counts by prefix of what is in force at the server.
    set: BTreeMap<&'static str, u64>,
    /// What was asked for, by ticket.
    asked: BTreeMap<u64, Asked>,
    /// Everything matching below it is accounted for. `None` while no account is open.
    reached: Option<u64>,
    /// The set is in force on the connection that there is.
    in_force: bool,
    /// A message has come since: it is no replay of what was missed any more.
    is_live: bool,
    wants_snapshots: bool,
    snapshots: Snapshots,
    /// By epoch: how often the server had to be excused for having no record of us.
    excused: BTreeMap<u64, u64>,
    /// How often it met servers under a session id that they could not know.
    renewals: u64,
    /// The first message lost in the gap that was the last thing to come.
    skipped: Option<u64>,
    /// The first message lost since the last one came. A gap is told in parts where the set changes in it.
    lost_from: Option<u64>,
}

impl Account {
    pub fn new(following: Following, oracle: &Oracle) -> Self {
        let Following { name, stream, prefix, snapshots: wants_snapshots, from } = following;
        let mut snapshots = Snapshots::default();
        if wants_snapshots {
            snapshots.owe([prefix]);
        }
        Account {
            name,
            stream,
            epoch: from.map(|place| place.epoch),
            set: BTreeMap::from([(prefix, 1)]),
            asked: BTreeMap::new(),
            reached: from.map(|place| place.seq),
            in_force: false,
            is_live: false,
            wants_snapshots,
            snapshots,
            excused: oracle.visits.all_forgotten(name),
            renewals: 1,
            skipped: None,
            lost_from: None,
        }
    }

    /// The place that an application would save.
    pub fn place(&self) -> Option<Place> {
        Some(Place { epoch: self.epoch?, seq: self.reached? })
    }

    // What it does.

    pub fn subscribed_to(&mut self, ticket: u64, prefix: &'static str) {
        let is_new = !self.wanted().contains_key(prefix);
        self.asked.insert(ticket, Asked::Add(prefix, is_new && self.wants_snapshots));
    }

    pub fn unsubscribed_from(&mut self, ticket: u64, prefix: &'static str) {
        self.asked.insert(ticket, Asked::Remove(prefix));
    }

    pub fn refreshed(&mut self, ticket: u64) {
        assert!(self.asked.insert(ticket, Asked::Refresh).is_none() && ticket > 0, "tickets are unique");
    }

    /// It has another session id from here on.
    pub fn renewed(&mut self) {
        self.renewals += 1;
    }

    /// Changes whose answers have not been seen.
    pub fn waits_for(&self) -> usize {
        self.asked.len()
    }

    /// What it is subscribed to once all that was asked for is in force: how often, by prefix.
    pub fn wanted(&self) -> BTreeMap<&'static str, u64> {
        let mut set = self.set.clone();
        self.asked.values().for_each(|change| apply(&mut set, *change));
        set
    }

    // What it sees.

    /// The application looks at an event.
    pub fn saw(&mut self, oracle: &mut Oracle, event: &Event<'_>) {
        let answers = matches!(event, Event::Other(EventKind::Subscribed { .. } | EventKind::Position(_)));
        if let (false, Some(log)) = (answers, self.log_if_known()) {
            self.snapshots.flush(oracle, log);
        }
        match event {
            Event::Message { seq, topic, data } => self.message(oracle, *seq, topic, data),
            Event::Snapshot { seq, topic, data } => self.snapshot(oracle, *seq, topic, data),
            Event::Other(EventKind::Lost { after, lost: Lost::Exact(lost), .. }) => {
                self.lost(oracle, *after, *lost);
            }
            Event::Other(EventKind::Lost { after, lost: Lost::AtMost(most), .. }) => {
                self.perhaps_lost(oracle, *after, *most);
            }
            Event::Other(EventKind::Restarted { epoch, from }) => {
                assert_ne!(self.epoch, Some(*epoch));
                oracle.report.accounts += 1;
                self.epoch = Some(*epoch);
                self.lost_from = None;
                self.reached = Some(*from);
                if self.wants_snapshots {
                    self.snapshots.owe(self.set.keys().copied());
                }
            }
            Event::Other(EventKind::Subscribed { ticket, position }) => {
                self.subscribed(oracle, *ticket, *position)
            }
            Event::Other(EventKind::Position(position)) => self.advance(oracle, *position, 0, "a position"),
            Event::Other(EventKind::Connection(event)) => {
                (self.in_force, self.is_live) = (false, false);
                // What a gap has begun to count goes on over connections: nothing of it is replayed any more.
                self.skipped = None;
                self.snapshots.interrupted();
                if let ConnectionEvent::Connected { epoch, .. } = **event {
                    // Until the first account is open, the last epoch met is the one that counts.
                    self.epoch = if self.reached.is_none() { Some(epoch) } else { self.epoch };
                }
            }
            event => panic!("nobody knows {event:?}"),
        }
    }

    fn message(&mut self, oracle: &mut Oracle, seq: u64, topic: &str, bytes: &[u8]) {
        self.advance(oracle, seq, 0, "a message");
        self.expect_published(oracle, seq, topic, bytes);
        assert!(self.matches(topic), "{} got {topic:?}, which it does not follow", self.name);
        assert!(!self.snapshots.is_under_way(), "{} got a message in the midst of a snapshot", self.name);
        self.reached = Some(seq + 1);
        self.lost_from = None;
        self.is_live = self.in_force;
        if let Some(first) = self.skipped.take() {
            let full = !oracle.has_room(self.log(), first, seq + 1);
            assert!(full, "{} skipped {first}, and {seq} is not the newest", self.name);
        }
        oracle.report.received += 1;
    }

    fn snapshot(&mut self, oracle: &mut Oracle, seq: u64, topic: &str, bytes: &[u8]) {
        let topic = self.expect_published(oracle, seq, topic, bytes);
        let log = self.log();
        assert!(oracle.plan(log).options.last_value, "{} got a snapshot of a stream without any", self.name);
        self.snapshots.saw(oracle, log, seq, topic);
        oracle.report.snapshots += 1;
    }

    /// What was lost for certain.
    fn lost(&mut self, oracle: &mut Oracle, after: u64, lost: u64) {
        let log = self.log();
        let plan = *oracle.plan(log);
        assert!(!self.snapshots.is_under_way(), "{} got a gap in the midst of a snapshot", self.name);
        let blocks = plan.options.policy == SlowPolicy::Block;
        assert!(!blocks || !self.in_force, "{} lost {lost} of a stream that loses nothing", self.name);
        let first = self.first_owed(oracle);
        self.advance(oracle, after, lost, "an exact gap");
        let first = first.expect("something was lost");
        let lost_from = *self.lost_from.get_or_insert(first);
        let needless = plan.is_roomy && oracle.has_room(log, lost_from, oracle.head(log));
        assert!(!needless, "{} lost {lost_from}, and the log has room for all since", self.name);
        let skips = plan.options.policy == SlowPolicy::SkipToNewest && self.is_live;
        // Who follows everything goes on from the newest of all.
        self.skipped = (skips && self.set.contains_key("")).then_some(lost_from);
        oracle.report.lost_exactly += lost;
        oracle.report.gaps += 1;
    }

    /// Its record is gone, or it never had one.
    fn perhaps_lost(&mut self, oracle: &mut Oracle, after: u64, most: u64) {
        let reached = self.reached.expect("an account is open");
        assert!(after >= reached && !self.in_force);
        let missed = self.matching(oracle, reached, after);
        assert!(missed <= most, "{} missed {missed}, and was told at most {most}", self.name);
        let log = self.log();
        let replays = oracle.plan(log).options.retain == Retain::All;
        let needless = replays && oracle.has_room(log, after - 1, oracle.head(log));
        assert!(!needless, "{} is not given {}, and the log has it", self.name, after - 1);
        self.excuse(oracle);
        oracle.report.gaps += 1;
        oracle.report.accounts += 1;
        self.reached = Some(after);
    }

    /// The server begins a new account, because it has no record of us.
    fn excuse(&mut self, oracle: &Oracle) {
        let epoch = self.epoch.expect("an account has an epoch");
        let excused = self.excused.entry(epoch).or_default();
        *excused += 1;
        let forgotten = oracle.visits.forgotten(epoch, self.name) + self.renewals;
        assert!(*excused <= forgotten, "{}'s record is gone before its time", self.name);
    }

    fn subscribed(&mut self, oracle: &mut Oracle, ticket: u64, position: u64) {
        if self.reached.is_none() {
            oracle.report.accounts += 1;
            self.reached = Some(position);
            self.excuse(oracle);
        }
        self.advance(oracle, position, 0, "an acknowledgement");
        self.snapshots.answered(oracle, self.log(), position);
        self.skipped = None;
        if ticket == 0 {
            self.in_force = true;
            self.snapshots.handshake_ended();
        }
        if let Some(change) = self.asked.remove(&ticket) {
            assert!(
                self.asked.range(..ticket).next().is_none(),
                "answers come in the order of the questions"
            );
            apply(&mut self.set, change);
            match change {
                Asked::Add(prefix, true) => self.snapshots.asked_for([prefix], self.in_force),
                Asked::Add(_, false) => {}
                Asked::Remove(prefix) if self.set.contains_key(prefix) => {}
                Asked::Remove(prefix) => self.snapshots.give_up(prefix),
                Asked::Refresh => self.snapshots.asked_for(self.set.keys().copied(), self.in_force),
            }
        }
    }

    /// Everything matching from where it was up to `to` is accounted for, of which so many are reported lost.
    fn advance(&mut self, oracle: &Oracle, to: u64, lost: u64, by: &str) {
        let reached = self.reached.expect("nothing comes before the set is in force");
        assert!(to >= reached, "{} goes back from {reached} to {to} with {by}", self.name);
        let matching = self.matching(oracle, reached, to);
        assert_eq!(matching, lost, "{} is owed what lies in {reached}..{to} at {by}", self.name);
        self.reached = Some(to);
    }

    fn matching(&self, oracle: &Oracle, from: u64, to: u64) -> u64 {
        let all = oracle.all(self.log());
        assert!(to <= all.len() as u64, "{} is told of {to}, and {} were published", self.name, all.len());
        let range = &all[place(from)..place(to)];
        range.iter().filter(|publication| self.matches(publication.topic)).count() as u64
    }

    /// The number of the first publication that it has a right to and has not heard of.
    fn first_owed(&self, oracle: &Oracle) -> Option<u64> {
        let from = place(self.reached?);
        let all = oracle.all(self.log());
        let first = all.get(from..)?.iter().position(|publication| self.matches(publication.topic))?;
        Some((from + first) as u64)
    }

    /// It was published like this, under this topic.
    fn expect_published(&self, oracle: &Oracle, seq: u64, topic: &str, bytes: &[u8]) -> &'static str {
        let log = self.log();
        let publication = oracle.all(log).get(place(seq)).expect("only what was published");
        assert_eq!((topic, bytes.len()), (publication.topic, publication.len));
        assert_eq!(bytes, data(log, seq, publication.len), "{} got other data", self.name);
        publication.topic
    }

    fn log(&self) -> Log {
        self.log_if_known().expect("an account has an epoch")
    }

    fn log_if_known(&self) -> Option<Log> {
        Some(Log { epoch: self.epoch?, stream: self.stream })
    }

    fn matches(&self, topic: &str) -> bool {
        self.set.keys().any(|prefix| topic.starts_with(prefix))
    }

    /// What matches has been there for long enough.
    pub fn expect_nothing_owed(&self, oracle: &Oracle) {
        let reached = self.reached.expect("an account is open");
        let owed = self.matching(oracle, reached, oracle.head(self.log()));
        assert_eq!(owed, 0, "{} waits for what is published", self.name);
    }

    /// All has been quiet for long enough, and heartbeats have come.
    pub fn expect_balanced(&self, oracle: &Oracle) {
        let head = Some(oracle.head(self.log()));
        assert_eq!(self.reached, head, "{} has not heard of all there is", self.name);
        assert!(self.asked.is_empty(), "{} waits for answers: {:?}", self.name, self.asked);
        assert!(self.in_force, "{} was not told that its set is in force", self.name);
    }
}

fn apply(set: &mut BTreeMap<&'static str, u64>, asked: Asked) {
    let (prefix, add) = match asked {
        Asked::Add(prefix, _) => (prefix, true),
        Asked::Remove(prefix) => (prefix, false),
        Asked::Refresh => return,
    };
    let count = set.entry(prefix).or_default();
    *count = if add { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        set.remove(prefix);
    }
}
