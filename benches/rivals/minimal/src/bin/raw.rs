//! `std::net`: accepts on one thread and reads from nobody.

use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        streams.extend(listener.incoming());
    });
    minimal::listen_until_the_end(port)
}
