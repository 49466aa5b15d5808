//! pulsewire as its users see it: `RpcServer` and `RpcClient`, with their own threads.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::{channel, Sender};
use std::thread;
use std::time::Duration;

use pulsewire::{CallOptions, Event, Limits, Lost, PendingCall, RpcClient, RpcServer, Subscription};
use serde_bytes::{ByteBuf, Bytes};

use super::{Caller, Peer, Pipeline, Sink, LOOPBACK};
use crate::Result;

/// Whether the library can poll for a bounded time before it sleeps. It cannot yet; when it can, this becomes true and
/// [`limits`] turns it off for [`Peer::PulsewireNoPolling`].
pub const HAS_POLLING: bool = false;

/// Whether a publisher can wait for its subscribers. It cannot yet; when it can, this becomes true, [`limits`] sets the
/// policy, and [`Restraint`] goes.
const HAS_BLOCK: bool = false;

/// The limits that a peer is measured with: the defaults, but for the one thing that it stands for.
pub fn limits(_peer: Peer) -> Limits {
    Limits::default()
}

/// As it will be on crates.io.
pub fn version() -> String {
    let manifest = include_str!("../../../../Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    line.map_or_else(String::new, |version| version.trim_matches('"').into())
}

const WAIT: Duration = Duration::from_secs(10);

pub fn serve_calls(peer: Peer) -> Result<u16> {
    let echo = |bytes: ByteBuf| Ok(bytes);
    let builder = RpcServer::builder().limits(limits(peer));
    let builder = match peer {
        Peer::PulsewireWorker => builder.register("echo", echo),
        _ => builder.register_inline("echo", echo),
    };
    let server = builder.bind(SocketAddr::from((LOOPBACK, 0)))?;
    let port = server.local_addr().port();
    // It lives as long as the process.
    std::mem::forget(server);
    Ok(port)
}

fn connect(peer: Peer, port: u16) -> Result<RpcClient> {
    let client = RpcClient::builder().limits(limits(peer)).connect(SocketAddr::from((LOOPBACK, port)))?;
    match client.wait_connected(WAIT) {
        true => Ok(client),
        false => Err("pulsewire did not connect".into()),
    }
}

/// Handles of one client.
pub fn callers(peer: Peer, port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    let client = connect(peer, port)?;
    Ok((0..count).map(|_| Box::new(client.clone()) as Box<dyn Caller>).collect())
}

pub fn pipeline(peer: Peer, port: u16) -> Result<Box<dyn Pipeline>> {
    Ok(Box::new(connect(peer, port)?))
}

impl Caller for RpcClient {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        let answer: ByteBuf = RpcClient::call(self, "echo", Bytes::new(request))?;
        Ok(answer.len())
    }
}

impl Pipeline for RpcClient {
    fn run(
        &mut self,
        request: &[u8],
        outstanding: usize,
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut pending: VecDeque<PendingCall<ByteBuf>> = VecDeque::new();
        loop {
            while pending.len() < outstanding {
                pending.push_back(self.start_call("echo", Bytes::new(request), CallOptions::new())?);
            }
            let mut answers = 0;
            while let Some(oldest) = pending.pop_front() {
                oldest.wait()?;
                answers += 1;
                if !pending.front().is_some_and(PendingCall::is_ready) {
                    break;
                }
            }
            if done(answers).is_break() {
                return Ok(());
            }
        }
    }
}

/// Publishes bytes that a subscriber decodes as one byte string: a length in front, and the data.
pub struct Publisher {
    server: RpcServer,
    encoded: Vec<u8>,
    restraint: Option<Restraint>,
}

impl super::Publisher for Publisher {
    fn bind(peer: Peer) -> Result<Self> {
        let limits = limits(peer);
        let held_back = !HAS_BLOCK && peer != Peer::PulsewireFlood;
        let restraint = held_back.then(|| Restraint::new(&limits));
        let server = RpcServer::builder().limits(limits).bind(SocketAddr::from((LOOPBACK, 0)))?;
        Ok(Publisher { server, encoded: Vec::new(), restraint })
    }

    fn port(&self) -> u16 {
        self.server.local_addr().port()
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        while self.server.stats().machine.publisher.subscribers < subscriptions as u64 {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        self.encoded.clear();
        put_length(&mut self.encoded, data.len());
        self.encoded.extend_from_slice(data);
        let published = self.server.publish_bytes(topic, &self.encoded)?;
        if let Some(restraint) = &mut self.restraint {
            restraint.after(published.subscribers, data.len(), || {
                let stats = self.server.stats().machine.publisher;
                stats.sent + stats.lost
            });
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.server.stats().machine.sent_bytes)
    }
}

/// postcard's length: seven bits a byte, the lowest first.
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Holds a publisher back that would otherwise outrun its subscribers, as an application can do it: from time to time
/// it compares what it published with what the server says that it has sent.
pub struct Restraint {
    /// What the log of publications holds.
    log_bytes: usize,
    log_messages: usize,
    /// Deliveries that were asked for.
    asked: u64,
    /// Of them since the last look.
    since: usize,
}

impl Restraint {
    pub fn new(limits: &Limits) -> Self {
        let log_bytes = limits.log_bytes as usize;
        Restraint { log_bytes, log_messages: limits.log_messages as usize, asked: 0, since: 0 }
    }

    /// After a publication of so many bytes to so many subscribers; `settled` says how many deliveries are done.
    pub fn after(&mut self, subscribers: usize, bytes: usize, settled: impl Fn() -> u64) {
        self.after_with(subscribers, bytes, settled, || thread::sleep(Duration::from_micros(20)));
    }

    /// The same, passing the time in a way of one's own.
    pub fn after_with(
        &mut self,
        subscribers: usize,
        bytes: usize,
        settled: impl Fn() -> u64,
        mut rest: impl FnMut(),
    ) {
        /// The frame around the data.
        const FRAME: usize = 40;
        if subscribers == 0 {
            return;
        }
        self.asked += subscribers as u64;
        self.since += 1;
        let held = self.log_messages.min(self.log_bytes / (bytes + FRAME));
        if self.since < (held / 16).max(1) {
            return;
        }
        self.since = 0;
        let most = (held / 2 * subscribers) as u64;
        while self.asked.saturating_sub(settled()) > most {
            rest();
        }
    }
}

/// One client with a subscription for each set. A single one is read like an iterator; several are given to callbacks,
/// as one thread can wait for one subscription only.
pub struct Subscriber {
    client: RpcClient,
    sets: Vec<Vec<String>>,
    /// Never read: nothing comes.
    _crowd: Vec<Subscription<ByteBuf>>,
}

impl super::Subscriber for Subscriber {
    fn connect(peer: Peer, port: u16, sets: &[Vec<String>], crowd: &[Vec<String>]) -> Result<Self> {
        let client = connect(peer, port)?;
        let crowd: Result<Vec<_>> = crowd.iter().map(|set| subscribe(&client, set)).collect();
        Ok(Subscriber { client, sets: sets.to_vec(), _crowd: crowd? })
    }

    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>> {
        if let [set] = &self.sets[..] {
            return sinks.into_iter().map(|sink| receive_one(subscribe(&self.client, set)?, sink)).collect();
        }
        let (sender, ended) = channel();
        let mut left = 0;
        for (set, sink) in self.sets.iter().zip(sinks) {
            left += 1;
            give_to_callback(&self.client, &set[0], sink, sender.clone())?;
        }
        drop(sender);
        (0..left).map(|_| Ok(ended.recv()?)).collect()
    }
}

fn subscribe(client: &RpcClient, set: &[String]) -> Result<Subscription<ByteBuf>> {
    let (first, rest) = set.split_first().ok_or("an empty set")?;
    let subscription = client.subscribe_and_wait(first, WAIT)?.ok_or("not subscribed in time")?;
    for prefix in rest {
        subscription.add(prefix)?;
    }
    Ok(subscription)
}

fn give_to_callback<S: Sink>(client: &RpcClient, prefix: &str, sink: S, ended: Sender<S>) -> Result<()> {
    let mut sink = Some(sink);
    client.on_event(prefix, move |event| {
        if sink.as_mut().is_some_and(|sink| take(event, sink).is_break()) {
            // Whoever waited for it may have given up.
            let _ = sink.take().map(|sink| ended.send(sink));
        }
    })?;
    Ok(())
}

fn receive_one<S: Sink>(mut subscription: Subscription<ByteBuf>, mut sink: S) -> Result<S> {
    loop {
        let event = subscription.recv().ok_or("the subscription ended")?;
        if take(event, &mut sink).is_break() {
            return Ok(sink);
        }
    }
}

fn take<S: Sink>(event: Event<ByteBuf>, sink: &mut S) -> ControlFlow<()> {
    match event {
        Event::Message { topic, data, .. } => sink.message(topic.as_bytes(), &data),
        Event::Lost { lost: Lost::Exact(count) | Lost::AtMost(count), .. } => {
            sink.lost(count);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    }
}
