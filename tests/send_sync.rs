//! What may go to another thread, and what may be shared: a table, checked when it is compiled.

use std::cell::Cell;
use std::rc::Rc;

use greenroom::generator::Generator;
use greenroom::greenlet::Greenlet;
use greenroom::net::TcpStream;
use greenroom::offload::{OffloadHandle, ThreadPool};
use greenroom::pool::{Group, IMap, Pool};
use greenroom::queue::{Channel, Iter, LifoQueue, PriorityQueue, Queue, TryIter};
use greenroom::select::Readiness;
use greenroom::sync::mpsc::{self, Receiver, Sender, SyncSender};
use greenroom::sync::{
    AsyncResult, Barrier, BoundedSemaphore, Condvar, Event, LazyLock, Mutex, MutexGuard, Once, OnceLock, OwnedPermit,
    Permit, ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore,
};
use greenroom::{HubHandle, IWait, JoinHandle, RemoteJoinHandle, Task, Unparker};

/// `Sync` and not `Send`.
type NotSend = MutexGuard<'static, u8>;
/// `Send` and not `Sync`.
type NotSync = Cell<u8>;
/// Neither.
type Stays = Rc<u8>;

/// Whether a type has a trait: an inherent constant, where its bounds hold, goes before the trait's.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "not where the type has the trait")]
        trait No {
            const HAS: bool = false;
        }
        impl<T: ?Sized> No for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "not where the type has no such trait")]
        impl<T: ?Sized + $($bound)+> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

macro_rules! table {
    ($($type:ty: $send:literal $sync:literal;)*) => {$(
        const _: () = assert!(has!($type: Send) == $send, concat!(stringify!($type), ": Send"));
        const _: () = assert!(has!($type: Sync) == $sync, concat!(stringify!($type), ": Sync"));
    )*};
}

table! {
    u8: true true;
    NotSend: false true;
    NotSync: true false;
    Stays: false false;

    Mutex<u8>: true true;
    Mutex<NotSync>: true true;
    Mutex<NotSend>: false false;
    Mutex<Stays>: false false;
    MutexGuard<'static, u8>: false true;
    MutexGuard<'static, NotSync>: false false;
    RwLock<u8>: true true;
    RwLock<NotSync>: true false;
    RwLock<NotSend>: false false;
    RwLockReadGuard<'static, u8>: false true;
    RwLockReadGuard<'static, NotSync>: false false;
    RwLockWriteGuard<'static, u8>: false true;
    RwLockWriteGuard<'static, NotSync>: false false;
    ReentrantMutex<u8>: true true;
    ReentrantMutex<NotSync>: true true;
    ReentrantMutex<NotSend>: false false;
    ReentrantMutexGuard<'static, u8>: false true;
    ReentrantMutexGuard<'static, NotSync>: false false;
    Condvar: true true;
    Barrier: true true;
    Once: true true;
    Event: true true;
    OnceLock<u8>: true true;
    OnceLock<NotSync>: true false;
    OnceLock<NotSend>: false false;
    LazyLock<u8>: true true;
    LazyLock<NotSync>: true false;
    LazyLock<NotSend>: false false;
    LazyLock<u8, NotSync>: true true;
    LazyLock<u8, NotSend>: false false;
    AsyncResult<u8>: true true;
    AsyncResult<NotSync>: true false;
    AsyncResult<NotSend>: false false;
    Semaphore: true true;
    BoundedSemaphore: true true;
    Permit<'static>: true true;
    OwnedPermit: true true;

    Sender<u8>: true true;
    Sender<NotSync>: true true;
    Sender<NotSend>: false false;
    SyncSender<NotSync>: true true;
    SyncSender<NotSend>: false false;
    Receiver<u8>: true false;
    Receiver<NotSync>: true false;
    Receiver<NotSend>: false false;
    mpsc::Iter<'static, u8>: false false;
    mpsc::IntoIter<u8>: true false;

    Queue<NotSync>: true true;
    Queue<NotSend>: false false;
    LifoQueue<NotSync>: true true;
    LifoQueue<NotSend>: false false;
    PriorityQueue<NotSync>: true true;
    PriorityQueue<Stays>: false false;
    Channel<NotSync>: true true;
    Channel<NotSend>: false false;
    Iter<'static, Queue<NotSync>>: true true;
    TryIter<'static, Queue<Stays>>: false false;

    JoinHandle<u8>: false false;
    Task: false false;
    Unparker: true true;
    HubHandle: true true;
    RemoteJoinHandle<u8>: true true;
    RemoteJoinHandle<NotSync>: true true;
    IWait<JoinHandle<u8>>: false false;
    Readiness<'static, TcpStream>: false false;
    IWait<Readiness<'static, TcpStream>>: false false;
    Generator<u8>: false false;
    Greenlet<u8>: false false;
    Group: false false;
    Pool: false false;
    IMap<u8>: false false;
    ThreadPool: true true;
    OffloadHandle<u8>: true true;
    OffloadHandle<NotSync>: true true;
    OffloadHandle<NotSend>: false false;
}

#[test]
fn the_table_holds() {
    // It is looked at when this is compiled; here, that the probe tells one from the other.
    assert!(has!(u8: Send) && !has!(Stays: Send));
}
