//! What the four bare sockets share: a poll loop of their own, turned by whoever calls.

use std::sync::Arc;
use std::vec::Vec;

use super::port::Bare;
use super::{Address, Driver, Error, Keepalive, Port};
use crate::pattern::{Limits, Machine};
use crate::time::{Duration, Instant};

/// A machine and the poll loop that only its owner turns: no hidden thread.
pub(crate) struct Socket<M: Machine + Send + 'static> {
    driver: Driver,
    pub(crate) port: Arc<Port<Bare<M>>>,
}

impl<M: Machine + Send + 'static> Socket<M> {
    pub(crate) fn new(machine: M, limits: &Limits, addresses: Vec<Address>) -> Result<Self, Error> {
        let mut driver = Driver::new(limits, Keepalive::default()).map_err(Error::Setup)?;
        let port = Port::new(Bare::new(), machine, Arc::clone(driver.shared()));
        driver.add(std::boxed::Box::new(Arc::clone(&port)), addresses);
        Ok(Socket { driver, port })
    }

    pub(crate) fn listen(&mut self, listener: mio::net::TcpListener) -> Result<(), Error> {
        self.driver.listen(0, listener).map_err(Error::Setup)
    }

    /// Accepts no more, gives the machine its last command, and turns the loop until nothing is unsent or `linger` is
    /// over.
    pub(crate) fn close(
        mut self,
        linger: Duration,
        stop: impl FnOnce(&mut M, Instant),
        mut is_flushed: impl FnMut(&mut M) -> bool,
    ) -> Result<(), Error> {
        self.driver.stop_listening();
        self.port.command(stop);
        self.turn_until(Some(linger), |machine| is_flushed(machine).then_some(()))?;
        self.turn(Some(Duration::ZERO))
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.driver.turn(timeout).map_err(Error::Setup)
    }

    /// Turns the loop until `look` finds something or the time is over.
    pub(crate) fn turn_until<T>(
        &mut self,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut M) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let deadline = timeout.map_or(Instant::NEVER, |timeout| self.port.now() + timeout);
        loop {
            if let Some(found) = self.port.look(&mut look) {
                return Ok(Some(found));
            }
            let left = deadline.saturating_since(self.port.now());
            if left.is_zero() {
                // A last look at what has come meanwhile, without waiting for it.
                self.turn(Some(Duration::ZERO))?;
                return Ok(self.port.look(look));
            }
            self.turn(Some(left).filter(|_| deadline != Instant::NEVER))?;
        }
    }

    #[cfg(unix)]
    pub(crate) fn poll_fd(&self) -> std::os::fd::RawFd {
        self.driver.poll_fd()
    }

    /// When the loop wants to be turned although nothing has come.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.driver.how_long(self.port.now(), None)
    }
}

/// Gives a bare socket the three methods by which it goes under another event loop.
macro_rules! under_another_loop {
    ($name:ident) => {
        impl $name {
            /// Does what there is to do, waiting for it at most so long (`None`: until something happens).
            ///
            /// Nothing happens between calls: heartbeats, reconnects and deadlines are kept by calling it, directly or
            /// through one of the blocking methods.
            ///
            /// # Errors
            /// The operating system's poll failed; nothing can go on from there.
            pub fn poll(&mut self, timeout: Option<core::time::Duration>) -> Result<(), $crate::net::Error> {
                self.socket.turn(timeout)
            }

            /// How long [`poll`](Self::poll) may be put off although nothing has come; `None`: for ever.
            pub fn next_timeout(&self) -> Option<core::time::Duration> {
                self.socket.next_timeout()
            }
        }

        /// The handle of the socket's own poll: it becomes readable when [`poll`](Self::poll) has something to do.
        /// Register it in another event loop; never close it.
        #[cfg(unix)]
        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.socket.poll_fd()
            }
        }
    };
}
pub(crate) use under_another_loop;
