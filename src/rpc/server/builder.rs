//! The builder: what a server is to be, and the beginning of each of its lives.

use core::net::SocketAddr;
use std::boxed::Box;
use std::collections::hash_map::Entry;
use std::string::String;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::handler::{CallBuffers, LaneJob, OnClient, ServerHandler};
use super::{Inner, RpcServer, Running};
use crate::net::{self, Address, AddressError, DriverThread, Keepalive, Port, ToAddress};
use crate::pattern::{
    Limits, MemoryCeiling, Roles, Server, ServerEvent, StreamError, StreamId, StreamOptions,
};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::function::{Function, FunctionResult, Functions, Place, Responder};
use crate::rpc::lane::Lane;
use crate::rpc::method::MethodName;

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
    main_stream: StreamOptions,
    streams: Vec<(Box<str>, StreamOptions)>,
}

impl RpcServerBuilder {
    pub(super) fn new() -> Self {
        RpcServerBuilder {
            functions: Functions::new(),
            lanes: std::vec![String::from(MAIN_LANE)],
            duplicate: None,
            plaintext: false,
            limits: Limits::default(),
            keepalive: Keepalive::default(),
            lane_stack_bytes: LANE_STACK_BYTES,
            on_client: None,
            main_stream: StreamOptions::default(),
            streams: Vec::new(),
        }
    }

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

    /// Calls `f` when a client has joined or left, in order, on a thread of its own. While it hangs, 1 024 such events wait;
    /// what comes beyond that is dropped with a warning, so whoever counts clients compares with
    /// [`RpcServer::stats`].
    pub fn on_client(mut self, f: impl Fn(&ServerEvent) + Send + Sync + 'static) -> Self {
        self.on_client = Some(Arc::new(f));
        self
    }

    /// Adds a stream of publications beside the main one: a log, a sequence and an index of its own, so that a flood on
    /// one never evicts what matters on another. [`RpcServer::stream`] publishes on it, and a subscriber asks for it with
    /// [`SubscribeOptions::stream`](crate::SubscribeOptions::stream).
    pub fn stream(mut self, name: &str, options: StreamOptions) -> Self {
        self.streams.push((Box::from(name), options));
        self
    }

    /// Makes the main stream another one than the default.
    pub fn main_stream(mut self, options: StreamOptions) -> Self {
        self.main_stream = options;
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

    /// The most bytes of memory that this server can hold, with its streams and lanes, part by part. Streams that are added
    /// while it runs come on top.
    pub fn memory_ceiling(&self) -> MemoryCeiling {
        let added = self.streams.iter().map(|(_, options)| *options);
        let streams: Vec<StreamOptions> = core::iter::once(self.main_stream).chain(added).collect();
        MemoryCeiling::of(&self.limits, &streams, self.lanes.len())
    }

    /// Listens on one address, for calls and subscriptions alike, and starts.
    ///
    /// # Errors
    /// A bad address or limits, a port that is taken, two functions or streams of one name, no threads or no poll
    /// handle.
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
            main_stream: self.main_stream,
            streams: Mutex::new(self.streams),
        };
        let inner = Inner {
            config,
            running: RwLock::new(None),
            first: OnceLock::new(),
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

/// What a server was asked to be, through all its lives.
pub(super) struct Config {
    pub(super) addresses: Vec<Address>,
    plaintext: bool,
    pub(super) limits: Limits,
    keepalive: Keepalive,
    functions: Arc<Functions>,
    lanes: Vec<String>,
    lane_stack_bytes: usize,
    on_client: Option<Arc<OnClient>>,
    main_stream: StreamOptions,
    /// Those of the builder and those that were added since, in the order of their ids.
    pub(super) streams: Mutex<Vec<(Box<str>, StreamOptions)>>,
}

impl Config {
    /// Begins one life, on these addresses.
    pub(super) fn start(&self, addresses: &[Address]) -> Result<(Running, Vec<SocketAddr>), BindError> {
        self.limits.validate().map_err(net::Error::Limits)?;
        let listeners = net::listen_all(addresses, self.plaintext)?;
        let epoch = net::random_u64();
        let mut machine = Server::new(Roles::Both, self.limits.clone(), epoch, net::random_u64());
        let refused = |name: &str, error| BindError::Stream { name: Box::from(name), error };
        machine.set_main_stream(self.main_stream).map_err(|error| refused("", error))?;
        for (name, options) in self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            machine.add_stream(name, *options).map_err(|error| refused(name, error))?;
        }
        let gate = machine.gate(StreamId::MAIN).expect("a server has a main stream");
        let (mut driver, shared) = net::driver(&self.limits, self.keepalive)?;
        let mut lanes = Vec::new();
        for name in &self.lanes {
            let functions = Arc::clone(&self.functions);
            let mut buffers = CallBuffers::default();
            let run = move |job: LaneJob| job.run(&functions, &mut buffers);
            let lane = Lane::start(name, self.lane_stack_bytes, self.limits.most_in_lane(), run);
            lanes.push(lane.map_err(net::Error::Setup)?);
        }
        let on_client = match &self.on_client {
            Some(on_client) => Some((Arc::clone(on_client), Dispatcher::start().map_err(net::Error::Setup)?)),
            None => None,
        };
        let handler = ServerHandler {
            functions: Arc::clone(&self.functions),
            lanes,
            on_client,
            slow_inline: AtomicU64::new(0),
            inline_buffers: Mutex::default(),
        };
        let port = Port::new(handler, machine, shared);
        let index = driver.add(Box::new(Arc::clone(&port)), Vec::new());
        let local = listeners.iter().map(|(_, local)| *local).collect();
        for (listener, _) in listeners {
            driver.listen(index, listener).map_err(net::Error::Setup)?;
        }
        let driver = DriverThread::start("pulsewire-server", driver, false).map_err(net::Error::Setup)?;
        Ok((Running { port, gate, driver, epoch }, local))
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
    /// A stream cannot be as it was asked for.
    #[error("stream {name:?}: {error}")]
    Stream {
        /// Its name; empty for the main one.
        name: Box<str>,
        /// Why.
        error: StreamError,
    },
    /// The address, the port, the limits or the threads.
    #[error(transparent)]
    Net(#[from] net::Error),
}

/// The lane of functions that name no other.
const MAIN_LANE: &str = "main";
/// Stack of a lane's thread: functions are the user's, and may need some.
const LANE_STACK_BYTES: usize = 1024 * 1024;
