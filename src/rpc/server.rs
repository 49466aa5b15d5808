//! The server: functions by name, run in lanes, and publications.

use core::net::SocketAddr;
use std::boxed::Box;
use std::collections::hash_map::Entry;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::codec;
use super::function::{Function, FunctionResult, Functions, Place, RawResponder, Responder};
use super::lane::{Lane, Refused};
use super::method::{MethodName, PublishTopic};
use crate::net::{self, Address, AddressError, DriverThread, Handler, Keepalive, Port, ToAddress};
use crate::pattern::{
    Limits, PublishError, Published, Refusal, Roles, Server, ServerEvent, ServerStats, Status, Ticket,
};

/// Answers calls by name and publishes events by topic.
///
/// A handle: clones are the same server, and it stops when the last one goes. It can be stopped and started again; a
/// new start is a new life (epoch), and clients are told so.
///
/// ```
/// use pulsewire::{RpcClient, RpcServer};
///
/// let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind("127.0.0.1:0")?;
/// let client = RpcClient::connect(server.local_addr())?;
/// let sum: i64 = client.call("add", &(1i64, 2i64))?;
/// assert_eq!(sum, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RpcServer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    /// What is running, if it is. Taken out by stop.
    running: RwLock<Option<Arc<Running>>>,
    /// Starting and stopping exclude each other.
    changing: Mutex<()>,
    local: RwLock<Vec<SocketAddr>>,
}

struct Config {
    addresses: Vec<Address>,
    plaintext: bool,
    limits: Limits,
    keepalive: Keepalive,
    functions: Arc<Functions>,
    lanes: Vec<String>,
    lane_stack_bytes: usize,
    on_client: Option<Arc<OnClient>>,
}

/// Told of clients that join and leave.
type OnClient = dyn Fn(&ServerEvent) + Send + Sync;

struct Running {
    port: Arc<Port<ServerHandler>>,
    driver: DriverThread,
    epoch: u64,
}

impl RpcServer {
    /// A server without functions and addresses yet.
    pub fn builder() -> RpcServerBuilder {
        RpcServerBuilder {
            functions: Functions::new(),
            lanes: std::vec![String::from(MAIN_LANE)],
            duplicate: None,
            plaintext: false,
            limits: Limits::default(),
            keepalive: Keepalive::default(),
            lane_stack_bytes: LANE_STACK_BYTES,
            on_client: None,
        }
    }

    /// Publishes a value under a topic. Never blocks: a slow subscriber falls behind in the log, and is told what it
    /// missed.
    ///
    /// # Errors
    /// The value cannot be encoded, topic or value are too long, or the server is stopped; no sequence number was
    /// used.
    pub fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl PublishTopic<T>,
        value: &T,
    ) -> Result<Published, PublishFailed> {
        // The value's own code runs before any lock is taken.
        let data = codec::encode(value).map_err(PublishFailed::Unencodable)?;
        Ok(self.publish_bytes(topic.topic(), &data)?)
    }

    /// Publishes bytes as they are, for a codec of your own.
    ///
    /// # Errors
    /// As for [`RpcServer::publish`].
    pub fn publish_bytes(&self, topic: &str, data: &[u8]) -> Result<Published, PublishError> {
        let running = self.running().ok_or(PublishError::Stopped)?;
        running.port.command_in_bursts(|server| server.publish(topic, data))
    }

    /// The first address it listens on; the port is the real one if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs()[0]
    }

    /// All addresses it listens on, in the order in which they were given; after a stop, those of its last life.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.inner.local.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This life of the server: a random number at each start. `None` while it is stopped.
    pub fn epoch(&self) -> Option<u64> {
        self.running().map(|running| running.epoch)
    }

    /// It has been started and not stopped.
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// What has been counted in this life; all zero while it is stopped.
    pub fn stats(&self) -> RpcServerStats {
        self.running().map_or_else(RpcServerStats::default, |running| {
            let machine = running.port.lock().machine.stats();
            let handler = &running.port.handler;
            RpcServerStats {
                machine,
                lanes: handler.lanes.iter().map(|lane| (lane.name().to_string(), lane.len())).collect(),
                slow_inline: handler.slow_inline.load(Ordering::Relaxed),
            }
        })
    }

    /// Starts it again, on the same addresses and ports, as a new life.
    ///
    /// # Errors
    /// It is running, or what [`RpcServerBuilder::bind`] says.
    pub fn start(&self) -> Result<(), BindError> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_running() {
            return Err(BindError::Net(net::Error::AlreadyRunning));
        }
        let last = self.local_addrs();
        let again: Vec<Address> = if last.is_empty() {
            self.inner.config.addresses.clone()
        } else {
            // A port that the system chose stays the same; the address stays what was asked for.
            last.iter()
                .zip(&self.inner.config.addresses)
                .map(|(last, address)| address.with_port(last.port()))
                .collect()
        };
        let (running, local) = self.inner.config.start(&again)?;
        *self.inner.local.write().unwrap_or_else(PoisonError::into_inner) = local;
        *self.inner.running.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(running));
        Ok(())
    }

    /// Ends all connections in good order: calls that have not started are answered so, what is unsent is sent, then
    /// Bye. Returns at once if nothing is unsent and no function runs, else after at most `linger`. Stopping twice is
    /// harmless; it works from inside a function too.
    pub fn stop(&self) {
        self.inner.stop();
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.inner.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl core::fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RpcServer").field("local", &self.local_addrs()).field("epoch", &self.epoch()).finish()
    }
}

impl Inner {
    fn stop(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        let linger = self.config.limits.linger;
        let port = &running.port;
        let deadline = port.now() + linger;
        running.driver.stop_listening(linger);
        // What has not started never does; what has is given its time, and its answer goes out before the Bye.
        let unstarted: Vec<LaneJob> = port.handler.lanes.iter().flat_map(|lane| lane.close(true)).collect();
        unstarted.into_iter().for_each(LaneJob::refuse);
        for lane in &port.handler.lanes {
            lane.join_within(deadline.saturating_since(port.now()));
        }
        port.command(|server, now| server.stop(now));
        if !running.driver.is_current() {
            port.wait_until(deadline, |server| server.is_flushed().then_some(()));
        }
        running.driver.finish();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Config {
    fn start(&self, addresses: &[Address]) -> Result<(Running, Vec<SocketAddr>), BindError> {
        self.limits.validate().map_err(net::Error::Limits)?;
        let listeners = net::listen_all(addresses, self.plaintext)?;
        let epoch = net::random_u64();
        let machine = Server::new(Roles::Both, self.limits.clone(), epoch, net::random_u64());
        let (mut driver, shared) = net::driver(&self.limits, self.keepalive)?;
        let mut lanes = Vec::new();
        for name in &self.lanes {
            let functions = Arc::clone(&self.functions);
            let run = move |job: LaneJob| job.run(&functions);
            let most = self.limits.max_connections as usize * self.limits.max_in_flight as usize;
            let lane = Lane::start(name, self.lane_stack_bytes, most, run);
            lanes.push(lane.map_err(net::Error::Setup)?);
        }
        let handler = ServerHandler {
            functions: Arc::clone(&self.functions),
            lanes,
            on_client: self.on_client.clone(),
            slow_inline: AtomicU64::new(0),
        };
        let port = Port::new(handler, machine, shared);
        let index = driver.add(Box::new(Arc::clone(&port)), Vec::new());
        let local = listeners.iter().map(|(_, local)| *local).collect();
        for (listener, _) in listeners {
            driver.listen(index, listener).map_err(net::Error::Setup)?;
        }
        let driver = DriverThread::start("pulsewire-server", driver).map_err(net::Error::Setup)?;
        Ok((Running { port, driver, epoch }, local))
    }
}

/// A server in the making.
pub struct RpcServerBuilder {
    functions: Functions,
    lanes: Vec<String>,
    duplicate: Option<Box<str>>,
    plaintext: bool,
    limits: Limits,
    keepalive: Keepalive,
    lane_stack_bytes: usize,
    on_client: Option<Arc<OnClient>>,
}

/// The lane of functions that name no other.
const MAIN_LANE: &str = "main";
/// Stack of a lane's thread: functions are the user's, and may need some.
const LANE_STACK_BYTES: usize = 1024 * 1024;

impl RpcServerBuilder {
    /// Registers a function in the lane `main`.
    ///
    /// Functions of one lane run one after the other in the order in which their requests came; across lanes no order
    /// is promised. A function that waits for a call to its own lane waits for itself.
    pub fn register<A, R, F>(self, name: impl MethodName<A, R>, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(A) -> FunctionResult<R> + Send + Sync + 'static,
    {
        self.register_on(MAIN_LANE, name, f)
    }

    /// Registers a function in a lane of this name: one thread, first in, first out.
    pub fn register_on<A, R, F>(mut self, lane: &str, name: impl MethodName<A, R>, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(A) -> FunctionResult<R> + Send + Sync + 'static,
    {
        let place = self.lane(lane);
        self.insert(name.method_name(), Function::returning(place, f))
    }

    /// Registers a function that runs where its request is read, before anything else is: for functions of a few
    /// microseconds. One that takes more than a millisecond delays heartbeats and everybody else; it is counted and
    /// warned of.
    pub fn register_inline<A, R, F>(self, name: impl MethodName<A, R>, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(A) -> FunctionResult<R> + Send + Sync + 'static,
    {
        self.insert(name.method_name(), Function::returning(Place::Inline, f))
    }

    /// Registers a function, in the lane `main`, that is given a [`Responder`] and may answer later, from any thread.
    pub fn register_deferred<A, R, F>(self, name: impl MethodName<A, R>, f: F) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(A, Responder<R>) + Send + Sync + 'static,
    {
        self.insert(name.method_name(), Function::deferred(Place::Lane(0), f))
    }

    /// Registers a function of bytes, in the lane `main`, for a codec of your own.
    pub fn register_bytes<F>(self, name: &str, f: F) -> Self
    where
        F: Fn(&[u8]) -> FunctionResult<Vec<u8>> + Send + Sync + 'static,
    {
        self.insert(name, Function::of_bytes(Place::Lane(0), f))
    }

    /// Calls `f` when a client has joined or left, on the thread that noticed, usually the server's driver: it must be
    /// quick.
    pub fn on_client(mut self, f: impl Fn(&ServerEvent) + Send + Sync + 'static) -> Self {
        self.on_client = Some(Arc::new(f));
        self
    }

    /// Takes these limits instead of the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Takes these keepalive settings instead of the default ones.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Bytes of stack of each lane's thread. Default 1 MiB.
    pub fn lane_stack_bytes(mut self, bytes: usize) -> Self {
        self.lane_stack_bytes = bytes;
        self
    }

    /// Allows addresses beyond loopback: everybody who reaches them may call, listen in, and read what passes.
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Listens on one address, for calls and subscriptions alike, and starts.
    ///
    /// # Errors
    /// A bad address or limits, a port that is taken, two functions of one name, no threads or no poll handle.
    pub fn bind(self, address: impl ToAddress) -> Result<RpcServer, BindError> {
        let address = address.to_address().map_err(net::Error::Address)?;
        self.bind_all(std::vec![address])
    }

    /// Listens on two addresses, as vn.py does (there 2014 for calls and 4102 for events). Here either serves both.
    /// Both are bound, or none.
    ///
    /// # Errors
    /// As for [`RpcServerBuilder::bind`].
    pub fn bind_both(
        self,
        rep_address: impl ToAddress,
        pub_address: impl ToAddress,
    ) -> Result<RpcServer, BindError> {
        let addresses = [rep_address.to_address(), pub_address.to_address()];
        let addresses: Result<Vec<Address>, AddressError> = addresses.into_iter().collect();
        self.bind_all(addresses.map_err(net::Error::Address)?)
    }

    fn bind_all(self, addresses: Vec<Address>) -> Result<RpcServer, BindError> {
        if let Some(name) = self.duplicate {
            return Err(BindError::DuplicateFunction { name });
        }
        let config = Config {
            addresses,
            plaintext: self.plaintext,
            limits: self.limits,
            keepalive: self.keepalive,
            functions: Arc::new(self.functions),
            lanes: self.lanes,
            lane_stack_bytes: self.lane_stack_bytes,
            on_client: self.on_client,
        };
        let inner = Inner {
            config,
            running: RwLock::new(None),
            changing: Mutex::new(()),
            local: RwLock::new(Vec::new()),
        };
        let server = RpcServer { inner: Arc::new(inner) };
        server.start()?;
        Ok(server)
    }

    fn lane(&mut self, name: &str) -> Place {
        let found = self.lanes.iter().position(|lane| lane == name);
        Place::Lane(found.unwrap_or_else(|| {
            self.lanes.push(String::from(name));
            self.lanes.len() - 1
        }))
    }

    fn insert(mut self, name: &str, function: Function) -> Self {
        match self.functions.entry(Box::from(name)) {
            Entry::Occupied(entry) => self.duplicate = Some(entry.key().clone()),
            Entry::Vacant(entry) => {
                entry.insert(function);
            }
        }
        self
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Two functions were registered under one name.
    #[error("two functions are registered as {name:?}")]
    DuplicateFunction {
        /// The name.
        name: Box<str>,
    },
    /// The address, the port, the limits or the threads.
    #[error(transparent)]
    Net(#[from] net::Error),
}

/// Why a value was not published; no sequence number was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishFailed {
    /// It cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(String),
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

/// What a server counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RpcServerStats {
    /// Connections, calls and publications.
    pub machine: ServerStats,
    /// Each lane and the calls that wait in it.
    pub lanes: Vec<(String, usize)>,
    /// Inline functions that took more than a millisecond.
    pub slow_inline: u64,
}

/// Runs what is asked for, where it is to run.
pub(crate) struct ServerHandler {
    functions: Arc<Functions>,
    lanes: Vec<Lane<LaneJob>>,
    on_client: Option<Arc<OnClient>>,
    slow_inline: AtomicU64,
}

/// A call on its way through a lane.
struct LaneJob {
    port: Arc<Port<ServerHandler>>,
    ticket: Ticket,
    function: Box<str>,
}

impl LaneJob {
    fn run(self, functions: &Functions) {
        run_call(&self.port, functions, self.ticket, &self.function);
    }

    /// Answers that the server is stopping.
    fn refuse(self) {
        let status = Status::NotExecuted(Refusal::ShuttingDown);
        self.port.command(|server, _| server.reply(self.ticket, status, &[]));
    }
}

/// Runs one call, unless it has expired or been withdrawn while it waited.
fn run_call(port: &Arc<Port<ServerHandler>>, functions: &Functions, ticket: Ticket, name: &str) {
    let Ok(arguments) = port.command(|server, now| server.start(now, ticket)) else { return };
    let Some(function) = functions.get(name) else { return };
    function.run(name, &arguments, RawResponder::new(Arc::clone(port), ticket));
}

/// An inline function that takes longer is warned of.
const SLOW_INLINE: Duration = Duration::from_millis(1);

impl Handler for ServerHandler {
    type Machine = Server;
    type Job = ServerEvent;

    fn collect(&self, machine: &mut Server, jobs: &mut Vec<ServerEvent>) {
        while let Some(event) = machine.poll_event() {
            jobs.push(event);
        }
    }

    fn run(&self, port: &Arc<Port<Self>>, job: ServerEvent) {
        let work = match job {
            ServerEvent::Work(work) => work,
            event => {
                log::debug!("client: {event:?}");
                if let Some(on_client) = &self.on_client {
                    on_client(&event);
                }
                return;
            }
        };
        let place = self.functions.get(&work.function).map(|function| &function.place);
        match place {
            None => {
                let name = work.function.as_bytes();
                port.command(|server, _| server.reply(work.ticket, Status::UnknownFunction, name));
            }
            Some(Place::Inline) => {
                let begun = port.now();
                run_call(port, &self.functions, work.ticket, &work.function);
                let took = port.now().saturating_since(begun);
                if took > SLOW_INLINE {
                    self.slow_inline.fetch_add(1, Ordering::Relaxed);
                    log::warn!("inline-function-slow: {} took {took:?}", work.function);
                }
            }
            Some(Place::Lane(index)) => {
                let job = LaneJob { port: Arc::clone(port), ticket: work.ticket, function: work.function };
                if let Err(Refused::Closed(job) | Refused::Full(job)) = self.lanes[*index].push(job) {
                    // The lane is closed: the server is stopping.
                    job.refuse();
                }
            }
        }
    }

    fn is_over(&self, machine: &Server) -> bool {
        machine.is_stopping() && machine.is_empty()
    }
}
