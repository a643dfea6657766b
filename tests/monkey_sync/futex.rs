//! Futexes as such.
