//! A subscriber without a thread of its own: `recv` drives it.
//!
//! `cargo run --example tick_subscriber [ADDRESS [PREFIX [COUNT]]]`; by default it follows `tick.BTC` of the
//! `tick_publisher` at 127.0.0.1:4102, prints 10 messages and ends; without a publisher it ends after 30 s.

use std::time::Duration;

use pulsewire::net::Subscriber;
use pulsewire::pattern::Event;
use pulsewire::{FunctionResult, Limits, Reconnect};

fn main() -> FunctionResult<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4102".into()).parse()?;
    let prefix = arguments.next().unwrap_or_else(|| "tick.BTC".into());
    let mut left: u32 = arguments.next().map_or(Ok(10), |count| count.parse())?;

    let mut subscriber = Subscriber::connect(&[address], &prefix, Limits::tiny(), Reconnect::default())?;
    while left > 0 {
        match subscriber.recv(Some(Duration::from_secs(30)))? {
            Some(Event::Message { seq, topic, data }) => {
                println!("#{seq} {topic}: {}", String::from_utf8_lossy(data));
                left -= 1;
            }
            Some(other) => println!("{other:?}"),
            None => return Err("nothing came for 30 s".into()),
        }
    }
    println!("{:?}", subscriber.stats());
    subscriber.close()?;
    Ok(())
}
