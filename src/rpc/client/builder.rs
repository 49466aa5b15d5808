//! The builder: what a client is to be, and the beginning of each of its lives.

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::handlers::CallHandler;
use super::watch::{Callbacks, ClientEvent, Connection, Watch, Whole};
use super::{Inner, RpcClient, Running};
use crate::net::{self, Address, DriverThread, Keepalive, Port, ToAddress};
use crate::pattern::{ClientCeiling, Limits, Random, Reconnect, Requester, SessionId};
use crate::rpc::call::Slots;
use crate::rpc::codec;

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
    pub(super) fn new() -> Self {
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

    /// The most bytes of memory that this client can hold with so many subscriptions at once, part by part, if it leaves at
    /// most so many results at once that have come and that it has not taken: as many as it has threads, if each waits for
    /// what it calls.
    pub fn memory_ceiling(&self, subscriptions: usize, results: usize) -> ClientCeiling {
        ClientCeiling::of(&self.limits, subscriptions, results)
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
        Ok(RpcClient { inner: Arc::new(Inner::new(config)?) })
    }
}

/// What a client was asked to be, through all its lives.
pub(super) struct Config {
    call_addresses: Vec<Address>,
    pub(super) event_addresses: Vec<Address>,
    pub(super) limits: Limits,
    pub(super) reconnect: Reconnect,
    keepalive: Keepalive,
    pub(super) callbacks: Arc<Callbacks>,
}

impl Config {
    /// Begins one life.
    pub(super) fn start(&self) -> Result<Running, net::Error> {
        let (mut driver, shared) = net::driver(&self.limits, self.keepalive)?;
        if !self.callbacks.is_empty() {
            // What happens to connections is rare: for that alone the driver is not attended.
            self.callbacks.start()?;
        }
        let random = Random::new(net::random_u64());
        let session = SessionId(net::random_bytes());
        let addresses = self.call_addresses.len();
        let mut machine = Requester::new(self.limits.clone(), self.reconnect, addresses, session, random);
        machine.start();
        let whole = Arc::new(Whole::new(Arc::clone(&self.callbacks)));
        let watch = Watch::join(Connection::Calls, Arc::clone(&whole));
        let most_kept = codec::most_kept(&self.limits);
        let handler = CallHandler { slots: Slots::default(), watch, most_kept };
        let calls = Port::new(handler, machine, Arc::clone(&shared));
        driver.add(Box::new(Arc::clone(&calls)), self.call_addresses.clone());
        let driver = DriverThread::start("pulsewire-client", driver, true).map_err(net::Error::Setup)?;
        Ok(Running {
            calls,
            subscriptions: Mutex::new(Vec::new()),
            whole,
            shared,
            driver,
            next_subscription: AtomicU64::new(1),
            is_over: AtomicBool::new(false),
        })
    }
}
