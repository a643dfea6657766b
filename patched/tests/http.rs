//! HTTP clients and servers.

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{Certificate, HttpServer, MS, bad_days, check, go, overlap, until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const MANY: usize = 300;

fn ureq_get(agent: &ureq::Agent, url: &str) -> Result<String, ureq::Error> {
    agent.get(url).call()?.body_mut().read_to_string()
}

/// An agent that trusts this certificate alone.
fn ureq_with_tls(certificate: &Certificate) -> ureq::Agent {
    let root = ureq::tls::Certificate::from_der(&certificate.der).to_owned();
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::new_with_certs(&[root])).build();
    ureq::Agent::config_builder().tls_config(tls).build().into()
}

#[test]
fn ureq_overlaps() {
    check(HttpServer::plain, |server| {
        let (address, agent) = (server.address(), ureq::Agent::new_with_defaults());
        let (texts, stats) =
            overlap(MANY, move |i| ureq_get(&agent, &format!("http://{address}/gate/ureq/{MANY}/number-{i}")).unwrap());
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

/// Connections that went back to the agent's pool are used again, by tasks that did not make them.
#[test]
fn ureq_overlaps_on_connections_that_others_made() {
    check(HttpServer::plain, |server| {
        let (address, agent) = (server.address(), ureq::Agent::new_with_defaults());
        for round in 0..5 {
            let agent = agent.clone();
            let (texts, stats) = overlap(50, move |i| {
                ureq_get(&agent, &format!("http://{address}/gate/round-{round}/50/number-{i}")).unwrap()
            });
            assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
            stats.on_one_thread(0);
        }
    });
}

/// Other programs may have the processor: what its threads waited for one counts, too. Those of the control do little else.
#[test]
fn a_thousand_calls_of_50_ms_take_at_most_150_and_their_cpu_time() {
    check(HttpServer::plain, |server| {
        let (address, agent) = (server.address(), ureq::Agent::new_with_defaults());
        let (texts, stats) =
            overlap(1000, move |i| ureq_get(&agent, &format!("http://{address}/late/50/number-{i}")).unwrap());
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        let enough = 3 * 50 * MS + stats.cpu + stats.queued;
        assert!(stats.on_one_thread(0).wall <= enough || cfg!(feature = "control"), "{stats:?}");
        eprintln!("{stats:?}");
    });
}

#[test]
fn ureq_overlaps_with_tls() {
    let start = || {
        let certificate = Certificate::default();
        (HttpServer::tls(&certificate), certificate)
    };
    check(start, |(server, certificate)| {
        let (port, agent) = (server.address().port(), ureq_with_tls(certificate));
        let (texts, stats) = overlap(MANY, move |i| {
            ureq_get(&agent, &format!("https://localhost:{port}/gate/tls/{MANY}/number-{i}")).unwrap()
        });
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

#[test]
fn ureq_cut_short() {
    check(HttpServer::plain, |server| {
        bad_days(server.address(), |address| {
            let text = ureq_get(&ureq::Agent::new_with_defaults(), &format!("http://{address}/echo/hello"))?;
            assert_eq!(text, "hello");
            Ok::<(), ureq::Error>(())
        });
    });
}

#[test]
fn ureq_with_tls_cut_short() {
    let start = || {
        let certificate = Certificate::default();
        (HttpServer::tls(&certificate), Arc::new(certificate))
    };
    check(start, |(server, certificate)| {
        let certificate = certificate.clone();
        bad_days(server.address(), move |address| {
            let url = format!("https://localhost:{}/echo/hello", address.port());
            let text = ureq_get(&ureq_with_tls(&certificate), &url)?;
            assert_eq!(text, "hello");
            Ok::<(), ureq::Error>(())
        });
    });
}

/// The body of an answer to a request that asks for the connection's end.
fn get_over<S: Read + Write>(mut stream: S, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

/// Trusts this certificate alone. Made once: it reads the system's certificates first, all the same.
fn openssl(certificate: &Certificate) -> native_tls::TlsConnector {
    let root = native_tls::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
    let mut builder = native_tls::TlsConnector::builder();
    builder.disable_built_in_roots(true).add_root_certificate(root).build().unwrap()
}

fn openssl_get(connector: &native_tls::TlsConnector, address: SocketAddr, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let stream = connector.connect("localhost", stream).map_err(|error| match error {
        native_tls::HandshakeError::Failure(error) => error.to_string(),
        native_tls::HandshakeError::WouldBlock(_) => "a blocking stream would block".to_owned(),
    })?;
    get_over(stream, path).map_err(|error| error.to_string())
}

#[test]
fn native_tls_overlaps() {
    let start = || {
        let certificate = Certificate::default();
        (HttpServer::tls(&certificate), certificate)
    };
    check(start, |(server, certificate)| {
        let (address, connector) = (server.address(), openssl(certificate));
        let (texts, stats) = overlap(MANY, move |i| {
            openssl_get(&connector, address, &format!("/gate/openssl/{MANY}/number-{i}")).unwrap()
        });
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

#[test]
fn native_tls_cut_short() {
    let start = || {
        let certificate = Certificate::default();
        (HttpServer::tls(&certificate), certificate)
    };
    check(start, |(server, certificate)| {
        let connector = openssl(certificate);
        bad_days(server.address(), move |address| {
            openssl_get(&connector, address, "/echo/hello").map(|text| assert_eq!(text, "hello"))
        });
    });
}

#[test]
fn reqwest_overlaps() {
    check(HttpServer::plain, |server| {
        let address = server.address();
        let client = go(reqwest::blocking::Client::new).join();
        let (texts, stats) = overlap(MANY, move |i| {
            client.get(format!("http://{address}/gate/reqwest/{MANY}/number-{i}")).send().unwrap().text().unwrap()
        });
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        // The client's own thread was there before.
        stats.on_one_thread(0);
    });
}

/// Each with a thread of its own, so fewer.
#[test]
fn reqwest_overlaps_with_a_client_for_each_call() {
    check(HttpServer::plain, |server| {
        let address = server.address();
        let (texts, stats) = overlap(40, move |i| {
            reqwest::blocking::get(format!("http://{address}/gate/each/40/number-{i}")).unwrap().text().unwrap()
        });
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(40);
    });
}

#[test]
fn reqwest_cut_short() {
    check(HttpServer::plain, |server| {
        bad_days(server.address(), |address| {
            // A kill cannot end its wait for its own thread: that is a lock's. Its time-out does.
            let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(1)).build()?;
            let text = client.get(format!("http://{address}/echo/hello")).send()?.text()?;
            assert_eq!(text, "hello");
            Ok::<(), reqwest::Error>(())
        });
    });
}

/// The server's own threads accept and read; what they have read is taken by tasks, which answer when all have asked.
#[test]
fn tiny_http_serves_tasks_from_tasks() {
    const CLIENTS: usize = 200;
    check(
        || (),
        |()| {
            let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
            let address = server.server_addr().to_ip().unwrap();
            let asked = Arc::new(Barrier::new(CLIENTS));
            let (texts, stats) = overlap(2 * CLIENTS, move |i| {
                if i < CLIENTS {
                    let request = server.recv().unwrap();
                    asked.wait();
                    let path = request.url().to_owned();
                    request.respond(tiny_http::Response::from_string(path)).unwrap();
                    return None;
                }
                Some(get_over(TcpStream::connect(address).unwrap(), &format!("/number-{i}")).unwrap())
            });
            let right = |(i, text): (usize, &Option<String>)| match text {
                None => i < CLIENTS,
                Some(text) => *text == format!("/number-{i}"),
            };
            assert!(texts.iter().enumerate().all(right));
            // The server's.
            stats.on_one_thread(CLIENTS + 5);
        },
    );
}

/// A client that leaves without a word, one that never finishes its request, and one that goes before its answer: the server
/// serves on.
#[test]
fn tiny_http_survives_its_clients() {
    check(
        || (),
        |()| {
            let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
            let address = server.server_addr().to_ip().unwrap();
            let served = Arc::new(AtomicUsize::new(0));
            let serving = {
                let (server, served) = (server.clone(), served.clone());
                go(move || {
                    for request in server.incoming_requests() {
                        let path = request.url().to_owned();
                        let _ = request.respond(tiny_http::Response::from_string(path));
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                })
            };
            overlap(60, move |i| {
                let mut stream = TcpStream::connect(address).unwrap();
                match i % 3 {
                    0 => drop(stream),
                    1 => stream.write_all(b"GET /half HT").unwrap(),
                    _ => {
                        stream.write_all(b"GET /whole HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
                        stream.shutdown(Shutdown::Both).unwrap();
                    }
                }
            });
            let text = go(move || get_over(TcpStream::connect(address).unwrap(), "/after").unwrap()).join();
            assert_eq!(text, "/after");
            until("all who had asked were served", || served.load(Ordering::SeqCst) > 0);
            server.unblock();
            serving.join();
        },
    );
}

/// ureq's own time-out, which is a socket option or a poll's, is kept to.
#[test]
fn ureq_keeps_its_own_timeout() {
    check(HttpServer::plain, |server| {
        let address = server.address();
        let (waited, stats) = overlap(100, move |i| {
            let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_millis(200))).build();
            let begun = std::time::Instant::now();
            // Nobody else comes to this gate.
            let error = ureq_get(&config.into(), &format!("http://{address}/gate/never-{i}/2/x")).unwrap_err();
            assert!(matches!(error, ureq::Error::Timeout(_)), "{error:?}");
            begun.elapsed()
        });
        assert!(waited.iter().all(|waited| *waited >= 200 * MS), "{waited:?}");
        // It looks up names on threads of its own when there is a time-out.
        assert!(stats.on_one_thread(100).wall < 100 * 200 * MS / 4, "{stats:?}");
    });
}
