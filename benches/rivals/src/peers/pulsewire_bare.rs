//! pulsewire's bare sockets: no thread but the caller's.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use pulsewire::net::{Publisher as Socket, Replier, Requester, Subscriber as Subscription};
use pulsewire::pattern::{Event, EventKind};
use pulsewire::{Limits, Lost, Outcome, Reconnect, SlowPolicy, Status, StreamOptions};

use super::{Caller, Peer, Sink, Sinks, LOOPBACK};
use crate::Result;

const WAIT: Duration = Duration::from_secs(10);
/// Publications between two looks at what else there is to do: sockets that have room again, newcomers.
const TURN: u32 = 64;

pub fn serve_calls() -> Result<u16> {
    let mut replier = Replier::bind(SocketAddr::from((LOOPBACK, 0)), Limits::default(), false)?;
    let port = replier.local_addr().port();
    thread::spawn(move || {
        while let Ok(Some(call)) = replier.recv(None) {
            replier.reply(call.ticket, Status::Ok, &call.arguments);
        }
    });
    Ok(port)
}

pub fn callers(port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    (0..count)
        .map(|_| {
            let addresses = [SocketAddr::from((LOOPBACK, port))];
            let mut requester = Requester::connect(&addresses, Limits::default(), Reconnect::default())?;
            let begun = Instant::now();
            while !requester.is_connected() {
                requester.poll(Some(WAIT))?;
                if begun.elapsed() > WAIT {
                    return Err("pulsewire did not connect".into());
                }
            }
            Ok(Box::new(requester) as Box<dyn Caller>)
        })
        .collect()
}

impl Caller for Requester {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        match self.request("echo", request, WAIT)? {
            Outcome::Value(answer) => Ok(answer.len()),
            outcome => Err(format!("{outcome:?}").into()),
        }
    }
}

pub struct Publisher {
    socket: Socket,
    since_turn: u32,
}

impl super::Publisher for Publisher {
    fn bind(_peer: Peer) -> Result<Self> {
        let mut socket = Socket::bind(SocketAddr::from((LOOPBACK, 0)), Limits::default(), false)?;
        socket.set_main_stream(StreamOptions::default().policy(SlowPolicy::Block))?;
        Ok(Publisher { socket, since_turn: 0 })
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().port()
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        match self.socket.wait_for_subscribers(subscriptions as u64, WAIT)? {
            true => Ok(()),
            false => Err("not subscribed in time".into()),
        }
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        self.socket.publish(topic, data)?;
        self.since_turn += 1;
        if self.since_turn == TURN {
            self.since_turn = 0;
            self.socket.poll(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.socket.poll(Some(Duration::ZERO))?)
    }

    fn rest(&mut self, length: Duration) -> Result<()> {
        // Its own waits are whole milliseconds.
        thread::sleep(length);
        Ok(self.socket.poll(Some(Duration::ZERO))?)
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.socket.stats().sent_bytes)
    }
}

/// All subscriptions on one thread, under one other event loop if there are several.
pub struct Subscriber {
    subscriptions: Vec<Subscription>,
    crowd: Vec<Subscription>,
}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], crowd: &[Vec<String>]) -> Result<Self> {
        let subscribe_all = |sets: &[Vec<String>]| sets.iter().map(|set| subscribe(port, set)).collect();
        let (subscriptions, crowd): (Result<_>, Result<_>) = (subscribe_all(sets), subscribe_all(crowd));
        Ok(Subscriber { subscriptions: subscriptions?, crowd: crowd? })
    }

    fn receive<S: Sink>(mut self, sinks: Vec<S>) -> Result<Vec<S>> {
        // Only now does the publisher turn its own loop.
        self.crowd.iter_mut().try_for_each(join)?;
        let mut sinks = Sinks::new(sinks);
        if let [subscription] = &mut self.subscriptions[..] {
            while !sinks.all_ended() {
                if let Some(event) = subscription.recv(None)? {
                    take(event, 0, &mut sinks);
                }
            }
            return Ok(sinks.sinks);
        }
        let mut poll = Poll::new()?;
        for (token, subscription) in self.subscriptions.iter().enumerate() {
            let handle = subscription.as_raw_fd();
            poll.registry().register(&mut SourceFd(&handle), Token(token), Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(256);
        while !sinks.all_ended() {
            poll.poll(&mut events, None)?;
            for event in events.iter() {
                // To the end: an edge-triggered handle is announced once.
                let subscription = &mut self.subscriptions[event.token().0];
                while let Some(message) = subscription.recv(Some(Duration::ZERO))? {
                    take(message, event.token().0, &mut sinks);
                }
            }
        }
        Ok(sinks.sinks)
    }
}

fn subscribe(port: u16, set: &[String]) -> Result<Subscription> {
    let addresses = [SocketAddr::from((LOOPBACK, port))];
    let (first, rest) = set.split_first().ok_or("an empty set")?;
    let mut subscription = Subscription::connect(&addresses, first, Limits::default(), Reconnect::default())?;
    for prefix in rest {
        subscription.subscribe(prefix)?;
    }
    Ok(subscription)
}

/// Nobody else turns its loop: waits until its set is in force.
fn join(subscription: &mut Subscription) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < WAIT {
        let event = subscription.recv(Some(WAIT))?;
        if matches!(event, Some(Event::Other(EventKind::Subscribed { .. }))) {
            return Ok(());
        }
    }
    Err("not subscribed in time".into())
}

fn take<S: Sink>(event: Event<'_>, subscription: usize, sinks: &mut Sinks<S>) {
    match event {
        Event::Message { topic, data, .. } => sinks.message(subscription, topic.as_bytes(), data),
        Event::Other(EventKind::Lost { lost: Lost::Exact(count) | Lost::AtMost(count), .. }) => {
            sinks.lost(subscription, count);
        }
        _ => {}
    }
}
