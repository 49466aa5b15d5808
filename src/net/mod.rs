//! The driver: the only floor with a socket, a clock or a thread.
//!
//! ```text
//!   caller's thread                         driver (a thread of `rpc`, or whoever polls a bare socket)
//!   command ----+                           poll, read first, timers after, write last
//!               v                                      |
//!        +---- Port: one lock around one machine ------+
//!        |     write token per connection: take a chunk, unlock, write, lock, hand it back
//!        +---> whoever finds something to write becomes the flusher; the others append and go on
//! ```
//!
//! A client's driver is turned by whoever waits for what it brings, and by its own thread while nobody does (`lead`).
//!
//! The lock is never held across a system call on a socket, and no user code runs under it. Frames are never looked
//! into here: between the socket's bytes and the machine's frames lie two calls (`handle_bytes` and the chunk that
//! `poll_transmit` lends), and that is where an encryption layer will go.

mod address;
mod bare;
mod clock;
mod conns;
mod dial;
mod driver;
mod entropy;
mod flood;
mod lead;
mod numbered;
mod port;
mod publisher;
mod replier;
mod requester;
mod resolver;
mod socket;
mod subscriber;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::string::String;

pub use address::{Address, AddressError, ToAddress};
pub(crate) use clock::Clock;
pub(crate) use conns::Conns;
pub(crate) use driver::{Command, Driver, Shared};
pub(crate) use entropy::{random_bytes, random_u64};
pub(crate) use numbered::Numbered;
pub(crate) use port::{Handler, Pace, Port};
pub use publisher::Publisher;
pub use replier::{Call, Replier};
pub use requester::Requester;
pub use socket::Keepalive;
pub use subscriber::{ConnectError, Subscriber};
pub(crate) use thread::DriverThread;

use crate::pattern::{Limits, LimitsError};
pub(crate) use crate::time::Instant;

/// Why a listener or a client could not be set up; the world's fault, or the caller's choice of limits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be understood or used for this.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The limits do not fit together.
    #[error("invalid limits: {0}")]
    Limits(#[from] LimitsError),
    /// Listening failed.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// Anybody who reaches this address could connect, read and call: say that it is meant.
    #[error("{address} is not a loopback address and there is no encryption: allow_plaintext() says that it is meant")]
    Plaintext {
        /// The address as it was given.
        address: String,
    },
    /// A client without an address.
    #[error("no address to connect to")]
    NoAddress,
    /// The poll loop or its thread could not be set up.
    #[error("cannot set up the event loop: {0}")]
    Setup(#[source] io::Error),
    /// It is running already.
    #[error("already running")]
    AlreadyRunning,
}

/// A driver with nothing to drive, and what commands to it go through.
pub(crate) fn driver(
    limits: &Limits,
    keepalive: Keepalive,
) -> Result<(Driver, std::sync::Arc<Shared>), Error> {
    let driver = Driver::new(limits, keepalive).map_err(Error::Setup)?;
    let shared = std::sync::Arc::clone(driver.shared());
    Ok((driver, shared))
}

/// Finds the addresses to listen on: one, or the first that the name has.
fn listen_at(address: &Address) -> Result<mio::net::TcpListener, Error> {
    use std::net::ToSocketAddrs;
    let bind = |source| Error::Bind { address: std::string::ToString::to_string(address), source };
    match address.to_listen() {
        address::Target::AllInterfaces { port } => socket::listen_on_all(port, BACKLOG).map_err(bind),
        address::Target::At(addr) => socket::listen(addr, BACKLOG).map_err(bind),
        address::Target::Name { host, port } => {
            let addrs = (host, port).to_socket_addrs().map_err(bind)?;
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for addr in addrs {
                match socket::listen(addr, BACKLOG) {
                    Ok(listener) => return Ok(listener),
                    Err(error) => last = error,
                }
            }
            Err(bind(last))
        }
    }
}

/// Opens all listeners or none. Plaintext beyond loopback has to be allowed.
pub(crate) fn listen_all(
    addresses: &[Address],
    plaintext: bool,
) -> Result<std::vec::Vec<(mio::net::TcpListener, SocketAddr)>, Error> {
    let mut listeners = std::vec::Vec::new();
    for address in addresses {
        if !plaintext && !address.is_loopback() {
            return Err(Error::Plaintext { address: std::string::ToString::to_string(address) });
        }
        let listener = listen_at(address)?;
        let local = listener.local_addr().map_err(Error::Setup)?;
        listeners.push((listener, local));
    }
    Ok(listeners)
}

/// Connections that the kernel holds for us until we accept them; it has a limit of its own (4 096 on Linux).
const BACKLOG: i32 = 4_096;
