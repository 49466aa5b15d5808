//! What the smallest servers have in common: they say where they listen, and live as long as whoever started them.

use std::io::{Read, Write};

/// Says the port, and waits until standard input ends.
pub fn listen_until_the_end(port: u16) -> ! {
    let mut out = std::io::stdout();
    // Whoever started it has gone if this fails, and then the input has ended as well.
    let _ = out.write_all(format!("{port}\n").as_bytes()).and_then(|()| out.flush());
    let mut input = std::io::stdin();
    while matches!(input.read(&mut [0; 16]), Ok(1..)) {}
    std::process::exit(0)
}
