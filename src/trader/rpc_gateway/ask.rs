//! Asks for ticks: the stream for the topics, and the server for the contracts.

use std::format;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::vec::Vec;

use super::session::{refusal, Session};
use super::ticks::TickReader;
use crate::rpc::{CallOptions, SubscribeError, SubscribeOptions, Subscription};
use crate::trader::functions;
use crate::trader::{Event, LogLevel, Refusal, SubscribeRequest, EVENT_TICK, TICKS_STREAM};

/// Subscriptions that are asked for at once.
const SUBSCRIPTIONS_AT_ONCE: usize = 256;

impl Session {
    /// Makes sure that the ticks of a contract come here once the server has them.
    pub(super) fn follow_ticks(self: &Arc<Self>, vt_symbol: &str) -> Result<(), Refusal> {
        self.follow_tick_prefix(&format!("{EVENT_TICK}{vt_symbol}"))
    }

    /// Takes that back.
    pub(super) fn unfollow_ticks(&self, vt_symbol: &str) {
        let ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = ticks.as_ref().filter(|_| !self.setting.all_ticks) {
            // If it is not in the set, that is as good.
            let _ = control.remove(format!("{EVENT_TICK}{vt_symbol}"));
        }
    }

    /// Follows all that were asked for, or all that there are.
    pub(super) fn follow_asked_ticks(self: &Arc<Self>) -> Result<(), Refusal> {
        if self.setting.all_ticks {
            return self.follow_tick_prefix(EVENT_TICK);
        }
        for vt_symbol in self.shared.subscriptions.vt_symbols() {
            match self.follow_ticks(&vt_symbol) {
                // It does not fit, and never will: no reason to have none of the others.
                Err(Refusal::NotSent(why)) => {
                    self.shared.subscriptions.remove(&vt_symbol);
                    self.shared.status.note(LogLevel::Error, format!("no ticks of {vt_symbol}: {why}"));
                }
                followed => followed?,
            }
        }
        Ok(())
    }

    fn follow_tick_prefix(self: &Arc<Self>, prefix: &str) -> Result<(), Refusal> {
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |error: SubscribeError| Refusal::NotSent(format!("{error}"));
        if let Some(control) = &*ticks {
            return match self.setting.all_ticks {
                true => Ok(()),
                false => control.add(prefix).map_err(refused),
            };
        }
        let options = SubscribeOptions::default().stream(TICKS_STREAM).snapshot();
        let subscription: Subscription<Event> =
            self.client.subscribe_with(prefix, options).map_err(refused)?;
        let control = subscription.control();
        let reader = TickReader::new(subscription);
        self.spawn("pulsewire-ticks", move |session| reader.run(&session))?;
        *ticks = Some(control);
        Ok(())
    }

    /// Has the server asked for the ticks that it has not said yes to in this life, on a thread that ends when there are
    /// none to be asked for now: whoever follows orders waits for none of it.
    pub(super) fn renew_soon(self: &Arc<Self>, epoch: u64) {
        self.renewed_for.store(epoch, Ordering::SeqCst);
        if !self.shared.subscriptions.has_due(epoch) || self.is_renewing.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.spawn("pulsewire-renew", |session| session.renew()) {
            self.is_renewing.store(false, Ordering::SeqCst);
            self.shared.status.say(LogLevel::Error, format!("no ticks are asked for: {error}"));
        }
    }

    fn renew(&self) {
        loop {
            // It may be another one since the last look.
            let epoch = self.renewed_for.load(Ordering::SeqCst);
            let due = self.shared.subscriptions.take_due(epoch, SUBSCRIPTIONS_AT_ONCE);
            if due.is_empty() || self.is_closed() {
                break;
            }
            self.ask_for_ticks(due, epoch);
        }
        // What came since the last look is seen by the next one of whoever follows the main stream.
        self.is_renewing.store(false, Ordering::SeqCst);
    }

    fn ask_for_ticks(&self, due: Vec<SubscribeRequest>, epoch: u64) {
        let options = CallOptions::new().timeout(self.setting.request_timeout).idempotent().fail_fast();
        let begin = |request: SubscribeRequest| {
            let call = self.route(&request.vt_symbol()).and_then(|remote| {
                let arguments = (request.clone(), remote);
                let begun = self.client.start_call(functions::SUBSCRIBE, &arguments, options);
                begun.map_err(|error| refusal(&error))
            });
            (request, call)
        };
        let begun: Vec<_> = due.into_iter().map(begin).collect();
        for (request, call) in begun {
            let ended = call.and_then(|call| call.wait().unwrap_or_else(|error| Err(refusal(&error))));
            match ended {
                Ok(()) => self.shared.subscriptions.handle_granted(&request, epoch),
                Err(_) if self.is_closed() => return,
                Err(why) if self.shared.subscriptions.handle_failed(&request) => {
                    let msg = format!("no ticks of {} yet: {why}", request.vt_symbol());
                    self.shared.status.say(LogLevel::Warning, msg);
                }
                Err(_) => {}
            }
        }
    }
}
