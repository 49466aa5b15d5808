//! Follows the main stream: subscribes, takes a snapshot, goes on from there, and begins anew when something was lost.
//!
//! ```text
//!   Connected, Subscribed --> snapshot at P --> messages from P on --> ...
//!                 ^                                     |
//!                 +--- Restarted, Lost beyond P --------+
//! ```
//!
//! The subscription is in force before the snapshot is asked for, so P lies behind its beginning. While the snapshot is
//! taken nothing is read: messages wait in the subscription's inbox, then in the server's log. If that is not enough, they
//! are lost and the stream says so: then the snapshot is taken anew. It comes in pages, all of one moment; if the server
//! has dropped it before the last one, it is taken anew too. What a snapshot has and the messages below P are the
//! same thing, so these are passed over. Log lines and applications' events are in no snapshot: they always go on.

use std::collections::HashMap;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::mirror::Present;
use super::names::REMOTE_GATEWAY;
use super::session::Session;
use super::snapshot::Snapshot;
use super::GatewayState;
use crate::rpc::{self, Lost, Subscription};
use crate::trader::{Event, LogLevel, PutError};

/// Follows the main stream of one session.
pub(super) struct Follower {
    events: Subscription<Event>,
    /// The gateway of the server behind the positions in each contract, or `None` once it was said that there are two.
    holders: HashMap<String, Option<String>>,
    /// State below it was in the snapshot.
    floor: u64,
    needs_snapshot: bool,
    /// The subscription is in force.
    is_in_force: bool,
    /// When the next snapshot may be tried.
    retry_at: Option<Instant>,
    /// The life of the server that subscriptions to ticks were last renewed for.
    renewed: Option<u64>,
    /// When it was last seen to that the server knows them all.
    looked: Option<Instant>,
    /// That the server cannot be reached was said.
    is_absence_said: bool,
    /// Events that were not understood.
    undecodable: u64,
}

/// Between two snapshots that failed.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(1);
/// Between two looks at what is to be done without an event: ticks that were refused are asked for again.
const IDLE: Duration = Duration::from_secs(1);

/// The event engine here has been stopped, or the session was closed: there is nobody left to follow for.
struct Over;

impl Follower {
    pub(super) fn new(events: Subscription<Event>) -> Self {
        Follower {
            events,
            holders: HashMap::new(),
            floor: 0,
            needs_snapshot: true,
            is_in_force: false,
            retry_at: None,
            renewed: None,
            looked: None,
            is_absence_said: false,
            undecodable: 0,
        }
    }

    /// Until the client is stopped.
    pub(super) fn run(mut self, session: &Arc<Session>) {
        while !session.is_closed() {
            let event = self.events.recv_timeout(self.patience());
            if event.is_none() && self.events.is_over() || session.is_closed() {
                return;
            }
            let handled = match event {
                Some(event) => self.handle_event(session, event),
                None => Ok(()),
            };
            if handled.and_then(|()| self.catch_up(session)).is_err() {
                return;
            }
        }
    }

    fn patience(&self) -> Duration {
        let retry = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        retry.unwrap_or(IDLE).min(IDLE)
    }

    fn handle_event(&mut self, session: &Arc<Session>, event: rpc::Event<Event>) -> Result<(), Over> {
        let status = &session.shared.status;
        match event {
            rpc::Event::Message { seq, data, .. } => return self.handle_message(session, seq, data),
            rpc::Event::Lost { after, lost, .. } => self.handle_lost(session, after, lost),
            rpc::Event::Restarted { .. } => {
                self.needs_snapshot = true;
                self.floor = 0;
                status.say(LogLevel::Warning, String::from("the server was restarted"));
            }
            rpc::Event::Subscribed { .. } => {
                self.is_in_force = true;
                self.retry_at = None;
                self.is_absence_said = false;
                if !self.needs_snapshot {
                    session.show(GatewayState::Live, LogLevel::Info, "connected again, nothing was missed");
                }
            }
            rpc::Event::Disconnected(reason) => {
                self.is_in_force = false;
                self.is_absence_said = true;
                let why = format!("connection lost ({reason:?}), what is known here is of before");
                session.show(GatewayState::Disconnected, LogLevel::Warning, &why);
            }
            rpc::Event::RetryIn { cause, .. } if !self.is_absence_said => {
                self.is_absence_said = true;
                let msg = format!("the server cannot be reached ({cause:?}), trying on");
                status.say(LogLevel::Warning, msg);
            }
            rpc::Event::Undecodable { topic, .. } => {
                session.count(|status| status.undecodable += 1);
                self.undecodable += 1;
                let count = self.undecodable;
                // Said of the first, and then ever more rarely.
                if count.is_power_of_two() {
                    let what = format!("{count} events not understood, {topic} the last");
                    status.say(LogLevel::Error, format!("{what}: is the server of the same version?"));
                }
                // What it was is not known: perhaps something that must not be missed. They may come in a row, and a
                // snapshot makes up for all that came before it.
                if !self.needs_snapshot {
                    self.needs_snapshot = true;
                    self.retry_at = Some(Instant::now() + SNAPSHOT_RETRY);
                    let why = format!(
                        "{topic} was not understood, what is known here is of before: taking a snapshot"
                    );
                    session.show(GatewayState::Snapshotting, LogLevel::Warning, &why);
                }
            }
            rpc::Event::GaveUp(cause) => {
                session.give_up();
                let why = "no events any more: gave up, it has to be told to connect again";
                session.show(GatewayState::Disconnected, LogLevel::Error, why);
                status.say(LogLevel::Error, format!("{why} ({cause:?})"));
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_lost(&mut self, session: &Session, after: u64, lost: Lost) {
        let (Lost::Exact(count) | Lost::AtMost(count)) = lost;
        session.count(|status| status.lost_events += count);
        if !self.needs_snapshot && after > self.floor {
            self.needs_snapshot = true;
            self.retry_at = None;
            let why = format!("{lost:?} events lost, what is known here is of before: taking a snapshot");
            session.show(GatewayState::Snapshotting, LogLevel::Warning, &why);
        }
    }

    fn handle_message(&mut self, session: &Session, seq: u64, event: Event) -> Result<(), Over> {
        if is_state(&event) && (self.needs_snapshot || seq < self.floor) {
            return Ok(());
        }
        if let Event::Custom(custom) = &event {
            // A server with a gateway of our name would speak for us.
            if session.shared.is_own_type(custom.event_type()) {
                return Ok(());
            }
        }
        if let Event::Contract(contract) = &event {
            session.add_route(contract);
            session.shared.subscriptions.hurry(&contract.vt_symbol());
        }
        let Some(event) = self.admit(session, event) else { return Ok(()) };
        // A gateway that has connected again reports the day's trades again. A trade that was put is not put twice.
        let if_news = matches!(event, Event::Trade(_));
        self.put(session, event, if_news).map(drop)
    }

    /// Takes a snapshot if one is needed, and sees to what else the server has not been told in this life.
    fn catch_up(&mut self, session: &Arc<Session>) -> Result<(), Over> {
        let is_due = self.retry_at.is_none_or(|at| Instant::now() >= at);
        if self.needs_snapshot && self.is_in_force && is_due {
            self.take_snapshot(session)?;
        }
        match self.events.epoch() {
            Some(epoch) if self.is_in_force && !self.needs_snapshot => {
                if self.renewed != Some(epoch) {
                    self.renewed = Some(epoch);
                    session.shared.subscriptions.begin_anew();
                }
                let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= IDLE);
                if session.shared.subscriptions.take_changed() || is_time {
                    self.looked = Some(Instant::now());
                    session.renew_soon(epoch);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_snapshot(&mut self, session: &Arc<Session>) -> Result<(), Over> {
        let status = &session.shared.status;
        session.show(GatewayState::Snapshotting, LogLevel::Info, "connected, taking a snapshot");
        self.retry_at = Some(Instant::now() + SNAPSHOT_RETRY);
        let snapshot = match Snapshot::fetch(session) {
            Ok(snapshot) => snapshot,
            Err(_) if session.is_closed() => return Err(Over),
            Err(error) => {
                status.say(LogLevel::Warning, format!("no snapshot: {error}; trying again"));
                return Ok(());
            }
        };
        // The call may have met the next life of the server before the stream has, or the last one after.
        if Some(snapshot.epoch) != self.events.epoch() {
            return Ok(());
        }
        self.apply(session, snapshot)
    }

    fn apply(&mut self, session: &Arc<Session>, snapshot: Snapshot) -> Result<(), Over> {
        let Snapshot { epoch, position, left_out, forgotten, records } = snapshot;
        self.needs_snapshot = false;
        self.floor = position;
        self.retry_at = None;
        let (mut all, mut news) = (0_u64, 0_u64);
        let mut present = Present::default();
        for event in records {
            if let Event::Contract(contract) = &event {
                session.add_route(contract);
            }
            let Some(event) = self.admit(session, event) else { continue };
            all += 1;
            present.note(&event);
            news += u64::from(self.put(session, event, true)?);
            if self.needs_snapshot {
                return Ok(()); // There is no room here for the rest either.
            }
        }
        self.tell_missing(session, &present);
        if left_out > 0 {
            let msg =
                format!("the server has {left_out} records that are too large to be sent: not known here");
            session.shared.status.say(LogLevel::Error, msg);
        }
        if forgotten > 0 {
            let msg =
                format!("the server has forgotten {forgotten} records, the oldest: not in its snapshot");
            session.shared.status.say(LogLevel::Warning, msg);
        }
        session.count(|status| {
            status.snapshots += 1;
            status.epoch = Some(epoch);
        });
        let why = format!("snapshot of {all} records, {news} of them new here");
        session.show(GatewayState::Live, LogLevel::Info, &why);
        Ok(())
    }

    /// What was known here and the server no longer knows is not true any more, or not known there yet. Nobody here can
    /// tell which, so it stays as it is and is named.
    fn tell_missing(&mut self, session: &Session, present: &Present) {
        let missing = session.shared.mirror().take_missing(present, |event| session.would_know(event));
        let count = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        session.count(|status| status.missing = count);
        if missing.is_empty() {
            return;
        }
        let some: Vec<String> = missing.iter().take(10).map(name_of).collect();
        let msg = format!("the server no longer knows {count} of what is known here: {}", some.join(", "));
        session.shared.status.say(LogLevel::Error, msg);
    }

    /// The event in our names, if it is wanted; and what it settles.
    fn admit(&mut self, session: &Session, event: Event) -> Option<Event> {
        let settled = match &event {
            Event::Order(order) => {
                let local = || session.names.local_vt_id(&order.vt_orderid());
                session.shared.unknowns.handle_report(&order.reference, local)
            }
            Event::Quote(quote) => {
                let local = || session.names.local_vt_id(&quote.vt_quoteid());
                session.shared.unknowns.handle_report(&quote.reference, local)
            }
            _ => None,
        };
        if let Some((order, before)) = settled {
            session.shared.announce(&order, Some(before));
        }
        if !session.setting.wants_everything() && !session.setting.wants(&event.specific_type()) {
            return None;
        }
        if let Event::Position(position) = &event {
            self.note_holder(session, position.vt_symbol(), &position.gateway_name);
        }
        session.names.localize(event)
    }

    /// Two gateways of the server with a position in one contract have one id for it here.
    fn note_holder(&mut self, session: &Session, vt_symbol: String, remote: &str) {
        if session.setting.remote_gateway.is_some() {
            return;
        }
        let holder = self.holders.entry(vt_symbol.clone()).or_insert_with(|| Some(remote.into()));
        let Some(other) = holder.take_if(|other| other != remote) else { return };
        let msg = format!(
            "{vt_symbol} is held by {other} and by {remote}, and here under one id: add a gateway for each, with {REMOTE_GATEWAY:?}"
        );
        session.shared.status.say(LogLevel::Warning, msg);
    }

    /// Puts an event, or only if it is news. If it finds no room, a snapshot has to make up for it. Says whether it was
    /// put.
    ///
    /// The mirror is locked over the put, which may wait for room: with it the session that was closed and the one after
    /// it take turns, so that the old one puts nothing behind the new one's first word. Nobody else takes that lock.
    fn put(&mut self, session: &Session, event: Event, if_news: bool) -> Result<bool, Over> {
        let mut mirror = session.shared.mirror();
        if session.is_closed() {
            return Err(Over);
        }
        if if_news && !mirror.is_news(&event) {
            return Ok(false);
        }
        match session.shared.context.on_event(event.clone()) {
            Ok(()) => {
                mirror.enter(&event);
                Ok(true)
            }
            Err(PutError::Stopped) => Err(Over),
            Err(PutError::Full { .. }) => {
                drop(mirror);
                session.count(|status| status.refused_here += 1);
                if is_state(&event) {
                    self.needs_snapshot = true;
                    self.retry_at = Some(Instant::now() + SNAPSHOT_RETRY);
                    session.show(
                        GatewayState::Snapshotting,
                        LogLevel::Error,
                        "the event engine here is full",
                    );
                }
                Ok(false)
            }
        }
    }
}

/// Whether a snapshot has it too.
fn is_state(event: &Event) -> bool {
    !matches!(event, Event::Log(_) | Event::Custom(_))
}

fn name_of(event: &Event) -> String {
    match event {
        Event::Order(order) => order.vt_orderid(),
        Event::Quote(quote) => quote.vt_quoteid(),
        Event::Position(position) => position.vt_positionid(),
        event => event.specific_type(),
    }
}
