//! pulsewire as its users see it: `RpcServer` and `RpcClient`, with their own threads.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::{channel, Sender};
use std::thread;
use std::time::Duration;

use pulsewire::pattern::{Event, EventKind};
use pulsewire::{
    CallOptions, Limits, Lost, PendingCall, RpcClient, RpcServer, SlowPolicy, StreamOptions,
    SubscribeOptions, Subscription,
};
use serde_bytes::{ByteBuf, Bytes};

use super::{Caller, Peer, Pipeline, Sink, LOOPBACK};
use crate::Result;

/// The limits that a peer is measured with: the defaults, but for the one thing that it stands for.
pub fn limits(peer: Peer) -> Limits {
    let mut limits = Limits::default();
    if peer == Peer::PulsewireNoPolling {
        limits.polling = Duration::ZERO;
    }
    limits
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

/// Publishes bytes as they are, to subscribers that take them as they come. It waits for who is slow, but for
/// [`Peer::PulsewireFlood`].
pub struct Publisher {
    server: RpcServer,
}

impl super::Publisher for Publisher {
    fn bind(peer: Peer) -> Result<Self> {
        let policy = match peer {
            Peer::PulsewireFlood => SlowPolicy::SkipToOldest,
            _ => SlowPolicy::Block,
        };
        let options = StreamOptions::default().policy(policy);
        let builder = RpcServer::builder().limits(limits(peer)).main_stream(options);
        Ok(Publisher { server: builder.bind(SocketAddr::from((LOOPBACK, 0)))? })
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
        self.server.publish_bytes(topic, data)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.server.stats().machine.sent_bytes)
    }
}

/// One client with a subscription for each set. A single one is read like an iterator; several are given to callbacks,
/// as one thread can wait for one subscription only.
pub struct Subscriber {
    client: RpcClient,
    sets: Vec<Vec<String>>,
    /// Never read: nothing comes.
    _crowd: Vec<Subscription<()>>,
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

fn subscribe(client: &RpcClient, set: &[String]) -> Result<Subscription<()>> {
    let (first, rest) = set.split_first().ok_or("an empty set")?;
    let subscription = client.subscribe_and_wait(first, WAIT)?.ok_or("not subscribed in time")?;
    for prefix in rest {
        subscription.add(prefix)?;
    }
    Ok(subscription)
}

fn give_to_callback<S: Sink>(client: &RpcClient, prefix: &str, sink: S, ended: Sender<S>) -> Result<()> {
    let mut sink = Some(sink);
    client.on_event_bytes(prefix, SubscribeOptions::default(), move |event| {
        if sink.as_mut().is_some_and(|sink| take(event, sink).is_break()) {
            // Whoever waited for it may have given up.
            let _ = sink.take().map(|sink| ended.send(sink));
        }
    })?;
    Ok(())
}

fn receive_one<S: Sink>(mut subscription: Subscription<()>, mut sink: S) -> Result<S> {
    loop {
        let Some(event) = subscription.recv_bytes(WAIT) else {
            // Asked only where nothing came: it takes a lock.
            match subscription.is_over() {
                true => return Err("the subscription ended".into()),
                false => continue,
            }
        };
        if take(event, &mut sink).is_break() {
            return Ok(sink);
        }
    }
}

fn take<S: Sink>(event: Event<'_>, sink: &mut S) -> ControlFlow<()> {
    match event {
        Event::Message { topic, data, .. } => sink.message(topic.as_bytes(), data),
        Event::Other(EventKind::Lost { lost: Lost::Exact(count) | Lost::AtMost(count), .. }) => {
            sink.lost(count);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    }
}
