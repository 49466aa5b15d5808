//! One connection of a gateway to a service, from connect to close: its client, its calls, and what it knows of routes.

use std::collections::{BTreeSet, HashMap};
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::names::Names;
use super::setting::GatewaySetting;
use super::{GatewayState, GatewayStatus, Shared};
use crate::rpc::{CallError, CallOptions, Method, NotExecuted, RpcClient, SubscriptionControl};
use crate::trader::{
    ContractData, Event, Exchange, LogLevel, OutcomeUnknown, Refusal, Resolution, SendError,
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
    pub(super) number: u64,
    routes: RwLock<Routes>,
    /// What changes the subscription to ticks, once there is one.
    pub(super) ticks: Mutex<Option<SubscriptionControl<Event>>>,
    /// A thread looks for orders whose answer got lost.
    pub(super) is_settling: AtomicBool,
    /// A thread asks for ticks.
    pub(super) is_renewing: AtomicBool,
    /// The life of the server that is to be asked for ticks.
    pub(super) renewed_for: AtomicU64,
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
            renewed_for: AtomicU64::new(0),
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
}

/// A call that has not succeeded, as a refusal: it has certainly not run, or it does not matter whether it has.
pub(super) fn refusal(error: &CallError) -> Refusal {
    match error {
        CallError::NotExecuted(NotExecuted::NotConnected) => Refusal::NotConnected,
        error => Refusal::NotSent(format!("{error}")),
    }
}
