//! Idle connections: what the smallest server of each library weighs, and what it holds for connections that do nothing.
//!
//! Such a server is a program of its own (`minimal/`), built for size, as a program that had all libraries linked would
//! pay for each of them. What connects to it are plain sockets that speak just enough of its protocol to be subscribers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use pulsewire::wire::{Frame, Hello, Prefixes, Role, SessionId, Start, Subscribe, LENGTH_BYTES};

use crate::cases::Figures;
use crate::peers::Peer;
use crate::usage::{status_field, waits_of};
use crate::Result;

/// For whatever an accepted connection is still to bring about.
const SETTLE: Duration = Duration::from_millis(300);
/// In which wake-ups are counted. Heartbeats that are further apart do not fall into it.
const WATCH: Duration = Duration::from_secs(1);

/// Builds the servers, once for all measurements.
pub fn build() -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut features = Vec::new();
    for (name, is_built) in [("nng", cfg!(feature = "nng")), ("message-io", cfg!(feature = "message-io"))] {
        if is_built {
            features.push(format!("minimal/{name}"));
        }
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--profile", "minimal", "--package", "minimal", "--bins"]);
    command.args(["--manifest-path", manifest, "--target-dir"]).arg(target_dir()?);
    let status = command.arg("--features").arg(features.join(",")).status()?;
    match status.success() {
        true => Ok(()),
        false => Err("the minimal servers do not build".into()),
    }
}

/// The folder that holds `release` with this program, and `minimal` with the servers.
fn target_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.parent().and_then(|folder| folder.parent()).ok_or("a program without a folder")?.into())
}

/// Measures a server with so many connections.
pub fn measure(peer: Peer, connections: u64) -> Result<Figures> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if most < connections + 100 {
        return Err(format!("{most} descriptors are all that a process may have here").into());
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let program = target_dir()?.join("minimal").join(format!("minimal-{}", peer.name()));
    let bytes = program.metadata()?.len();
    let mut server = Server(Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
    let port = line.trim().parse()?;
    let held: Result<Vec<TcpStream>> =
        (0..connections).map(|number| subscriber(peer, port, number)).collect();
    let held = held?;
    thread::sleep(SETTLE);
    let pid = server.0.id();
    let (waits, begun) = (waits_of(pid)?, Instant::now());
    thread::sleep(WATCH);
    let waits = (waits_of(pid)? - waits) as f64 / begun.elapsed().as_secs_f64();
    let figures = Figures::from([
        ("resident_kib".into(), status_field(pid, "VmRSS")? as f64),
        ("threads".into(), status_field(pid, "Threads")? as f64),
        ("waits_per_s".into(), waits),
        ("binary_kb".into(), bytes as f64 / 1_000.0),
    ]);
    drop(held);
    Ok(figures)
}

/// Ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already, perhaps.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A subscriber that this library's publisher knows as one.
fn subscriber(peer: Peer, port: u16, number: u64) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    match peer {
        Peer::Pulsewire => greet_pulsewire(&mut stream, number)?,
        Peer::Zmq => greet_libzmq(&mut stream)?,
        Peer::Nng => greet_nng(&mut stream)?,
        _ => {}
    }
    Ok(stream)
}

fn greet_pulsewire(stream: &mut TcpStream, number: u64) -> Result<()> {
    let mut session = SessionId::default();
    session.0[..8].copy_from_slice(&number.to_le_bytes());
    let mut region = Vec::new();
    Prefixes::push(&mut region, "tick.")?;
    let prefixes = Prefixes::from_bytes(&region).ok_or("prefixes that are none")?;
    let hello = Frame::Hello(Hello::new(Role::Subscriber, session, 1, 1 << 20, ""));
    let subscribe = Subscribe { ticket: 0, snapshot: false, start: Some(Start::Fresh), prefixes };
    for frame in [hello, Frame::Subscribe(subscribe)] {
        let mut bytes = Vec::new();
        frame.encode(u32::MAX, &mut bytes)?;
        stream.write_all(&bytes)?;
        // Welcome, then Subscribed.
        let mut length = [0; LENGTH_BYTES];
        stream.read_exact(&mut length)?;
        stream.read_exact(&mut vec![0; u32::from_le_bytes(length) as usize])?;
    }
    Ok(())
}

/// ZMTP 3.0 with the mechanism NULL (`rfc.zeromq.org/spec/23`).
fn greet_libzmq(stream: &mut TcpStream) -> Result<()> {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting)?;
    stream.read_exact(&mut greeting)?;
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB";
    let mut command = vec![4, ready.len() as u8];
    command.extend_from_slice(ready);
    stream.write_all(&command)?;
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    stream.read_exact(&mut vec![0; usize::from(head[1])])?;
    // A message of six bytes: subscribe to what begins with these five.
    stream.write_all(b"\x00\x06\x01tick.")?;
    Ok(())
}

/// The header of the Scalability Protocols over TCP, as SUB.
fn greet_nng(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"\0SP\0\0\x21\0\0")?;
    stream.read_exact(&mut [0; 8])?;
    Ok(())
}
