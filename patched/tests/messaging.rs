//! WebSocket, MQTT, SMTP and FTP.

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{Relay, bad_days, check, ftp, go, mosquitto, overlap, smtp, until};
use lettre::Transport;
use rumqttc::{Event, Packet, QoS};
use std::io::{Cursor, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use tungstenite::Message;

const MANY: usize = 200;

/// Both sides are tasks of one thread. No message is answered before all have come.
#[test]
fn tungstenite_overlaps_on_both_sides() {
    check(
        || (),
        |()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let acceptor = go(move || {
                let come = Arc::new(Barrier::new(MANY));
                let serve = |stream| {
                    let come = come.clone();
                    go(move || {
                        let mut socket = tungstenite::accept(stream).unwrap();
                        let question = socket.read().unwrap();
                        come.wait();
                        socket.send(Message::text(format!("{} answered", question.to_text().unwrap()))).unwrap();
                        assert!(socket.read().unwrap().is_close());
                        // The answer to the good-bye, and the end.
                        while socket.read().is_ok() {}
                    })
                };
                let serving: Vec<_> = listener.incoming().take(MANY).map(|stream| serve(stream.unwrap())).collect();
                serving.into_iter().for_each(|task| task.join());
            });
            let (answers, stats) = overlap(MANY, move |i| {
                let (mut socket, _response) = tungstenite::connect(format!("ws://{address}/")).unwrap();
                socket.send(Message::text(format!("number {i}"))).unwrap();
                let answer = socket.read().unwrap().into_text().unwrap().to_string();
                socket.close(None).unwrap();
                while socket.read().is_ok() {}
                answer
            });
            acceptor.join();
            assert!(answers.iter().enumerate().all(|(i, answer)| *answer == format!("number {i} answered")));
            stats.on_one_thread(0);
        },
    );
}

#[test]
fn tungstenite_cut_short() {
    // On native threads, without a hub: one for each client.
    let start = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { return };
                    while let Ok(message) = socket.read() {
                        let _ = socket.send(message);
                    }
                });
            }
        });
        address
    };
    check(start, |&address| {
        bad_days(address, |address| {
            let (mut socket, _response) = tungstenite::connect(format!("ws://{address}/"))?;
            socket.send(Message::text("value ".repeat(100)))?;
            assert_eq!(socket.read()?.into_text()?.as_str(), "value ".repeat(100));
            Ok::<(), tungstenite::Error>(())
        });
    });
}

fn mqtt_client(name: &str, address: SocketAddr) -> (rumqttc::Client, rumqttc::Connection) {
    let mut options = rumqttc::MqttOptions::new(name, address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(60));
    rumqttc::Client::new(options, 10)
}

/// Nothing is published before all have subscribed, and all wait for it then.
#[test]
fn rumqttc_overlaps() {
    check(mosquitto, |server| {
        let address = server.address();
        let subscribed = Arc::new(AtomicUsize::new(0));
        let seen = subscribed.clone();
        let other = thread::spawn(move || {
            until("all have subscribed", || seen.load(Ordering::SeqCst) == MANY);
            let (client, mut connection) = mqtt_client("publisher", address);
            let publisher = thread::spawn(move || {
                for i in 0..MANY {
                    client.publish(format!("topic/{i}"), QoS::AtLeastOnce, false, format!("number-{i}")).unwrap();
                }
                client
            });
            let acknowledged = |event: &Event| matches!(event, Event::Incoming(Packet::PubAck(_)));
            assert_eq!(connection.iter().map(Result::unwrap).filter(acknowledged).take(MANY).count(), MANY);
            publisher.join().unwrap();
        });
        let (messages, stats) = overlap(MANY, move |i| {
            let (client, mut connection) = mqtt_client(&format!("subscriber-{i}"), address);
            client.subscribe(format!("topic/{i}"), QoS::AtLeastOnce).unwrap();
            for event in connection.iter() {
                match event.unwrap() {
                    Event::Incoming(Packet::SubAck(_)) => {
                        subscribed.fetch_add(1, Ordering::SeqCst);
                    }
                    Event::Incoming(Packet::Publish(message)) => {
                        assert_eq!(message.topic, format!("topic/{i}"));
                        return message.payload.to_vec();
                    }
                    _ => {}
                }
            }
            unreachable!("the connection has no end while the client is there");
        });
        other.join().unwrap();
        assert!(messages.iter().enumerate().all(|(i, message)| *message == format!("number-{i}").into_bytes()));
        // The publisher's.
        stats.on_one_thread(1);
    });
}

#[test]
fn rumqttc_cut_short() {
    check(mosquitto, |server| {
        bad_days(server.address(), |address| {
            let (client, mut connection) = mqtt_client(&format!("client-{}", address.port()), address);
            client.subscribe("own", QoS::AtLeastOnce).map_err(|error| error.to_string())?;
            for event in connection.iter() {
                match event.map_err(|error| error.to_string())? {
                    Event::Incoming(Packet::SubAck(_)) => {
                        client.publish("own", QoS::AtLeastOnce, false, "value").map_err(|error| error.to_string())?;
                    }
                    Event::Incoming(Packet::Publish(_)) => return Ok(()),
                    _ => {}
                }
            }
            Err("it ended".to_owned())
        });
    });
}

fn send_mail(address: SocketAddr, subject: &str) -> Result<String, lettre::transport::smtp::Error> {
    let transport = lettre::SmtpTransport::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .timeout(Some(Duration::from_secs(60)))
        .build();
    let message = lettre::Message::builder()
        .from("somebody@example.org".parse().unwrap())
        .to("nobody@example.org".parse().unwrap())
        .subject(subject)
        .body(format!("About {subject}.\n").repeat(100))
        .unwrap();
    transport.send(&message).map(|response| response.message().collect())
}

#[test]
fn lettre_overlaps() {
    check(smtp, |server| {
        let gate = Relay::gate(server.address(), MANY);
        let address = gate.address();
        let (subjects, stats) = overlap(MANY, move |i| send_mail(address, &format!("number-{i}")).unwrap());
        assert!(subjects.iter().enumerate().all(|(i, subject)| *subject == format!("number-{i}")), "{subjects:?}");
        stats.on_one_thread(0);
    });
}

#[test]
fn lettre_cut_short() {
    check(smtp, |server| {
        bad_days(server.address(), |address| send_mail(address, "hello").map(|subject| assert_eq!(subject, "hello")));
    });
}

/// Puts a file there, takes it back, and removes it.
fn file_there_and_back(address: SocketAddr, name: &str, content: &[u8]) -> suppaftp::FtpResult<()> {
    let mut stream = suppaftp::FtpStream::connect(address)?;
    stream.login("anonymous", "nobody")?;
    stream.transfer_type(suppaftp::types::FileType::Binary)?;
    stream.put_file(name, &mut Cursor::new(content))?;
    let mut back = Vec::new();
    stream.retr_as_buffer(name)?.read_to_end(&mut back).map_err(suppaftp::FtpError::ConnectionError)?;
    assert!(back == content, "{} bytes of {}", back.len(), content.len());
    stream.rm(name)?;
    stream.quit()
}

#[test]
fn suppaftp_overlaps() {
    check(ftp, |server| {
        let gate = Relay::gate(server.address(), MANY);
        let address = gate.address();
        let (_, stats) = overlap(MANY, move |i| {
            let content: Vec<u8> = (0..50_000_usize).map(|n| (n * (i + 1)) as u8).collect();
            file_there_and_back(address, &format!("file-{i}"), &content).unwrap();
        });
        stats.on_one_thread(0);
    });
}

#[test]
fn suppaftp_cut_short() {
    check(ftp, |server| {
        bad_days(server.address(), |address| {
            file_there_and_back(address, &format!("file-{}", address.port()), b"value")
        });
    });
}
