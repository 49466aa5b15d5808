//! message-io, framed TCP: it has messages and no topics, so the publisher sends each one to each connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use message_io::network::{Endpoint, NetEvent, SendStatus, Transport};
use message_io::node::{self, NodeHandler, NodeListener};

use super::{Peer, Sink, Sinks, LOOPBACK, TOPIC_BYTES};
use crate::Result;

pub struct Publisher {
    handler: NodeHandler<()>,
    port: u16,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    connected: Vec<Endpoint>,
    message: Vec<u8>,
}

impl super::Publisher for Publisher {
    fn bind(_peer: Peer) -> Result<Self> {
        let (handler, listener) = node::split::<()>();
        let (_, address) = handler.network().listen(Transport::FramedTcp, (LOOPBACK, 0))?;
        let endpoints: Arc<Mutex<Vec<Endpoint>>> = Arc::default();
        let accepted = Arc::clone(&endpoints);
        thread::spawn(move || {
            listener.for_each(move |event| {
                if let NetEvent::Accepted(endpoint, _) = event.network() {
                    accepted.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint);
                }
            });
        });
        let port = address.port();
        Ok(Publisher { handler, port, endpoints, connected: Vec::new(), message: Vec::new() })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        while self.connected.len() < subscriptions {
            thread::sleep(Duration::from_millis(1));
            self.connected.clone_from(&self.endpoints.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        self.message.clear();
        self.message.extend_from_slice(topic.as_bytes());
        self.message.extend_from_slice(data);
        for endpoint in &self.connected {
            match self.handler.network().send(*endpoint, &self.message) {
                SendStatus::Sent => {}
                status => return Err(format!("message-io could not send: {status:?}").into()),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// All connections in one node, its callback on its own thread.
pub struct Subscriber {
    handler: NodeHandler<()>,
    listener: NodeListener<()>,
    subscriptions: HashMap<Endpoint, usize>,
}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], _crowd: &[Vec<String>]) -> Result<Self> {
        let (handler, listener) = node::split::<()>();
        let mut subscriptions = HashMap::new();
        for subscription in 0..sets.len() {
            let (endpoint, _) = handler.network().connect(Transport::FramedTcp, (LOOPBACK, port))?;
            subscriptions.insert(endpoint, subscription);
        }
        Ok(Subscriber { handler, listener, subscriptions })
    }

    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>> {
        let Subscriber { handler, listener, subscriptions } = self;
        let sinks = Arc::new(Mutex::new(Sinks::new(sinks)));
        let of_callback = Arc::clone(&sinks);
        let mut has_failed = false;
        listener.for_each(move |event| {
            let mut sinks = of_callback.lock().unwrap_or_else(PoisonError::into_inner);
            match event.network() {
                NetEvent::Message(endpoint, message) => {
                    let (topic, data) = message.split_at(TOPIC_BYTES);
                    sinks.message(subscriptions[&endpoint], topic, data);
                }
                NetEvent::Connected(_, false) | NetEvent::Disconnected(_) => {
                    has_failed = true;
                }
                _ => {}
            }
            if has_failed || sinks.all_ended() {
                handler.stop();
            }
        });
        let sinks = Arc::into_inner(sinks).ok_or("the callback is still there")?;
        let sinks = sinks.into_inner().unwrap_or_else(PoisonError::into_inner);
        match sinks.all_ended() {
            true => Ok(sinks.sinks),
            false => Err("message-io lost a connection".into()),
        }
    }
}
