//! Fetches a snapshot, page by page, and sees to it that all pages are of one moment.
//!
//! Nothing is put before the last page is here: half a snapshot is of no use, and the server's patience is not tried by a
//! slow event engine.

use std::vec::Vec;

use super::session::Session;
use crate::rpc::{CallError, CallOptions};
use crate::trader::functions::{self, SnapshotPage};
use crate::trader::Event;

/// The records of a server at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    /// The life of the server.
    pub(super) epoch: u64,
    /// The first message of the main stream that is not in it.
    pub(super) position: u64,
    /// Records that were too large to be sent.
    pub(super) left_out: u64,
    /// Records that the server no longer had.
    pub(super) forgotten: u64,
    /// All others, contracts first.
    pub(super) records: Vec<Event>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The server cannot be asked, or has said no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server has dropped it, or was restarted.
    #[error("it was gone before its last page was fetched")]
    Gone,
    /// A page is not the one that was asked for.
    #[error("its pages do not fit together")]
    Disorder,
    /// Nobody has so many.
    #[error("it has more than {MOST_RECORDS} records")]
    TooMany,
}

/// Records that are taken from a server. A main engine keeps 262 144 of a kind, and what is active.
const MOST_RECORDS: usize = 4 * 1024 * 1024;

impl Snapshot {
    /// Takes a snapshot at the server and fetches all of it.
    pub(super) fn fetch(session: &Session) -> Result<Self, FetchError> {
        let most_bytes = session.client_frame_bytes / 4;
        let options = CallOptions::new().idempotent();
        let first = session.client.call_with(functions::SNAPSHOT, &most_bytes, options)?;
        let (id, mut next) = (first.snapshot, first.next);
        let mut snapshot = Snapshot::begin(first)?;
        while let Some(at) = next {
            if session.is_closed() {
                return Err(FetchError::Gone);
            }
            let page = session.client.call_with(functions::SNAPSHOT_PAGE, &(id, at, most_bytes), options)?;
            let page = page.filter(|page| page.snapshot == id).ok_or(FetchError::Gone)?;
            next = page.next;
            snapshot.add(at, page)?;
        }
        Ok(snapshot)
    }

    fn begin(first: SnapshotPage) -> Result<Self, FetchError> {
        let (epoch, position) = (first.epoch, first.position);
        let forgotten = first.forgotten;
        let mut snapshot = Snapshot { epoch, position, left_out: 0, forgotten, records: Vec::new() };
        snapshot.add(0, first)?;
        Ok(snapshot)
    }

    /// Adds the page that begins at this record.
    fn add(&mut self, at: u64, page: SnapshotPage) -> Result<(), FetchError> {
        if (page.epoch, page.position) != (self.epoch, self.position) {
            return Err(FetchError::Gone); // Another life counts its snapshots anew.
        }
        // Every page comes further, so there is an end.
        if page.at != at || page.next.is_some_and(|next| next <= at) {
            return Err(FetchError::Disorder);
        }
        self.left_out = self.left_out.saturating_add(page.left_out);
        self.records.extend(page.records);
        if self.records.len() > MOST_RECORDS || page.next.is_some_and(|next| next > MOST_RECORDS as u64) {
            return Err(FetchError::TooMany);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::LogData;

    fn page(at: u64, next: Option<u64>) -> SnapshotPage {
        let records = std::vec![LogData::new("CTP", std::format!("{at}")).into()];
        SnapshotPage { epoch: 7, position: 9, snapshot: 1, at, next, left_out: 1, forgotten: 5, records }
    }

    #[test]
    fn pages_of_one_moment_are_put_together_and_others_are_refused() {
        let mut snapshot = Snapshot::begin(page(0, Some(2))).unwrap();
        snapshot.add(2, page(2, None)).unwrap();
        assert_eq!((snapshot.epoch, snapshot.position), (7, 9));
        assert_eq!((snapshot.left_out, snapshot.forgotten), (2, 5));
        assert_eq!(snapshot.records.len(), 2);

        let another_life = SnapshotPage { epoch: 8, ..page(2, None) };
        assert!(matches!(snapshot.add(2, another_life), Err(FetchError::Gone)));
        let another_moment = SnapshotPage { position: 10, ..page(2, None) };
        assert!(matches!(snapshot.add(2, another_moment), Err(FetchError::Gone)));
        for wrong in [page(0, Some(2)), page(3, None), page(2, Some(2)), page(2, Some(1))] {
            assert!(matches!(snapshot.add(2, wrong), Err(FetchError::Disorder)));
        }
        let endless = page(2, Some(MOST_RECORDS as u64 + 1));
        assert!(matches!(snapshot.add(2, endless), Err(FetchError::TooMany)));
    }
}
