//! The client of the ten-line pair: calls `add` and follows `tick.` for a few events.
//!
//! `cargo run --example rpc_client [ADDRESS]`; by default 127.0.0.1:2014. Start it before or after `rpc_server`: it
//! waits for the server as long as a call may take.

use pulsewire::{Event, FunctionResult, RpcClient};

fn main() -> FunctionResult<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2014".into());

    let client = RpcClient::connect(address)?;
    let sum: i64 = client.call("add", &(1i64, 2i64))?;
    println!("1 + 2 = {sum}");
    let mut left = 5;
    for event in client.subscribe::<f64>("tick.")? {
        match event {
            Event::Message { topic, seq, data } => {
                println!("{topic} #{seq}: {data}");
                left -= 1;
            }
            other => println!("{other:?}"),
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}
