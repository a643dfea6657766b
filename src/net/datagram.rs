//! Datagrams: what UDP and Unix datagram sockets have in common. Each call is one datagram, so none tells what is left.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use crate::io::{Direction, Left, Source};
use crate::sys::{self, Address};

pub(super) fn receive<S: AsFd>(source: &Source<S>, buf: &mut [u8]) -> io::Result<usize> {
    source.perform(Direction::Read, |socket| sys::receive(socket.as_fd(), buf), |_| Left::Maybe)
}

pub(super) fn peek<S: AsFd>(source: &Source<S>, buf: &mut [u8]) -> io::Result<usize> {
    source.perform(Direction::Read, |socket| sys::peek(socket.as_fd(), buf), |_| Left::Maybe)
}

pub(super) fn receive_from<S: AsFd>(source: &Source<S>, buf: &mut [u8], peek: bool) -> io::Result<(usize, Address)> {
    source.perform(Direction::Read, |socket| sys::receive_from(socket.as_fd(), buf, peek), |_| Left::Maybe)
}

pub(super) fn send<S: AsFd>(source: &Source<S>, buf: &[u8]) -> io::Result<usize> {
    source.perform(Direction::Write, |socket| sys::send(socket.as_fd(), buf), |_| Left::Maybe)
}

pub(super) fn send_to<S: AsFd>(source: &Source<S>, buf: &[u8], to: &Address) -> io::Result<usize> {
    source.perform(Direction::Write, |socket| sys::send_to(socket.as_fd(), buf, to), |_| Left::Maybe)
}
