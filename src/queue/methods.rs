//! The methods that all queues have, and the traits.

/// `$new` makes the queue of the examples: one with room, since a lone task can do nothing with a channel.
macro_rules! queue_methods {
    ($Queue:ident, [$($Bound:ident)?], $new:literal) => {
        impl<T $(: $Bound)?> $Queue<T> {
            /// Puts an item; waits for room, behind those who came before, if there is none and nobody waits for an item.
            ///
            /// # Switching
            ///
            /// Yes, if there is no room; now and then even if there is, so that a loop starves nobody.
            ///
            /// # Cancellation
            ///
            /// A caller that is cancelled while it waits for room has put nothing; the item is dropped. One whose item has just been taken, and which
            /// has not yet had its turn since, is cancelled too: its item is where it was to go.
            ///
            /// # Errors
            ///
            /// The item, if the queue is shut down, or is so while the caller waits.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1)?;
            /// queue.shutdown();
            /// assert_eq!(queue.put(2).unwrap_err().into_inner(), 2);
            /// # Ok::<(), PutError<i32>>(())
            /// ```
            #[inline(always)]
            pub fn put(&self, item: T) -> Result<(), PutError<T>> {
                let done = self.store.put(item, None);
                crate::store::charge();
                Ok(done?)
            }

            /// Puts an item if there is room or somebody waits for one.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Errors
            ///
            /// The item: [`TryPutError::Full`], [`TryPutError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            /// use greenroom::queue::*;
            ///
            /// let queue = Queue::bounded(1);
            /// assert_eq!(queue.try_put(1), Ok(()));
            /// assert_eq!(queue.try_put(2), Err(TryPutError::Full(2)));
            /// assert_eq!(Channel::new().try_put(3), Err(TryPutError::Full(3)));
            /// ```
            #[inline]
            pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
                Ok(self.store.try_put(item)?)
            }

            /// As [`put`](Self::put), but waits no longer than `timeout`; a timeout beyond what the clock can express is none.
            ///
            /// # Errors
            ///
            /// The item: [`PutTimeoutError::Elapsed`], [`PutTimeoutError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            /// use greenroom::queue::{Channel, PutTimeoutError};
            /// use std::time::Duration;
            ///
            /// let nobody_gets = Channel::new();
            /// assert_eq!(nobody_gets.put_timeout(1, Duration::from_millis(1)), Err(PutTimeoutError::Elapsed(1)));
            /// ```
            pub fn put_timeout(&self, item: T, timeout: std::time::Duration) -> Result<(), PutTimeoutError<T>> {
                let done = self.store.put(item, crate::clock::deadline_after(timeout));
                crate::store::charge();
                Ok(done?)
            }

            /// Takes an item out; waits for one, behind those who came before, if there is none.
            ///
            /// # Switching
            ///
            /// Yes, if there is no item; now and then even if there is, so that a loop starves nobody.
            ///
            /// # Cancellation
            ///
            /// If the caller is cancelled while it waits, an item that it had just been given goes to the next who waits, or back.
            ///
            /// # Errors
            ///
            /// [`GetError::ShutDown`], if the queue is shut down and empty.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put("here").unwrap();
            /// assert_eq!(queue.get(), Ok("here"));
            /// queue.shutdown();
            /// assert_eq!(queue.get(), Err(GetError::ShutDown));
            /// ```
            #[inline(always)]
            pub fn get(&self) -> Result<T, GetError> {
                crate::store::charge();
                Ok(self.store.get(None)?)
            }

            /// Takes an item out if there is one, or somebody waits to put one.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`], [`TryGetError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// assert_eq!(queue.try_get(), Err(TryGetError::Empty));
            /// queue.put(1).unwrap();
            /// assert_eq!(queue.try_get(), Ok(1));
            /// ```
            #[inline]
            pub fn try_get(&self) -> Result<T, TryGetError> {
                Ok(self.store.try_get()?)
            }

            /// As [`get`](Self::get), but waits no longer than `timeout`; a timeout beyond what the clock can express is none.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Elapsed`], [`GetTimeoutError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nuse std::time::Duration;\n\nlet queue = ", $new, ";")]
            /// assert_eq!(queue.get_timeout(Duration::from_millis(1)), Err(GetTimeoutError::Elapsed));
            /// queue.put(1).unwrap();
            /// assert_eq!(queue.get_timeout(Duration::from_millis(1)), Ok(1));
            /// ```
            pub fn get_timeout(&self, timeout: std::time::Duration) -> Result<T, GetTimeoutError> {
                crate::store::charge();
                Ok(self.store.get(crate::clock::deadline_after(timeout))?)
            }

            /// Copies the item that a [`get`](Self::get) would take out, and leaves it; waits for one if there is none.
            ///
            /// Who waits sees the next item that comes, even if somebody else, who waited to get one, is given it in that moment. The
            /// item is cloned while the queue is locked: the clone may neither wait nor use the same queue, and panics if it does.
            ///
            /// # Switching
            ///
            /// Yes, if there is no item.
            ///
            /// # Cancellation
            ///
            /// A caller that is cancelled while it waits leaves nothing behind.
            ///
            /// # Panics
            ///
            /// If the clone panics, and in nobody else. The queue is as it was.
            ///
            /// # Errors
            ///
            /// [`GetError::ShutDown`], if the queue is shut down and empty.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// assert_eq!((queue.peek(), queue.get()), (Ok(1), Ok(1)));
            /// ```
            pub fn peek(&self) -> Result<T, GetError>
            where
                T: Clone,
            {
                Ok(self.store.peek(None)?)
            }

            /// As [`peek`](Self::peek), if there is an item, or somebody waits to put one.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`], [`TryGetError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// assert_eq!(queue.try_peek(), Err(TryGetError::Empty));
            /// queue.put(1).unwrap();
            /// assert_eq!((queue.try_peek(), queue.len()), (Ok(1), 1));
            /// ```
            pub fn try_peek(&self) -> Result<T, TryGetError>
            where
                T: Clone,
            {
                self.try_peek_with(T::clone)
            }

            /// Calls `look` with the item that a [`try_get`](Self::try_get) would take out, and leaves it.
            ///
            /// The queue is locked meanwhile: `look` had better be short; it may neither wait nor use the same queue, and panics if it
            /// does.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Panics
            ///
            /// If `look` does. The queue is as it was.
            ///
            /// # Errors
            ///
            /// [`TryGetError::Empty`], [`TryGetError::ShutDown`]: `look` was not called.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(String::from("word")).unwrap();
            /// assert_eq!(queue.try_peek_with(|word| word.len()), Ok(4));
            /// ```
            pub fn try_peek_with<R>(&self, look: impl FnOnce(&T) -> R) -> Result<R, TryGetError> {
                Ok(self.store.try_peek(look)?)
            }

            /// As [`peek`](Self::peek), but waits no longer than `timeout`; a timeout beyond what the clock can express is none.
            ///
            /// # Errors
            ///
            /// [`GetTimeoutError::Elapsed`], [`GetTimeoutError::ShutDown`].
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nuse std::time::Duration;\n\nlet queue = ", $new, ";")]
            /// assert_eq!(queue.peek_timeout(Duration::from_millis(1)), Err(GetTimeoutError::Elapsed));
            /// queue.put(1).unwrap();
            /// assert_eq!(queue.peek_timeout(Duration::from_millis(1)), Ok(1));
            /// ```
            pub fn peek_timeout(&self, timeout: std::time::Duration) -> Result<T, GetTimeoutError>
            where
                T: Clone,
            {
                Ok(self.store.peek(crate::clock::deadline_after(timeout))?)
            }

            /// How many items are there. Those whose putters still wait for room don't count, nor those that were given to somebody who
            /// waited.
            ///
            /// It may be one or a few above the [`capacity`](Self::capacity), if items came back from getters that were cancelled.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// assert_eq!((queue.len(), queue.is_empty(), queue.is_full()), (1, false, false));
            /// assert!(Channel::<u8>::new().is_empty() && Channel::<u8>::new().is_full());
            /// ```
            pub fn len(&self) -> usize {
                self.store.len()
            }

            /// Whether there is no item, by [`len`](Self::len).
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether a [`try_put`](Self::try_put) would find no room, and nobody who waits for an item.
            pub fn is_full(&self) -> bool {
                self.store.is_full()
            }

            /// How many items may be there; `None` if there is always room.
            ///
            /// # Examples
            ///
            /// ```
            /// use greenroom::queue::*;
            ///
            /// assert_eq!(Queue::<u8>::bounded(3).capacity(), Some(3));
            /// assert_eq!(LifoQueue::<u8>::unbounded().capacity(), None);
            /// assert_eq!(Channel::<u8>::new().capacity(), Some(0));
            /// ```
            pub fn capacity(&self) -> Option<usize> {
                capacity(&self.store)
            }

            /// Reports an item that was got as done. When all that were put are, those who [`join`](Self::join) go on.
            ///
            /// # Panics
            ///
            /// If it is called more often than items were put.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// queue.get().unwrap();
            /// assert_eq!(queue.unfinished(), 1);
            /// queue.task_done();
            /// queue.join();
            /// ```
            #[track_caller]
            pub fn task_done(&self) {
                assert!(self.store.task_done(), "greenroom: task_done was called more often than items were put");
            }

            /// How many items were put and are not yet reported as done.
            pub fn unfinished(&self) -> usize {
                self.store.unfinished()
            }

            /// Waits until every item that was put is reported as done; that may be at once.
            ///
            /// # Switching
            ///
            /// Yes, if there are unfinished items.
            ///
            /// # Cancellation
            ///
            /// A caller that is cancelled leaves nothing behind.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nuse std::rc::Rc;\n\nlet queue = Rc::new(", $new, ");")]
            /// let worker = queue.clone();
            /// greenroom::spawn(move || {
            ///     for job in &*worker {
            ///         // ... do it
            ///         # let _ = job;
            ///         worker.task_done();
            ///     }
            /// });
            /// for job in 0..3 {
            ///     queue.put(job).unwrap();
            /// }
            /// queue.join();
            /// assert_eq!(queue.unfinished(), 0);
            /// # queue.shutdown();
            /// # greenroom::idle();
            /// ```
            pub fn join(&self) {
                self.store.join(None);
            }

            /// As [`join`](Self::join), but waits no longer than `timeout`; a timeout beyond what the clock can express is none.
            ///
            /// # Errors
            ///
            /// [`Elapsed`](crate::Elapsed), if there still are unfinished items.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nuse std::time::Duration;\n\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// assert!(queue.join_timeout(Duration::from_millis(1)).is_err());
            /// ```
            pub fn join_timeout(&self, timeout: std::time::Duration) -> Result<(), crate::Elapsed> {
                let done = self.store.join(crate::clock::deadline_after(timeout));
                done.then_some(()).ok_or(crate::error::Elapsed(()))
            }

            /// Ends the putting: those who wait to put have their items back, and so has who puts from now on. What is there can
            /// still be got; who waits for more hears that there is none. A second call does nothing.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// queue.shutdown();
            /// assert_eq!(queue.try_put(2), Err(TryPutError::ShutDown(2)));
            /// assert_eq!((queue.get(), queue.get()), (Ok(1), Err(GetError::ShutDown)));
            /// ```
            pub fn shutdown(&self) {
                self.store.close();
            }

            /// Ends the putting and the getting: as [`shutdown`](Self::shutdown), and gives what is left, in the order in which it would have been got.
            ///
            /// These items count as done. An item that was on its way to somebody who then is cancelled comes back even now, and
            /// can be got.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// assert_eq!(queue.shutdown_now(), [1]);
            /// assert_eq!(queue.get(), Err(GetError::ShutDown));
            /// queue.join();
            /// ```
            pub fn shutdown_now(&self) -> Vec<T> {
                self.store.close_now()
            }

            /// Whether [`shutdown`](Self::shutdown) or [`shutdown_now`](Self::shutdown_now) was called.
            pub fn is_shut_down(&self) -> bool {
                self.store.is_closed()
            }

            /// Gets items until the queue is shut down and empty; `for item in &queue` does the same.
            ///
            /// # Switching
            ///
            /// The call, never; the iterator's `next`, as [`get`](Self::get).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// queue.shutdown();
            /// assert_eq!(queue.iter().collect::<Vec<_>>(), [1]);
            /// ```
            pub fn iter(&self) -> Iter<'_, $Queue<T>> {
                Iter { queue: self }
            }

            /// Gets items as long as there are some.
            ///
            /// # Switching
            ///
            /// Never.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use greenroom::queue::*;\nlet queue = ", $new, ";")]
            /// queue.put(1).unwrap();
            /// assert_eq!(queue.try_iter().collect::<Vec<_>>(), [1]);
            /// ```
            pub fn try_iter(&self) -> TryIter<'_, $Queue<T>> {
                TryIter { queue: self }
            }
        }

        impl<T $(: $Bound)?> Iterator for Iter<'_, $Queue<T>> {
            type Item = T;

            #[inline]
            fn next(&mut self) -> Option<T> {
                self.queue.get().ok()
            }
        }

        impl<T $(: $Bound)?> Iterator for TryIter<'_, $Queue<T>> {
            type Item = T;

            #[inline]
            fn next(&mut self) -> Option<T> {
                self.queue.try_get().ok()
            }
        }

        impl<'a, T $(: $Bound)?> IntoIterator for &'a $Queue<T> {
            type Item = T;
            type IntoIter = Iter<'a, $Queue<T>>;

            fn into_iter(self) -> Iter<'a, $Queue<T>> {
                self.iter()
            }
        }

        /// Ready: there is an item, or the queue is shut down.
        impl<T $(: $Bound)?> crate::task::Waitable for $Queue<T> {
            fn watch(&self, ready: &crate::hub::Tell) -> Option<u64> {
                self.store.watch(ready)
            }

            fn unwatch(&self, key: u64) {
                self.store.unwatch(key);
            }
        }

        // Whole after every unwind, in a comparison of the user's too.
        impl<T $(: $Bound)?> std::panic::UnwindSafe for $Queue<T> {}
        impl<T $(: $Bound)?> std::panic::RefUnwindSafe for $Queue<T> {}

        impl<T $(: $Bound)?> fmt::Debug for $Queue<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                debug(stringify!($Queue), &self.store, f)
            }
        }
    };
}
