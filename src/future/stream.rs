//! What gives values one by one, as streams.

#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::generator::Generator;
use crate::sync::mpsc::Receiver;

/// The generator's values. A poll is a `next`, so it is always ready: what the body waits for parks the whole task, with
/// whatever polls the stream.
///
/// # Switching
///
/// As the body does.
///
/// # Examples
///
/// ```
/// use greenroom::future::{Stream, block_on};
/// use greenroom::generator::{Generator, Yielder};
/// use std::{future::poll_fn, pin::Pin};
///
/// let mut squares = Generator::new(|y: &Yielder<(), u32>| (1..=2).for_each(|n| y.yield_(n * n)));
/// let mut next = || block_on(poll_fn(|context| Pin::new(&mut squares).poll_next(context)));
/// assert_eq!([next(), next(), next()], [Some(1), Some(4), None]);
/// ```
impl<Y: 'static> Stream for Generator<Y> {
    type Item = Y;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Y>> {
        Poll::Ready(self.next())
    }
}

impl<Y: 'static> FusedStream for Generator<Y> {
    fn is_terminated(&self) -> bool {
        self.is_done()
    }
}

/// The channel's items, until no sender is left. Each poll is a [`try_recv`](Receiver::try_recv); one that finds nothing has its
/// waker called when an item comes, or the last sender goes.
///
/// # Switching
///
/// Now and then, if there is an item, so that a loop starves nobody.
///
/// # Cancellation
///
/// An item that another takes meanwhile was not this stream's: its waker is called all the same, and it waits again.
///
/// # Examples
///
/// ```
/// use greenroom::future::{Stream, block_on};
/// use greenroom::sync::mpsc::channel;
/// use std::{future::poll_fn, pin::Pin};
///
/// let (sender, mut receiver) = channel();
/// greenroom::spawn(move || (1..=2).for_each(|n| sender.send(n).unwrap()));
/// let mut next = || block_on(poll_fn(|context| Pin::new(&mut receiver).poll_next(context)));
/// assert_eq!([next(), next(), next()], [Some(1), Some(2), None]);
/// ```
impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(context.waker())
    }
}
