//! One subscription's account: what it got, what it was told it lost, and what it had a right to.
//!
//! When the set of prefixes changes, the old one rules until the server's answer, whose place in the stream the
//! subscriber is told. It is not told which of its questions was answered: after a reconnect the answer to the set of
//! the handshake may come first. So an account keeps every reading of what it was told that is still possible, and is
//! wrong when none is left.

use std::collections::BTreeMap;

use super::feed::Set;

/// What a subscription may have been told so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// The set in force.
    set: Set,
    /// The set that was asked for and is not in force.
    asked: Option<Set>,
    /// Everything matching below it was received or reported lost.
    position: u64,
    /// Publications that matched in this life of the server, as far as the position.
    matching: u64,
}

impl Reading {
    /// What matches between the position and another one, which must not lie before it.
    fn until(&self, epoch: u64, position: u64) -> Option<u64> {
        (position >= self.position).then(|| self.set.count(epoch, self.position..position))
    }
}

/// What came of one life of the server, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub received: u64,
    pub lost: u64,
    pub matching: u64,
}

impl Tally {
    pub fn plus(self, other: Self) -> Self {
        Tally {
            received: self.received + other.received,
            lost: self.lost + other.lost,
            matching: self.matching + other.matching,
        }
    }

    pub fn difference(&self) -> u64 {
        self.matching.abs_diff(self.received + self.lost)
    }
}

#[derive(Clone)]
pub struct Account {
    readings: Vec<Reading>,
    /// The life of the server, once something is in force in it.
    epoch: Option<u64>,
    /// By the server's lives.
    tallies: BTreeMap<u64, Tally>,
    changes: u64,
}

/// Why an account is wrong.
pub type Wrong = String;

/// More readings than there can be at once.
const MOST_READINGS: usize = 64;

impl Account {
    /// An account of a subscription that has asked for this set.
    pub fn new(set: Set) -> Self {
        let reading = Reading { set, asked: None, position: 0, matching: 0 };
        Account { readings: vec![reading], epoch: None, tallies: BTreeMap::new(), changes: 0 }
    }

    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    pub fn position(&self) -> u64 {
        self.readings[0].position
    }

    /// What was asked for is in force, in every reading.
    pub fn is_settled(&self) -> bool {
        self.epoch.is_some() && self.readings.iter().all(|reading| reading.asked.is_none())
    }

    /// Changes of the set that came into force.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What came of each life of the server, in no order.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> + '_ {
        let open = self.epoch.map(|epoch| (epoch, self.readings[0].matching));
        self.tallies.iter().map(move |(epoch, tally)| match open {
            Some((open, matching)) if open == *epoch => Tally { matching, ..*tally },
            _ => *tally,
        })
    }

    /// Another set was asked for. The one before must be in force.
    pub fn ask(&mut self, set: Set) {
        assert!(self.is_settled(), "one change at a time");
        for reading in &mut self.readings {
            reading.asked = Some(set).filter(|set| *set != reading.set);
        }
    }

    // What the subscription was told.

    pub fn message(&mut self, seq: u64) -> Result<(), Wrong> {
        let epoch = self.open(&format!("message {seq}"))?;
        self.read(&format!("message {seq}"), |reading| {
            let missed = reading.until(epoch, seq)?;
            (missed == 0 && reading.set.has(epoch, seq)).then_some(seq + 1)
        })?;
        self.tally(epoch).received += 1;
        Ok(())
    }

    pub fn lost(&mut self, after: u64, lost: u64) -> Result<(), Wrong> {
        let what = format!("{lost} lost before {after}");
        let epoch = self.open(&what)?;
        self.read(&what, |reading| (reading.until(epoch, after)? == lost).then_some(after))?;
        self.tally(epoch).lost += lost;
        Ok(())
    }

    /// A set is in force from this position on, and it may be the one that was asked for.
    pub fn subscribed(&mut self, connected_to: u64, position: u64) -> Result<(), Wrong> {
        if self.epoch.is_none() {
            self.begin(connected_to, position);
        }
        self.reached(position)?;
        let waiting = self.readings.iter().filter(|reading| reading.asked.is_some()).count();
        for at in 0..self.readings.len() {
            if let Reading { asked: Some(set), .. } = self.readings[at] {
                let in_force = Reading { set, asked: None, ..self.readings[at] };
                self.readings.push(in_force);
            }
        }
        self.merge();
        self.changes += u64::from(waiting > 0 && self.is_settled());
        Ok(())
    }

    /// Everything matching below this position has been told.
    pub fn reached(&mut self, position: u64) -> Result<(), Wrong> {
        let what = format!("nothing more before {position}");
        let epoch = self.open(&what)?;
        self.read(&what, |reading| (reading.until(epoch, position)? == 0).then_some(position))
    }

    /// Another life of the server begins: how much more the last one had for us is known to nobody.
    pub fn restarted(&mut self, epoch: u64, from: u64) -> Result<(), Wrong> {
        if self.tallies.contains_key(&epoch) {
            return Err(format!("life {epoch:x} begins again"));
        }
        if let Some(before) = self.epoch {
            self.tally(before).matching = self.readings[0].matching;
        }
        self.begin(epoch, from);
        Ok(())
    }

    fn begin(&mut self, epoch: u64, position: u64) {
        self.epoch = Some(epoch);
        self.tally(epoch);
        for reading in &mut self.readings {
            (reading.position, reading.matching) = (position, 0);
        }
        self.merge();
    }

    fn open(&self, what: &str) -> Result<u64, Wrong> {
        self.epoch.ok_or_else(|| format!("{what}: before anything was in force"))
    }

    fn tally(&mut self, epoch: u64) -> &mut Tally {
        self.tallies.entry(epoch).or_default()
    }

    /// Keeps the readings in which this is possible, at the position that it takes them to.
    fn read(&mut self, what: &str, step: impl Fn(&Reading) -> Option<u64>) -> Result<(), Wrong> {
        let Some(epoch) = self.epoch else { return Ok(()) };
        let before = self.readings[0];
        let was_settled = self.is_settled();
        self.readings.retain_mut(|reading| {
            let Some(position) = step(reading) else { return false };
            reading.matching += reading.set.count(epoch, reading.position..position);
            reading.position = position;
            true
        });
        if self.readings.is_empty() {
            self.readings.push(before);
            return Err(format!("{what}: in life {epoch:x} after {before:?}"));
        }
        self.merge();
        self.changes += u64::from(!was_settled && self.is_settled());
        Ok(())
    }

    fn merge(&mut self) {
        let mut kept: Vec<Reading> = Vec::new();
        for reading in self.readings.drain(..) {
            if !kept.contains(&reading) {
                kept.push(reading);
            }
        }
        self.readings = kept;
        assert!(self.readings.len() <= MOST_READINGS, "readings that nothing tells apart");
    }
}

mod tests {
    use std::ops::Range;

    use super::super::feed::{topic, TOPICS};
    use super::*;

    const EPOCH: u64 = 7;

    /// The first publication at or after `from` under one of these topics.
    fn next(from: u64, wanted: impl Fn(&str) -> bool) -> u64 {
        (from..).find(|seq| wanted(topic(EPOCH, *seq))).unwrap()
    }

    fn is_tick(topic: &str) -> bool {
        topic.starts_with("tick.")
    }

    /// An account of ticks that has begun at 0 and got the first one.
    fn of_ticks() -> (Account, u64) {
        let mut account = Account::new(Set::of(["tick."]));
        account.subscribed(EPOCH, 0).unwrap();
        let first = next(0, is_tick);
        account.message(first).unwrap();
        (account, first)
    }

    #[test]
    fn an_account_balances_when_everything_is_told() {
        let (mut account, first) = of_ticks();
        let second = next(first + 1, is_tick);
        account.message(second).unwrap();
        account.lost(1_000, Set::of(["tick."]).count(EPOCH, second + 1..1_000)).unwrap();
        account.reached(next(1_000, is_tick)).unwrap();
        let tally = account.tallies().next().unwrap();
        assert_eq!((tally.received, tally.difference()), (2, 0));
        assert_eq!(tally.matching, Set::of(["tick."]).count(EPOCH, 0..1_000));
    }

    /// Tells an account something that cannot be; it has got the message of this number.
    type Fault = fn(&mut Account, u64) -> Result<(), Wrong>;

    #[test]
    fn what_is_doubled_missing_misplaced_or_miscounted_is_found() {
        let faults: [Fault; 7] = [
            |account, first| account.message(first),
            |account, first| account.message(next(next(first + 1, is_tick) + 1, is_tick)),
            |account, first| account.message(next(first + 1, |topic| !is_tick(topic))),
            |account, _| account.lost(1_000, 1),
            |account, _| account.lost(0, 0),
            |account, first| account.reached(next(first + 1, is_tick) + 1),
            |account, _| account.restarted(EPOCH, 0),
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            let (mut account, first) = of_ticks();
            assert!(fault(&mut account, first).is_err(), "fault {number}");
        }
        let mut account = Account::new(Set::of([""]));
        assert!(account.message(0).is_err(), "before anything was in force");
    }

    #[test]
    fn either_of_two_answers_may_be_the_one_to_a_change() {
        let is_order = |topic: &str| topic == "order";
        let is_either = |topic: &str| is_tick(topic) || is_order(topic);
        let (before, first) = of_ticks();
        let order = next(first + 1, is_order);
        let after = next(order + 1, is_order);
        let tell = |account: &mut Account, seqs: Range<u64>, wanted: &dyn Fn(&str) -> bool| {
            seqs.filter(|seq| wanted(topic(EPOCH, *seq))).try_for_each(|seq| account.message(seq))
        };
        for answer in [first + 1, order + 1] {
            let mut account = before.clone();
            account.ask(Set::of(["tick.", "order"]));
            account.subscribed(EPOCH, first + 1).unwrap();
            assert!(!account.is_settled(), "this may have been the answer, or the next one");
            tell(&mut account, first + 1..answer, &is_tick).unwrap();
            account.subscribed(EPOCH, answer).unwrap();
            tell(&mut account, answer..after + 1, &is_either).unwrap();
            assert!(account.is_settled() && account.changes() == 1);
            // Orders are owed from here on.
            assert!(tell(&mut account, after + 1..after + 1_000, &is_tick).is_err());
        }
    }

    #[test]
    fn a_set_matches_what_begins_with_one_of_its_prefixes() {
        let set = Set::of(["tick.ag", "trade"]);
        for seq in 0..200 {
            let matches = ["tick.ag", "trade"].iter().any(|prefix| topic(EPOCH, seq).starts_with(prefix));
            assert_eq!(set.has(EPOCH, seq), matches);
        }
        assert_eq!(Set::of([""]), Set::of(TOPICS));
    }
}
