//! Orders and quotes whose answer got lost, and how it comes out what became of them.
//!
//! Every order carries a reference that nobody else has: the user's, with `#pw-<random>-<number>` behind it. On the way
//! back that is taken off again. When the outcome of a send is unknown, three things may settle it: the server, asked on the
//! same lane behind the send, says what its gateway answered, or that it never got that far; the order turns up in an
//! event; or it is in a snapshot. Only a server in the same life can deny it, and only to the client that sent it: the bytes
//! of an earlier client may still be on their way, and nothing fences them. What the venue reports has the last word,
//! whatever a server has said, and also if it came before the answer was given up.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::format;
use std::hash::{BuildHasher, Hasher};
use std::string::String;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::trader::functions::{Found, Lookup};
use crate::trader::SendError;

/// What is known of an order or a quote whose answer got lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// It is being looked for.
    Open,
    /// The venue knows it, under this local `vt_orderid` or `vt_quoteid`; its record says how far it has come, and also
    /// if it was rejected there.
    Placed(String),
    /// It was not placed, as the server says, which had not handed it on and will not: it may be sent again. Should the
    /// venue report it after all, it becomes [`Settlement::Placed`].
    NotPlaced,
    /// The server cannot say: it has been restarted since, its own gateway does not know, or the gateway here was closed
    /// before it could be asked. Ask the exchange or the broker for [`UnknownOrder::sent_as`]. If an event tells of it
    /// after all, it becomes [`Settlement::Placed`].
    AskVenue,
}

/// An order or a quote whose answer got lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownOrder {
    /// The reference of its request.
    pub reference: String,
    /// The reference that it was sent with, which nothing else has: what to ask the venue for.
    pub sent_as: String,
    /// The contract.
    pub vt_symbol: String,
    /// What is known of it by now.
    pub settlement: Settlement,
}

/// The orders of one gateway whose answer got lost, and the references of all.
pub(super) struct Unknowns {
    random: u64,
    next: AtomicU64,
    entries: Mutex<Entries>,
    /// Entries that a report may still change, and requests that are under way: nobody compares references while there
    /// are none.
    awaited: AtomicUsize,
}

#[derive(Default)]
struct Entries {
    unknown: VecDeque<Entry>,
    /// The references of requests that are under way, each with the local id that it was reported under, if it was. As
    /// many as threads are sending.
    under_way: HashMap<String, Option<String>>,
}

struct Entry {
    order: UnknownOrder,
    /// The life of the server that it was sent to.
    epoch: Option<u64>,
    /// The session of the gateway that sent it.
    session: u64,
}

/// The newest that are kept, settled or not.
const MOST: usize = 1_024;
const MARK: &str = "#pw-";

impl Unknowns {
    pub(super) fn new() -> Self {
        // A hasher's keys are random, and that is all that is needed: no two gateways may begin alike.
        let random = RandomState::new().build_hasher().finish();
        Unknowns { random, next: AtomicU64::new(1), entries: Mutex::default(), awaited: AtomicUsize::new(0) }
    }

    /// The user's reference, made one that nothing else has.
    pub(super) fn tagged(&self, reference: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{reference}{MARK}{:016x}-{number}", self.random)
    }

    /// A request is about to be sent: from here on a report of it is remembered, until [`Unknowns::end`] or
    /// [`Unknowns::note`].
    pub(super) fn begin(&self, sent_as: &str) {
        let mut entries = self.lock();
        entries.under_way.insert(sent_as.into(), None);
        self.recount(&entries);
    }

    /// Its answer has come.
    pub(super) fn end(&self, sent_as: &str) {
        let mut entries = self.lock();
        entries.under_way.remove(sent_as);
        self.recount(&entries);
    }

    /// Its answer got lost. Says what is known of it already: a report may have been quicker.
    pub(super) fn note(
        &self,
        sent_as: String,
        vt_symbol: String,
        epoch: Option<u64>,
        session: u64,
    ) -> UnknownOrder {
        let mut entries = self.lock();
        let reported = entries.under_way.remove(&sent_as).flatten();
        let settlement = reported.map_or(Settlement::Open, Settlement::Placed);
        let reference = untagged(&sent_as).into();
        let order = UnknownOrder { reference, sent_as, vt_symbol, settlement };
        entries.unknown.push_back(Entry { order: order.clone(), epoch, session });
        if entries.unknown.len() > MOST {
            let settled = entries.unknown.iter().position(|entry| !entry.is_awaited());
            let gone = entries.unknown.remove(settled.unwrap_or(0));
            if let Some(gone) = gone.filter(Entry::is_awaited) {
                log::warn!("unknown-order-forgotten: {}", gone.order.sent_as);
            }
        }
        self.recount(&entries);
        order
    }

    /// An order with this reference was reported, under this local id. What that settles, and how it was settled before.
    pub(super) fn handle_report(
        &self,
        sent_as: &str,
        local_vt_id: impl FnOnce() -> String,
    ) -> Option<(UnknownOrder, Settlement)> {
        if self.awaited.load(Ordering::SeqCst) == 0 || untagged(sent_as).len() == sent_as.len() {
            return None;
        }
        let mut entries = self.lock();
        if let Some(reported) = entries.under_way.get_mut(sent_as) {
            reported.get_or_insert_with(local_vt_id);
            return None;
        }
        let entry = entries.unknown.iter_mut().find(|entry| entry.order.sent_as == sent_as)?;
        if matches!(entry.order.settlement, Settlement::Placed(_)) {
            return None;
        }
        let before = core::mem::replace(&mut entry.order.settlement, Settlement::Placed(local_vt_id()));
        let order = entry.order.clone();
        self.recount(&entries);
        Some((order, before))
    }

    /// The server has said what it knows, to this session. What that settles. `local` makes a local id of one of the
    /// server's.
    pub(super) fn handle_lookup(
        &self,
        sent_as: &str,
        lookup: Lookup,
        session: u64,
        local: impl Fn(&str) -> String,
    ) -> Option<UnknownOrder> {
        let mut entries = self.lock();
        let entry = entries.unknown.iter_mut().find(|entry| entry.order.sent_as == sent_as)?;
        let can_deny = entry.epoch == Some(lookup.epoch) && entry.session == session;
        let settlement = match lookup.found {
            Found::Sent(Ok(vt_id)) | Found::InBooks(vt_id) => Settlement::Placed(local(&vt_id)),
            Found::Sent(Err(SendError::Refused(_))) => Settlement::NotPlaced,
            Found::NeverSent if can_deny => Settlement::NotPlaced,
            Found::Sent(Err(SendError::Unknown(_))) | Found::NeverSent | Found::Unknown => {
                Settlement::AskVenue
            }
        };
        if !entry.is_awaited() || entry.order.settlement == settlement {
            return None; // A report was quicker.
        }
        entry.order.settlement = settlement;
        let order = entry.order.clone();
        self.recount(&entries);
        Some(order)
    }

    /// Nobody asks for this one any more. Gives it, if it was being looked for.
    pub(super) fn give_up(&self, sent_as: &str) -> Vec<UnknownOrder> {
        self.give_up_where(|entry| entry.order.sent_as == sent_as)
    }

    /// Nobody asks any more for those that were sent by this session or one before it. Gives those that were being looked
    /// for.
    pub(super) fn give_up_until(&self, session: u64) -> Vec<UnknownOrder> {
        self.give_up_where(|entry| entry.session <= session)
    }

    fn give_up_where(&self, is_meant: impl Fn(&Entry) -> bool) -> Vec<UnknownOrder> {
        let mut entries = self.lock();
        let open = entries.unknown.iter_mut().filter(|entry| entry.order.settlement == Settlement::Open);
        let given_up = open.filter(|entry| is_meant(entry)).map(|entry| {
            entry.order.settlement = Settlement::AskVenue;
            entry.order.clone()
        });
        given_up.collect()
    }

    /// One that is still being looked for.
    pub(super) fn next_open(&self) -> Option<String> {
        let entries = self.lock();
        let open = entries.unknown.iter().find(|entry| entry.order.settlement == Settlement::Open);
        open.map(|entry| entry.order.sent_as.clone())
    }

    /// All that are kept, the oldest first.
    pub(super) fn all(&self) -> Vec<UnknownOrder> {
        self.lock().unknown.iter().map(|entry| entry.order.clone()).collect()
    }

    fn recount(&self, entries: &Entries) {
        let is_placed = |entry: &&Entry| matches!(entry.order.settlement, Settlement::Placed(_));
        let placed = entries.unknown.iter().filter(is_placed).count();
        let awaited = entries.unknown.len() - placed + entries.under_way.len();
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Nobody has said yet whether it was placed.
    fn is_awaited(&self) -> bool {
        matches!(self.order.settlement, Settlement::Open | Settlement::AskVenue)
    }
}

/// A reference without what a gateway has put behind it, this one or another.
pub(super) fn untagged(reference: &str) -> &str {
    let Some((before, tag)) = reference.rsplit_once(MARK) else { return reference };
    let is_tag = tag.split_once('-').is_some_and(|(random, number)| {
        random.len() == 16
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_tag {
        before
    } else {
        reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{OutcomeUnknown, Refusal, Resolution};

    fn noted(epoch: u64) -> (Unknowns, String) {
        let unknowns = Unknowns::new();
        let sent_as = unknowns.tagged("grid");
        unknowns.begin(&sent_as);
        let noted = unknowns.note(sent_as.clone(), "rb.SHFE".into(), Some(epoch), 1);
        assert_eq!(noted.settlement, Settlement::Open);
        (unknowns, sent_as)
    }

    fn after(found: Found) -> Option<Settlement> {
        let (unknowns, sent_as) = noted(7);
        let lookup = Lookup { epoch: 7, found };
        unknowns.handle_lookup(&sent_as, lookup, 1, |id| format!("RPC.{id}")).map(|order| order.settlement)
    }

    #[test]
    fn references_are_unique_and_given_back_as_they_were() {
        let unknowns = Unknowns::new();
        let (first, second) = (unknowns.tagged("grid#pw-1"), unknowns.tagged("grid#pw-1"));
        assert_ne!(first, second);
        assert_ne!(first, Unknowns::new().tagged("grid#pw-1"));
        assert_eq!(untagged(&first), "grid#pw-1", "only our own is taken off");
        assert_eq!(untagged(&unknowns.tagged("")), "");
        for other in ["", "grid", "#pw-", "x#pw-0123456789abcdef-", "x#pw-0123456789abcde-1"] {
            assert_eq!(untagged(other), other);
        }
    }

    #[test]
    fn what_the_server_knows_settles_it() {
        let placed = Some(Settlement::Placed("RPC.CTP.1".into()));
        assert_eq!(after(Found::Sent(Ok("CTP.1".into()))), placed);
        assert_eq!(after(Found::InBooks("CTP.1".into())), placed);
        let refused = SendError::Refused(Refusal::NotConnected);
        assert_eq!(after(Found::Sent(Err(refused))), Some(Settlement::NotPlaced));
        assert_eq!(after(Found::NeverSent), Some(Settlement::NotPlaced));
        assert_eq!(after(Found::Unknown), Some(Settlement::AskVenue));
        let unknown = OutcomeUnknown { why: "the disk".into(), resolution: Resolution::AskVenue };
        assert_eq!(after(Found::Sent(Err(unknown.into()))), Some(Settlement::AskVenue));
    }

    #[test]
    fn a_server_in_another_life_cannot_deny_it_and_an_event_may_still_tell() {
        let (unknowns, sent_as) = noted(7);
        let lookup = Lookup { epoch: 8, found: Found::NeverSent };
        let settled = unknowns.handle_lookup(&sent_as, lookup, 1, |id| id.into()).unwrap();
        assert_eq!((settled.settlement, &*settled.reference), (Settlement::AskVenue, "grid"));
        assert_eq!(unknowns.next_open(), None);
        assert_eq!(unknowns.handle_report(&unknowns.tagged(""), || "RPC.CTP.9".into()), None);
        let (told, before) = unknowns.handle_report(&sent_as, || "RPC.CTP.1".into()).unwrap();
        assert_eq!(before, Settlement::AskVenue);
        assert_eq!(told.settlement, Settlement::Placed("RPC.CTP.1".into()));
        assert_eq!(unknowns.handle_report(&sent_as, || "RPC.CTP.1".into()), None, "once");
        assert_eq!(unknowns.all(), [told]);
    }

    #[test]
    fn report_has_the_last_word_whoever_has_denied_it() {
        let (unknowns, sent_as) = noted(7);
        let never = || Lookup { epoch: 7, found: Found::NeverSent };
        let denied = unknowns.handle_lookup(&sent_as, never(), 1, |id| id.into()).unwrap();
        assert_eq!(denied.settlement, Settlement::NotPlaced);
        let (told, before) = unknowns.handle_report(&sent_as, || "RPC.CTP.1".into()).unwrap();
        assert_eq!(
            (told.settlement.clone(), before),
            (Settlement::Placed("RPC.CTP.1".into()), Settlement::NotPlaced)
        );
        assert_eq!(unknowns.handle_lookup(&sent_as, never(), 1, |id| id.into()), None);
        assert_eq!(unknowns.all(), [told]);
    }

    #[test]
    fn report_that_is_quicker_than_the_answer_is_remembered() {
        let unknowns = Unknowns::new();
        let [first, second] = [unknowns.tagged("a"), unknowns.tagged("b")];
        for sent_as in [&first, &second] {
            unknowns.begin(sent_as);
            assert_eq!(unknowns.handle_report(sent_as, || "RPC.CTP.1".into()), None);
            assert_eq!(unknowns.handle_report(sent_as, || panic!("it is known")), None);
        }
        let noted = unknowns.note(first, "rb.SHFE".into(), None, 1);
        assert_eq!(noted.settlement, Settlement::Placed("RPC.CTP.1".into()));
        unknowns.end(&second);
        assert_eq!(unknowns.all().len(), 1, "the other one has its answer");
        assert_eq!(unknowns.awaited.load(Ordering::SeqCst), 0);
        assert!(unknowns.lock().under_way.is_empty());
    }

    #[test]
    fn settled_ones_go_first_when_there_are_too_many() {
        let (unknowns, first) = noted(7);
        for number in 1..MOST {
            let sent_as = format!("{number}");
            unknowns.note(sent_as.clone(), String::new(), Some(7), 1);
            if number == 5 {
                let lookup = Lookup { epoch: 7, found: Found::NeverSent };
                unknowns.handle_lookup(&sent_as, lookup, 1, |id| id.into()).unwrap();
            }
        }
        unknowns.note("last".into(), String::new(), None, 2);
        let all = unknowns.all();
        assert_eq!((all.len(), &all[0].sent_as), (MOST, &first));
        assert!(!all.iter().any(|order| order.sent_as == "5"));
        unknowns.note("one more".into(), String::new(), None, 3);
        assert_ne!(unknowns.all()[0].sent_as, first);
        let given_up = unknowns.give_up("last");
        assert_eq!(given_up.iter().map(|order| &*order.sent_as).collect::<Vec<_>>(), ["last"]);
        assert_eq!(unknowns.give_up_until(2).len(), MOST - 2);
        assert_eq!(unknowns.next_open().as_deref(), Some("one more"), "a later session looks for its own");
        assert_eq!(unknowns.give_up_until(3).len(), 1);
        assert_eq!((unknowns.give_up_until(3), unknowns.next_open()), (Vec::new(), None));
    }

    #[test]
    fn server_cannot_deny_to_another_client_what_may_still_be_on_its_way() {
        let (unknowns, sent_as) = noted(7);
        let never = Lookup { epoch: 7, found: Found::NeverSent };
        let settled = unknowns.handle_lookup(&sent_as, never, 2, |id| id.into()).unwrap();
        assert_eq!(settled.settlement, Settlement::AskVenue, "the first client's bytes are not fenced");
    }
}
