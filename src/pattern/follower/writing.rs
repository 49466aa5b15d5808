//! What a follower has to write: gaps and answers at their place, frames of the log, and what became of those.

use alloc::collections::VecDeque;

use super::super::log::{Log, Slot};
use super::super::publisher::{Budget, LargeFrames, LastValues, SlowPolicy};
use super::super::CHUNK_BYTES;
use super::{drop_lapped, grown, Follow, Follower, Places};
use crate::session::{Chunk, Fate, Session};
use crate::wire::{Frame, Gap, Heartbeat, Lost, Subscribed};

impl Follower {
    /// Queues the control frames whose place in the stream is here: a gap, then the acknowledgements whose position
    /// has been reached, and again. Call it only when no chunk is out and no frame is begun.
    ///
    /// Returns whether all of them are queued: else they come first, before anything of the log.
    ///
    /// Who was lapped goes on where the policy says. A gap never reaches over an acknowledgement: on either side of it another set ruled.
    pub(crate) fn render(
        &mut self,
        session: &mut Session,
        budget: &mut Budget,
        log: &Log,
        last: Option<&LastValues>,
        policy: SlowPolicy,
        head: u64,
    ) -> bool {
        if self.incoming.is_some() {
            return true;
        }
        let before = self.positions();
        let resume = self.resume_slot(log, policy);
        self.replays = false;
        if let Follow::Matched(Some(places)) = &mut self.follow {
            drop_lapped(&mut places.pending, &mut places.dropped, &mut self.acks, resume);
        }
        let mut is_all = false;
        while session.control_len() < MOST_RENDERED {
            let ack = self.acks.front();
            let lost = match &mut self.follow {
                Follow::Nothing => 0,
                Follow::Everything { next, kept, .. } => {
                    let until = ack.map_or(resume, |ack| resume.min(ack.answer.slot));
                    let lost = until.saturating_sub(*next);
                    *next += lost;
                    *kept = *next;
                    lost
                }
                Follow::Matched(None) => 0,
                Follow::Matched(Some(places)) => core::mem::take(&mut places.dropped),
            };
            let next = self.next_pending(log).and_then(|slot| log.seq(slot)).unwrap_or(head);
            if lost > 0 {
                let after = self.acks.front().map_or(next, |ack| next.min(ack.answer.position));
                session.send_control(&Frame::Gap(Gap {
                    before: self.reached,
                    after,
                    lost: Lost::Exact(lost),
                }));
                self.reached = after;
                self.lost += lost;
                if let Follow::Matched(Some(places)) = &mut self.follow {
                    // Should the gap be lost on its way, what was written before it goes with it.
                    places.written.clear();
                }
            }
            let Some(ack) = self.acks.front_mut().filter(|ack| ack.answer.position <= next) else {
                is_all = true;
                break;
            };
            if ack.snapshot.as_mut().is_some_and(|snapshot| snapshot.seek(last, ack.answer.position)) {
                // The snapshot comes first, and more of it than has been written.
                is_all = true;
                break;
            }
            let Some(mut ack) = self.acks.pop_front() else { break };
            if let Some(snapshot) = ack.snapshot.take() {
                budget.release_set(snapshot.set());
            }
            self.reached = ack.answer.position;
            session.send_control(&Frame::Subscribed(Subscribed {
                ticket: ack.answer.ticket,
                position: ack.answer.position,
            }));
            if let Follow::Matched(Some(places)) = &mut self.follow {
                places.dropped = ack.dropped_after;
            }
            if self.answered.is_empty() {
                self.answered.reserve_exact(1);
            }
            self.answered.push_back(ack.answer);
            if self.answered.len() > MOST_ANSWERED {
                self.answered.pop_front();
            }
        }
        if self.acks.is_empty() {
            // Answers come now and then: between them a connection that is idle holds nothing for them.
            self.acks = VecDeque::new();
            self.answered.shrink_to(self.answered.len().next_power_of_two());
        }
        budget.note_positions(grown(before, self.positions()));
        budget.note_answers_of(self);
        is_all
    }

    /// The slot before which everything is lost: where one who was lapped goes on.
    fn resume_slot(&self, log: &Log, policy: SlowPolicy) -> Slot {
        let lapped = match &self.follow {
            Follow::Nothing => false,
            Follow::Everything { next, .. } => *next < log.first_slot(),
            Follow::Matched(places) => places.as_ref().is_some_and(|places| {
                places.dropped > 0
                    || self.acks.iter().any(|ack| ack.dropped_after > 0)
                    || places.pending.front().is_some_and(|slot| *slot < log.first_slot())
            }),
        };
        match (lapped, policy, &self.follow) {
            (false, ..) => 0,
            // Whoever was away, or was waited for in vain, gets all that there is.
            _ if self.replays => log.first_slot(),
            (_, SlowPolicy::Block, _) => log.first_slot(),
            (_, SlowPolicy::SkipToOldest, _) => log.recovery_slot(),
            (_, SlowPolicy::SkipToNewest, Follow::Matched(Some(places))) => {
                // What others were sent since may have pushed even that one out.
                places.pending.back().copied().unwrap_or(log.next_slot()).max(log.first_slot())
            }
            (_, SlowPolicy::SkipToNewest, _) => log.next_slot().saturating_sub(1),
        }
    }

    /// A heartbeat with the position of this moment. The same conditions as for [`Follower::render`].
    pub(crate) fn render_heartbeat(
        &mut self,
        session: &mut Session,
        log: &Log,
        head: u64,
        wall_clock_ns: u64,
    ) {
        let position = self.position(log, head);
        self.reached = position;
        session.send_control(&Frame::Heartbeat(Heartbeat { wall_clock_ns, position }));
    }

    fn next_pending(&self, log: &Log) -> Option<Slot> {
        match &self.follow {
            Follow::Nothing => None,
            Follow::Everything { next, .. } => Some(*next).filter(|next| *next < log.next_slot()),
            Follow::Matched(places) => places.as_ref()?.pending.front().copied(),
        }
    }

    /// Appends whole frames from the log until the chunk is full, the stream is read up, or an acknowledgement's
    /// place has come. If a snapshot comes before that one, frames of it.
    pub(crate) fn take(
        &mut self,
        chunk: &mut Chunk,
        (log, last, large): (&Log, Option<&LastValues>, &mut LargeFrames),
    ) {
        if self.incoming.is_some() {
            return;
        }
        let next = self.next_pending(log).and_then(|slot| log.seq(slot)).unwrap_or(u64::MAX);
        if let Some(ack) = self.acks.front_mut().filter(|ack| ack.answer.position <= next) {
            if let Some(snapshot) = &mut ack.snapshot {
                snapshot.take(chunk, last, ack.answer.position);
            }
            return;
        }
        let bound = self.acks.front().map_or(u64::MAX, |ack| ack.answer.position);
        match &mut self.follow {
            Follow::Nothing => {}
            Follow::Everything { next, kept, until } => {
                *kept = *next;
                while *next < log.next_slot() && room(chunk) > 0 {
                    let Some(run) = log.run(*next, 0, room(chunk), bound) else { break };
                    if run.next > *next {
                        chunk.buffer().extend_from_slice(run.bytes);
                        *next = run.next;
                        continue;
                    }
                    if !chunk.bytes().is_empty() {
                        break;
                    }
                    let Some(frame) = log.frame(*next) else { break };
                    put_alone(chunk, frame, *next, large);
                    *next += 1;
                }
                *until = (*next > *kept).then(|| log.seq(*next - 1)).flatten().map_or(0, |seq| seq + 1);
            }
            Follow::Matched(None) => {}
            Follow::Matched(Some(places)) => {
                let Places { taken, pending, .. } = &mut **places;
                while let Some(&slot) = pending.front() {
                    let reached = log.seq(slot).is_none_or(|seq| seq >= bound);
                    let Some(frame) = log.frame(slot).filter(|_| !reached) else { break };
                    if frame.len() <= room(chunk) {
                        chunk.buffer().extend_from_slice(frame);
                    } else if chunk.bytes().is_empty() {
                        put_alone(chunk, frame, slot, large);
                    } else {
                        break;
                    }
                    pending.pop_front();
                    taken.push_back(slot);
                }
            }
        }
    }

    /// Takes note of which of the frames in a chunk were written or begun; the others are pending again. Not for the
    /// tail of a frame, which was accounted for when it was begun. Returns by how many places the memory of places
    /// grew.
    pub(crate) fn handle_written(&mut self, chunk: &Chunk, written: usize) -> i64 {
        let before = self.positions();
        if let Some(snapshot) = self.acks.front_mut().and_then(|ack| ack.snapshot.as_mut()) {
            if snapshot.is_out() {
                self.snapshot_messages += snapshot.handle_written(chunk, written);
                return 0;
            }
        }
        if let Follow::Everything { next, kept, until } = &mut self.follow {
            if written == chunk.bytes().len() {
                // The usual case, and nothing is looked at message by message.
                self.sent += *next - *kept;
                self.reached = self.reached.max(core::mem::take(until));
                *kept = *next;
                return 0;
            }
        }
        let (mut done, mut untouched) = (0, 0);
        for (seq, fate) in chunk.fates(written) {
            if fate == Fate::Untouched {
                untouched += 1;
            } else {
                self.reached = self.reached.max(seq.saturating_add(1));
                done += 1;
            }
        }
        self.sent += done as u64;
        match &mut self.follow {
            Follow::Nothing => {}
            // Every stored publication matches, so the frames of a chunk lie in slots without a gap.
            Follow::Everything { next, kept, until } => {
                *next -= untouched;
                (*kept, *until) = (*next, 0);
            }
            Follow::Matched(None) => {}
            Follow::Matched(Some(places)) => {
                let Places { written, taken, pending, dropped } = &mut **places;
                written.extend(taken.drain(..done));
                if *dropped > 0 {
                    // While the chunk was out, places behind it were given up. A gap names the stretch in which
                    // messages are missing, so those before them go with them.
                    *dropped += untouched;
                    taken.clear();
                }
                while let Some(slot) = taken.pop_back() {
                    pending.push_front(slot);
                }
            }
        }
        grown(before, self.positions())
    }
}

/// Answers that are remembered for a subscriber that may come back without them.
const MOST_ANSWERED: usize = 1_024;
/// Bytes of control frames that are written down before they are sent: what more there is, waits as it is.
const MOST_RENDERED: usize = 256;

/// Puts a frame that is longer than the room into an empty chunk: whole, so that its tail can be kept if it is begun.
fn put_alone(chunk: &mut Chunk, frame: &[u8], slot: Slot, large: &mut LargeFrames) {
    if frame.len() > LargeFrames::ABOVE_BYTES {
        chunk.share(large.copy(slot, frame));
    } else {
        chunk.buffer().extend_from_slice(frame);
    }
}

/// Bytes that may still be added to a chunk.
fn room(chunk: &Chunk) -> usize {
    CHUNK_BYTES.saturating_sub(chunk.bytes().len())
}
