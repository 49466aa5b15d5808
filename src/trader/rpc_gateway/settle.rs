//! Finds out what became of orders whose answer got lost: asks the server, on a thread of its own while there are any.

use std::format;
use std::string::String;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::session::Session;
use super::unknown::Settlement;
use crate::rpc::{CallError, CallOptions, FailureKind};
use crate::trader::functions::{self, Found, Lookup};
use crate::trader::{LogLevel, OutcomeUnknown, Resolution};

/// Between two lookups that failed.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// The answer to a send got lost.
    pub(super) fn handle_unknown(
        self: &Arc<Self>,
        why: String,
        epoch: Option<u64>,
        vt_symbol: String,
        sent_as: String,
    ) -> OutcomeUnknown {
        let why = format!("{why}; sent as {sent_as}");
        let order = self.shared.unknowns.note(sent_as, vt_symbol, epoch, self.number);
        let mut resolution = Resolution::AwaitEvents;
        if order.settlement != Settlement::Open {
            self.shared.announce(&order, None);
        } else if self.is_closed() {
            // It was closed under us: nobody asks the server any more. A report may still tell.
            for order in self.shared.unknowns.give_up(&order.sent_as) {
                self.shared.announce(&order, None);
                resolution = Resolution::AskVenue;
            }
        } else {
            self.settle_soon();
        }
        OutcomeUnknown { why, resolution }
    }

    /// Has them looked for, on a thread that ends when there are none.
    pub(super) fn settle_soon(self: &Arc<Self>) {
        if self.is_settling.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.spawn("pulsewire-settle", |session| session.settle()) {
            self.is_settling.store(false, Ordering::SeqCst);
            self.shared.status.say(LogLevel::Error, format!("unknown orders are not looked for: {error}"));
        }
    }

    fn settle(&self) {
        loop {
            while let Some(sent_as) = self.shared.unknowns.next_open() {
                match self.look_up(&sent_as) {
                    Some(lookup) => {
                        let local = |vt_id: &str| self.names.local_vt_id(vt_id);
                        let settled =
                            self.shared.unknowns.handle_lookup(&sent_as, lookup, self.number, local);
                        settled.iter().for_each(|order| self.shared.announce(order, None));
                    }
                    None if self.wait_closed(LOOKUP_INTERVAL) => return,
                    None => {}
                }
            }
            self.is_settling.store(false, Ordering::SeqCst);
            // One may have come since the last look.
            let is_over = self.shared.unknowns.next_open().is_none();
            if is_over || self.is_settling.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// What the server knows of it. `None`: it could not be asked.
    fn look_up(&self, sent_as: &str) -> Option<Lookup> {
        let options = CallOptions::new().idempotent();
        match self.client.call_with(functions::FIND_SENT, &String::from(sent_as), options) {
            Ok(lookup) => Some(lookup),
            // A server that cannot be asked this knows nothing of it.
            Err(CallError::Failed(failure))
                if matches!(failure.kind, FailureKind::UnknownFunction | FailureKind::BadArguments) =>
            {
                Some(Lookup { epoch: 0, found: Found::Unknown })
            }
            Err(_) => None,
        }
    }
}
