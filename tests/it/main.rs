//! Larder from outside: what a client gets, what an origin sees, and what `Cache-Status` says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

// Responses from the cache, by RFC 9111.
mod reuse;
