//! message-io: framed TCP.

use message_io::network::Transport;

fn main() -> std::io::Result<()> {
    let (handler, listener) = message_io::node::split::<()>();
    let (_, address) = handler.network().listen(Transport::FramedTcp, "127.0.0.1:0")?;
    std::thread::spawn(move || listener.for_each(|_| {}));
    minimal::listen_until_the_end(address.port())
}
