//! One connection of a gateway to a service, from connect to close: its client, its calls, and what it knows of routes.

use std::collections::{BTreeSet, HashMap};
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::names::Names;
use super::setting::GatewaySetting;
use super::ticks::TickReader;
use super::unknown::Settlement;
use super::{GatewayState, GatewayStatus, Shared};
use crate::rpc::{
    CallError, CallOptions, FailureKind, Method, NotExecuted, RpcClient, SubscribeError, SubscribeOptions,
    Subscription, SubscriptionControl,
};
use crate::trader::functions::{self, Found, Lookup};
use crate::trader::{
    ContractData, Event, Exchange, LogLevel, OutcomeUnknown, Refusal, Resolution, SendError,
    SubscribeRequest, EVENT_TICK, TICKS_STREAM,
};

/// One connection of a gateway, from connect to close.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) setting: GatewaySetting,
    pub(super) names: Names,
    pub(super) client: RpcClient,
    /// What the client's frames can carry.
    pub(super) client_frame_bytes: u32,
    /// What it is to the gateway's status.
    number: u64,
    routes: RwLock<Routes>,
    /// What changes the subscription to ticks, once there is one.
    ticks: Mutex<Option<SubscriptionControl<Event>>>,
    is_settling: AtomicBool,
    is_renewing: AtomicBool,
    /// A connection will not be dialled any more.
    has_given_up: AtomicBool,
    is_closed: Mutex<bool>,
    closing: Condvar,
}

/// Which gateway of the server trades what.
#[derive(Default)]
struct Routes {
    gateways: HashMap<String, String>,
    exchanges: BTreeSet<Exchange>,
}

/// Between two lookups that failed.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(1);
/// Subscriptions that are asked for at once.
const SUBSCRIPTIONS_AT_ONCE: usize = 256;
/// Decoding and handing on needs no more.
const STACK_BYTES: usize = 512 * 1024;

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        setting: GatewaySetting,
        client: RpcClient,
        client_frame_bytes: u32,
        number: u64,
    ) -> Arc<Self> {
        let names = Names::new(shared.context.gateway_name(), setting.remote_gateway.clone());
        Arc::new(Session {
            shared,
            setting,
            names,
            client,
            client_frame_bytes,
            number,
            routes: RwLock::default(),
            ticks: Mutex::new(None),
            is_settling: AtomicBool::new(false),
            is_renewing: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
            is_closed: Mutex::new(false),
            closing: Condvar::new(),
        })
    }

    // Its life.

    /// From here on it puts nothing any more. Does not wait.
    pub(super) fn cut_off(&self) {
        *self.lock_closed() = true;
        self.closing.notify_all();
    }

    /// Ends it. Waits for what is unsent, as `Limits::linger` says.
    pub(super) fn close(&self) {
        self.cut_off();
        self.client.stop();
    }

    /// The reconnect policy says to dial no more.
    pub(super) fn give_up(&self) {
        self.has_given_up.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::SeqCst)
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.lock_closed()
    }

    /// Waits a while; true if it was closed meanwhile.
    pub(super) fn wait_closed(&self, timeout: Duration) -> bool {
        let waited = self.closing.wait_timeout_while(self.lock_closed(), timeout, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock_closed(&self) -> MutexGuard<'_, bool> {
        self.is_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a state, unless this session is over.
    pub(super) fn show(&self, state: GatewayState, level: LogLevel, why: &str) {
        self.shared.status.show(self.number, state, level, why);
    }

    /// Changes what is counted, unless this session is over.
    pub(super) fn count(&self, change: impl FnOnce(&mut GatewayStatus)) {
        self.shared.status.count_for(self.number, change);
    }

    /// Starts a thread of this session's.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: &str,
        run: impl FnOnce(Arc<Session>) + Send + 'static,
    ) -> Result<(), Refusal> {
        let session = Arc::clone(self);
        let builder = thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        builder
            .spawn(move || run(session))
            .map(drop)
            .map_err(|error| Refusal::NotSent(format!("no thread for {name}: {error}")))
    }

    // Calls.

    /// A request that changes something: at once or not at all, and no longer than the setting says.
    pub(super) fn request<A: Serialize, R: DeserializeOwned>(
        &self,
        method: Method<A, R>,
        arguments: &A,
    ) -> Result<R, CallError> {
        let options = CallOptions::new().timeout(self.setting.request_timeout).fail_fast();
        self.client.call_with(method, arguments, options)
    }

    /// A request that may be made twice.
    pub(super) fn query<A: Serialize, R: DeserializeOwned>(
        &self,
        method: Method<A, Result<R, Refusal>>,
        arguments: &A,
        timeout: Option<Duration>,
    ) -> Result<R, Refusal> {
        let mut options = CallOptions::new().idempotent().fail_fast();
        if let Some(timeout) = timeout {
            options = options.timeout(timeout);
        }
        match self.client.call_with(method, arguments, options) {
            Ok(answer) => answer,
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Sends an order or a quote, with a reference that nothing else has. Gives its local id.
    pub(super) fn send<A: Serialize>(
        self: &Arc<Self>,
        method: Method<(A, String), Result<String, SendError>>,
        request: A,
        vt_symbol: String,
        sent_as: String,
    ) -> Result<String, SendError> {
        let remote = self.route(&vt_symbol)?;
        // The life of the server that it goes to, or an older one, which denies nothing.
        let epoch = self.client.epoch();
        self.shared.unknowns.begin(&sent_as);
        let known = match self.request(method, &(request, remote)) {
            Ok(Ok(vt_id)) => Ok(Ok(self.names.local_vt_id(&vt_id))),
            Ok(Err(SendError::Refused(why))) => Ok(Err(why)),
            Err(error) if !error.may_have_run() => Ok(Err(refusal(&error))),
            Ok(Err(SendError::Unknown(unknown))) => Err(unknown.why),
            Err(error) => Err(format!("{error}")),
        };
        match known {
            Ok(answer) => {
                self.shared.unknowns.end(&sent_as);
                Ok(answer?)
            }
            Err(why) => Err(self.handle_unknown(why, epoch, vt_symbol, sent_as).into()),
        }
    }

    /// The answer to a send got lost.
    fn handle_unknown(
        self: &Arc<Self>,
        why: String,
        epoch: Option<u64>,
        vt_symbol: String,
        sent_as: String,
    ) -> OutcomeUnknown {
        let why = format!("{why}; sent as {sent_as}");
        let order = self.shared.unknowns.note(sent_as, vt_symbol, epoch);
        let mut resolution = Resolution::AwaitEvents;
        if order.settlement != Settlement::Open {
            self.shared.announce(&order, None);
        } else if self.is_closed() {
            // It was closed under us: nobody asks the server any more, unless it is connected again.
            for order in self.shared.unknowns.give_up(Some(&order.sent_as)) {
                self.shared.announce(&order, None);
                resolution = Resolution::AskVenue;
            }
        } else {
            self.settle_soon();
        }
        OutcomeUnknown { why, resolution }
    }

    /// How a cancel ended.
    pub(super) fn ended(&self, call: Result<Result<(), SendError>, CallError>) -> Result<(), SendError> {
        match call {
            Ok(answer) => answer,
            Err(error) if !error.may_have_run() => Err(refusal(&error).into()),
            Err(error) => {
                let why = format!("{error}");
                Err(OutcomeUnknown { why, resolution: Resolution::AwaitEvents }.into())
            }
        }
    }

    // Routes.

    pub(super) fn add_route(&self, contract: &ContractData) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.gateways.insert(contract.vt_symbol(), contract.gateway_name.clone());
        routes.exchanges.insert(contract.exchange);
    }

    /// The server's gateway that trades a contract.
    pub(super) fn route(&self, vt_symbol: &str) -> Result<String, Refusal> {
        if let Some(only) = &self.setting.remote_gateway {
            return Ok(only.clone());
        }
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.gateways.get(vt_symbol).cloned().ok_or_else(|| match self.shared.status.state() {
            GatewayState::Live => Refusal::UnknownContract(vt_symbol.into()),
            _ => Refusal::NotConnected,
        })
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.exchanges.iter().copied().collect()
    }

    /// Whether a snapshot of this session would have a record that was put here, by it or by one before: if it was asked
    /// for, and the server knows it.
    pub(super) fn would_know(&self, event: &Event) -> bool {
        let remote = Names::remote_gateway_of(event);
        let is_of_ours = match (&self.setting.remote_gateway, remote) {
            (Some(only), Some(remote)) => only == remote,
            _ => true,
        };
        is_of_ours && self.setting.wants(&Names::remote_type_of(event))
    }

    // Ticks.

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
        let asked = self.shared.subscriptions.vt_symbols();
        asked.iter().try_for_each(|vt_symbol| self.follow_ticks(vt_symbol))
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
        if !self.shared.subscriptions.has_due(epoch) || self.is_renewing.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.spawn("pulsewire-renew", move |session| session.renew(epoch)) {
            self.is_renewing.store(false, Ordering::SeqCst);
            self.shared.status.say(LogLevel::Error, format!("no ticks are asked for: {error}"));
        }
    }

    fn renew(&self, epoch: u64) {
        loop {
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

    // Orders whose answer got lost.

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
                        let settled = self.shared.unknowns.handle_lookup(&sent_as, lookup, local);
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

/// A call that has not succeeded, as a refusal: it has certainly not run, or it does not matter whether it has.
pub(super) fn refusal(error: &CallError) -> Refusal {
    match error {
        CallError::NotExecuted(NotExecuted::NotConnected) => Refusal::NotConnected,
        error => Refusal::NotSent(format!("{error}")),
    }
}
