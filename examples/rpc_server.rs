//! The server of the ten-line pair: answers `add` and publishes a tick ten times a second.
//!
//! `cargo run --example rpc_server [ADDRESS [SECONDS]]`; by default 127.0.0.1:2014, and it ends after 60 s.

use std::time::Duration;

use pulsewire::{FunctionResult, RpcServer};

fn main() -> FunctionResult<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2014".into());
    let seconds: u64 = arguments.next().map_or(Ok(60), |seconds| seconds.parse())?;

    let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind(address)?;
    println!("serving add and tick.* at {} for {seconds} s", server.local_addr());
    for n in 0..seconds * 10 {
        let price = 3_500.0 + (n % 100) as f64;
        server.publish("tick.rb2410.SHFE", &price)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{} calls answered", server.stats().machine.replier.answered);
    Ok(())
}
