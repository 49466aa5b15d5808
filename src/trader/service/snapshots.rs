//! Snapshots, a page at a time: the records of one moment are kept until their last page was asked for.
//!
//! A page by key, out of the books as they are then, would be simpler here and wrong there: records that change between
//! two pages would be of different moments, and the stream has one place to go on from.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use postcard::experimental::serialized_size;

use crate::trader::functions::SnapshotPage;
use crate::trader::{Event, OmsEngine};

/// The records of one moment. Cheap to take: the records themselves are shared with the books.
pub(super) struct Moment {
    pub(super) epoch: u64,
    pub(super) position: u64,
    /// Records that the books had to forget.
    pub(super) forgotten: u64,
    pub(super) records: Vec<Event>,
}

/// The snapshots of one life of a service whose pages are being asked for.
pub(super) struct Snapshots {
    kept: Mutex<Kept>,
    /// What the server's frames can carry.
    max_frame_bytes: u32,
}

#[derive(Default)]
struct Kept {
    moments: BTreeMap<u64, Waiting>,
    next_id: u64,
}

struct Waiting {
    moment: Moment,
    /// When a page was last asked for.
    asked: Instant,
}

/// Records of a page: a client decodes and looks at one page in a few milliseconds.
const MOST_RECORDS: usize = 8_192;
/// Bytes of a page, unless the frames are small: the server's budget for results takes many at once.
const MOST_BYTES: u32 = 1024 * 1024;
/// Snapshots that are kept at once. One more has to wait until one of them has been fetched: were the oldest one dropped
/// for it, many clients that come at once could keep each other from ever getting to the end.
const MOST_KEPT: usize = 16;
/// How long a snapshot waits for the next question.
const PATIENCE: Duration = Duration::from_secs(30);

impl Moment {
    /// What the books hold. To be called between two events, or the parts do not fit together.
    pub(super) fn of(oms: &OmsEngine, epoch: u64, position: u64) -> Self {
        let records = oms.contracts().into_iter().map(Event::from);
        let records = records.chain(oms.accounts().into_iter().map(Event::from));
        let records = records.chain(oms.positions().into_iter().map(Event::from));
        let records = records.chain(oms.orders().into_iter().map(Event::from));
        let records = records.chain(oms.trades().into_iter().map(Event::from));
        let records = records.chain(oms.quotes().into_iter().map(Event::from)).collect();
        Moment { epoch, position, forgotten: oms.forgotten(), records }
    }

    fn page(&self, snapshot: u64, at: usize, limits: Limits) -> SnapshotPage {
        let (mut records, mut bytes, mut left_out) = (Vec::new(), 0, 0);
        let mut next = at;
        while let Some(record) = self.records.get(next) {
            // What cannot be encoded can no more be sent than what is too large.
            let len = serialized_size(record).unwrap_or(usize::MAX);
            if len > limits.record_bytes {
                left_out += 1;
            } else if records.is_empty() || (records.len() < MOST_RECORDS && bytes + len <= limits.page_bytes)
            {
                bytes += len;
                records.push(record.clone());
            } else {
                break;
            }
            next += 1;
        }
        if left_out > 0 {
            log::warn!("records-left-out: {left_out} records are too large for a page of a snapshot");
        }
        let is_last = next == self.records.len();
        SnapshotPage {
            epoch: self.epoch,
            position: self.position,
            snapshot,
            at: at as u64,
            next: (!is_last).then_some(next as u64),
            left_out,
            forgotten: self.forgotten,
            records,
        }
    }
}

/// What a page may have.
#[derive(Debug, Clone, Copy)]
struct Limits {
    page_bytes: usize,
    /// A record that is alone in its page.
    record_bytes: usize,
}

impl Snapshots {
    pub(super) fn new(max_frame_bytes: u32) -> Self {
        Snapshots { kept: Mutex::default(), max_frame_bytes }
    }

    /// The first page of a snapshot, which is kept if it has more of them.
    ///
    /// # Errors
    /// Too many are kept.
    pub(super) fn begin(
        &self,
        now: Instant,
        moment: Moment,
        most_bytes: u32,
    ) -> Result<SnapshotPage, String> {
        let limits = self.limits(most_bytes);
        let mut kept = self.lock();
        let _abandoned = kept.take_abandoned(now);
        let (id, is_full) = (kept.next_id, kept.moments.len() >= MOST_KEPT);
        kept.next_id += 1;
        drop(kept);
        let page = moment.page(id, 0, limits);
        if page.next.is_some() {
            if is_full {
                return Err("as many snapshots as may be are being fetched".to_string());
            }
            self.lock().moments.insert(id, Waiting { moment, asked: now });
        }
        Ok(page)
    }

    /// Drops the snapshots that nobody asks for any more; another time if they are being looked at.
    pub(super) fn sweep(&self, now: Instant) {
        let abandoned = self.kept.try_lock().map(|mut kept| kept.take_abandoned(now));
        drop(abandoned); // Not under the lock: they may be large.
    }

    /// Another page. `None`: there is no such snapshot, or not any more, or no such page.
    pub(super) fn page(&self, now: Instant, id: u64, at: u64, most_bytes: u32) -> Option<SnapshotPage> {
        let limits = self.limits(most_bytes);
        let mut kept = self.lock();
        let waiting = kept.moments.get_mut(&id)?;
        let at = usize::try_from(at).ok().filter(|at| *at < waiting.moment.records.len())?;
        waiting.asked = now;
        let page = waiting.moment.page(id, at, limits);
        if page.next.is_none() {
            kept.moments.remove(&id);
        }
        Some(page)
    }

    /// Pages take a quarter of a frame at most, as publications do of a log; a record by itself twice that.
    fn limits(&self, most_bytes: u32) -> Limits {
        let frame_quarter = self.max_frame_bytes / 4;
        let page_bytes = most_bytes.min(frame_quarter).min(MOST_BYTES);
        let record_bytes = most_bytes.min(frame_quarter).saturating_mul(2).max(page_bytes);
        Limits { page_bytes: page_bytes as usize, record_bytes: record_bytes as usize }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take_abandoned(&mut self, now: Instant) -> Vec<Waiting> {
        let is_abandoned = |waiting: &Waiting| now.saturating_duration_since(waiting.asked) >= PATIENCE;
        let ids = self.moments.iter().filter(|(_, waiting)| is_abandoned(waiting)).map(|(id, _)| *id);
        let ids: Vec<u64> = ids.collect();
        ids.into_iter().filter_map(|id| self.moments.remove(&id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{AccountData, Exchange, TradeData};

    const FRAME: u32 = 4_096;

    fn trade(number: usize) -> Event {
        TradeData::new("CTP", "rb", Exchange::Shfe, "1", std::format!("{number}")).into()
    }

    fn moment(records: impl IntoIterator<Item = Event>) -> Moment {
        Moment { epoch: 7, position: 9, forgotten: 5, records: records.into_iter().collect() }
    }

    /// All pages of a snapshot, asked for in their order.
    fn pages(snapshots: &Snapshots, now: Instant, moment: Moment) -> Vec<SnapshotPage> {
        let mut pages = std::vec![snapshots.begin(now, moment, u32::MAX).unwrap()];
        while let Some(at) = pages.last().and_then(|page| page.next) {
            let id = pages[0].snapshot;
            pages.push(snapshots.page(now, id, at, u32::MAX).unwrap());
        }
        pages
    }

    #[test]
    fn pages_together_are_the_moment_and_each_fits_into_a_frame() {
        let (snapshots, now) = (Snapshots::new(FRAME), Instant::now());
        let records: Vec<Event> = (0..500).map(trade).collect();
        let pages = pages(&snapshots, now, moment(records.clone()));
        assert!(pages.len() > 10);
        let mut at = 0;
        for page in &pages {
            assert_eq!((page.epoch, page.position, page.at, page.left_out), (7, 9, at, 0));
            assert_eq!(page.forgotten, 5);
            assert!(serialized_size(page).unwrap() < FRAME as usize / 2);
            at += page.records.len() as u64;
        }
        let all: Vec<Event> = pages.into_iter().flat_map(|page| page.records).collect();
        assert_eq!(all, records);
        assert!(snapshots.lock().moments.is_empty(), "it was fetched");
    }

    #[test]
    fn what_has_one_page_is_not_kept_and_nothing_is_a_page_too() {
        let (snapshots, now) = (Snapshots::new(FRAME), Instant::now());
        for records in [0, 3] {
            let page = snapshots.begin(now, moment((0..records).map(trade)), u32::MAX).unwrap();
            assert_eq!((page.records.len(), page.next), (records, None));
            assert_eq!(snapshots.page(now, page.snapshot, 0, u32::MAX), None);
        }
    }

    #[test]
    fn page_is_bounded_in_records_and_by_what_its_reader_can_take() {
        let (snapshots, now) = (Snapshots::new(u32::MAX), Instant::now());
        let many = || moment((0..MOST_RECORDS + 1).map(trade));
        assert_eq!(snapshots.begin(now, many(), u32::MAX).unwrap().records.len(), MOST_RECORDS);
        let page = snapshots.begin(now, many(), 1_000).unwrap();
        assert!(serialized_size(&page).unwrap() < 1_100 && !page.records.is_empty());
    }

    #[test]
    fn record_that_fits_into_no_page_holds_up_no_other() {
        let (snapshots, now) = (Snapshots::new(FRAME), Instant::now());
        let large = |bytes: usize| Event::from(AccountData::new("CTP", "x".repeat(bytes)));
        let records = [large(1_500), trade(1), large(5_000), trade(2), large(5_000)];
        let pages = pages(&snapshots, now, moment(records));
        let all: Vec<usize> = pages.iter().map(|page| page.records.len()).collect();
        assert_eq!(all, [1, 2], "one that is larger than a page is alone in it");
        assert_eq!(pages.iter().map(|page| page.left_out).sum::<u64>(), 2);
    }

    #[test]
    fn snapshot_that_nobody_asks_for_is_swept_also_when_nobody_comes() {
        let (snapshots, now) = (Snapshots::new(FRAME), Instant::now());
        let page = snapshots.begin(now, moment((0..100).map(trade)), u32::MAX).unwrap();
        snapshots.sweep(now + PATIENCE - Duration::from_millis(1));
        assert_eq!(snapshots.lock().moments.len(), 1);
        snapshots.sweep(now + PATIENCE);
        assert!(snapshots.lock().moments.is_empty());
        assert_eq!(snapshots.page(now, page.snapshot, page.next.unwrap(), u32::MAX), None);
    }

    #[test]
    fn snapshot_that_nobody_asks_for_goes_and_others_wait_until_then() {
        let (snapshots, now) = (Snapshots::new(FRAME), Instant::now());
        let many = || moment((0..100).map(trade));
        let first = snapshots.begin(now, many(), u32::MAX).unwrap();
        for _ in 1..MOST_KEPT {
            snapshots.begin(now, many(), u32::MAX).unwrap();
        }
        assert!(snapshots.begin(now, many(), u32::MAX).is_err());
        assert!(snapshots.begin(now, moment([trade(1)]), u32::MAX).is_ok(), "it need not be kept");
        let soon = now + PATIENCE / 2;
        let second = snapshots.page(soon, first.snapshot, first.next.unwrap(), u32::MAX).unwrap();
        let late = now + PATIENCE;
        assert!(snapshots.begin(late, many(), u32::MAX).is_ok());
        assert_eq!(snapshots.lock().moments.len(), 2, "the one that was asked for is still there");
        assert!(snapshots.page(late, first.snapshot, second.next.unwrap(), u32::MAX).is_some());
        assert_eq!(snapshots.page(late, first.snapshot, u64::MAX, u32::MAX), None);
        assert_eq!(snapshots.page(late, u64::MAX, 0, u32::MAX), None);
    }
}
