//! The smallest server: one function, within limits for a small machine.
//!
//! `cargo build --profile minimal --example minimal` builds it for size (a few hundred KB, nothing but libc linked), and
//! `minimal [ADDRESS [SECONDS]]` runs it; by default 127.0.0.1:2014, and it ends after 60 s. In that profile a panic ends the
//! program; in any other one it is its caller's answer.

use std::time::Duration;

use pulsewire::{FunctionResult, Limits, RpcServer};

fn main() -> FunctionResult<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2014".into());
    let seconds: u64 = arguments.next().map_or(Ok(60), |seconds| seconds.parse())?;

    let limits = Limits::tiny();
    let ceiling = limits.memory_ceiling();
    // Inline: it runs where its request is read, so there is no thread for it.
    let builder = RpcServer::builder().limits(limits);
    let server = builder.register_inline("add", |(a, b): (i64, i64)| Ok(a + b)).bind(address)?;
    println!(
        "serving add at {} for {seconds} s, with {} KiB of memory at the most",
        server.local_addr(),
        ceiling / 1024
    );
    std::thread::sleep(Duration::from_secs(seconds));
    println!("{} calls answered", server.stats().machine.replier.answered);
    Ok(())
}
