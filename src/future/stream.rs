//! What gives values one by one, as streams.

#![forbid(unsafe_code)]

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::generator::Generator;

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
