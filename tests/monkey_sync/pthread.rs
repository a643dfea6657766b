//! The C library's locks.
