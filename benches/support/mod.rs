//! Two machines and the bytes between them, with no socket, no clock and no thread.
#![allow(dead_code)] // Each benchmark uses a part of it.

use std::net::SocketAddr;

use pulsewire::pattern::{Action, ConnId, Machine, Random, Requester, Roles, Server, SessionId, Subscriber};
use pulsewire::time::Instant;
use pulsewire::{Limits, Reconnect};

/// A server and a client of it, connected.
pub struct Linked<C> {
    pub server: Server,
    pub client: C,
    at_server: ConnId,
    at_client: ConnId,
}

/// No time passes.
pub const NOW: Instant = Instant::ZERO;

impl Linked<Requester> {
    pub fn requester() -> Self {
        let mut client =
            Requester::new(Limits::default(), Reconnect::default(), 1, SessionId::default(), Random::new(7));
        client.start();
        Self::link(client)
    }
}

impl Linked<Subscriber> {
    pub fn subscriber(prefix: &str) -> Self {
        let mut client = Subscriber::new(
            Limits::default(),
            Reconnect::default(),
            1,
            SessionId::default(),
            Random::new(7),
            prefix,
        )
        .expect("a prefix that is short enough");
        client.start();
        Self::link(client)
    }
}

impl<C: Machine> Linked<C> {
    fn link(mut client: C) -> Self {
        let mut server = Server::new(Roles::Both, Limits::default(), 1, 7);
        let Some(Action::Dial { conn: at_client, .. }) = client.poll_action() else {
            panic!("a client begins by dialling")
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let at_server = server.handle_accepted(NOW, peer).expect("there is room for one");
        client.handle_connected(NOW, at_client);
        let mut linked = Linked { server, client, at_server, at_client };
        linked.turn();
        linked
    }

    /// Moves bytes in both directions until neither side has any.
    pub fn turn(&mut self) {
        loop {
            let up = carry(&mut self.client, self.at_client, &mut self.server, self.at_server);
            let down = carry(&mut self.server, self.at_server, &mut self.client, self.at_client);
            if up + down == 0 {
                return;
            }
        }
    }

    /// Takes what the server has to write and throws it away, at most one chunk. Returns how many bytes that were.
    pub fn discard_chunk(&mut self) -> usize {
        while self.server.poll_action().is_some() {}
        let Some(chunk) = self.server.poll_transmit(NOW, self.at_server) else { return 0 };
        let len = chunk.bytes().len();
        self.server.handle_written(NOW, self.at_server, chunk, len);
        len
    }
}

/// Hands what one side has to write to the other. Returns how many bytes that were.
fn carry(from: &mut impl Machine, out: ConnId, to: &mut impl Machine, into: ConnId) -> usize {
    let mut moved = 0;
    while from.poll_action().is_some() {}
    while let Some(chunk) = from.poll_transmit(NOW, out) {
        let len = chunk.bytes().len();
        to.handle_bytes(NOW, into, chunk.bytes());
        to.handle_drained(NOW, into);
        from.handle_written(NOW, out, chunk, len);
        moved += len;
    }
    moved
}
