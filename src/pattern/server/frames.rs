//! What a server does with a frame: the handshake, and from there to the role that it is for.

use alloc::boxed::Box;

use super::super::follower::Follower;
use super::super::publisher::Publisher;
use super::super::replier::CallTable;
use super::super::ConnId;
use super::{wake, PeerRole, Roles, Server, ServerEvent};
use crate::session::{CloseReason, Violation};
use crate::time::Instant;
use crate::wire::{
    self, Frame, Gap, Heartbeat, Hello, Lost, RejectCode, Role, Start, Subscribe, Unsubscribe, Welcome,
    HANDSHAKE_MAX_FRAME,
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
        match (&mut peer.role, frame) {
            (PeerRole::Undecided, Frame::Hello(hello)) => {
                self.handle_hello(now, conn, hello);
                Ok(())
            }
            (PeerRole::Undecided, _) => Err(unexpected),
            (_, Frame::Bye { code, text }) => Err(crate::session::said_bye(code, text)),
            (PeerRole::Requester(table), Frame::Request { header, arguments }) => {
                let max_frame = peer.session.peer_max_frame().min(self.limits.max_frame_bytes);
                let work = self.replier.handle_request(now, table, conn, header, arguments, max_frame);
                match work.map_err(CloseReason::Protocol)? {
                    Some(work) => self.events.push_back(ServerEvent::Work(work)),
                    None => wake(conn, peer, &mut self.actions),
                }
                Ok(())
            }
            (PeerRole::Requester(table), Frame::Settle(settle)) => {
                self.replier.handle_settle(table, settle);
                Ok(())
            }
            (PeerRole::Subscriber(_), Frame::Subscribe(subscribe)) => self.handle_subscribe(conn, subscribe),
            (PeerRole::Subscriber(_), Frame::Unsubscribe(unsubscribe)) => {
                self.handle_unsubscribe(conn, unsubscribe)
            }
            _ => Err(unexpected),
        }
    }

    pub(super) fn handle_hello(&mut self, now: Instant, conn: ConnId, hello: Hello<'_>) {
        self.half_open.retain(|other| *other != conn);
        let Some(peer) = self.peers.get_mut(conn) else { return };
        if let Some((code, text)) = refusal(self.roles, self.stopping, &self.publisher, &hello) {
            peer.session.reject(now, code, text);
            let reason = CloseReason::Rejected { code, text: Box::from(text) };
            self.events.push_back(ServerEvent::Left { conn, peer: peer.addr, reason });
            self.part(conn);
            return;
        }
        match self.sessions.get(&hello.session) {
            // A dial that has been overtaken: it has no effect, least of all on the newer connection.
            Some((_, newest)) if hello.attempt <= *newest => return self.drop_peer(conn, CloseReason::ByUs),
            // The fence: nothing of the old connection takes effect once the new one is welcomed.
            Some(&(old, _)) => self.replace(now, old),
            None => {}
        }
        self.sessions.insert(hello.session, (conn, hello.attempt));
        let Some(peer) = self.peers.get_mut(conn) else { return };
        peer.session_id = Some(hello.session);
        let interval = u32::try_from(self.limits.heartbeat_interval.as_millis()).unwrap_or(u32::MAX);
        let welcome = Welcome::new(self.epoch, false, interval, self.limits.max_frame_bytes);
        peer.session.establish(now, hello.max_frame);
        peer.session.send_control(&Frame::Welcome(welcome));
        let subscriber = hello.role == Role::Subscriber;
        peer.role = if subscriber {
            PeerRole::Subscriber(Follower::new())
        } else {
            // The first frame behind the handshake tells the client that it is served, not only let in.
            let heartbeat = Heartbeat { wall_clock_ns: self.wall_clock_ns, position: 0 };
            peer.session.send_control(&Frame::Heartbeat(heartbeat));
            PeerRole::Requester(CallTable::default())
        };
        self.stats.welcomed += 1;
        self.events.push_back(ServerEvent::Joined { conn, peer: peer.addr, subscriber });
        wake(conn, peer, &mut self.actions);
    }

    pub(super) fn handle_subscribe(
        &mut self,
        conn: ConnId,
        subscribe: Subscribe<'_>,
    ) -> Result<(), CloseReason> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let PeerRole::Subscriber(follower) = &mut peer.role else { return Ok(()) };
        let publisher = &mut self.publisher;
        publisher
            .subscribe(follower, conn.slot(), subscribe.prefixes)
            .map_err(CloseReason::Limit)?
            .map_err(CloseReason::Protocol)?;
        match (follower.has_begun(), subscribe.start) {
            // The set is not complete yet: one answer for all of it, at its end.
            (false, None) => return Ok(()),
            (false, Some(start)) => {
                publisher.begin(follower, conn.slot());
                let head = publisher.head();
                if let Some(gap) = start_gap(start, head) {
                    peer.session.send_control(&Frame::Gap(gap));
                }
                follower.acknowledge(subscribe.ticket, publisher.log(), head);
            }
            (true, None) => follower.acknowledge(subscribe.ticket, publisher.log(), publisher.head()),
            (true, Some(_)) => {
                return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Subscribe }));
            }
        }
        wake(conn, peer, &mut self.actions);
        Ok(())
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        conn: ConnId,
        unsubscribe: Unsubscribe<'_>,
    ) -> Result<(), CloseReason> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let PeerRole::Subscriber(follower) = &mut peer.role else { return Ok(()) };
        if !follower.has_begun() {
            return Err(CloseReason::Protocol(Violation::Unexpected { kind: wire::Kind::Unsubscribe }));
        }
        self.publisher
            .unsubscribe(follower, conn.slot(), unsubscribe.prefixes)
            .map_err(CloseReason::Protocol)?;
        follower.acknowledge(unsubscribe.ticket, self.publisher.log(), self.publisher.head());
        wake(conn, peer, &mut self.actions);
        Ok(())
    }
}

/// Why a client is not let in, if it is not.
fn refusal(
    roles: Roles,
    stopping: bool,
    publisher: &Publisher,
    hello: &Hello<'_>,
) -> Option<(RejectCode, &'static str)> {
    if stopping {
        Some((RejectCode::ShuttingDown, "the server is stopping"))
    } else if !roles.serve(hello.role) {
        Some((RejectCode::Role, "this role is not served at this address"))
    } else if !hello.stream.is_empty() {
        Some((RejectCode::UnknownStream, "there is only the main stream"))
    } else if hello.max_frame < HANDSHAKE_MAX_FRAME {
        Some((RejectCode::FrameLimit, "your frame limit is below 4096 bytes, which the handshake needs"))
    } else if hello.role == Role::Subscriber && hello.max_frame < publisher.longest() {
        Some((RejectCode::FrameLimit, "publications of this stream are longer than your frame limit"))
    } else {
        None
    }
}

/// What a subscriber that was here before has missed. Its record is gone, so it cannot be known exactly.
fn start_gap(start: Start, head: u64) -> Option<Gap> {
    let before = match start {
        Start::Fresh => return None,
        Start::From { seq } => seq,
        Start::Resume { next_seq, .. } => next_seq,
    };
    // Nothing was published meanwhile: nothing can have been lost, and the account goes on.
    let missed = head.checked_sub(before).filter(|missed| *missed > 0)?;
    Some(Gap { before, after: head, lost: Lost::AtMost(missed) })
}
