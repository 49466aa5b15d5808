//! libzmq: a PUB socket.

fn main() -> zmq::Result<()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PUB)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
    let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    minimal::listen_until_the_end(port.unwrap_or_default())
}
