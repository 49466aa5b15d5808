//! A ledger of its own: what was published, called, executed and received, and what has to balance.
//!
//! Everything is entered by those who did it and checked where it is received; nothing comes from a machine's own
//! counters.

use std::collections::BTreeMap;

use pulsewire::pattern::{Event, EventKind, Lost, Outcome};
use pulsewire::time::{Duration, Instant};

use super::dice::{mix, Dice};
use super::Report;

/// A publication as it was made: its topic; the data follow from epoch and number.
#[derive(Debug, Clone)]
struct Publication {
    topic: &'static str,
    len: usize,
}

/// A call as it was made, and what became of it.
#[derive(Debug)]
struct Call {
    deadline: Instant,
    idempotent: bool,
    executions: u64,
    ended: Option<Outcome>,
}

/// One call of one caller, unique in the world.
pub type Token = u64;

#[derive(Default)]
pub struct Oracle {
    /// By epoch, and there by sequence number.
    published: BTreeMap<u64, Vec<Publication>>,
    calls: BTreeMap<Token, Call>,
    pub report: Report,
}

/// The data of a publication, by its number.
pub fn data(epoch: u64, seq: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(mix(epoch, seq));
    (0..len).map(|_| (dice.bits() & 0xff) as u8).collect()
}

/// What a function makes of its arguments.
pub fn result(token: Token, len: usize) -> Vec<u8> {
    data(!token, 7, len)
}

impl Oracle {
    // What was done.

    pub fn published(&mut self, epoch: u64, seq: u64, topic: &'static str, len: usize) {
        let all = self.published.entry(epoch).or_default();
        assert_eq!(all.len() as u64, seq, "numbers count publications");
        all.push(Publication { topic, len });
        self.report.published += 1;
    }

    /// The number of the next publication of an epoch.
    pub fn head(&self, epoch: u64) -> u64 {
        self.published.get(&epoch).map_or(0, |all| all.len() as u64)
    }

    pub fn called(&mut self, token: Token, deadline: Instant, idempotent: bool) {
        let call = Call { deadline, idempotent, executions: 0, ended: None };
        assert!(self.calls.insert(token, call).is_none(), "tokens are unique");
        self.report.calls += 1;
    }

    pub fn executed(&mut self, token: Token) {
        self.report.executed += 1;
        let call = self.calls.get_mut(&token).expect("only what was called is executed");
        call.executions += 1;
        self.report.sent_twice += u64::from(call.executions > 1);
        assert!(call.executions == 1 || call.idempotent, "call {token} runs again");
        let not_executed = matches!(call.ended, Some(Outcome::NotExecuted(_)));
        assert!(!not_executed, "call {token} runs after its caller was told that it does not");
    }

    pub fn ended(&mut self, now: Instant, grace: Duration, token: Token, outcome: Outcome) {
        let call = self.calls.get_mut(&token).expect("only what was called ends");
        assert!(call.ended.is_none(), "call {token} ends again: {outcome:?} after {:?}", call.ended);
        assert!(
            now <= call.deadline + grace,
            "call {token} ends at {now:?}, its deadline was {:?}",
            call.deadline
        );
        match &outcome {
            Outcome::Value(value) => {
                assert_eq!(*value, result(token, value.len()), "the result of another call");
                assert!(call.executions >= 1, "call {token} has a result and never ran");
                self.report.values += 1;
            }
            Outcome::Failed(_) | Outcome::ResultNotKept => {
                assert!(call.executions >= 1, "{outcome:?}: never ran")
            }
            Outcome::NotExecuted(_) => {
                assert_eq!(call.executions, 0, "call {token} ran and is {outcome:?}");
                self.report.not_executed += 1;
            }
            Outcome::Unknown(_) => self.report.unknown += 1,
        }
        call.ended = Some(outcome);
    }

    /// All has been quiet for long enough.
    pub fn expect_all_calls_ended(&self) {
        let hanging: Vec<Token> =
            self.calls.iter().filter(|(_, call)| call.ended.is_none()).map(|(token, _)| *token).collect();
        assert!(hanging.is_empty(), "calls without an end: {hanging:?}");
    }

    pub fn outcome(&self, token: Token) -> Option<&Outcome> {
        self.calls.get(&token)?.ended.as_ref()
    }
}

/// What one subscription has seen, against what it had a right to.
pub struct Account {
    name: usize,
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
            epoch: None,
            set: BTreeMap::from([(prefix, 1)]),
            asked: BTreeMap::new(),
            reached: None,
        }
    }

    pub fn asked(&mut self, ticket: u64, prefix: &'static str, add: bool) {
        self.asked.insert(ticket, (prefix, add));
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
                let epoch = self.epoch.expect("an account has an epoch");
                let publication = oracle.published[&epoch].get(place(*seq)).expect("only what was published");
                assert_eq!((*topic, bytes.len()), (publication.topic, publication.len));
                assert_eq!(*bytes, data(epoch, *seq, publication.len), "{} got other data", self.name);
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
                if let pulsewire::pattern::ConnectionEvent::Connected { epoch, .. } = **event {
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
        let epoch = self.epoch.expect("an account has an epoch");
        let all = oracle.published.get(&epoch).map_or(&[][..], |all| all);
        assert!(to <= all.len() as u64, "{} is told of {to}, and {} were published", self.name, all.len());
        let range = &all[place(from)..place(to)];
        range.iter().filter(|publication| self.matches(publication.topic)).count() as u64
    }

    fn matches(&self, topic: &str) -> bool {
        self.set.keys().any(|prefix| topic.starts_with(prefix))
    }

    /// All has been quiet for long enough, and heartbeats have come.
    pub fn expect_balanced(&self, oracle: &Oracle) {
        let epoch = self.epoch.expect("it was connected");
        assert_eq!(self.reached, Some(oracle.head(epoch)), "{} has not heard of all there is", self.name);
        assert!(self.asked.is_empty(), "{} waits for answers: {:?}", self.name, self.asked);
    }
}

fn place(seq: u64) -> usize {
    usize::try_from(seq).expect("publications are kept in memory")
}

fn apply(set: &mut BTreeMap<&'static str, u64>, (prefix, add): (&'static str, bool)) {
    let count = set.entry(prefix).or_default();
    *count = if add { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        set.remove(prefix);
    }
}
