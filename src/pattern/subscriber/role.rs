//! A subscriber on its connection: the handshake of the set, and what each frame does to the account.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::dialer::{ClientRole, Dialer, Lag};
use super::super::ConnectionEvent;
use super::{Change, EventKind, Handshake, Subscriber};
use crate::session::{Chunk, CloseReason, Violation};
use crate::time::Instant;
use crate::wire::{
    split_whole_publish, Frame, Lost, Prefixes, Start, Subscribe, Subscribed, Unsubscribe, Welcome,
};

impl ClientRole for Subscriber {
    const READS_AT_ONCE: usize = 2;

    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn handle_established(&mut self, _now: Instant, welcome: Welcome, _before: Option<u64>) {
        let next_seq = self.position.filter(|_| self.account == Some(welcome.epoch));
        if next_seq.is_some() && !welcome.known {
            // The server lost its record of us, and counts from the end of the gap on.
            self.accounted = 0;
        }
        let start = match next_seq {
            Some(seq) if self.is_saved => Start::From { seq },
            Some(next_seq) => Start::Resume { next_seq, accounted: self.accounted },
            None => Start::Fresh,
        };
        self.changes.clear();
        // After a restart, the snapshot is asked for when the user has been told of it.
        let restarted = next_seq.is_none() && self.position.is_some();
        let ticket = self.send_set(start, !restarted);
        self.handshake = Some(Handshake { ticket, epoch: welcome.epoch, resumes: next_seq.is_some() });
        self.dialer.wake();
    }

    fn handle_frame(&mut self, _now: Instant, frame: Frame<'_>) -> Result<(), CloseReason> {
        let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() });
        match frame {
            Frame::Publish { header, data } => {
                // Before the set is in force, only an account that goes on may bring something.
                if self.begins_anew() {
                    return Err(unexpected);
                }
                self.advance(header.seq, header.seq.saturating_add(1))?;
                self.stats.received += 1;
                self.accounted = self.accounted.saturating_add(1);
                self.inbox.push_message(header.seq, header.topic, data);
                Ok(())
            }
            Frame::Last { header, data } => {
                if self.marks.is_empty() {
                    return Err(unexpected);
                }
                self.stats.snapshot_messages += 1;
                self.inbox.push_snapshot(header.seq, header.topic, data);
                Ok(())
            }
            Frame::Gap(gap) => {
                if self.begins_anew() {
                    return Err(unexpected);
                }
                // Where the gap begins says little: a heartbeat may have carried us further meanwhile.
                self.advance(gap.after, gap.after)?;
                match gap.lost {
                    Lost::Exact(0) | Lost::AtMost(0) => {
                        self.inbox.push(EventKind::Position(gap.after));
                        return Ok(());
                    }
                    Lost::Exact(lost) => {
                        self.stats.lost = self.stats.lost.saturating_add(lost);
                        self.accounted = self.accounted.saturating_add(lost);
                    }
                    Lost::AtMost(lost) => {
                        self.stats.lost_at_most = self.stats.lost_at_most.saturating_add(lost);
                        self.stats.accounts += 1;
                        self.accounted = 0;
                    }
                }
                self.inbox.push(EventKind::Lost { before: gap.before, after: gap.after, lost: gap.lost });
                Ok(())
            }
            Frame::Heartbeat(heartbeat) => {
                // Before the set is in force there is no position to speak of.
                if self.handshake.is_none() {
                    self.advance(heartbeat.position, heartbeat.position)?;
                    self.inbox.push(EventKind::Position(heartbeat.position));
                }
                Ok(())
            }
            Frame::Subscribed(subscribed) => self.handle_subscribed(subscribed),
            _ => Err(unexpected),
        }
    }

    fn handle_front(&mut self, input: &mut &[u8], limit: u32) -> bool {
        // Once the set is in force, publications come by the million, and those in order need no second look.
        let Some(mut position) = self.position.filter(|_| self.handshake.is_none() && !self.is_saved) else {
            return false;
        };
        let mut taken = 0;
        while let Some(((seq, topic, data), rest)) = split_whole_publish(input, limit) {
            if seq < position || seq == u64::MAX || !self.inbox.push_unchecked_message(seq, topic, data) {
                break;
            }
            (position, *input) = (seq + 1, rest);
            taken += 1;
        }
        self.position = Some(position);
        self.stats.received += taken;
        self.accounted = self.accounted.saturating_add(taken);
        taken > 0
    }

    fn handle_lost(&mut self, _now: Instant, _begun: Option<u64>) {
        self.handshake = None;
        self.changes.clear();
        self.marks.handle_lost();
    }

    fn render(&mut self, _now: Instant) {
        let Some(session) = self.dialer.session_mut() else { return };
        for Change { ticket, region, add, snapshot } in core::mem::take(&mut self.changes) {
            let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
            session.send_control(&if add {
                Frame::Subscribe(Subscribe { ticket, snapshot, start: None, prefixes })
            } else {
                Frame::Unsubscribe(Unsubscribe { ticket, prefixes })
            });
        }
    }

    fn gather(&mut self, _now: Instant, _chunk: &mut Chunk) {}

    fn handle_fates(&mut self, _now: Instant, _chunk: &Chunk, _written: usize, _lost: bool) {}

    fn handle_role_timeout(&mut self, _now: Instant) {}

    fn poll_role_timeout(&self) -> Option<Instant> {
        None
    }

    fn after_input(&mut self) {
        while let Some(event) = self.dialer.events.pop_front() {
            if self.notices.len() >= MOST_NOTICES {
                self.notices.pop_front();
            }
            self.notices.push_back(event.clone());
            self.inbox.push(EventKind::Connection(Box::<ConnectionEvent>::from(event)));
        }
    }

    fn lag(&self) -> Lag {
        let (waiting, most) = (self.inbox.size() as u64, self.dialer.limits().inbox_bytes);
        if waiting < most {
            Lag::None
        } else if waiting < most.saturating_mul(2) {
            Lag::Behind
        } else {
            Lag::FarBehind
        }
    }

    fn handle_paused(&mut self) {
        self.stats.pauses += 1;
    }

    fn handle_poisoned_role(&mut self, _now: Instant) {
        self.stopped = true;
        self.after_input();
    }
}

impl Subscriber {
    /// Sends the whole set, the prefixes that want a snapshot first, and returns the ticket that the end of it is
    /// answered with.
    fn send_set(&mut self, start: Start, snapshots: bool) -> u64 {
        let ticket = self.ticket();
        let marked = |prefix: &str| snapshots && self.marks.contains(prefix);
        let mut regions: Vec<(Vec<u8>, bool)> =
            self.set.regions_of(|prefix| marked(prefix)).map(|region| (region, true)).collect();
        regions.extend(self.set.regions_of(|prefix| !marked(prefix)).map(|region| (region, false)));
        if regions.is_empty() {
            // An empty set still says where it starts.
            regions.push((Vec::new(), false));
        }
        let last = regions.len() - 1;
        let Some(session) = self.dialer.session_mut() else { return ticket };
        for (index, (region, snapshot)) in regions.into_iter().enumerate() {
            let prefixes = Prefixes::from_bytes(&region).expect("built from whole prefixes");
            let start = (index == last).then_some(start);
            session.send_control(&Frame::Subscribe(Subscribe { ticket, snapshot, start, prefixes }));
        }
        if snapshots {
            self.marks.asked_by(ticket);
        }
        ticket
    }

    /// What was asked for up to this ticket is in force from this position on.
    fn answer_waiting(&mut self, up_to: u64, position: u64) {
        while let Some(ticket) = self.waiting.front().copied().filter(|ticket| *ticket <= up_to) {
            self.waiting.pop_front();
            self.tell_subscribed(ticket, position);
        }
    }

    fn tell_subscribed(&mut self, ticket: u64, position: u64) {
        self.inbox.push(match self.marks.told(ticket) {
            Some(ticket) => EventKind::Subscribed { ticket, position },
            None => EventKind::Position(position),
        });
    }

    /// The set is not in force yet, and no account goes on meanwhile.
    fn begins_anew(&self) -> bool {
        self.handshake.is_some_and(|handshake| !handshake.resumes)
    }

    /// Moves the position on; it never goes back.
    fn advance(&mut self, seq: u64, position: u64) -> Result<(), CloseReason> {
        let reached = self.position.unwrap_or(0);
        // A saved place that the server has not come to yet is taken for the place where it is.
        if seq < reached && !self.is_saved {
            return Err(CloseReason::Protocol(Violation::SequenceWentBack { seq, position: reached }));
        }
        self.position = Some(position);
        self.is_saved = false;
        Ok(())
    }

    fn handle_subscribed(&mut self, subscribed: Subscribed) -> Result<(), CloseReason> {
        let Subscribed { ticket, position } = subscribed;
        if let Some(handshake) = self.handshake {
            if ticket != handshake.ticket && handshake.resumes {
                // An answer that was lost with an earlier connection, or one that came twice. If it answers the set
                // of a handshake, then all that was asked for before.
                self.advance(position, position)?;
                self.answer_waiting(ticket, position);
                return Ok(());
            }
            if ticket != handshake.ticket {
                return Err(CloseReason::Protocol(Violation::UnknownTicket { ticket }));
            }
            self.handshake = None;
            if self.is_saved && handshake.resumes {
                self.stats.accounts += 1;
            }
            let mut restarted = false;
            if !handshake.resumes {
                // Numbers of another epoch say nothing here.
                restarted = self.position.take().is_some();
                self.account = Some(handshake.epoch);
                self.accounted = 0;
                self.stats.accounts += 1;
                if restarted {
                    self.inbox.push(EventKind::Restarted { epoch: handshake.epoch, from: position });
                }
            }
            self.advance(position, position)?;
            if restarted && (self.snapshot || !self.marks.is_empty()) {
                // The end of the snapshot says that all is as it was.
                self.answer_waiting(handshake.ticket, position);
                if let Ok(ticket) = self.refresh() {
                    self.marks.note_restart(ticket);
                }
                return Ok(());
            }
            self.marks.handle_answer(ticket);
            self.inbox.push(EventKind::Subscribed { ticket: 0, position });
            // Whatever was asked for before the handshake is part of the set that it sent.
            self.answer_waiting(handshake.ticket, position);
            return Ok(());
        }
        let Ok(index) = self.waiting.binary_search(&ticket) else {
            return Err(CloseReason::Protocol(Violation::UnknownTicket { ticket }));
        };
        self.waiting.remove(index);
        self.advance(position, position)?;
        self.marks.handle_answer(ticket);
        self.tell_subscribed(ticket, position);
        Ok(())
    }
}

/// Connection events kept for a watcher who does not come.
pub(crate) const MOST_NOTICES: usize = 64;
