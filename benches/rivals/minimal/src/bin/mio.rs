//! A `mio::Poll` with every connection in it.

use std::io;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let port = listener.local_addr()?.port();
    let poll = Poll::new()?;
    std::thread::spawn(move || serve(poll, listener));
    minimal::listen_until_the_end(port)
}

fn serve(mut poll: Poll, mut listener: TcpListener) -> io::Result<()> {
    poll.registry().register(&mut listener, Token(usize::MAX), Interest::READABLE)?;
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
        while let Ok((mut stream, _)) = listener.accept() {
            poll.registry().register(&mut stream, Token(streams.len()), Interest::READABLE)?;
            streams.push(stream);
        }
    }
}
