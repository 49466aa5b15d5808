//! The account that a client keeps of one epoch, and how the parent balances it.
//!
//! The client checks each message against the feed when it comes: its number, its topic, its content, and that nothing
//! which matches was passed over in silence. The parent believes none of that. It takes the first and the last position
//! and counts for itself what matched between them.

use crate::feed::{Feed, Selection, Stamped};

/// What one client saw of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// What the library calls this life of the server.
    pub epoch: u64,
    /// What the server stamps on its ticks in this life; `None` until the first of them.
    pub life: Option<u32>,
    /// Position at which the account begins.
    pub first: u64,
    /// Everything matching below it was received or reported lost. Invariant: not below `first`, never goes back.
    pub position: u64,
    pub received: u64,
    /// Reported lost, by exact count.
    pub lost: u64,
    /// Reported lost, with no better count than a bound.
    pub lost_at_most: u64,
    /// How often something was reported lost.
    pub gaps: u64,
    /// Findings against the library: see [`Wrong`].
    pub wrong: u64,
}

/// What must never happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("publication {seq} came after everything below {position}")]
    OutOfOrder { seq: u64, position: u64 },
    #[error("publication {seq} on {topic:?} does not match what was subscribed to")]
    NotAskedFor { seq: u64, topic: String },
    #[error("{count} matching publications from {from} to {to} were passed over in silence")]
    Silence { from: u64, to: u64, count: u64 },
    #[error("publication {seq} is on {found:?} instead of {expected:?}")]
    Topic { seq: u64, found: String, expected: String },
    #[error("publication {seq} has other content than was published")]
    Content { seq: u64 },
    #[error("publication {seq} could not be decoded: {error}")]
    Undecodable { seq: u64, error: String },
    #[error("publication {seq} is of life {found}, the ones before it of life {expected}")]
    Life { seq: u64, found: u32, expected: u32 },
    #[error("{reported} reported lost from {before} to {after}, where {matching} match")]
    GapCount { before: u64, after: u64, reported: u64, matching: u64 },
    #[error("a position goes back from {from} to {to}")]
    Backwards { from: u64, to: u64 },
}

impl Account {
    /// Begins at the position from which on everything that matches is due.
    pub fn begin(epoch: u64, position: u64) -> Self {
        Account { epoch, first: position, position, ..Account::default() }
    }

    /// A message came.
    pub fn handle_message(
        &mut self,
        market: (&Feed, &Selection),
        seq: u64,
        topic: &str,
        data: &Stamped,
    ) -> Result<(), Wrong> {
        let (feed, selection) = market;
        self.received += 1;
        self.advance_to_message(selection, seq, topic)?;
        let expected = *self.life.get_or_insert(data.life);
        if expected != data.life {
            return Err(self.found(Wrong::Life { seq, found: data.life, expected }));
        }
        if topic != feed.topic(seq) {
            let expected = feed.topic(seq).to_owned();
            return Err(self.found(Wrong::Topic { seq, found: topic.to_owned(), expected }));
        }
        if data.tick != feed.tick(seq) {
            return Err(self.found(Wrong::Content { seq }));
        }
        Ok(())
    }

    /// A message came that is not what was published.
    pub fn handle_undecodable(
        &mut self,
        selection: &Selection,
        seq: u64,
        topic: &str,
        error: String,
    ) -> Result<(), Wrong> {
        self.received += 1;
        self.advance_to_message(selection, seq, topic)?;
        Err(self.found(Wrong::Undecodable { seq, error }))
    }

    /// Exactly `count` messages between two positions were lost.
    pub fn handle_lost(
        &mut self,
        selection: &Selection,
        before: u64,
        after: u64,
        count: u64,
    ) -> Result<(), Wrong> {
        self.gaps += 1;
        self.lost += count;
        let silence = self.advance(selection, before);
        let matching = selection.count(before..after);
        let position = self.position;
        self.position = position.max(after);
        silence?;
        if after < position {
            return Err(self.found(Wrong::Backwards { from: position, to: after }));
        }
        if matching != count {
            return Err(self.found(Wrong::GapCount { before, after, reported: count, matching }));
        }
        Ok(())
    }

    /// At most `count` messages up to a position were lost.
    pub fn handle_lost_at_most(&mut self, after: u64, count: u64) {
        self.gaps += 1;
        self.lost_at_most += count;
        self.position = self.position.max(after);
    }

    /// The library says that everything matching below `to` has been handed over.
    pub fn advance(&mut self, selection: &Selection, to: u64) -> Result<(), Wrong> {
        let from = self.position;
        self.position = from.max(to);
        if to < from {
            return Err(self.found(Wrong::Backwards { from, to }));
        }
        match selection.count(from..to) {
            0 => Ok(()),
            count => Err(self.found(Wrong::Silence { from, to, count })),
        }
    }

    fn advance_to_message(&mut self, selection: &Selection, seq: u64, topic: &str) -> Result<(), Wrong> {
        if seq < self.position {
            return Err(self.found(Wrong::OutOfOrder { seq, position: self.position }));
        }
        let silence = self.advance(selection, seq);
        self.position = seq + 1;
        silence?;
        if !selection.contains(seq) {
            return Err(self.found(Wrong::NotAskedFor { seq, topic: topic.to_owned() }));
        }
        Ok(())
    }

    fn found(&mut self, wrong: Wrong) -> Wrong {
        self.wrong += 1;
        wrong
    }
}

/// What the parent knows of one life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub epoch: u64,
    /// How much the server published.
    pub published: Published,
}

/// How many publications a life of the server had: it says a bound before it goes on, and the number when it ends well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    Exactly(u64),
    AtMost(u64),
}

impl Published {
    pub fn is_exact(self) -> bool {
        matches!(self, Published::Exactly(_))
    }

    pub fn bound(self) -> u64 {
        match self {
            Published::Exactly(count) | Published::AtMost(count) => count,
        }
    }
}

/// One account against the parent's own count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// What matched between the first and the last position.
    pub matched: u64,
    /// What matched beyond the last position: nobody's debt.
    pub tail: Published,
    /// Whether what matched is what was received or reported lost, and nothing was found against the library.
    pub is_even: bool,
}

impl Balance {
    pub fn of(account: &Account, selection: &Selection, life: &Life) -> Self {
        let matched = selection.count(account.first..account.position);
        let beyond = selection.count(account.position..life.published.bound());
        let tail = match life.published {
            Published::Exactly(_) => Published::Exactly(beyond),
            Published::AtMost(_) => Published::AtMost(beyond),
        };
        let least = account.received + account.lost;
        let is_even = account.wrong == 0
            && account.first <= account.position
            && account.position <= life.published.bound()
            && (least..=least + account.lost_at_most).contains(&matched);
        Balance { matched, tail, is_even }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Row, Tick};

    /// Odd publications are on `tick.B`, even ones on `tick.A`.
    fn feed() -> Feed {
        let row =
            |instrument, at_ns| Row { instrument, at_ns, tick: Tick { time_ns: at_ns, ..Tick::default() } };
        let topics = vec!["tick.A".to_owned(), "tick.B".to_owned()];
        Feed::new(topics, (0..10).map(|at| row(usize::from(at % 2 == 1), at)).collect())
    }

    struct Client {
        feed: Feed,
        selection: Selection,
        account: Account,
    }

    fn client(prefix: &str, first: u64) -> Client {
        let feed = feed();
        Client { selection: feed.select(prefix), feed, account: Account::begin(7, first) }
    }

    impl Client {
        fn message(&mut self, seq: u64) -> Result<(), Wrong> {
            self.message_with(seq, |_| ())
        }

        fn message_with(&mut self, seq: u64, spoil: impl FnOnce(&mut Stamped)) -> Result<(), Wrong> {
            let mut data = Stamped { life: 0, sent_ns: 1, tick: self.feed.tick(seq) };
            spoil(&mut data);
            let topic = self.feed.topic(seq).to_owned();
            self.account.handle_message((&self.feed, &self.selection), seq, &topic, &data)
        }

        fn balance(&self, published: Published) -> Balance {
            Balance::of(&self.account, &self.selection, &Life { epoch: 7, published })
        }
    }

    #[test]
    fn received_and_lost_make_up_what_matched() {
        let mut client = client("tick.A", 1);
        for seq in [2, 4, 6] {
            assert_eq!(client.message(seq), Ok(()));
        }
        assert_eq!(client.account.handle_lost(&client.selection, 7, 21, 7), Ok(()));
        assert_eq!(client.message(22), Ok(()));
        assert_eq!(client.account.advance(&client.selection, 24), Ok(()));
        let balance = client.balance(Published::AtMost(31));
        assert_eq!(balance, Balance { matched: 11, tail: Published::AtMost(4), is_even: true });
        assert_eq!((client.account.received, client.account.lost, client.account.gaps), (4, 7, 1));
    }

    #[test]
    fn a_bound_is_as_good_as_it_says() {
        let mut client = client("", 0);
        client.account.handle_lost_at_most(10, 12);
        assert_eq!(client.message(10), Ok(()));
        assert!(client.balance(Published::Exactly(11)).is_even);
        client.account.lost_at_most = 9;
        assert!(!client.balance(Published::Exactly(11)).is_even);
    }

    #[test]
    fn a_position_beyond_what_was_published_is_no_balance() {
        let mut client = client("", 0);
        assert_eq!(client.message(0), Ok(()));
        assert!(client.balance(Published::AtMost(1)).is_even);
        assert!(!client.balance(Published::Exactly(0)).is_even);
    }

    #[test]
    fn whatever_must_not_happen_is_found() {
        type Case = (fn(&mut Client) -> Result<(), Wrong>, Wrong);
        let cases: [Case; 9] = [
            (|client| client.message(3), Wrong::OutOfOrder { seq: 3, position: 5 }),
            (|client| client.message(5), Wrong::NotAskedFor { seq: 5, topic: "tick.B".into() }),
            (|client| client.message(8), Wrong::Silence { from: 5, to: 8, count: 1 }),
            (|client| client.message_with(6, |data| data.tick.volume += 1.0), Wrong::Content { seq: 6 }),
            (
                |client| client.message_with(6, |data| data.life = 1),
                Wrong::Life { seq: 6, found: 1, expected: 0 },
            ),
            (
                |client| client.account.handle_undecodable(&client.selection, 6, "tick.A", "short".into()),
                Wrong::Undecodable { seq: 6, error: "short".into() },
            ),
            (
                |client| client.account.handle_lost(&client.selection, 5, 9, 1),
                Wrong::GapCount { before: 5, after: 9, reported: 1, matching: 2 },
            ),
            (
                |client| client.account.handle_lost(&client.selection, 7, 9, 1),
                Wrong::Silence { from: 5, to: 7, count: 1 },
            ),
            (|client| client.account.advance(&client.selection, 4), Wrong::Backwards { from: 5, to: 4 }),
        ];
        for (act, expected) in cases {
            let mut client = client("tick.A", 0);
            for seq in [0, 2, 4] {
                client.message(seq).unwrap();
            }
            assert_eq!(act(&mut client), Err(expected.clone()));
            assert_eq!(client.account.wrong, 1, "{expected}");
            assert!(!client.balance(Published::AtMost(100)).is_even, "{expected}");
        }
    }
}
