//! The gateway to a service: what trades in another process, as if it traded here.

mod ask;
mod follow;
mod mirror;
mod names;
mod session;
mod setting;
mod settle;
mod snapshot;
mod state;
mod subscriptions;
mod ticks;
mod unknown;

use core::fmt;
use std::format;
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use super::{
    functions, BarData, CancelRequest, Event, Exchange, Gateway, GatewayContext, HistoryRequest, LogLevel,
    OrderRequest, QuoteRequest, Refusal, SendError, Setting, SubscribeRequest, EVENT_CONTRACT,
};
use crate::rpc::{Limits, Reconnect, RpcClient, SubscribeOptions, Subscription};
use follow::Follower;
use mirror::Mirror;
pub use names::REMOTE_GATEWAY;
use session::Session;
use setting::GatewaySetting;
use state::Status;
pub use state::{GatewayState, GatewayStatus};
use subscriptions::Subscriptions;
use unknown::Unknowns;
pub use unknown::{Settlement, UnknownOrder};

/// A gateway to an [`RpcService`](super::RpcService): the contracts, orders and ticks of a main engine in another process,
/// as if they were here. vn.py's `RpcGateway`.
///
/// ```
/// use pulsewire::trader::*;
///
/// let served = MainEngine::new()?; // In the other process, with the gateways to the exchanges.
/// let service = RpcService::new(&served);
/// service.start(&RpcServiceSetting::new("127.0.0.1:0", ""))?;
///
/// let main = MainEngine::new()?;
/// let rpc = main.add_gateway("RPC", RpcGateway::new)?;
/// let address = format!("tcp://{}", service.local_addrs()[0]);
/// main.connect(&Setting::new().with("rep_address", address), "RPC")?; // Returns at once, server or not.
/// assert!(rpc.wait_live(std::time::Duration::from_secs(30)));
/// main.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What it does
///
/// [`connect`](Gateway::connect) returns at once, and the server may come later. Then it takes a snapshot of all records
/// that the server has, which says to which place of the stream of events it belongs, and goes on from that place: no event
/// is lost or put twice. When the server was restarted, or events were lost or not understood, it takes another snapshot by
/// itself and puts what differs; none of the newest 262 144 trades is put again. Subscriptions to ticks are renewed. Lost
/// ticks are counted, and the last ones asked for.
///
/// [`RpcGateway::state`] says how true all that is. Each change is a log event, and an event of the type
/// [`state_event_type`] for programs.
///
/// # Setting
///
/// | key | default | what |
/// |---|---|---|
/// | `rep_address` | `tcp://127.0.0.1:2014` | where calls go; must be given |
/// | `pub_address` | `tcp://127.0.0.1:4102` | where events come from; empty or not given: the same |
/// | `events` | `[""]` | prefixes of the types that are wanted, in the server's names: `["eOrder.", "eTrade.rb2410.SHFE"]`; ticks are not meant |
/// | `ticks` | `"asked"` | the ticks that were subscribed to here; `"all"`: all that the server has |
/// | `remote_gateway` | `""` | the one gateway of the server that this one stands for; empty: all of them |
/// | `request_timeout_ms` | 5000 | after which the outcome of an order is unknown |
///
/// # Names
///
/// Every record has this gateway's name. Order `5` of the server's gateway `CTP`, there `CTP.5`, has the id `CTP.5` here:
/// `RPC.CTP.5`. So orders of two gateways that count alike stay apart, and a cancel finds its way back. Positions have no
/// id of their own; the server's gateway is in their `extra`, under [`REMOTE_GATEWAY`]. If two gateways of the server hold
/// the same contract, add one `RpcGateway` for each (`remote_gateway`). Requests go to the gateway that the contract names.
///
/// # Orders
///
/// Sending blocks for a round trip, because the id comes from the server. Without a connection it is refused at once; an
/// order never waits for one. When the answer gets lost the outcome is [`SendError::Unknown`]: the order is looked
/// for, by the reference that it carries (the request's, with `#pw-...` behind it at the server, given back without), and what
/// became of it is in a log event, in an event of the type [`settled_event_type`], and in [`RpcGateway::unknown_orders`]. It is
/// denied only by the server that it was sent to; after a restart, or once the gateway was closed, [`Settlement::AskVenue`]
/// remains, until an event tells. What the venue reports has the last word.
///
/// # Threads
///
/// The client's driver, one for the main stream, one for ticks once there is a subscription, and while there is something to
/// do one that looks for lost orders, and one that asks a server for the ticks that it does not know of yet. They end when
/// the gateway is closed, and nothing about orders waits for the other things.
pub struct RpcGateway {
    shared: Arc<Shared>,
    limits: Limits,
    reconnect: Reconnect,
    session: Mutex<Option<Arc<Session>>>,
}

/// What stays through all connections.
struct Shared {
    context: GatewayContext,
    status: Status,
    /// What was put. Locked by the threads that follow main streams alone, see [`Follower`].
    mirror: Mutex<Mirror>,
    subscriptions: Subscriptions,
    unknowns: Unknowns,
}

impl Shared {
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what became of an order whose answer got lost, in a log event and in one for programs.
    fn announce(&self, order: &UnknownOrder, before: Option<Settlement>) {
        let (level, text) = match &order.settlement {
            Settlement::Open => return,
            Settlement::Placed(vt_id) if before == Some(Settlement::NotPlaced) => {
                (LogLevel::Error, format!("was said not to be placed, and was placed as {vt_id}"))
            }
            Settlement::Placed(vt_id) => (LogLevel::Warning, format!("was placed as {vt_id}")),
            Settlement::NotPlaced => (LogLevel::Warning, String::from("was not placed, and will not be")),
            Settlement::AskVenue => {
                (LogLevel::Error, String::from("may be placed: the server cannot say, ask the venue"))
            }
        };
        let msg = format!("order {} of {} {text}", order.sent_as, order.vt_symbol);
        self.status.say_to_all(level, msg, settled_event_type(self.context.gateway_name()));
    }

    /// Nobody looks any more for those of this session and of those before it: says so of each, without waiting for room.
    fn give_up_unknowns(&self, session: u64) {
        for order in self.unknowns.give_up_until(session) {
            let msg = format!(
                "order {} of {} may be placed: closed before the server could say, ask the venue",
                order.sent_as, order.vt_symbol
            );
            log::warn!("order-unknown: {msg}");
            self.status.try_say(LogLevel::Error, msg, settled_event_type(self.context.gateway_name()));
        }
    }

    /// Whether an event of this type would speak for this gateway.
    fn is_own_type(&self, event_type: &str) -> bool {
        let name = self.context.gateway_name();
        event_type == state_event_type(name) || event_type == settled_event_type(name)
    }
}

/// The type of the event that says that a gateway's state has changed: `eRpcState.` and its name. Its text is
/// [`GatewayState::name`].
pub fn state_event_type(gateway_name: &str) -> String {
    format!("eRpcState.{gateway_name}")
}

/// The type of the event that says what became of an order whose answer got lost: `eRpcSettled.` and the gateway's name.
/// Its text is for people; [`RpcGateway::unknown_orders`] is for programs.
pub fn settled_event_type(gateway_name: &str) -> String {
    format!("eRpcSettled.{gateway_name}")
}

impl RpcGateway {
    /// A gateway with the default limits. `main.add_gateway("RPC", RpcGateway::new)`.
    pub fn new(context: GatewayContext) -> Self {
        let shared = Shared {
            status: Status::new(context.clone()),
            context,
            mirror: Mutex::new(Mirror::new()),
            subscriptions: Subscriptions::default(),
            unknowns: Unknowns::new(),
        };
        RpcGateway {
            shared: Arc::new(shared),
            limits: Limits::default(),
            reconnect: Reconnect::default(),
            session: Mutex::new(None),
        }
    }

    /// Takes these limits for its client.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes this policy for dialling again.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// How true what it has put is.
    pub fn state(&self) -> GatewayState {
        self.shared.status.state()
    }

    /// Its state, and what it has counted.
    pub fn status(&self) -> GatewayStatus {
        self.shared.status.status()
    }

    /// Waits until it is live; false if it is not in time. Then the snapshot has been put on the event engine, whose
    /// handlers may have it still before them.
    pub fn wait_live(&self, timeout: Duration) -> bool {
        self.shared.status.wait_for(GatewayState::Live, timeout)
    }

    /// The orders and quotes whose answer got lost, and what is known of them by now; the newest 1 024, the oldest first.
    pub fn unknown_orders(&self) -> Vec<UnknownOrder> {
        self.shared.unknowns.all()
    }

    fn session(&self) -> Result<Arc<Session>, Refusal> {
        self.lock().clone().ok_or(Refusal::NotConnected)
    }

    /// Starts a client, and what reads it.
    fn begin(&self, setting: GatewaySetting, number: u64) -> Result<Arc<Session>, Refusal> {
        let mut builder = RpcClient::builder().limits(self.limits.clone()).reconnect(self.reconnect);
        if let Some(address) = &setting.pub_address {
            builder = builder.events_at(address);
        }
        let client =
            builder.connect(&setting.rep_address).map_err(|error| Refusal::BadSetting(format!("{error}")))?;
        let events = subscribe_to(&client, &setting)?;
        let frame_bytes = self.limits.max_frame_bytes;
        let session = Session::new(Arc::clone(&self.shared), setting, client, frame_bytes, number);
        let follow = move |session: Arc<Session>| Follower::new(events).run(&session);
        let begun = session.follow_asked_ticks().and_then(|()| session.spawn("pulsewire-follow", follow));
        match begun {
            Ok(()) => Ok(session),
            Err(why) => {
                session.close();
                Err(why)
            }
        }
    }

    /// Whether a session will never be more than it is: one of its connections is dialled no more.
    fn is_hopeless(&self, session: &Session) -> bool {
        // Nobody tells of the connection for calls. It was there if the session is live.
        let has_lost_calls = self.reconnect == Reconnect::never()
            && self.state() == GatewayState::Live
            && !session.client.is_connected();
        session.has_given_up() || has_lost_calls
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the types that are wanted; contracts always, because they say where requests go.
fn subscribe_to(client: &RpcClient, setting: &GatewaySetting) -> Result<Subscription<Event>, Refusal> {
    let refused = |error| Refusal::BadSetting(format!("{error}"));
    if setting.wants_everything() {
        return client.subscribe("").map_err(refused);
    }
    // The whole set at once: a snapshot that is taken when it is in force misses nothing of it.
    let options = setting
        .events
        .iter()
        .fold(SubscribeOptions::default(), |options, prefix| options.also(prefix.as_str()));
    client.subscribe_with(EVENT_CONTRACT, options).map_err(refused)
}

impl Gateway for RpcGateway {
    fn name(&self) -> &str {
        self.shared.context.gateway_name()
    }

    /// Begins to connect. Again with the same setting it changes nothing, unless the reconnect policy has given up: then
    /// it tries anew. With another setting it closes first. What was put before is not put again.
    ///
    /// It waits for no server. If the event engine is full, it waits once for room to say what it does, for as long as that
    /// engine's `put_timeout`; [`close`](Gateway::close) does so too. Either waits for what the connection before has unsent, as
    /// `Limits::linger` says.
    fn connect(&self, setting: &Setting) -> Result<(), Refusal> {
        let setting = GatewaySetting::read(setting)?;
        let (begun, before) = {
            let mut current = self.lock();
            let is_same = |session: &Arc<Session>| session.setting == setting && !self.is_hopeless(session);
            if current.as_ref().is_some_and(is_same) {
                return Ok(());
            }
            let before = current.take();
            before.iter().for_each(|before| before.cut_off());
            let number = self.shared.status.begin(&format!("connecting to {}", setting.rep_address));
            let begun = self.begin(setting, number);
            match &begun {
                Ok(session) => *current = Some(Arc::clone(session)),
                Err(_) => self.shared.status.end(),
            }
            (begun, before)
        };
        // All that may wait is done with nothing locked: the event engine's thread may be about to ask for something.
        before.iter().for_each(|before| before.close());
        self.shared.status.tell();
        let session = match begun {
            Ok(session) => session,
            Err(why) => {
                // Nobody goes on where the last one was.
                before.iter().for_each(|before| self.shared.give_up_unknowns(before.number));
                return Err(why);
            }
        };
        if self.shared.unknowns.next_open().is_some() {
            session.settle_soon(); // They were being looked for over the last connection.
        }
        Ok(())
    }

    fn close(&self) {
        let session = {
            let mut current = self.lock();
            let Some(session) = current.take() else { return };
            session.cut_off();
            self.shared.status.end();
            session
        };
        session.close();
        self.shared.status.tell();
        self.shared.give_up_unknowns(session.number);
    }

    /// Asks for the ticks of a contract, for as long as the gateway lives: without a connection now it is asked for when
    /// there is one, and again after each restart of the server.
    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
        let shared = &self.shared;
        let vt_symbol = request.vt_symbol();
        // Under the lock, so that a connection that is begun meanwhile finds it.
        let current = self.lock();
        let Some(session) = current.clone() else {
            shared.subscriptions.add(request, None);
            return Ok(());
        };
        let is_new = !shared.subscriptions.wants(&vt_symbol);
        let is_live = shared.status.state() == GatewayState::Live;
        let remote = if is_live { Some(session.route(&vt_symbol)?) } else { None };
        let epoch = shared.status.status().epoch;
        // Before the server knows, so that the first tick finds its way.
        shared.subscriptions.add(request, None);
        if is_new {
            if let Err(why) = session.follow_ticks(&vt_symbol) {
                // It was never asked for: the next one who asks hears the same.
                shared.subscriptions.remove(&vt_symbol);
                return Err(why);
            }
        }
        drop(current);
        let Some(remote) = remote else { return Ok(()) };
        let timeout = Some(session.setting.request_timeout);
        match session.query(functions::SUBSCRIBE, &(request.clone(), remote), timeout) {
            Ok(()) => {
                shared.subscriptions.add(request, epoch);
                Ok(())
            }
            // It is asked for again.
            Err(Refusal::NotConnected | Refusal::NotSent(_)) => Ok(()),
            Err(why) => {
                if is_new {
                    shared.subscriptions.remove(&vt_symbol);
                    session.unfollow_ticks(&vt_symbol);
                }
                Err(why)
            }
        }
    }

    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
        let session = self.session()?;
        let sent_as = self.shared.unknowns.tagged(&request.reference);
        let tagged = OrderRequest { reference: sent_as.clone(), ..request.clone() };
        session.send(functions::SEND_ORDER, tagged, request.vt_symbol(), sent_as)
    }

    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError> {
        let session = self.session()?;
        let remote = session.names.remote_cancel(request)?;
        session.ended(session.request(functions::CANCEL_ORDER, &remote))
    }

    fn send_quote(&self, request: &QuoteRequest) -> Result<String, SendError> {
        let session = self.session()?;
        let sent_as = self.shared.unknowns.tagged(&request.reference);
        let tagged = QuoteRequest { reference: sent_as.clone(), ..request.clone() };
        session.send(functions::SEND_QUOTE, tagged, request.vt_symbol(), sent_as)
    }

    fn cancel_quote(&self, request: &CancelRequest) -> Result<(), SendError> {
        let session = self.session()?;
        let remote = session.names.remote_cancel(request)?;
        session.ended(session.request(functions::CANCEL_QUOTE, &remote))
    }

    fn query_account(&self) -> Result<(), Refusal> {
        let session = self.session()?;
        let remote = session.setting.remote_gateway.clone().unwrap_or_default();
        session.query(functions::QUERY_ACCOUNT, &remote, Some(session.setting.request_timeout))
    }

    fn query_position(&self) -> Result<(), Refusal> {
        let session = self.session()?;
        let remote = session.setting.remote_gateway.clone().unwrap_or_default();
        session.query(functions::QUERY_POSITION, &remote, Some(session.setting.request_timeout))
    }

    /// The bars of a contract, the oldest first. Blocks for as long as `Limits::call_timeout`; other calls go on.
    fn query_history(&self, request: &HistoryRequest) -> Result<Vec<BarData>, Refusal> {
        let session = self.session()?;
        let remote = session.route(&request.vt_symbol())?;
        let mut bars = session.query(functions::QUERY_HISTORY, &(request.clone(), remote), None)?;
        for bar in &mut bars {
            bar.gateway_name = self.name().into();
        }
        Ok(bars)
    }

    fn default_setting(&self) -> Setting {
        setting::default_setting()
    }

    /// The exchanges of the contracts that the server has.
    fn exchanges(&self) -> Vec<Exchange> {
        self.session().map(|session| session.exchanges()).unwrap_or_default()
    }
}

impl fmt::Debug for RpcGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcGateway")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Drop for RpcGateway {
    fn drop(&mut self) {
        self.close();
    }
}
