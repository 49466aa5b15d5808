//! Request/reply and publish/subscribe over raw TCP: no broker, no async runtime, no C.
//!
//! ```
//! use pulsewire::{RpcClient, RpcServer};
//!
//! let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind("127.0.0.1:0")?;
//! let client = RpcClient::connect(server.local_addr())?;
//! let sum: i64 = client.call("add", &(1i64, 2i64))?;
//! assert_eq!(sum, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The house
//!
//! | floor | what it is | needs | imports |
//! |---|---|---|---|
//! | `trader` | vn.py's records, event engine, order management, service and gateway | feature `trader` | rpc |
//! | [`rpc`] | functions by name, events by topic: [`RpcServer`], [`RpcClient`] | std | net, pattern |
//! | [`net`] | the driver: sockets, clock, poll loop; four bare sockets | std | pattern, session, time |
//! | [`pattern`] | requester, replier, publisher, subscriber | alloc | session, wire, time |
//! | [`session`] | one connection: handshake, heartbeat, send queue | alloc | wire, time |
//! | [`wire`] | frames as bytes | alloc | nothing of ours |
//! | [`time`] | a moment in microseconds, handed in | core | nothing of ours |
//!
//! Imports point down only. Below `net` there is no clock, socket, thread or unseeded random number: bytes and `now` come
//! in, bytes and wake-up times go out. So the same code runs under mio, under a fuzzer, and under a simulator with a
//! virtual clock. `net` never looks inside a frame.
//!
//! # What holds
//!
//! 1. **A call ends once, in one of five ways**, and the type says which ([`CallError`]). A call that may have
//!    run is sent again only to a server that still knows it and joins it, or if its caller marked it idempotent. A call that failed in the queue never runs later.
//! 2. **No loss is silent.** Publications are numbered per server life (epoch). Inside one account, at every quiet
//!    point, received + reported lost == published and matching.
//! 3. **A dead peer is noticed, a live one is never declared dead**: silence counts only while our own reads find nothing,
//!    and any byte is life. Functions never run where they could delay a heartbeat, inline ones excepted.
//! 4. **Nothing grows without a limit, nothing trusts a length**: see [`Limits`].
//! 5. **One timeout, one bad frame, one slow peer, one panic in a function hurts only itself.**
//!
//! # Streams
//!
//! A publication stands once in the log of its stream, and each subscriber has a place in it: memory is the log's, whatever
//! the number of subscribers, and replay after a reconnect, late joining and exact loss counting all come out of it. A
//! server has a main stream and those that are added; [`StreamOptions`] says what becomes of slow subscribers
//! ([`SlowPolicy`]), what the log keeps ([`Retain`]), and whether the newest message of each topic is kept for snapshots.
//!
//! # A connection's life
//!
//! A client dials at once, and after a failure or a loss when its [`Reconnect`] policy says so; names are resolved anew
//! each time, on a thread of their own, and all their addresses are tried. The handshake has an absolute deadline. The
//! server then speaks at least every heartbeat interval, and says in its Welcome what that is. Whoever closes on purpose
//! says Bye, shuts its side down, and reads on until the other end does or `linger` is over. Everything that happens to a
//! connection comes out as one ordered stream of [`ConnectionEvent`]s, and in a [`Subscription`]'s own stream.
//!
//! # Threads
//!
//! An [`RpcServer`] has its driver and one thread per lane of functions; an [`RpcClient`] has its driver, and a
//! dispatcher once there are callbacks. If some get events, it turns the driver as well while it has nothing to run and
//! nobody waits for a call, and so reads itself what they get. A resolver's thread comes with the first name to resolve.
//! They are named `pulsewire-...`. The bare sockets of [`net`] have none. A caller writes its request from its own thread, and while it
//! waits it turns the client's driver itself, reading for everybody, so that an answer wakes one thread and not two; the
//! driver's own thread is the caretaker that does so while nobody waits. Before a thread sleeps it polls for a short
//! while, if its recent waits were short ([`Limits::polling`](Limits#structfield.polling)). A caller that always finds
//! answers, and so never sleeps, yields its core every 100 us, so that other threads of its program on the same core do not
//! wait for the end of its time slice.
//!
//! While one thread is in a system call others append, so batches come from load: a lone publication and a few in a row
//! (the dearer each, the fewer) are written at once, a flood is gathered for 50 us, or as long as the last write to all took (a millisecond at most), or a chunk of 64 KiB,
//! and its last ones for at most a millisecond or two.
//! Calls begun without waiting for them, within 20 us of the last write of such calls or of several answers that came together, are
//! written together: when there are 64, when one of them is waited for or dropped, with one begun later than that (every
//! eighth looks at the clock), or after half a millisecond.
//!
//! A publication that nobody wants takes no lock, while such publications are many and in a server's first life: its stream has
//! a gate that numbers it ([`pattern::Gate`]), and shuts before a subscriber comes.
//!
//! No machine's lock is held across a system call, and no code of the user's runs under one: functions, callbacks,
//! `Serialize`. Who turns a driver holds that driver meanwhile, system calls and log lines included; it keeps nobody from
//! commanding a machine.
//!
//! # Limits
//!
//! Every number that bounds something is a field of [`Limits`], with its unit, default and reason; the README has them in
//! one table. [`Limits::memory_ceiling`] adds up what a server with them can hold at most, and [`MemoryCeiling`] has the
//! parts ([`ClientCeiling`] those of a client): a server that is full refuses, pauses or lets a connection go, and never grows beyond it. Topics, prefixes and function names have at most 255 bytes, by the format. What a user's own types decode
//! into is not bounded here: a megabyte of zeros is fifty as a `Vec<String>`.
//!
//! # Features
//!
//! `std` (default): the driver and everything above it. Without it the lower four floors remain, for `no_std` with
//! `alloc`.
//!
//! `trader` (off by default): the trading bridge, the module of that name; it brings serde_json for settings.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "std")]
pub mod net;
pub mod pattern;
#[cfg(feature = "std")]
pub mod rpc;
pub mod session;
pub mod time;
#[cfg(feature = "trader")]
pub mod trader;
pub mod wire;

#[cfg(feature = "std")]
pub use net::{Address, AddressError, Keepalive, ToAddress};
pub use pattern::{
    Cause, ClientCeiling, CloseReason, ConnectionEvent, DialError, Done, Failure, FailureKind, Limits,
    LimitsError, Lost, MemoryCeiling, NotExecuted, Outcome, Place, PublishError, Published, Reconnect,
    Retain, SlowPolicy, Status, StreamError, StreamOptions, SubscribeError, SubscribeOptions, Unknown,
};
#[cfg(feature = "std")]
pub use rpc::{
    BindError, CallError, CallOptions, ClientEvent, Event, FunctionResult, Method, PendingCall,
    PublishFailed, Responder, RpcClient, RpcServer, Stream, Subscription, SubscriptionControl, Topic,
};

/// The README's programs compile.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
