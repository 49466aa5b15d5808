//! The subscription of a client: takes what comes, checks it, and keeps one account per life of the server.

use std::time::{Duration, Instant};

use pulsewire::{Event, Lost, Subscription};

use crate::accounts::{Account, Wrong};
use crate::client::Job;
use crate::feed::{Selection, Stamped};
use crate::lines::Report;
use crate::process::report;
use crate::profile::Reads;
use crate::server::wall_clock_ns;

/// When nothing has come for so long, the position is asked for: it moves without a message, too.
const LULL: Duration = Duration::from_millis(50);

/// After the order to stop, what is on its way is taken until a lull, but not longer.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// How many findings are reported in words; all are counted.
const MAX_TEXTS: u32 = 5;

/// Follows until the client stops. Every account is reported when it is closed.
pub fn follow(mut events: Subscription<Stamped>, job: &Job) {
    let mut follower = Follower {
        job,
        selection: job.feed.select(job.profile.prefix(&job.feed)),
        epoch: 0,
        account: None,
        texts: 0,
    };
    let mut drain_deadline = None;
    let mut turn_began = Instant::now();
    loop {
        if let Reads::InTurns { reading, away } = job.profile.reads {
            if turn_began.elapsed() >= reading {
                job.rest(away);
                turn_began = Instant::now();
            }
        }
        match events.recv_timeout(LULL) {
            Some(event) => follower.handle_event(event),
            None => {
                follower.handle_position(events.position());
                if job.is_stopping() {
                    break;
                }
            }
        }
        if job.is_stopping() {
            let deadline = *drain_deadline.get_or_insert_with(|| Instant::now() + DRAIN_TIMEOUT);
            if Instant::now() >= deadline {
                break;
            }
        }
    }
    follower.close_account();
}

struct Follower<'a> {
    job: &'a Job,
    selection: Selection,
    /// The server's life that we are connected to, or were last.
    epoch: u64,
    /// The account of that life, as soon as it is known where it begins.
    account: Option<Account>,
    /// Findings reported in words.
    texts: u32,
}

impl Follower<'_> {
    fn handle_event(&mut self, event: Event<Stamped>) {
        match event {
            Event::Message { topic, seq, data } => self.handle_message(seq, &topic, &data),
            Event::Undecodable { topic, seq, error, .. } => {
                self.on_account(|account, selection| {
                    account.handle_undecodable(selection, seq, &topic, error.to_string())
                });
            }
            Event::Lost { before, after, lost: Lost::Exact(count) } => {
                self.on_account(|account, selection| account.handle_lost(selection, before, after, count));
            }
            Event::Lost { after, lost: Lost::AtMost(count), .. } => {
                self.on_account(|account, _| {
                    account.handle_lost_at_most(after, count);
                    Ok(())
                });
            }
            Event::Connected { epoch } => self.epoch = epoch,
            Event::Subscribed { position } => match self.account {
                Some(_) => self.handle_position(position),
                None => self.begin_account(self.epoch, position),
            },
            Event::Restarted { epoch, from } => {
                self.close_account();
                self.begin_account(epoch, from);
            }
            _ => {} // Disconnected and RetryIn change no account.
        }
    }

    fn handle_message(&mut self, seq: u64, topic: &str, data: &Stamped) {
        let age = wall_clock_ns().saturating_sub(data.sent_ns);
        self.job.meters().ticks.record_ns(age);
        let feed = &self.job.feed;
        self.on_account(|account, selection| account.handle_message((feed, selection), seq, topic, data));
    }

    /// Everything matching below this position has been handed over.
    fn handle_position(&mut self, position: u64) {
        if self.account.is_some() {
            self.on_account(|account, selection| account.advance(selection, position));
        }
    }

    fn on_account(&mut self, act: impl FnOnce(&mut Account, &Selection) -> Result<(), Wrong>) {
        let done = match &mut self.account {
            Some(account) => act(account, &self.selection).map_err(|wrong| wrong.to_string()),
            None => Err("something came before the position from which on it was to come".to_owned()),
        };
        if let Err(text) = done {
            self.texts += 1;
            if self.texts <= MAX_TEXTS {
                report(&Report::Wrong { text });
            }
        }
    }

    fn begin_account(&mut self, epoch: u64, position: u64) {
        self.account = Some(Account::begin(epoch, position));
        report(&Report::Following { epoch });
    }

    fn close_account(&mut self) {
        if let Some(account) = self.account.take() {
            report(&Report::Account(account));
        }
    }
}
