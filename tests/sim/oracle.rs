//! A ledger of its own: what was published, called, executed and received, and what has to balance.
//!
//! Everything is entered by those who did it and checked where it is received; nothing comes from a machine's own
//! counters.

mod account;
mod snapshots;
mod visits;

use std::collections::BTreeMap;

use pulsewire::pattern::{NotExecuted, Outcome};
use pulsewire::time::{Duration, Instant};

use super::dice::{mix, Dice};
use super::streams::Plan;
use super::Report;
pub use account::{Account, Following};
pub use visits::Visits;

/// One numbered sequence of publications: a stream of one life of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Log {
    pub epoch: u64,
    /// The place of its plan.
    pub stream: usize,
}

/// A publication as it was made: its topic; the data follow from its log and number.
#[derive(Debug, Clone)]
struct Publication {
    topic: &'static str,
    len: usize,
}

/// A call as it was made, and what became of it.
#[derive(Debug)]
struct Call {
    idempotent: bool,
    /// Nothing hinders anybody: it is answered.
    is_probe: bool,
    executions: u64,
    /// When it was last answered at its server, in the world's time.
    answered: Option<Instant>,
    ended: Option<Outcome>,
}

/// How a caller came to know the end of a call.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// After its deadline.
    pub late: Duration,
    /// Most that the caller may be late.
    pub grace: Duration,
    /// Something of it can have reached a server.
    pub may_have_left: bool,
    /// Since when its server could have sent its answer, and did not.
    pub idle_since: Option<Instant>,
}

/// How long a server may sit on an answer while it sends nothing else.
const MOST_IDLE: Duration = Duration::from_secs(4);

/// One call of one caller, unique in the world.
pub type Token = u64;

#[derive(Default)]
pub struct Oracle {
    /// By sequence number.
    published: BTreeMap<Log, Vec<Publication>>,
    calls: BTreeMap<Token, Call>,
    plans: Vec<Plan>,
    pub visits: Visits,
    pub report: Report,
}

/// The data of a publication, by its number.
pub fn data(log: Log, seq: u64, len: usize) -> Vec<u8> {
    noise(mix(mix(log.epoch, log.stream as u64), seq), len)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut noise = Vec::with_capacity(len + 7);
    while noise.len() < len {
        noise.extend_from_slice(&dice.bits().to_le_bytes());
    }
    noise.truncate(len);
    noise
}

/// What a function makes of its arguments.
pub fn result(token: Token, len: usize) -> Vec<u8> {
    noise(!token, len)
}

impl Oracle {
    pub fn new(plans: Vec<Plan>, visits: Visits) -> Self {
        Oracle { plans, visits, ..Oracle::default() }
    }

    // What was done.

    pub fn published(&mut self, log: Log, seq: u64, topic: &'static str, len: usize) {
        let all = self.published.entry(log).or_default();
        assert_eq!(all.len() as u64, seq, "numbers count publications");
        all.push(Publication { topic, len });
        self.report.published += 1;
    }

    /// The number of the next publication.
    pub fn head(&self, log: Log) -> u64 {
        self.all(log).len() as u64
    }

    fn all(&self, log: Log) -> &[Publication] {
        self.published.get(&log).map_or(&[], |all| all)
    }

    fn plan(&self, log: Log) -> &Plan {
        &self.plans[log.stream]
    }

    /// Whether the log of these publications certainly had room for all of this part.
    fn has_room(&self, log: Log, from: u64, to: u64) -> bool {
        let part = &self.all(log)[place(from)..place(to)];
        let bytes = part.iter().map(|publication| publication.len as u64).sum();
        self.plan(log).has_room(part.len() as u64, bytes)
    }

    pub fn called(&mut self, token: Token, idempotent: bool, is_probe: bool) {
        let call = Call { idempotent, is_probe, executions: 0, answered: None, ended: None };
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

    /// A function is through, and its server takes its answer for somebody who waits.
    pub fn answered(&mut self, now: Instant, token: Token) {
        self.calls.get_mut(&token).expect("only what was called is answered").answered = Some(now);
    }

    pub fn ended(&mut self, now: Instant, ending: Ending, token: Token, outcome: Outcome) {
        let call = self.calls.get_mut(&token).expect("only what was called ends");
        assert!(call.ended.is_none(), "call {token} ends again: {outcome:?} after {:?}", call.ended);
        assert!(ending.late <= ending.grace, "call {token} ends {:?} after its deadline", ending.late);
        match &outcome {
            Outcome::Value(value) => {
                assert_eq!(**value, result(token, value.len()), "the result of another call");
                assert!(call.executions >= 1, "call {token} has a result and never ran");
                self.report.values += 1;
            }
            Outcome::Failed(_) | Outcome::ResultNotKept => {
                assert!(call.executions >= 1, "{outcome:?}: never ran")
            }
            Outcome::NotExecuted(why) => {
                assert_eq!(call.executions, 0, "call {token} ran and is {outcome:?}");
                let refused = *why == NotExecuted::Full;
                assert!(!call.is_probe || refused, "probe {token} is {outcome:?}");
                self.report.not_executed += 1;
            }
            Outcome::Unknown(_) => {
                assert!(ending.may_have_left, "call {token} is {outcome:?}, and nothing of it has left");
                assert!(!call.is_probe, "probe {token} is {outcome:?}");
                let answered = call.answered.filter(|_| !call.idempotent);
                if let (Some(answered), Some(idle)) = (answered, ending.idle_since) {
                    let waited = now.saturating_since(answered.max(idle));
                    assert!(
                        waited < MOST_IDLE,
                        "call {token} is {outcome:?}, and was answered {waited:?} ago"
                    );
                }
                self.report.unknown += 1;
            }
        }
        call.ended = Some(outcome);
    }

    /// All has been quiet for long enough.
    pub fn expect_all_calls_ended(&self) {
        let hanging: Vec<Token> =
            self.calls.iter().filter(|(_, call)| call.ended.is_none()).map(|(token, _)| *token).collect();
        assert!(hanging.is_empty(), "calls without an end: {hanging:?}");
    }
}

fn place(seq: u64) -> usize {
    usize::try_from(seq).expect("publications are kept in memory")
}
