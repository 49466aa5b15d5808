//! NNG: a PUB socket.

use nng::options::{LocalAddr, Options};
use nng::{Listener, Protocol, Socket, SocketAddr};

fn main() -> nng::Result<()> {
    let socket = Socket::new(Protocol::Pub0)?;
    let listener = Listener::new(&socket, "tcp://127.0.0.1:0")?;
    let SocketAddr::Inet(address) = listener.get_opt::<LocalAddr>()? else { return Ok(()) };
    // It comes in network order.
    minimal::listen_until_the_end(u16::from_be(address.port()))
}
