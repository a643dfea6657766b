//! Clients of databases. What holds their answers back is the database itself: a lock, or an empty list, which somebody on a
//! native thread releases when it sees all of them wait for it.

#![allow(missing_docs, reason = "a test binary")]

use greenroom_patched::{Program, Relay, bad_days, check, go, mariadb, memcached, overlap, postgres, redis, until};
use mysql::prelude::Queryable;
use redis::Commands;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;

const MANY: usize = 200;

fn redis_client(address: SocketAddr) -> redis::Client {
    redis::Client::open(format!("redis://{address}/")).unwrap()
}

/// Waits until so many clients of it wait.
fn until_blocked(connection: &mut redis::Connection, count: usize) {
    let wanted = format!("blocked_clients:{count}\r");
    until("all wait for an item", || {
        let clients: String = redis::cmd("INFO").arg("clients").query(connection).unwrap();
        clients.lines().any(|line| line.trim_end() == wanted.trim_end())
    });
}

#[test]
fn redis_overlaps() {
    check(redis, |server| {
        let address = server.address();
        let other = thread::spawn(move || {
            let mut connection = redis_client(address).get_connection().unwrap();
            until_blocked(&mut connection, MANY);
            for i in 0..MANY {
                let _: usize = connection.rpush(format!("list-{i}"), format!("number-{i}")).unwrap();
            }
        });
        let (items, stats) = overlap(MANY, move |i| {
            let mut connection = redis_client(address).get_connection().unwrap();
            let item: Option<[String; 2]> = connection.blpop(format!("list-{i}"), 0.0).unwrap();
            item.unwrap()
        });
        other.join().unwrap();
        let right =
            |(i, [list, item]): (usize, &[String; 2])| *list == format!("list-{i}") && *item == format!("number-{i}");
        assert!(items.iter().enumerate().all(right));
        stats.on_one_thread(0);
    });
}

/// Fewer connections than tasks: the rest waits for one in the pool.
#[test]
fn redis_overlaps_in_a_pool() {
    const POOL: usize = 50;
    check(redis, |server| {
        let address = server.address();
        let other = thread::spawn(move || {
            let mut connection = redis_client(address).get_connection().unwrap();
            for round in 0..MANY / POOL {
                until_blocked(&mut connection, POOL);
                let items: Vec<usize> = (round * POOL..(round + 1) * POOL).collect();
                let _: usize = connection.rpush("list", items).unwrap();
            }
        });
        let pool = go(move || r2d2::Pool::builder().max_size(POOL as u32).build(redis_client(address)).unwrap()).join();
        let (items, stats) = overlap(MANY, move |i| {
            let mut connection = pool.get().unwrap();
            let item: Option<[String; 2]> = connection.blpop("list", 0.0).unwrap();
            let [_, item] = item.unwrap();
            let echoed: usize = redis::cmd("ECHO").arg(i).query(&mut *connection).unwrap();
            assert_eq!(echoed, i);
            item.parse::<usize>().unwrap()
        });
        other.join().unwrap();
        let mut sorted = items;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..MANY));
        // The pool's threads.
        stats.on_one_thread(3);
    });
}

#[test]
fn redis_cut_short() {
    check(redis, |server| {
        bad_days(server.address(), |address| {
            let mut connection = redis_client(address).get_connection()?;
            connection.set::<_, _, ()>("key", "value ".repeat(100))?;
            let value: String = connection.get("key")?;
            assert_eq!(value, "value ".repeat(100));
            Ok::<(), redis::RedisError>(())
        });
    });
}

/// Gives up when nothing has come for a second.
#[derive(Debug)]
#[cfg(not(feature = "control"))]
struct Impatient;

#[cfg(not(feature = "control"))]
impl r2d2::CustomizeConnection<redis::Connection, redis::RedisError> for Impatient {
    fn on_acquire(&self, connection: &mut redis::Connection) -> Result<(), redis::RedisError> {
        connection.set_read_timeout(Some(std::time::Duration::from_secs(1)))
    }
}

/// Who is killed leaves a connection in the pool that waits for an answer, as after any error that the crate has no name for.
/// The pool finds out when it tries it, and is whole again for the next.
#[test]
#[cfg(not(feature = "control"))]
fn a_pool_survives_those_killed_with_its_connections() {
    check(redis, |server| {
        let address = server.address();
        let pool = r2d2::Pool::builder().max_size(5).connection_customizer(Box::new(Impatient));
        let pool = go(move || pool.build(redis_client(address)).unwrap()).join();
        let mut connection = redis_client(address).get_connection().unwrap();
        for _ in 0..3 {
            let held: Vec<_> = (0..10)
                .map(|_| {
                    let pool = pool.clone();
                    greenroom::spawn(move || {
                        let mut connection = pool.get().map_err(|error| error.to_string())?;
                        connection.blpop::<_, Option<[String; 2]>>("never", 0.0).map_err(|error| error.to_string())
                    })
                })
                .collect();
            until_blocked(&mut connection, 5);
            for task in &held {
                assert!(task.kill_timeout(std::time::Duration::from_secs(20)));
            }
            for ended in greenroom::joinall(held) {
                assert!(!matches!(ended, Ok(Ok(_)) | Err(greenroom::JoinError::Panicked(_))), "{ended:?}");
            }
            let shared = pool.clone();
            let (echoes, _) = overlap(20, move |i| {
                let mut connection = shared.get().unwrap();
                redis::cmd("ECHO").arg(i).query::<usize>(&mut *connection).unwrap()
            });
            assert!(echoes.into_iter().eq(0..20));
        }
    });
}

fn postgres_client(address: SocketAddr) -> Result<postgres::Client, postgres::Error> {
    let (host, port) = (address.ip().to_string(), address.port());
    postgres::Config::new().host(&host).port(port).user("postgres").connect(postgres::NoTls)
}

/// Holds an advisory lock until so many wait for it.
fn hold_postgres(server: &Program, waiters: usize) -> thread::JoinHandle<()> {
    let address = server.address();
    let (tell, told) = channel();
    let other = thread::spawn(move || {
        let mut client = postgres_client(address).unwrap();
        client.execute("select pg_advisory_lock(7)", &[]).unwrap();
        tell.send(()).unwrap();
        until("all wait for the lock", || {
            let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
            client.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == waiters as i64
        });
        client.execute("select pg_advisory_unlock(7)", &[]).unwrap();
    });
    told.recv().unwrap();
    other
}

#[test]
fn postgres_overlaps() {
    check(postgres, |server| {
        let address = server.address();
        let other = hold_postgres(server, MANY);
        let (numbers, stats) = overlap(MANY, move |i| {
            let mut client = postgres_client(address).unwrap();
            let row = client.query_one("select $1::int4, pg_advisory_lock_shared(7)::text", &[&(i as i32)]).unwrap();
            row.get::<_, i32>(0) as usize
        });
        other.join().unwrap();
        assert!(numbers.into_iter().eq(0..MANY));
        stats.on_one_thread(0);
    });
}

#[test]
fn postgres_keeps_transactions_apart() {
    check(postgres, |server| {
        let address = server.address();
        let mut client = go(move || postgres_client(address).unwrap()).join();
        go(move || {
            client.batch_execute("create table sums (i int primary key, n int); insert into sums values (0, 0)")
        })
        .join()
        .unwrap();
        let (_, stats) = overlap(40, move |_| {
            let mut client = postgres_client(address).unwrap();
            for _ in 0..5 {
                let mut transaction = client.transaction().unwrap();
                let n: i32 = transaction.query_one("select n from sums where i = 0 for update", &[]).unwrap().get(0);
                transaction.execute("update sums set n = $1 where i = 0", &[&(n + 1)]).unwrap();
                transaction.commit().unwrap();
            }
        });
        stats.on_one_thread(0);
        let sum = go(move || {
            postgres_client(address).unwrap().query_one("select n from sums", &[]).unwrap().get::<_, i32>(0)
        });
        assert_eq!(sum.join(), 200);
    });
}

#[test]
fn postgres_cut_short() {
    check(postgres, |server| {
        bad_days(server.address(), |address| {
            let mut client = postgres_client(address)?;
            let rows = client.query("select i from generate_series(1, 100) as i where i > $1", &[&0])?;
            assert!(rows.iter().map(|row| row.get::<_, i32>(0)).eq(1..=100));
            Ok::<(), postgres::Error>(())
        });
    });
}

fn mysql_options(address: SocketAddr) -> mysql::OptsBuilder {
    let options = mysql::OptsBuilder::new().ip_or_hostname(Some(address.ip().to_string())).tcp_port(address.port());
    options.user(Some("root")).db_name(Some("test")).prefer_socket(false)
}

/// Makes a table, `gate`, with a row for each number below `waiters`, and locks it until so many wait for it, so many times.
fn hold_mysql(server: &Program, waiters: usize, times: usize) -> thread::JoinHandle<()> {
    let address = server.address();
    let (tell, told) = channel();
    let other = thread::spawn(move || {
        let mut connection = mysql::Conn::new(mysql_options(address)).unwrap();
        connection.query_drop("create table gate (i int primary key)").unwrap();
        let rows: Vec<String> = (0..waiters).map(|i| format!("({i})")).collect();
        connection.query_drop(format!("insert into gate values {}", rows.join(","))).unwrap();
        for _ in 0..times {
            connection.query_drop("lock tables gate write").unwrap();
            let _ = tell.send(());
            until("all wait for the table", || {
                let waiting =
                    "select count(*) from information_schema.processlist where state like 'Waiting for table%'";
                connection.query_first::<usize, _>(waiting).unwrap() == Some(waiters)
            });
            connection.query_drop("unlock tables").unwrap();
        }
    });
    told.recv().unwrap();
    other
}

#[test]
fn mysql_overlaps() {
    check(mariadb, |server| {
        let address = server.address();
        let other = hold_mysql(server, MANY, 1);
        let (numbers, stats) = overlap(MANY, move |i| {
            let mut connection = mysql::Conn::new(mysql_options(address)).unwrap();
            connection.exec_first::<usize, _, _>("select i from gate where i = ?", (i,)).unwrap().unwrap()
        });
        other.join().unwrap();
        assert!(numbers.into_iter().eq(0..MANY));
        stats.on_one_thread(0);
    });
}

/// Its own pool, whose tasks wait for each other by std's locks.
#[test]
fn mysql_overlaps_in_a_pool() {
    const POOL: usize = 20;
    check(mariadb, |server| {
        let address = server.address();
        let other = hold_mysql(server, POOL, 1);
        let limits = mysql::PoolConstraints::new(0, POOL).unwrap();
        let options = mysql_options(address).pool_opts(mysql::PoolOpts::new().with_constraints(limits));
        let pool = go(move || mysql::Pool::new(options).unwrap()).join();
        let (numbers, stats) = overlap(MANY, move |i| {
            let mut connection = pool.get_conn().unwrap();
            connection.query_drop("select i from gate where i = 0").unwrap();
            connection.exec_first::<usize, _, _>("select ? + 1", (i,)).unwrap().unwrap()
        });
        other.join().unwrap();
        assert!(numbers.into_iter().eq(1..=MANY));
        stats.on_one_thread(0);
    });
}

#[test]
fn mysql_cut_short() {
    check(mariadb, |server| {
        bad_days(server.address(), |address| {
            let mut connection = mysql::Conn::new(mysql_options(address))?;
            let numbers: Vec<usize> = connection.query("select seq from seq_1_to_100")?;
            assert!(numbers.into_iter().eq(1..=100));
            Ok::<(), mysql::Error>(())
        });
    });
}

fn memcache_url(address: SocketAddr) -> String {
    format!("memcache://{address}?timeout=60&tcp_nodelay=true")
}

/// As many at once as its pool has connections: of these, all must have asked before the first is answered.
#[test]
fn memcache_overlaps() {
    const POOL: usize = 50;
    check(memcached, |server| {
        let gate = Relay::gate_of_asked(server.address(), POOL);
        let url = memcache_url(gate.address());
        let client = go(move || memcache::Client::with_pool_size(url, POOL as u32).unwrap()).join();
        let (values, stats) = overlap(MANY, move |i| {
            client.set(&format!("key-{i}"), format!("number-{i}"), 0).unwrap();
            client.get::<String>(&format!("key-{i}")).unwrap().unwrap()
        });
        assert!(values.iter().enumerate().all(|(i, value)| *value == format!("number-{i}")));
        // The pool's threads.
        stats.on_one_thread(3);
    });
}

#[test]
fn memcache_cut_short() {
    check(memcached, |server| {
        bad_days(server.address(), |address| {
            // Its pool of one makes new connections for as long as `connection_timeout`.
            let client = memcache::Client::builder()
                .with_connection_timeout(std::time::Duration::from_secs(1))
                .add_server(memcache_url(address))?
                .build()?;
            client.set("key", "value ".repeat(100), 0)?;
            let value: Option<String> = client.get("key")?;
            assert_eq!(value, Some("value ".repeat(100)));
            Ok::<(), memcache::MemcacheError>(())
        });
    });
}
