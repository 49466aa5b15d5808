//! The listeners: a few connections of each per turn, and a pause when the process is out of descriptors.

use std::io;

use mio::net::TcpListener;
use mio::{Interest, Token};

use super::Driver;
use crate::net::dial::DialKey;
use crate::net::socket;
use crate::time::{Duration, Instant};

/// A socket that accepts for a port.
pub(super) struct Listener {
    socket: TcpListener,
    port: usize,
    pub(super) token: Token,
    /// Out of descriptors: when to try again. The kernel says nothing more by itself.
    pub(super) retry_at: Option<Instant>,
    /// The last look did not come to the end of the queue.
    pub(super) more: bool,
}

impl Driver {
    /// Accepts for a port.
    pub(crate) fn listen(&mut self, port: usize, mut socket: TcpListener) -> io::Result<()> {
        let token = self.token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, port, token, retry_at: None, more: true });
        Ok(())
    }

    /// Accepts no more.
    pub(crate) fn stop_listening(&mut self) {
        for mut listener in self.listeners.drain(..) {
            // It is closed in the next moment either way.
            let _ = self.poll.registry().deregister(&mut listener.socket);
        }
    }

    pub(super) fn accept(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.retry_at.is_some_and(|at| at <= now) {
                listener.retry_at = None;
                listener.more = true;
            }
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.listeners[index].more {
                    break;
                }
                self.accept_one(now, index);
            }
        }
    }

    fn accept_one(&mut self, now: Instant, index: usize) {
        let listener = &mut self.listeners[index];
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                let port = listener.port;
                if let Err(error) = socket::tune_accepted(&stream, peer, &self.keepalive) {
                    log::debug!("accept-failed: {peer}: {error}");
                    return;
                }
                let Some(conn) = self.port(port).and_then(|port| port.accepted(peer)) else {
                    log::debug!("connection-refused: no room for {peer}");
                    return;
                };
                self.open(DialKey { port, conn }, stream, false);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.more = false,
            Err(error) if socket::is_transient_accept_error(&error) => {}
            Err(error) => {
                if socket::out_of_descriptors(&error) {
                    log::warn!("accept-paused: {error}; trying again in {ACCEPT_PAUSE:?}");
                } else {
                    log::warn!("accept-failed: {error}; trying again in {ACCEPT_PAUSE:?}");
                }
                listener.more = false;
                listener.retry_at = Some(now + ACCEPT_PAUSE);
            }
        }
    }
}

const ACCEPTS_PER_TURN: usize = 64;
/// How long a listener pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
