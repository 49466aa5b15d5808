//! What one subscription has seen, against what it had a right to.

use std::collections::BTreeMap;

use pulsewire::pattern::{ConnectionEvent, Event, EventKind, Lost};

use super::{data, place, Log, Oracle};

/// What one subscription has seen, against what it had a right to.
pub struct Account {
    name: usize,
    /// The stream that it follows, of whatever life of whatever server.
    stream: u64,
    epoch: Option<u64>,
    /// Counts by prefix of what is in force at the server.
    set: BTreeMap<&'static str, u64>,
    /// What was asked for, by ticket: a prefix, and whether it is added.
    asked: BTreeMap<u64, (&'static str, bool)>,
    /// Everything matching below it is accounted for. `None` while no account is open.
    reached: Option<u64>,
}

impl Account {
    pub fn new(name: usize, prefix: &'static str) -> Self {
        Account {
            name,
            stream: 0,
            epoch: None,
            set: BTreeMap::from([(prefix, 1)]),
            asked: BTreeMap::new(),
            reached: None,
        }
    }

    pub fn asked(&mut self, ticket: u64, prefix: &'static str, add: bool) {
        self.asked.insert(ticket, (prefix, add));
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

    /// The application looks at an event.
    pub fn saw(&mut self, oracle: &mut Oracle, event: &Event<'_>) {
        match event {
            Event::Message { seq, topic, data: bytes } => {
                self.advance(oracle, *seq, 0, "a message");
                let log = self.log();
                let publication = oracle.published[&log].get(place(*seq)).expect("only what was published");
                assert_eq!((*topic, bytes.len()), (publication.topic, publication.len));
                assert_eq!(*bytes, data(log, *seq, publication.len), "{} got other data", self.name);
                assert!(self.matches(topic), "{} got {topic:?}, which it does not follow", self.name);
                self.reached = Some(seq + 1);
                oracle.report.received += 1;
            }
            Event::Other(EventKind::Lost { after, lost: Lost::Exact(lost), .. }) => {
                oracle.report.lost_exactly += lost;
                oracle.report.gaps += 1;
                self.advance(oracle, *after, *lost, "an exact gap");
            }
            Event::Other(EventKind::Lost { after, lost: Lost::AtMost(most), .. }) => {
                let reached = self.reached.expect("an account is open");
                assert!(*after >= reached);
                let missed = self.matching(oracle, reached, *after);
                assert!(missed <= *most, "{} missed {missed}, and was told at most {most}", self.name);
                oracle.report.gaps += 1;
                oracle.report.accounts += 1;
                self.reached = Some(*after);
            }
            Event::Other(EventKind::Restarted { epoch, from }) => {
                assert_ne!(self.epoch, Some(*epoch));
                oracle.report.accounts += 1;
                self.epoch = Some(*epoch);
                self.reached = Some(*from);
            }
            Event::Other(EventKind::Subscribed { ticket, position }) => {
                self.subscribed(oracle, *ticket, *position)
            }
            Event::Other(EventKind::Position(position)) => self.advance(oracle, *position, 0, "a position"),
            Event::Other(EventKind::Connection(event)) => {
                if let ConnectionEvent::Connected { epoch, .. } = **event {
                    // Until the first account is open, the last epoch met is the one that counts.
                    self.epoch = if self.reached.is_none() { Some(epoch) } else { self.epoch };
                }
            }
            event => panic!("nobody knows {event:?}"),
        }
    }

    fn subscribed(&mut self, oracle: &mut Oracle, ticket: u64, position: u64) {
        if self.reached.is_none() {
            oracle.report.accounts += 1;
            self.reached = Some(position);
        }
        self.advance(oracle, position, 0, "an acknowledgement");
        if let Some(change) = self.asked.remove(&ticket) {
            assert!(
                self.asked.range(..ticket).next().is_none(),
                "answers come in the order of the questions"
            );
            apply(&mut self.set, change);
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
        let all = oracle.published.get(&self.log()).map_or(&[][..], |all| all);
        assert!(to <= all.len() as u64, "{} is told of {to}, and {} were published", self.name, all.len());
        let range = &all[place(from)..place(to)];
        range.iter().filter(|publication| self.matches(publication.topic)).count() as u64
    }

    fn log(&self) -> Log {
        Log { epoch: self.epoch.expect("an account has an epoch"), stream: self.stream }
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
    }
}

fn apply(set: &mut BTreeMap<&'static str, u64>, (prefix, add): (&'static str, bool)) {
    let count = set.entry(prefix).or_default();
    *count = if add { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        set.remove(prefix);
    }
}
