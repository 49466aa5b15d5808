//! pulsewire: a server with one function, which could publish as well.

use pulsewire::{FunctionResult, RpcServer};

fn main() -> FunctionResult<()> {
    let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind("127.0.0.1:0")?;
    minimal::listen_until_the_end(server.local_addr().port())
}
