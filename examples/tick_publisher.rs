//! A publisher without a thread of its own: the loop below is all there is.
//!
//! `cargo run --example tick_publisher [ADDRESS [SECONDS]]`; by default 127.0.0.1:4102 for 60 s. It publishes bytes
//! (here: text) under `tick.SYMBOL`, and polls between, which lets subscribers in and sends heartbeats.

use std::time::{Duration, Instant};

use pulsewire::net::Publisher;
use pulsewire::{FunctionResult, Limits};

fn main() -> FunctionResult<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4102".into());
    let seconds: u64 = arguments.next().map_or(Ok(60), |seconds| seconds.parse())?;

    let mut publisher = Publisher::bind(address, Limits::tiny(), false)?;
    println!("publishing at {} for {seconds} s", publisher.local_addr());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut next = Instant::now();
    for n in 0u64.. {
        let symbol = ["BTCUSDT", "ETHUSDT", "SOLUSDT"][(n % 3) as usize];
        publisher.publish(&format!("tick.{symbol}"), format!("{}", 100 + n % 50).as_bytes())?;
        next += Duration::from_millis(10);
        while Instant::now() < next {
            publisher.poll(Some(next - Instant::now()))?;
        }
        if Instant::now() > end {
            break;
        }
    }
    println!("{:?}", publisher.stats().publisher);
    publisher.close()?;
    Ok(())
}
