//! Frames, and what each of them does.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::follower::FEW;
use super::super::peers::RecordId;
use super::super::received::{Incoming, Received};
use super::super::{ConnId, ServerEvent};
use super::ends::{note, MOST_EVENTS};
use super::records::{Record, RecordRole};
use super::streams::Streams;
use super::{wake, Roles, Server};
use crate::session::{CloseReason, LimitReached, Violation};
use crate::time::Instant;
use crate::wire::{
    self, Frame, Heartbeat, Hello, Ids, RejectCode, Request, Role, Subscribe, Unsubscribe, Welcome,
    HANDSHAKE_MAX_FRAME, LENGTH_BYTES,
};

impl Server {
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        conn: ConnId,
        frame: Frame<'_>,
    ) -> Result<(), CloseReason> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() });
        let Some(id) = peer.record else {
            let Frame::Hello(hello) = frame else { return Err(unexpected) };
            self.handle_hello(now, conn, hello);
            return Ok(());
        };
        let Some(Record { role, .. }) = self.records.get_mut(id.0) else { return Ok(()) };
        match (role, frame) {
            (_, Frame::Bye { code, text }) => Err(crate::session::said_bye(code, text)),
            (RecordRole::Requester(_), Frame::Request { header, arguments }) => {
                self.handle_request(now, conn, header, Incoming::Borrowed(arguments))
            }
            (RecordRole::Requester(table), Frame::Settle(settle)) => {
                table.is_heard = true;
                self.replier.handle_settle(table, settle);
                Ok(())
            }
            (RecordRole::Subscriber(_), Frame::Subscribe(subscribe)) => {
                self.handle_subscribe(conn, id, subscribe)
            }
            (RecordRole::Subscriber(_), Frame::Unsubscribe(unsubscribe)) => {
                self.handle_unsubscribe(conn, id, unsubscribe)
            }
            _ => Err(unexpected),
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        conn: ConnId,
        header: Request<'_>,
        arguments: Incoming<'_>,
    ) -> Result<(), CloseReason> {
        let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Request });
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let Some(id) = peer.record else { return Err(unexpected) };
        let Some(Record { role, max_frame, .. }) = self.records.get_mut(id.0) else { return Ok(()) };
        let RecordRole::Requester(table) = role else { return Err(unexpected) };
        table.is_heard = true;
        self.replier.is_behind = self.events.len() >= MOST_EVENTS + self.limits.most_in_lane();
        let work = self.replier.handle_request(now, table, id, header, arguments, *max_frame);
        match work.map_err(CloseReason::Protocol)? {
            Some(work) => self.events.push_back(ServerEvent::Work(work)),
            None => wake(conn, peer, &mut self.actions),
        }
        Ok(())
    }

    /// A request that came together in a buffer of its own, length field included: its arguments stay there.
    pub(super) fn handle_own_request(
        &mut self,
        now: Instant,
        conn: ConnId,
        buffer: Vec<u8>,
    ) -> Result<(), CloseReason> {
        let Ok(Frame::Request { header, arguments }) = Frame::decode(&buffer[LENGTH_BYTES..]) else {
            unreachable!("it was decoded before");
        };
        let begin = buffer.len() - arguments.len();
        // Both are short.
        let (function, settled) = (String::from(header.function), header.settled.as_bytes().to_vec());
        let settled = Ids::from_bytes(&settled).expect("they were ids before");
        let header = Request { function: &function, settled, ..header };
        self.handle_request(now, conn, header, Incoming::Owned(Received::behind(buffer, begin)))
    }

    pub(super) fn handle_hello(&mut self, now: Instant, conn: ConnId, hello: Hello<'_>) {
        self.half_open.retain(|other| *other != conn);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if let Some((code, text)) = refusal(self.roles, self.stopping, &self.streams, &hello) {
            peer.session.reject(now, code, text);
            let reason = CloseReason::Rejected { code, text: Box::from(text) };
            note(&mut self.events, ServerEvent::Left { conn, peer: peer.addr, reason });
            self.part(conn);
            return;
        }
        let known = self.sessions.get(&hello.session).and_then(|id| self.records.get(id.0));
        if let Some(known) = known {
            if hello.attempt <= known.attempt {
                // A dial that has been overtaken: it has no effect, least of all on the newer connection.
                return self.drop_peer(conn, CloseReason::ByUs);
            }
            if let Some(old) = known.conn {
                // The fence: nothing of the old connection takes effect once the new one is welcomed.
                self.replace(now, old);
            }
        }
        let (record, known) = self.take_up(conn, &hello);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.record = Some(record);
        let interval = u32::try_from(self.limits.heartbeat_interval.as_millis()).unwrap_or(u32::MAX);
        let welcome = Welcome::new(self.epoch, known, interval, self.limits.max_frame_bytes);
        peer.session.establish(now, hello.max_frame);
        peer.session.send_control(&Frame::Welcome(welcome));
        let subscriber = hello.role == Role::Subscriber;
        if !subscriber {
            // The first frame behind the handshake tells the client that it is served, not only let in.
            let heartbeat = Heartbeat { wall_clock_ns: self.wall_clock_ns, position: 0 };
            peer.session.send_control(&Frame::Heartbeat(heartbeat));
        }
        self.stats.welcomed += 1;
        note(&mut self.events, ServerEvent::Joined { conn, peer: peer.addr, subscriber });
        wake(conn, peer, &mut self.actions);
    }

    pub(super) fn handle_subscribe(
        &mut self,
        conn: ConnId,
        id: RecordId,
        subscribe: Subscribe<'_>,
    ) -> Result<(), CloseReason> {
        let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) else { return Ok(()) };
        let Some(publisher) = self.streams.get_mut(follower.stream) else { return Ok(()) };
        let (budget, peer) = (&mut self.budget, id.0.slot());
        publisher
            .subscribe(budget, follower, peer, subscribe.prefixes, subscribe.snapshot)
            .map_err(CloseReason::Limit)?
            .map_err(CloseReason::Protocol)?;
        let mut gap = None;
        match (follower.incoming.is_some(), subscribe.start) {
            // The set is not complete yet: one answer for all of it, at its end.
            (true, None) => return Ok(()),
            (true, Some(start)) => {
                gap = publisher
                    .complete(budget, follower, peer, start, subscribe.ticket)
                    .map_err(CloseReason::Protocol)?;
            }
            (false, None) => follower.acknowledge(subscribe.ticket, publisher.log(), publisher.head()),
            (false, Some(_)) => {
                return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Subscribe }));
            }
        }
        if let Some(peer) = self.peers.get_mut(conn) {
            if let Some(gap) = gap {
                peer.session.send_control(&Frame::Gap(gap));
            }
            wake(conn, peer, &mut self.actions);
        }
        // A replay remembers many places at once.
        self.shed_or_refuse(id)
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        conn: ConnId,
        id: RecordId,
        unsubscribe: Unsubscribe<'_>,
    ) -> Result<(), CloseReason> {
        let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) else { return Ok(()) };
        if follower.incoming.is_some() {
            return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Unsubscribe }));
        }
        let Some(publisher) = self.streams.get_mut(follower.stream) else { return Ok(()) };
        publisher
            .unsubscribe(&mut self.budget, follower, id.0.slot(), unsubscribe.prefixes)
            .map_err(CloseReason::Protocol)?;
        follower.acknowledge(unsubscribe.ticket, publisher.log(), publisher.head());
        self.wake_conn(Some(conn));
        self.shed_or_refuse(id)
    }
}

impl Server {
    /// A subscriber has asked for one more answer. If all answers together are above their budget, it is put out, unless
    /// it waits for a few of them only. If all places are, those who have many give some up.
    fn shed_or_refuse(&mut self, id: RecordId) -> Result<(), CloseReason> {
        if let Some(follower) = self.records.get_mut(id.0).and_then(Record::follower) {
            self.budget.note_answers_of(follower);
            if self.budget.has_too_many_answers() && follower.waiting_acks() > FEW {
                let limit = self.limits.send_queues_bytes;
                return Err(CloseReason::Limit(LimitReached::SendQueues { limit }));
            }
        }
        self.shed_positions();
        Ok(())
    }
}

/// Why a client is not let in, if it is not.
fn refusal(
    roles: Roles,
    stopping: bool,
    streams: &Streams,
    hello: &Hello<'_>,
) -> Option<(RejectCode, &'static str)> {
    let stream = streams.find(hello.stream);
    let longest = stream.and_then(|stream| streams.get(stream)).map_or(0, |publisher| publisher.longest());
    if stopping {
        Some((RejectCode::ShuttingDown, "the server is stopping"))
    } else if !roles.serve(hello.role) {
        Some((RejectCode::Role, "this role is not served at this address"))
    } else if stream.is_none() {
        Some((RejectCode::UnknownStream, "there is no stream of this name"))
    } else if hello.max_frame < HANDSHAKE_MAX_FRAME {
        Some((RejectCode::FrameLimit, "your frame limit is below 4096 bytes, which the handshake needs"))
    } else if hello.role == Role::Subscriber && hello.max_frame < longest {
        Some((RejectCode::FrameLimit, "publications of this stream are longer than your frame limit"))
    } else {
        None
    }
}
