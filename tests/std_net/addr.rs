//! Turning values into addresses: the scenarios of std's own tests, with std itself as the oracle for errors.

use crate::support::go;
use greenroom::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket, lookup_host};
use std::io::{self, ErrorKind};

fn collect(from: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    from.to_socket_addrs().map(Iterator::collect)
}

fn collect_std(from: impl std::net::ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    from.to_socket_addrs().map(Iterator::collect)
}

/// Values as they are, errors by all that one can see of them.
fn comparable(result: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, (ErrorKind, Option<i32>, String)> {
    result.map_err(|e| (e.kind(), e.raw_os_error(), e.to_string()))
}

#[test]
fn strings_are_what_std_makes_of_them() {
    for text in [
        "77.88.21.11:24352",
        "[2a02:6b8:0:1::1]:53",
        "[fe80::1%3]:80",
        "localhost:23924",
        "localhost",
        "localhost:",
        "localhost:65536",
        "localhost:-1",
        ":80",
        "",
        ":",
        "1200::AB00:1234::2552:7777:1313:34300",
        "with a\0zero:80",
        "name.invalid:80",
    ] {
        assert_eq!(comparable(collect(text)), comparable(collect_std(text)), "{text:?}");
        assert_eq!(comparable(collect(text.to_owned())), comparable(collect_std(text)), "{text:?}");
        assert_eq!(comparable(lookup_host(text).map(Iterator::collect)), comparable(collect_std(text)), "{text:?}");
    }
}

#[test]
fn pairs_are_what_std_makes_of_them() {
    for host in ["77.88.21.11", "2a02:6b8:0:1::1", "[::1]", "localhost", "", "name.invalid"] {
        let std = comparable(collect_std((host, 24352)));
        assert_eq!(comparable(collect((host, 24352))), std, "{host:?}");
        assert_eq!(comparable(collect((host.to_owned(), 24352))), std, "{host:?}");
        assert_eq!(
            comparable(<&(&str, u16)>::to_socket_addrs(&&(host, 24352)).map(Iterator::collect)),
            std,
            "{host:?}"
        );
    }
}

#[test]
fn addresses_are_themselves() {
    for text in ["77.88.21.11:12345", "[2a02:6b8:0:1::1]:53"] {
        let address: SocketAddr = text.parse().unwrap();
        assert_eq!(collect(address).unwrap(), [address]);
        assert_eq!(collect((address.ip(), address.port())).unwrap(), [address]);
        assert_eq!(collect(&[address, address][..]).unwrap(), [address, address]);
        match address {
            SocketAddr::V4(v4) => {
                assert_eq!(collect(v4).unwrap(), [address]);
                assert_eq!(collect((*v4.ip(), v4.port())).unwrap(), [address]);
            }
            SocketAddr::V6(v6) => {
                assert_eq!(collect(v6).unwrap(), [address]);
                assert_eq!(collect((*v6.ip(), v6.port())).unwrap(), [address]);
            }
        }
    }
}

#[test]
fn binding_needs_an_address() {
    assert!(UdpSocket::bind("1200::AB00:1234::2552:7777:1313:34300").is_err());
    let error = TcpListener::bind(&[][..]).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::InvalidInput, "could not resolve to any addresses"));
}

#[test]
fn concurrent_lookups_all_get_their_port() {
    let lookups: Vec<_> = (1..=40_u16)
        .map(|port| go(move || lookup_host(&format!("localhost:{port}")).unwrap().map(|a| a.port()).collect()))
        .collect();
    for (port, lookup) in (1..).zip(lookups) {
        let ports: Vec<u16> = lookup.join().unwrap();
        assert!(!ports.is_empty() && ports.into_iter().all(|p| p == port));
    }
}
