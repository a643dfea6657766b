//! Values that each task has for itself.

#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::ptr;
use std::rc::Rc;

use crate::error::AccessError;
use crate::hub::Hub;

/// Declares values that each task has for itself, made at its first use there and dropped at the task's end.
///
/// The syntax is that of [`std::thread_local!`]; what is declared are [`LocalKey`]s. The root of a thread is a task like
/// the others; what it has is dropped at the thread's end, if that is not the main thread.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
///
/// greenroom::task_local! {
///     static REQUEST: Cell<u32> = Cell::new(0);
/// }
///
/// REQUEST.with(|request| request.set(7));
/// let other = greenroom::spawn(|| REQUEST.with(Cell::get));
/// assert_eq!(other.join().unwrap(), 0);
/// assert_eq!(REQUEST.with(Cell::get), 7);
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block; $($rest:tt)*) => {
        $crate::task_local!($(#[$attr])* $vis static $name: $t = $init; $($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block) => {
        $crate::task_local!($(#[$attr])* $vis static $name: $t = $init;);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr; $($rest:tt)*) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = {
            fn init() -> $t {
                $init
            }
            $crate::LocalKey::new(init)
        };
        $crate::task_local!($($rest)*);
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr) => {
        $crate::task_local!($(#[$attr])* $vis static $name: $t = $init;);
    };
}

/// The name of a value that each task has for itself. Declared by [`task_local!`](crate::task_local).
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// Two keys must not share an address, which a static of no size could.
    _place: u8,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init, _place: 0 }
    }

    /// Runs `f` on the current task's value, which is made if it is not there yet.
    ///
    /// # Switching
    ///
    /// As `f` does: the value stays where it is, and the other tasks have their own.
    ///
    /// # Panics
    ///
    /// If the task's locals are being dropped. [`try_with`](Self::try_with) gives an error instead.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("greenroom: {error}"),
        }
    }

    /// As [`with`](Self::with), with an error while the task's locals are being dropped.
    ///
    /// # Errors
    ///
    /// [`AccessError`], at the end of the task.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        if Hub::is_gone() {
            return Err(AccessError(()));
        }
        let hub = Hub::here();
        let key = ptr::from_ref(self).addr();
        let find = || {
            hub.current()
                .peek_extra(|extra| {
                    let found = extra.locals.iter().find(|(other, _)| *other == key);
                    found.map(|(_, value)| value.clone())
                })
                .flatten()
        };

        let value = match find() {
            Some(value) => value,
            None if hub.current().ending.get() => return Err(AccessError(())),
            None => {
                let value: Rc<dyn Any> = Rc::new((self.init)());
                // The initialiser may have used the key itself: then the value that is there stays. In a greenlet it may even
                // have come back in another task, which ends the greenlet; the first one is gone then.
                match find() {
                    Some(found) => found,
                    None if hub.current().ending.get() => return Err(AccessError(())),
                    None => {
                        hub.current().with_extra(|extra| extra.locals.push((key, value.clone())));
                        value
                    }
                }
            }
        };
        let value = value.downcast_ref().expect("a key's address belongs to one type");
        Ok(f(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
