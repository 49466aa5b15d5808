//! Real sockets: what is set on them, and how they end.

use std::io::{Read, Write};
use std::net::TcpStream as Blocking;

use mio::{Events, Interest, Poll, Token};

use super::*;

const BACKLOG: i32 = 128;

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until the attempt is decided, or panics after ten seconds.
fn wait_connected(stream: &mut TcpStream) -> io::Result<()> {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(stream, Token(0), Interest::WRITABLE).unwrap();
    let mut events = Events::with_capacity(4);
    while !connected(stream)? {
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty(), "connecting was never decided");
    }
    Ok(())
}

/// Waits for a connection to be there and takes it.
fn accept(listener: &mut TcpListener) -> TcpStream {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(listener, Token(0), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(4);
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("accept: {error}"),
        }
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty(), "nobody came");
    };
    poll.registry().deregister(listener).unwrap();
    stream
}

#[test]
fn listener_reuses_the_address_but_never_shares_the_port() {
    let listener = listen(local(0), BACKLOG).unwrap();
    let socket = SockRef::from(&listener);
    assert_eq!(socket.reuse_address().unwrap(), cfg!(unix));
    #[cfg(target_os = "linux")]
    assert!(!socket.reuse_port().unwrap());
    #[cfg(unix)]
    assert!(socket.nonblocking().unwrap());
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

    let taken = listener.local_addr().unwrap();
    assert_ne!(taken.port(), 0);
    assert_eq!(listen(taken, BACKLOG).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn port_can_be_taken_again_at_once_after_a_restart() {
    let mut listener = listen(local(0), BACKLOG).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut client = Blocking::connect(addr).unwrap();
    let server = accept(&mut listener);
    // The server closes first, so that its side of the connection is the one left in TIME_WAIT.
    drop(server);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop((client, listener));
    listen(addr, BACKLOG).unwrap();
}

#[test]
fn all_interfaces_are_reached_in_both_families() {
    let listener = listen_on_all(0, BACKLOG).unwrap();
    let addr = listener.local_addr().unwrap();
    Blocking::connect((Ipv4Addr::LOCALHOST, addr.port())).unwrap();
    if addr.is_ipv6() {
        assert!(!SockRef::from(&listener).only_v6().unwrap());
        if listen((Ipv6Addr::LOCALHOST, 0).into(), BACKLOG).is_ok() {
            Blocking::connect((Ipv6Addr::LOCALHOST, addr.port())).unwrap();
        }
    }
    let second = listen_on_all(addr.port(), BACKLOG).unwrap_err();
    assert_eq!(
        second.kind(),
        io::ErrorKind::AddrInUse,
        "not squeezed in beside it by way of the other family"
    );
}

#[test]
fn only_a_missing_family_leads_to_the_other() {
    #[cfg(target_os = "linux")]
    for (code, expected) in [(97, true), (99, true), (22, true), (98, false), (13, false), (24, false)] {
        let error = io::Error::from_raw_os_error(code);
        assert_eq!(lacks_ipv6(&error), expected, "{error}");
    }
    assert!(!lacks_ipv6(&io::ErrorKind::AddrInUse.into()));
    assert!(lacks_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
}

#[test]
fn connecting_ends_in_a_stream() {
    let mut listener = listen(local(0), BACKLOG).unwrap();
    let mut client = connect(listener.local_addr().unwrap()).unwrap();
    wait_connected(&mut client).unwrap();
    let mut server = accept(&mut listener);
    assert!(connected(&server).unwrap());
    assert!(!is_self_connection(&client) && !is_self_connection(&server));
    #[cfg(unix)]
    assert!(SockRef::from(&client).nonblocking().unwrap());
    assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(client.write(b"x").unwrap(), 1);
}

#[test]
fn connecting_ends_in_a_refusal() {
    // A port that is bound but not listened on refuses, and nobody else can be given it meanwhile.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&local(0).into()).unwrap();
    let addr = held.local_addr().unwrap().as_socket().unwrap();
    let outcome = connect(addr).and_then(|mut stream| wait_connected(&mut stream));
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn stream_that_was_never_connected_is_not_yet_connected() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(socket.into());
    assert!(!connected(&stream).unwrap());
    assert!(!is_self_connection(&stream));
}

#[cfg(target_os = "linux")]
#[test]
fn connection_to_oneself_is_recognised() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&local(0).into()).unwrap();
    let own = socket.local_addr().unwrap();
    socket.connect(&own).expect("a simultaneous open with oneself succeeds on Linux");
    socket.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(socket.into());
    assert!(connected(&stream).unwrap());
    assert!(is_self_connection(&stream));
}

#[cfg(target_os = "linux")]
#[test]
fn every_option_is_in_force_on_both_sides() {
    let mut listener = listen(local(0), BACKLOG).unwrap();
    let mut client = connect(listener.local_addr().unwrap()).unwrap();
    wait_connected(&mut client).unwrap();
    let server = accept(&mut listener);
    for stream in [&client, &server] {
        tune(stream, &Keepalive::default()).unwrap();
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
    }
}

#[test]
fn a_peer_is_near_if_its_address_is_loopback_or_our_own() {
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    for near in ["127.0.0.1:4102", "[::1]:4102", "[::ffff:127.0.0.1]:4102"] {
        assert!(is_near(None, addr(near)), "{near}");
    }
    assert!(is_near(Some(addr("192.0.2.1:2014")), addr("192.0.2.1:4102")));
    assert!(
        !is_near(Some(addr("192.0.2.2:2014")), addr("192.0.2.1:4102")),
        "over a network the kernel decides"
    );
    assert!(!is_near(None, addr("[2001:db8::1]:4102")));
}

#[cfg(target_os = "linux")]
#[test]
fn little_is_held_for_an_accepted_peer_on_this_machine() {
    let mut listener = listen(local(0), BACKLOG).unwrap();
    let client = connect(listener.local_addr().unwrap()).unwrap();
    let server = accept(&mut listener);
    let socket = SockRef::from(&server);
    let peer = client.local_addr().unwrap();
    // A system may allow less than is asked for.
    socket.set_send_buffer_size(4 * NEAR_SEND_BYTES).unwrap();
    let large = socket.send_buffer_size().unwrap();
    tune_accepted(&server, peer, &Keepalive::default()).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), large.min(2 * NEAR_SEND_BYTES));
    socket.set_send_buffer_size(16 * 1024).unwrap();
    let small = socket.send_buffer_size().unwrap();
    tune_accepted(&server, peer, &Keepalive::default()).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), small, "it is never raised");
    let other = "192.0.2.1:4102".parse().unwrap();
    socket.set_send_buffer_size(4 * NEAR_SEND_BYTES).unwrap();
    tune_accepted(&server, other, &Keepalive::default()).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), large, "over a network the kernel decides");
}

#[cfg(target_os = "linux")]
#[test]
fn any_keepalive_that_can_be_built_is_taken() {
    let mut listener = listen(local(0), BACKLOG).unwrap();
    let client = connect(listener.local_addr().unwrap()).unwrap();
    let _server = accept(&mut listener);
    let socket = SockRef::from(&client);
    let read = || {
        let idle = socket.tcp_keepalive_time().unwrap().as_secs();
        let interval = socket.tcp_keepalive_interval().unwrap().as_secs();
        (idle, interval, socket.tcp_keepalive_retries().unwrap(), socket.tcp_user_timeout().unwrap())
    };

    let least = Duration::from_nanos(1);
    let keepalive = Keepalive { idle: least, interval: Duration::ZERO, probes: 0, user_timeout: Some(least) };
    tune(&client, &keepalive).unwrap();
    assert_eq!(read(), (1, 1, 1, Some(Duration::from_millis(1))));

    let most = Duration::MAX;
    let keepalive = Keepalive { idle: most, interval: most, probes: u32::MAX, user_timeout: Some(most) };
    tune(&client, &keepalive).unwrap();
    assert_eq!(read(), (32_767, 32_767, 127, Some(MAX_USER_TIMEOUT)));

    let keepalive =
        Keepalive { idle: Duration::from_millis(1_500), user_timeout: None, ..Keepalive::default() };
    tune(&client, &keepalive).unwrap();
    assert_eq!(read(), (2, 10, 3, None));
}

#[test]
fn accept_errors_say_whether_to_go_on_or_to_pause() {
    for code in OUT_OF_DESCRIPTORS {
        let error = io::Error::from_raw_os_error(code);
        assert!(out_of_descriptors(&error) && !is_transient_accept_error(&error), "{error}");
    }
    let kinds = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::Interrupted,
        io::ErrorKind::NetworkUnreachable,
    ];
    let codes = TRANSIENT_ACCEPT.into_iter().map(io::Error::from_raw_os_error);
    for error in codes.chain(kinds.into_iter().map(io::Error::from)) {
        assert!(is_transient_accept_error(&error) && !out_of_descriptors(&error), "{error}");
    }
    // Nothing to accept, and a listener that is none.
    for error in [io::ErrorKind::WouldBlock.into(), io::Error::from(io::ErrorKind::InvalidInput)] {
        assert!(!is_transient_accept_error(&error) && !out_of_descriptors(&error), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_numbers_are_those_of_the_system() {
    for (code, text) in [
        (errno::ENOMEM, "Cannot allocate memory"),
        (errno::ENFILE, "Too many open files in system"),
        (errno::EMFILE, "Too many open files"),
        (errno::ENONET, "Machine is not on the network"),
        (errno::EPROTO, "Protocol error"),
        (errno::ENOPROTOOPT, "Protocol not available"),
        (errno::EOPNOTSUPP, "Operation not supported"),
        (errno::ENOBUFS, "No buffer space available"),
        (errno::EHOSTDOWN, "Host is down"),
        (errno::EINPROGRESS, "Operation now in progress"),
    ] {
        let shown = std::format!("{}", io::Error::from_raw_os_error(code));
        assert!(shown.starts_with(text), "{code} is {shown}");
    }
}
