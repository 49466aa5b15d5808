//! The client: calls and subscriptions, each on a connection of its own, driven by one thread.

mod builder;
mod handlers;
mod life;
mod source;
mod watch;

use std::boxed::Box;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::call::{CallOptions, PendingCall, RawCall};
use super::method::{MethodName, TopicPrefix};
use super::{codec, CallError, Event, Subscription};
use crate::net::{self, Command, Instant, Pace, Port, ToAddress};
use crate::pattern::{
    self, NotExecuted, Random, Requester, RequesterStats, SessionId, SubscribeError, SubscribeOptions,
    Subscriber,
};
pub use builder::RpcClientBuilder;
use handlers::Readable;
pub(super) use handlers::{CallHandler, SubscriptionHandler};
use life::{Inner, Running};
use source::CallbackSource;
use watch::Watch;
pub use watch::{ClientEvent, Connection};

/// Calls functions of a server and follows its events.
///
/// A handle: clones are the same client, and it stops when the last one goes. It connects by itself, waits for a
/// server that is not there yet, and connects again after every loss. It can be stopped and started again.
#[derive(Clone)]
pub struct RpcClient {
    inner: Arc<Inner>,
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

/// A call with so long a timeout may count it from the moment of another one that was begun just before.
const LONG_TIMEOUT: Duration = Duration::from_millis(100);

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
        RpcClientBuilder::new()
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
        self.begin_value(method, arguments, options, Pace::AtOnce)?.wait()
    }

    /// Begins a call without waiting for it, so that many can be under way at once. A lone one is written at once. Those
    /// begun within 20 us of the last write of such calls, or of several answers that came together, are written together:
    /// when there are 64, when one of them is waited for or dropped, with one begun later than that (every eighth looks at the
    /// clock), or after half a millisecond. A timeout of 100 ms or more may count from the moment of one of those begun before.
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
        let timeout = options.timeout.unwrap_or(self.inner.config.limits.call_timeout);
        let pace = Pace::Burst { exact: timeout < LONG_TIMEOUT };
        self.begin_value(method, arguments, options, pace)
    }

    fn begin_value<A, R>(
        &self,
        method: impl MethodName<A, R>,
        arguments: &A,
        options: CallOptions,
        pace: Pace,
    ) -> Result<PendingCall<R>, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        // The arguments' own code runs before any lock is taken.
        let function = method.method_name();
        let begun = codec::encoded(arguments, codec::most_kept(&self.inner.config.limits), |buffer| {
            self.begin(options, pace, |requester, now, options| {
                requester.call_in_place(now, function, buffer, options)
            })
        });
        Ok(PendingCall::new(begun.map_err(CallError::Unencodable)??))
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
        let begin =
            |requester: &mut Requester, now, options| requester.call(now, function, arguments, options);
        Ok(self.begin(options, Pace::AtOnce, begin)?.wait()?.into_vec())
    }

    /// Begins a call in the life that runs. If it is refused because that has just ended, it is begun in the next one.
    fn begin(&self, options: CallOptions, pace: Pace, mut begin: impl Begin) -> Result<RawCall, CallError> {
        if let Some(first) = self.inner.first.get().filter(|first| !first.is_over.load(Ordering::Relaxed)) {
            match self.begin_in(first, options, pace, &mut begin) {
                // It ended just now, and there may have been a later start.
                Err(CallError::NotExecuted(NotExecuted::ShuttingDown)) => {}
                begun => return begun,
            }
        }
        let stopped = CallError::NotExecuted(NotExecuted::ShuttingDown);
        let running = self.running().ok_or(stopped)?;
        self.begin_in(&running, options, pace, &mut begin)
    }

    fn begin_in(
        &self,
        running: &Running,
        options: CallOptions,
        pace: Pace,
        begin: &mut impl Begin,
    ) -> Result<RawCall, CallError> {
        let timeout = options.timeout.unwrap_or(self.inner.config.limits.call_timeout);
        let port = &running.calls;
        let begun = port.command_at(pace, |requester, now| {
            let deadline = now + timeout;
            let options = pattern::CallOptions {
                deadline,
                idempotent: options.idempotent,
                fail_fast: options.fail_fast,
            };
            Ok((begin(requester, now, options)?, deadline))
        });
        let (id, deadline) = begun.map_err(CallError::NotExecuted)?;
        Ok(RawCall::new(Arc::clone(port), id, deadline))
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
        self.subscribe_with(topic, SubscribeOptions::default())
    }

    /// Like [`RpcClient::subscribe`], to another stream than the main one, with snapshots, or from a saved place.
    ///
    /// # Errors
    /// As for [`RpcClient::subscribe`]; the stream's name is longer than 255 bytes.
    pub fn subscribe_with<T: DeserializeOwned>(
        &self,
        topic: impl TopicPrefix<T>,
        options: SubscribeOptions,
    ) -> Result<Subscription<T>, SubscribeError> {
        let running = self.running().ok_or(SubscribeError::Stopped)?;
        self.subscribe_in(&running, topic.prefix(), options, None)
    }

    /// Follows topics of the main stream from a place that an earlier subscription had reached, see
    /// [`SubscribeOptions::from`]. [`Subscription::place`] says what to save.
    ///
    /// # Errors
    /// As for [`RpcClient::subscribe`].
    pub fn subscribe_from<T: DeserializeOwned>(
        &self,
        topic: impl TopicPrefix<T>,
        epoch: u64,
        seq: u64,
    ) -> Result<Subscription<T>, SubscribeError> {
        self.subscribe_with(topic, SubscribeOptions::default().from(epoch, seq))
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
        callback: impl FnMut(Event<T>) + Send + 'static,
    ) -> Result<(), SubscribeError> {
        self.on_event_with(topic, SubscribeOptions::default(), callback)
    }

    /// Like [`RpcClient::on_event`], to another stream than the main one, with snapshots, or from a saved place.
    ///
    /// # Errors
    /// As for [`RpcClient::on_event`]; the stream's name is longer than 255 bytes.
    pub fn on_event_with<T: DeserializeOwned + 'static>(
        &self,
        topic: impl TopicPrefix<T>,
        options: SubscribeOptions,
        callback: impl FnMut(Event<T>) + Send + 'static,
    ) -> Result<(), SubscribeError> {
        let (source, subscription) = self.subscribe_for_callback(topic.prefix(), options)?;
        source.read_with(subscription, callback);
        self.keep(source);
        Ok(())
    }

    /// Like [`RpcClient::on_event_with`], but the callback gets each event as it came, its data as bytes, for a codec of
    /// your own: nothing is copied or allocated for it.
    ///
    /// # Errors
    /// As for [`RpcClient::on_event_with`].
    pub fn on_event_bytes(
        &self,
        prefix: &str,
        options: SubscribeOptions,
        callback: impl FnMut(pattern::Event<'_>) + Send + 'static,
    ) -> Result<(), SubscribeError> {
        let (source, subscription) = self.subscribe_for_callback(prefix, options)?;
        source.read_bytes_with(subscription, callback);
        self.keep(source);
        Ok(())
    }

    /// A subscription, and what will read it on the dispatcher's thread.
    fn subscribe_for_callback<T: DeserializeOwned>(
        &self,
        prefix: &str,
        options: SubscribeOptions,
    ) -> Result<(Arc<CallbackSource>, Subscription<T>), SubscribeError> {
        let callbacks = &self.inner.config.callbacks;
        let running = self.running().ok_or(SubscribeError::Stopped)?;
        callbacks.start().map_err(|_| SubscribeError::Stopped)?;
        let source = Arc::new(CallbackSource::new(callbacks));
        let readable = Arc::downgrade(&source) as Weak<dyn Readable>;
        let subscription = self.subscribe_in(&running, prefix, options, Some(readable))?;
        match callbacks.attend(&running.shared, &running.whole) {
            true => Ok((source, subscription)),
            false => Err(SubscribeError::Stopped),
        }
    }

    fn keep(&self, source: Arc<CallbackSource>) {
        let Some(running) = self.running() else { return };
        running.whole.keep(source);
        if running.whole.is_stopped() {
            // It was stopped meanwhile, and has perhaps looked at its sources already.
            drop(running.whole.take_sources());
        }
    }

    fn subscribe_in<T: DeserializeOwned>(
        &self,
        running: &Running,
        prefix: &str,
        options: SubscribeOptions,
        readable: Option<Weak<dyn Readable>>,
    ) -> Result<Subscription<T>, SubscribeError> {
        let config = &self.inner.config;
        let random = Random::new(net::random_u64());
        let session = SessionId(net::random_bytes());
        let addresses = config.event_addresses.len();
        let place = options.from;
        let limits = config.limits.clone();
        let mut machine =
            Subscriber::with(limits, config.reconnect, addresses, session, random, prefix, options)?;
        machine.start();
        let number = running.next_subscription.fetch_add(1, Ordering::Relaxed);
        let handler = SubscriptionHandler {
            watch: Watch::join(Connection::Subscription(number), Arc::clone(&running.whole)),
            readable,
        };
        let port = Port::new(handler, machine, Arc::clone(&running.shared));
        let mut subscriptions = running.subscriptions();
        subscriptions.retain(|subscription| subscription.strong_count() > 0);
        subscriptions.push(Arc::downgrade(&port));
        drop(subscriptions);
        if running.whole.is_stopped() {
            // It was stopped meanwhile, perhaps before this one could be found and stopped with the others.
            port.command(|subscriber, now| subscriber.stop(now));
            return Err(SubscribeError::Stopped);
        }
        running.shared.send(Command::Add(Box::new(Arc::clone(&port)), config.event_addresses.clone()));
        Ok(Subscription::new(port, config.limits.linger, place))
    }

    // Its life.

    /// Starts it again after a stop. Subscriptions of its last life have ended with it.
    ///
    /// # Errors
    /// It is running, or there are no threads or no poll handle.
    pub fn start(&self) -> Result<(), net::Error> {
        self.inner.start()
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
        self.inner.running()
    }
}

/// Gives the requester a call.
trait Begin: FnMut(&mut Requester, Instant, pattern::CallOptions) -> Result<u64, NotExecuted> {}

impl<F: FnMut(&mut Requester, Instant, pattern::CallOptions) -> Result<u64, NotExecuted>> Begin for F {}

impl core::fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RpcClient").field("connected", &self.is_connected()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_callbacks_for_events_have_the_driver_attended_and_only_while_the_client_runs() {
        // Nobody is there: it dials for as long as it runs.
        let client = RpcClient::builder().on_disconnected(|| {}).connect("127.0.0.1:1").unwrap();
        let first = client.running().unwrap();
        assert!(!first.shared.lead.is_attended());
        let too_long = "x".repeat(256);
        assert!(client.on_event(too_long.as_str(), |_: Event<u64>| {}).is_err());
        assert!(!first.shared.lead.is_attended(), "it was refused");
        client.on_event("", |_: Event<u64>| {}).unwrap();
        assert!(first.shared.lead.is_attended());
        client.stop();
        assert!(!first.shared.lead.is_attended());
        client.start().unwrap();
        let second = client.running().unwrap();
        assert!(!second.shared.lead.is_attended());
        client.on_event("", |_: Event<u64>| {}).unwrap();
        assert!(second.shared.lead.is_attended() && !first.shared.lead.is_attended());
        // Somebody has had hold of the first life for all that time.
        assert!(!client.inner.config.callbacks.attend(&first.shared, &first.whole));
        assert!(second.shared.lead.is_attended() && !first.shared.lead.is_attended());
    }
}
