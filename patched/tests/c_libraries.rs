//! C libraries, shared ones of the system: libcurl and libpq. (OpenSSL is among the HTTP clients.)

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{HttpServer, bad_days, check, overlap, postgres, until};
use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const MANY: usize = 200;

fn curl_get(url: &str) -> Result<String, curl::Error> {
    let mut easy = curl::easy::Easy::new();
    easy.url(url)?;
    easy.signal(false)?;
    let mut body = Vec::new();
    let mut transfer = easy.transfer();
    transfer.write_function(|data| {
        body.extend_from_slice(data);
        Ok(data.len())
    })?;
    transfer.perform()?;
    drop(transfer);
    Ok(String::from_utf8(body).unwrap())
}

#[test]
fn the_shared_libraries_are_meant() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for library in ["libcurl.so", "libpq.so"] {
        assert!(maps.contains(library) || maps.contains(&library.replace(".so", "-gnutls.so")), "{library}");
    }
}

#[test]
fn curl_overlaps() {
    check(HttpServer::plain, |server| {
        let address = server.address();
        let (texts, stats) =
            overlap(MANY, move |i| curl_get(&format!("http://{address}/gate/curl/{MANY}/number-{i}")).unwrap());
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

/// By a name: libcurl looks it up on a thread of its own.
#[test]
fn curl_overlaps_with_names() {
    check(HttpServer::plain, |server| {
        let port = server.address().port();
        let (texts, stats) =
            overlap(100, move |i| curl_get(&format!("http://localhost:{port}/gate/names/100/number-{i}")).unwrap());
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(100);
    });
}

/// A callback of a C library is Rust again, and may wait: for another task, which is in a callback, too.
#[test]
fn a_callback_of_curl_may_wait_for_another() {
    check(HttpServer::plain, |server| {
        let address = server.address();
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(20));
        let (texts, stats) = overlap(20, move |i| {
            let mut easy = curl::easy::Easy::new();
            easy.url(&format!("http://{address}/echo/number-{i}")).unwrap();
            easy.signal(false).unwrap();
            let mut body = Vec::new();
            let mut transfer = easy.transfer();
            transfer
                .write_function(|data| {
                    barrier.wait();
                    thread::sleep(Duration::from_millis(1));
                    body.extend_from_slice(data);
                    Ok(data.len())
                })
                .unwrap();
            transfer.perform().unwrap();
            drop(transfer);
            String::from_utf8(body).unwrap()
        });
        assert!(texts.iter().enumerate().all(|(i, text)| *text == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

#[test]
fn curl_cut_short() {
    check(HttpServer::plain, |server| {
        bad_days(server.address(), |address| {
            let text = curl_get(&format!("http://{address}/echo/hello")).map_err(|error| error.to_string())?;
            // It takes an answer that ends within its head for one without a body.
            if text == "hello" { Ok(()) } else { Err(format!("{text:?}")) }
        });
    });
}

/// A connection of libpq's, for one owner at a time.
struct Connection(*mut pq_sys::PGconn);

impl Connection {
    fn new(address: SocketAddr) -> Result<Connection, String> {
        let to =
            format!("host={} port={} user=postgres sslmode=disable gssencmode=disable", address.ip(), address.port());
        let to = CString::new(to).unwrap();
        // SAFETY: a C string.
        let connection = Connection(unsafe { pq_sys::PQconnectdb(to.as_ptr()) });
        // SAFETY: what PQconnectdb gave, or null, which it takes for an error.
        let status = unsafe { pq_sys::PQstatus(connection.0) };
        if status == pq_sys::ConnStatusType::CONNECTION_OK { Ok(connection) } else { Err(connection.error()) }
    }

    fn error(&self) -> String {
        // SAFETY: what PQconnectdb gave, or null, for which there is a text, too.
        let text = unsafe { pq_sys::PQerrorMessage(self.0) };
        // SAFETY: a C string that stays until the next call.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// The first value of the first row.
    fn value(&mut self, query: &str, parameter: &str) -> Result<String, String> {
        let (query, parameter) = (CString::new(query).unwrap(), CString::new(parameter).unwrap());
        let values = [parameter.as_ptr()];
        let none = std::ptr::null();
        // SAFETY: an open connection, C strings, one parameter as text, and the result as text.
        let result = unsafe {
            pq_sys::PQexecParams(self.0, query.as_ptr(), 1, none, values.as_ptr(), none.cast(), none.cast(), 0)
        };
        // SAFETY: a result, or null, which is taken for an error.
        let status = unsafe { pq_sys::PQresultStatus(result) };
        if status != pq_sys::ExecStatusType::PGRES_TUPLES_OK {
            // SAFETY: a result, once, or null.
            unsafe { pq_sys::PQclear(result) };
            return Err(self.error());
        }
        // SAFETY: a result with a row and a column, as the queries here have.
        let value = unsafe { pq_sys::PQgetvalue(result, 0, 0) };
        // SAFETY: a C string, for it is text.
        let value = unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned();
        // SAFETY: once, and what was taken from it is a copy.
        unsafe { pq_sys::PQclear(result) };
        Ok(value)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: what PQconnectdb gave, once.
        unsafe { pq_sys::PQfinish(self.0) };
    }
}

/// No query is answered before all wait for a lock.
#[test]
fn libpq_overlaps() {
    check(postgres, |server| {
        let address = server.address();
        let (tell, told) = channel();
        let other = thread::spawn(move || {
            let mut connection = Connection::new(address).unwrap();
            connection.value("select pg_advisory_lock($1::int)::text", "7").unwrap();
            tell.send(()).unwrap();
            until("all wait for the lock", || {
                let waiting = "select count(*) from pg_locks where locktype = $1 and not granted";
                connection.value(waiting, "advisory").unwrap() == MANY.to_string()
            });
            connection.value("select pg_advisory_unlock($1::int)", "7").unwrap();
        });
        told.recv().unwrap();
        let (values, stats) = overlap(MANY, move |i| {
            let mut connection = Connection::new(address).unwrap();
            connection.value("select $1, pg_advisory_lock_shared(7)::text", &format!("number-{i}")).unwrap()
        });
        other.join().unwrap();
        assert!(values.iter().enumerate().all(|(i, value)| *value == format!("number-{i}")));
        stats.on_one_thread(0);
    });
}

#[test]
fn libpq_cut_short() {
    check(postgres, |server| {
        bad_days(server.address(), |address| {
            let mut connection = Connection::new(address)?;
            let value = connection.value("select repeat($1, 1000)", "value")?;
            assert_eq!(value, "value".repeat(1000));
            Ok::<(), String>(())
        });
    });
}
