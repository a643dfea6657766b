//! Copying from a reader to a writer.
//!
//! Through memory, always. `splice` and `sendfile` were tried and left: on a socket in blocking mode they wait in the kernel, whatever
//! `SPLICE_F_NONBLOCK` says, which is for the pipe alone (Linux 6.18, 2026-11: 1 s in an empty TCP socket, until an alarm came). To
//! set the mode is not ours: the open file may be shared (rule 20).

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

/// The buffer at first, and when reads fill it: an idle connection does not hold what a busy one needs.
const FIRST: usize = 8 << 10;
const MOST: usize = 128 << 10;

/// Copies all that `reader` gives to `writer`, and says how many bytes there were: [`std::io::copy`], with a buffer that grows with
/// the flow, from 8 to 128 KiB, and lies on the heap.
///
/// For a whole file under its name there is [`fs::copy`](crate::fs::copy).
///
/// # Switching
///
/// As the reader and the writer do.
///
/// # Cancellation
///
/// What was read and not yet written is lost, at most one buffer; `writer` has got a part of it, from the front.
///
/// # Errors
///
/// The first of either side. `Interrupted` is tried again.
///
/// # Examples
///
/// ```
/// use greenroom::io;
/// use std::io::Write;
///
/// let (mut reader, mut writer) = io::pipe()?;
/// greenroom::spawn(move || writer.write_all(&[7; 100_000]));
/// let mut all = Vec::new();
/// assert_eq!(io::copy(&mut reader, &mut all)?, 100_000);
/// # std::io::Result::Ok(())
/// ```
pub fn copy<R: Read + ?Sized, W: Write + ?Sized>(reader: &mut R, writer: &mut W) -> io::Result<u64> {
    let mut buffer = vec![0; FIRST];
    let mut copied = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        writer.write_all(&buffer[..n])?;
        copied += n as u64;
        if n == buffer.len() && n < MOST {
            buffer.resize(n * 2, 0);
        }
    }
}
