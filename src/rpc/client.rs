//! The client: calls and subscriptions, each on a connection of its own, driven by one thread.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::call::{CallOptions, PendingCall, RawCall, Slot, Slots};
use super::dispatcher::Dispatcher;
use super::method::{MethodName, TopicPrefix};
use super::{codec, CallError, Event, Subscription};
use crate::net::{self, Address, Command, DriverThread, Handler, Keepalive, Port, Shared, ToAddress};
use crate::pattern::{
    self, ConnectionEvent, Done, Limits, NotExecuted, Random, Reconnect, Requester, RequesterStats,
    SessionId, SubscribeError, Subscriber,
};

/// Calls functions of a server and follows its events.
///
/// A handle: clones are the same client, and it stops when the last one goes. It connects by itself, waits for a
/// server that is not there yet, and connects again after every loss. It can be stopped and started again.
#[derive(Clone)]
pub struct RpcClient {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    running: RwLock<Option<Arc<Running>>>,
    changing: Mutex<()>,
}

struct Config {
    call_addresses: Vec<Address>,
    event_addresses: Vec<Address>,
    limits: Limits,
    reconnect: Reconnect,
    keepalive: Keepalive,
    callbacks: Arc<Callbacks>,
}

struct Running {
    calls: Arc<Port<CallHandler>>,
    subscriptions: Mutex<Vec<Weak<Port<SubscriptionHandler>>>>,
    whole: Arc<Whole>,
    shared: Arc<Shared>,
    driver: DriverThread,
    next_subscription: AtomicU64,
}

/// Which connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Connection {
    /// The one that calls travel on.
    Calls,
    /// That of a subscription, counted from 1.
    Subscription(u64),
}

/// Something that happened to one of a client's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    /// Which one.
    pub connection: Connection,
    /// What.
    pub event: ConnectionEvent,
}

/// What a client counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientStats {
    /// Its calls.
    pub calls: RequesterStats,
    /// Its subscriptions at this moment.
    pub subscriptions: u64,
}

type OnEvent = Box<dyn Fn(&ClientEvent) + Send + Sync>;
type OnChange = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Callbacks {
    on_connection: Option<OnEvent>,
    on_disconnected: Option<OnChange>,
    on_reconnected: Option<OnChange>,
    dispatcher: OnceLock<Dispatcher>,
}

impl Callbacks {
    fn is_empty(&self) -> bool {
        self.on_connection.is_none() && self.on_disconnected.is_none() && self.on_reconnected.is_none()
    }

    /// The thread that callbacks run on, started when it is first needed.
    fn dispatcher(&self) -> Result<&Dispatcher, net::Error> {
        if let Some(dispatcher) = self.dispatcher.get() {
            return Ok(dispatcher);
        }
        let started = Dispatcher::start().map_err(net::Error::Setup)?;
        Ok(self.dispatcher.get_or_init(|| started))
    }
}

impl RpcClient {
    /// A client of one address with the default settings. Returns at once, also when no server is there yet.
    ///
    /// # Errors
    /// The address cannot be dialled, or there are no threads or no poll handle.
    pub fn connect(address: impl ToAddress) -> Result<Self, net::Error> {
        Self::builder().connect(address)
    }

    /// A client with settings of its own.
    pub fn builder() -> RpcClientBuilder {
        RpcClientBuilder {
            more: Vec::new(),
            events: Vec::new(),
            limits: Limits::default(),
            reconnect: Reconnect::default(),
            keepalive: Keepalive::default(),
            callbacks: Callbacks::default(),
            error: None,
        }
    }

    // Calls.

    /// Calls a function and waits for its result, with the default timeout (30 s).
    ///
    /// # Errors
    /// How the call ended if not with a value; [`CallError::may_have_run`] says what that means.
    pub fn call<A, R>(&self, method: impl MethodName<A, R>, arguments: &A) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.call_with(method, arguments, CallOptions::default())
    }

    /// Calls a function in a way of your own and waits for its result.
    ///
    /// # Errors
    /// As for [`RpcClient::call`].
    pub fn call_with<A, R>(
        &self,
        method: impl MethodName<A, R>,
        arguments: &A,
        options: CallOptions,
    ) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.start_call(method, arguments, options)?.wait()
    }

    /// Begins a call without waiting for it, so that many can be under way at once.
    ///
    /// # Errors
    /// It was refused at once, or its arguments cannot be encoded; nothing was sent.
    pub fn start_call<A, R>(
        &self,
        method: impl MethodName<A, R>,
        arguments: &A,
        options: CallOptions,
    ) -> Result<PendingCall<R>, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        // The arguments' own code runs before any lock is taken.
        let arguments = codec::encode(arguments).map_err(CallError::Unencodable)?;
        Ok(PendingCall::new(self.begin(method.method_name(), &arguments, options)?))
    }

    /// Calls a function with bytes as they are, for a codec of your own.
    ///
    /// # Errors
    /// As for [`RpcClient::call`].
    pub fn call_bytes(
        &self,
        function: &str,
        arguments: &[u8],
        options: CallOptions,
    ) -> Result<Vec<u8>, CallError> {
        self.begin(function, arguments, options)?.wait()
    }

    fn begin(&self, function: &str, arguments: &[u8], options: CallOptions) -> Result<RawCall, CallError> {
        let stopped = CallError::NotExecuted(NotExecuted::ShuttingDown);
        let running = self.running().ok_or(stopped)?;
        let timeout = options.timeout.unwrap_or(self.inner.config.limits.call_timeout);
        let slot = Arc::new(Slot::default());
        let port = &running.calls;
        let begun = port.command(|requester, now| {
            let deadline = now + timeout;
            let options = pattern::CallOptions {
                deadline,
                idempotent: options.idempotent,
                fail_fast: options.fail_fast,
            };
            let id = requester.call(now, function, arguments, options)?;
            port.handler.slots.insert(id, Arc::clone(&slot));
            Ok(deadline)
        });
        let deadline = begun.map_err(CallError::NotExecuted)?;
        Ok(RawCall { port: Arc::clone(port), slot, deadline })
    }

    // Subscriptions.

    /// Follows the topics that begin with a prefix; `""` is everything. Returns at once: [`Event::Subscribed`] says
    /// from where on nothing is missed unsaid, and [`Subscription::wait_subscribed`] waits for it.
    ///
    /// # Errors
    /// The prefix is longer than 255 bytes, or the client is stopped.
    pub fn subscribe<T: DeserializeOwned>(
        &self,
        topic: impl TopicPrefix<T>,
    ) -> Result<Subscription<T>, SubscribeError> {
        self.subscribe_then(topic.prefix(), None)
    }

    /// Like [`RpcClient::subscribe`], and waits until the subscription is in force: a message published after this
    /// returned is received. `Ok(None)`: it is not within the timeout.
    ///
    /// # Errors
    /// As for [`RpcClient::subscribe`].
    pub fn subscribe_and_wait<T: DeserializeOwned>(
        &self,
        topic: impl TopicPrefix<T>,
        timeout: Duration,
    ) -> Result<Option<Subscription<T>>, SubscribeError> {
        let subscription = self.subscribe(topic)?;
        Ok(subscription.wait_subscribed(timeout).then_some(subscription))
    }

    /// Follows topics with a callback, as in vn.py: it is called with each event on the client's dispatcher thread, in
    /// order. Calling the client from inside it works; while it runs, other callbacks wait. The subscription ends when
    /// the client is stopped. A callback that holds a handle of its own client keeps it from going by itself: then
    /// [`RpcClient::stop`] has to be called.
    ///
    /// # Errors
    /// As for [`RpcClient::subscribe`]; `Stopped` also if there is no thread to be had.
    pub fn on_event<T: DeserializeOwned + 'static>(
        &self,
        topic: impl TopicPrefix<T>,
        mut callback: impl FnMut(Event<T>) + Send + 'static,
    ) -> Result<(), SubscribeError> {
        let callbacks = &self.inner.config.callbacks;
        callbacks.dispatcher().map_err(|_| SubscribeError::Stopped)?;
        let source = Arc::new(CallbackSource {
            callbacks: Arc::downgrade(callbacks),
            queued: Mutex::new(false),
            read: Mutex::new(None),
        });
        let mut subscription: Subscription<T> =
            self.subscribe_then(topic.prefix(), Some(Arc::downgrade(&source) as Weak<dyn Readable>))?;
        let read: Box<dyn FnMut() -> bool + Send> = Box::new(move || {
            for _ in 0..EVENTS_PER_JOB {
                let Some(event) = subscription.try_recv() else { return false };
                callback(event);
            }
            true
        });
        *source.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        // Events may have come before there was anything to read them with.
        Arc::clone(&source).readable();
        self.keep(source);
        Ok(())
    }

    fn keep(&self, source: Arc<CallbackSource>) {
        let Some(running) = self.running() else { return };
        running.whole.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
        if running.whole.lock().stopped {
            // It was stopped meanwhile, and has perhaps looked at its sources already.
            let sources =
                core::mem::take(&mut *running.whole.sources.lock().unwrap_or_else(PoisonError::into_inner));
            drop(sources);
        }
    }

    fn subscribe_then<T: DeserializeOwned>(
        &self,
        prefix: &str,
        readable: Option<Weak<dyn Readable>>,
    ) -> Result<Subscription<T>, SubscribeError> {
        let running = self.running().ok_or(SubscribeError::Stopped)?;
        let config = &self.inner.config;
        let random = Random::new(net::random_u64());
        let session = SessionId(net::random_bytes());
        let addresses = config.event_addresses.len();
        let mut machine =
            Subscriber::new(config.limits.clone(), config.reconnect, addresses, session, random, prefix)?;
        machine.start();
        let number = running.next_subscription.fetch_add(1, Ordering::Relaxed);
        let handler = SubscriptionHandler {
            watch: Watch { connection: Connection::Subscription(number), whole: Arc::clone(&running.whole) },
            readable,
        };
        handler.watch.joined();
        let port = Port::new(handler, machine, Arc::clone(&running.shared));
        let mut subscriptions = running.subscriptions();
        subscriptions.retain(|subscription| subscription.strong_count() > 0);
        subscriptions.push(Arc::downgrade(&port));
        drop(subscriptions);
        if running.whole.lock().stopped {
            // It was stopped meanwhile, perhaps before this one could be found and stopped with the others.
            port.command(|subscriber, now| subscriber.stop(now));
            return Err(SubscribeError::Stopped);
        }
        running.shared.send(Command::Add(Box::new(Arc::clone(&port)), config.event_addresses.clone()));
        Ok(Subscription::new(port, config.limits.linger))
    }

    // Its life.

    /// Starts it again after a stop. Subscriptions of its last life have ended with it.
    ///
    /// # Errors
    /// It is running, or there are no threads or no poll handle.
    pub fn start(&self) -> Result<(), net::Error> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.running().is_some() {
            return Err(net::Error::AlreadyRunning);
        }
        let running = self.inner.config.start()?;
        *self.inner.running.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(running));
        Ok(())
    }

    /// Ends it: calls that were not sent end as not executed, sent ones as unknown, subscriptions end. Returns at once
    /// if nothing is unsent, else after at most `linger`. Stopping twice is harmless; it works from inside a callback
    /// too.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// The connection for calls is there.
    pub fn is_connected(&self) -> bool {
        self.running().is_some_and(|running| running.calls.lock().machine.is_connected())
    }

    /// Waits for the connection for calls; false if it is not there within the timeout.
    pub fn wait_connected(&self, timeout: Duration) -> bool {
        self.running().is_some_and(|running| {
            let deadline = running.calls.now() + timeout;
            let connected = running.calls.wait_until(deadline, |requester| {
                (requester.is_connected() || requester.is_stopped()).then(|| requester.is_connected())
            });
            connected.unwrap_or(false)
        })
    }

    /// The life of the server that was last met.
    pub fn epoch(&self) -> Option<u64> {
        self.running().and_then(|running| running.calls.lock().machine.epoch())
    }

    /// What has been counted in this life; all zero while it is stopped.
    pub fn stats(&self) -> ClientStats {
        self.running().map_or_else(ClientStats::default, |running| ClientStats {
            calls: running.calls.lock().machine.stats(),
            subscriptions: running.subscriptions().iter().filter(|port| port.strong_count() > 0).count()
                as u64,
        })
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.inner.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl core::fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RpcClient").field("connected", &self.is_connected()).finish()
    }
}

impl Running {
    fn subscriptions(&self) -> MutexGuard<'_, Vec<Weak<Port<SubscriptionHandler>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn stop(&self) {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        running.whole.stop();
        running.calls.command(|requester, now| requester.stop(now));
        let deadline = running.calls.now() + self.config.limits.linger;
        let ports: Vec<_> = running.subscriptions().drain(..).filter_map(|port| port.upgrade()).collect();
        for port in &ports {
            port.command(|subscriber, now| subscriber.stop(now));
        }
        if !running.driver.is_current() {
            running.calls.wait_until(deadline, |requester| requester.is_flushed().then_some(()));
            for port in &ports {
                port.wait_until(deadline, |subscriber| subscriber.is_flushed().then_some(()));
            }
        }
        let sources =
            core::mem::take(&mut *running.whole.sources.lock().unwrap_or_else(PoisonError::into_inner));
        drop(ports);
        running.driver.finish();
        // What the callbacks own is the user's, and its end may stop us once more.
        drop(changing);
        drop(sources);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Config {
    fn start(&self) -> Result<Running, net::Error> {
        let (mut driver, shared) = net::driver(&self.limits, self.keepalive)?;
        if !self.callbacks.is_empty() {
            self.callbacks.dispatcher()?;
        }
        let random = Random::new(net::random_u64());
        let session = SessionId(net::random_bytes());
        let addresses = self.call_addresses.len();
        let mut machine = Requester::new(self.limits.clone(), self.reconnect, addresses, session, random);
        machine.start();
        let whole = Arc::new(Whole {
            callbacks: Arc::clone(&self.callbacks),
            state: Mutex::new(WholeState::default()),
            sources: Mutex::new(Vec::new()),
        });
        let watch = Watch { connection: Connection::Calls, whole: Arc::clone(&whole) };
        watch.joined();
        let handler = CallHandler { slots: Slots::default(), watch };
        let calls = Port::new(handler, machine, Arc::clone(&shared));
        driver.add(Box::new(Arc::clone(&calls)), self.call_addresses.clone());
        let driver = DriverThread::start("pulsewire-client", driver).map_err(net::Error::Setup)?;
        Ok(Running {
            calls,
            subscriptions: Mutex::new(Vec::new()),
            whole,
            shared,
            driver,
            next_subscription: AtomicU64::new(1),
        })
    }
}

/// A client in the making.
pub struct RpcClientBuilder {
    more: Vec<Address>,
    events: Vec<Address>,
    limits: Limits,
    reconnect: Reconnect,
    keepalive: Keepalive,
    callbacks: Callbacks,
    error: Option<net::Error>,
}

impl RpcClientBuilder {
    /// One more address: after each failure the next one is dialled.
    pub fn or_address(mut self, address: impl ToAddress) -> Self {
        match address.to_address() {
            Ok(address) => self.more.push(address),
            Err(error) => self.error = Some(error.into()),
        }
        self
    }

    /// Subscribes at another address than the one for calls, as vn.py does. May be repeated, like
    /// [`RpcClientBuilder::or_address`].
    pub fn events_at(mut self, address: impl ToAddress) -> Self {
        match address.to_address() {
            Ok(address) => self.events.push(address),
            Err(error) => self.error = Some(error.into()),
        }
        self
    }

    /// Takes these limits instead of the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes this policy instead of [`Reconnect::default`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Takes these keepalive settings instead of the default ones.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Calls `f` with whatever happens to any of the connections, on the dispatcher thread.
    pub fn on_connection(mut self, f: impl Fn(&ClientEvent) + Send + Sync + 'static) -> Self {
        self.callbacks.on_connection = Some(Box::new(f));
        self
    }

    /// Calls `f` once when the client, which was wholly connected, is not any more.
    pub fn on_disconnected(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.callbacks.on_disconnected = Some(Box::new(f));
        self
    }

    /// Calls `f` once when all connections are back after [`RpcClientBuilder::on_disconnected`].
    pub fn on_reconnected(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.callbacks.on_reconnected = Some(Box::new(f));
        self
    }

    /// Starts it. Returns at once, also when no server is there yet.
    ///
    /// # Errors
    /// An address that cannot be dialled, bad limits, no threads or no poll handle.
    pub fn connect(self, address: impl ToAddress) -> Result<RpcClient, net::Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut call_addresses = std::vec![address.to_address()?];
        call_addresses.extend(self.more);
        let event_addresses = if self.events.is_empty() { call_addresses.clone() } else { self.events };
        for address in call_addresses.iter().chain(&event_addresses) {
            address.to_dial()?;
        }
        self.limits.validate()?;
        let config = Config {
            call_addresses,
            event_addresses,
            limits: self.limits,
            reconnect: self.reconnect,
            keepalive: self.keepalive,
            callbacks: Arc::new(self.callbacks),
        };
        let inner = Inner { config, running: RwLock::new(None), changing: Mutex::new(()) };
        let client = RpcClient { inner: Arc::new(inner) };
        client.start()?;
        Ok(client)
    }
}

/// The connections of a client together: the whole is up when all of them are.
struct Whole {
    callbacks: Arc<Callbacks>,
    state: Mutex<WholeState>,
    /// What reads the subscriptions that have callbacks.
    sources: Mutex<Vec<Arc<CallbackSource>>>,
}

#[derive(Default)]
struct WholeState {
    up: Vec<(Connection, bool)>,
    /// `on_disconnected` was called and `on_reconnected` was not yet.
    told_down: bool,
    was_up: bool,
    stopped: bool,
}

impl Whole {
    fn lock(&self) -> MutexGuard<'_, WholeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopped = true;
    }
}

/// One connection's part in the whole.
pub(crate) struct Watch {
    connection: Connection,
    whole: Arc<Whole>,
}

impl Watch {
    fn joined(&self) {
        self.whole.lock().up.push((self.connection, false));
    }

    fn left(&self) {
        let mut whole = self.whole.lock();
        whole.up.retain(|(connection, _)| *connection != self.connection);
        // It may have been the last one that was missing.
        let back =
            whole.told_down && !whole.stopped && !whole.up.is_empty() && whole.up.iter().all(|(_, up)| *up);
        whole.told_down &= !back;
        drop(whole);
        self.tell(None, false, back);
    }

    fn log(&self, event: &ConnectionEvent) {
        log::debug!("connection {:?}: {event:?}", self.connection);
    }

    fn handle_event(&self, event: &ConnectionEvent) {
        let mut whole = self.whole.lock();
        let mut up = match event {
            ConnectionEvent::Connected { .. } => Some(true),
            ConnectionEvent::Disconnected { .. } => Some(false),
            _ => None,
        };
        match (up, whole.up.iter_mut().find(|(connection, _)| *connection == self.connection)) {
            (Some(up), Some(entry)) => entry.1 = up,
            // It has left the whole: what happens to it is no change of it any more.
            (_, None) => up = None,
            (None, Some(_)) => {}
        }
        let all_up = whole.up.iter().all(|(_, up)| *up);
        let lost = up == Some(false) && whole.was_up && !whole.told_down && !whole.stopped;
        let back = up == Some(true) && all_up && whole.told_down;
        whole.was_up |= all_up;
        whole.told_down = (whole.told_down || lost) && !back;
        drop(whole);
        self.tell(Some(event), lost, back);
    }

    /// Has the callbacks called that these concern.
    fn tell(&self, event: Option<&ConnectionEvent>, lost: bool, back: bool) {
        let callbacks = &self.whole.callbacks;
        let Some(dispatcher) = callbacks.dispatcher.get().filter(|_| !callbacks.is_empty()) else { return };
        let event = event.map(|event| ClientEvent { connection: self.connection, event: event.clone() });
        let callbacks = Arc::clone(callbacks);
        dispatcher.push(Box::new(move || {
            if let (Some(on_connection), Some(event)) = (&callbacks.on_connection, &event) {
                on_connection(event);
            }
            if let Some(on_disconnected) = callbacks.on_disconnected.as_ref().filter(|_| lost) {
                on_disconnected();
            }
            if let Some(on_reconnected) = callbacks.on_reconnected.as_ref().filter(|_| back) {
                on_reconnected();
            }
        }));
    }
}

/// Hands outcomes to those who wait for them.
pub(crate) struct CallHandler {
    slots: Slots,
    watch: Watch,
}

/// What a requester has to say.
pub(crate) enum CallNews {
    Done(Done),
    Connection(ConnectionEvent),
}

impl Handler for CallHandler {
    type Machine = Requester;
    type Job = CallNews;

    fn collect(&self, machine: &mut Requester, jobs: &mut Vec<CallNews>) {
        while let Some(done) = machine.poll_done() {
            jobs.push(CallNews::Done(done));
        }
        while let Some(event) = machine.poll_connection_event() {
            // Under the lock, so that no later event of another thread's overtakes this one.
            self.watch.handle_event(&event);
            jobs.push(CallNews::Connection(event));
        }
    }

    fn run(&self, _port: &Arc<Port<Self>>, job: CallNews) {
        match job {
            CallNews::Done(done) => self.slots.put(done.id, done.outcome),
            CallNews::Connection(event) => self.watch.log(&event),
        }
    }

    fn is_over(&self, machine: &Requester) -> bool {
        machine.is_stopped() && machine.is_closed()
    }
}

/// Told when a subscription has something to read.
pub(crate) trait Readable: Send + Sync {
    fn readable(self: Arc<Self>);
}

/// Tells a subscription's reader, and the whole, what happens.
pub(crate) struct SubscriptionHandler {
    watch: Watch,
    /// Weak: the reader holds the subscription, and the client holds the reader.
    readable: Option<Weak<dyn Readable>>,
}

/// What a subscriber has to say.
pub(crate) enum SubscriptionNews {
    Readable,
    Connection(ConnectionEvent),
}

impl SubscriptionHandler {
    /// The subscription is being stopped: that its connection ends is no loss.
    pub(crate) fn leave(&self) {
        self.watch.left();
    }
}

impl Handler for SubscriptionHandler {
    type Machine = Subscriber;
    type Job = SubscriptionNews;

    fn collect(&self, machine: &mut Subscriber, jobs: &mut Vec<SubscriptionNews>) {
        while let Some(event) = machine.poll_connection_event() {
            // As with calls.
            self.watch.handle_event(&event);
            jobs.push(SubscriptionNews::Connection(event));
        }
        if self.readable.is_some() && machine.has_events() {
            jobs.push(SubscriptionNews::Readable);
        }
    }

    fn run(&self, _port: &Arc<Port<Self>>, job: SubscriptionNews) {
        match job {
            SubscriptionNews::Readable => {
                if let Some(readable) = self.readable.as_ref().and_then(Weak::upgrade) {
                    readable.readable();
                }
            }
            SubscriptionNews::Connection(event) => self.watch.log(&event),
        }
    }

    fn is_over(&self, machine: &Subscriber) -> bool {
        let over = machine.is_stopped() && machine.is_closed();
        if over {
            self.watch.left();
        }
        over
    }
}

/// Events that one callback gets before others have their turn.
const EVENTS_PER_JOB: usize = 256;

/// A subscription with a callback: read on the dispatcher's thread, one job at a time.
struct CallbackSource {
    callbacks: Weak<Callbacks>,
    /// A job is in the dispatcher's queue.
    queued: Mutex<bool>,
    /// Hands a few events to the callback; true if there may be more.
    read: Mutex<Option<Box<dyn FnMut() -> bool + Send>>>,
}

impl CallbackSource {
    fn run(self: Arc<Self>) {
        *self.queued.lock().unwrap_or_else(PoisonError::into_inner) = false;
        let again = AgainIfPanicking(&self);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let more = read.as_mut().is_some_and(|read| read());
        drop(read);
        if more {
            // Behind whatever else waits for the thread by now.
            Arc::clone(&self).readable();
        }
        drop(again);
    }
}

/// A callback that panics has had its event; those behind it are read by another job, since nothing else may announce
/// them any more.
struct AgainIfPanicking<'a>(&'a Arc<CallbackSource>);

impl Drop for AgainIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            Arc::clone(self.0).readable();
        }
    }
}

impl Readable for CallbackSource {
    fn readable(self: Arc<Self>) {
        let Some(callbacks) = self.callbacks.upgrade() else { return };
        let Some(dispatcher) = callbacks.dispatcher.get() else { return };
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        if !core::mem::replace(&mut *queued, true) {
            drop(queued);
            dispatcher.push(Box::new(move || self.run()));
        }
    }
}
