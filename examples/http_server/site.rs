//! What the server has to say: four pages, and files.

use std::path::{Path, PathBuf};

use greenroom::fs::{self, File};

use super::connection::{Answer, Body, Request, Site};
use super::message::Method;

/// The pages, and a directory of files if there is one.
#[derive(Debug)]
pub(crate) struct Pages {
    root: Option<PathBuf>,
}

impl Pages {
    pub(crate) fn new(root: Option<PathBuf>) -> Pages {
        Pages { root }
    }
}

impl Site for Pages {
    fn answer<'a>(&self, request: &Request<'a>) -> Answer<'a> {
        let path = path_of(request.target);
        let reads = matches!(request.method, Method::Get | Method::Head);
        match path {
            _ if request.method == Method::Options => Answer::ok("", b""),
            "/echo" if matches!(request.method, Method::Post | Method::Put) => {
                if !request.has_length {
                    return Answer::error(411);
                }
                Answer::ok("application/octet-stream", request.body)
            }
            "/echo" => Answer::error(405),
            _ if !reads => Answer::error(405),
            "/plaintext" => Answer::ok("text/plain", b"Hello, World!"),
            "/json" => Answer::ok("application/json", br#"{"message":"Hello, World!"}"#),
            _ => match &self.root {
                Some(root) => file(root, path),
                None if path == "/" => Answer::ok("text/html; charset=utf-8", INDEX.as_bytes()),
                None => Answer::error(404),
            },
        }
    }
}

const INDEX: &str = "<!doctype html><title>greenroom</title><p>Try <a href=/plaintext>/plaintext</a>, \
                     <a href=/json>/json</a>, or a POST to /echo.\n";

/// The path of a target, which may be a whole address (RFC 9112, 3.2.2) and have a query.
fn path_of(target: &str) -> &str {
    let path = match target.strip_prefix("http://") {
        Some(address) => address.find('/').map_or("/", |slash| &address[slash..]),
        None => target,
    };
    path.split_once(['?', '#']).map_or(path, |(path, _)| path)
}

/// A file below `root`, if the path leads to one and not out of there, by a link neither.
fn file<'a>(root: &Path, path: &str) -> Answer<'a> {
    let Some(name) = decoded(path) else { return Answer::error(400) };
    let parts = name.split('/').filter(|part| !part.is_empty());
    if !name.starts_with('/') || parts.clone().any(|part| part.starts_with('.') || part.contains('\0')) {
        return Answer::error(404);
    }
    let mut place = root.to_owned();
    place.extend(parts);
    if name.ends_with('/') {
        place.push("index.html");
    }
    let open = || {
        let place = fs::canonicalize(&place)?;
        if !place.starts_with(root) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        // Looked at first: to open a fifo would wait for a writer.
        if !fs::metadata(&place)?.is_file() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let file = File::open(&place)?;
        let length = file.metadata()?.len();
        std::io::Result::Ok(Answer { status: 200, kind: kind_of(&place), body: Body::File(file, length) })
    };
    open().unwrap_or_else(|_| Answer::error(404))
}

/// With `%` and two digits undone.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

fn kind_of(place: &Path) -> &'static str {
    match place.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
