//! Larder: a cache gateway.
//!
//! It stands before an API and answers what it can from memory (L1) and from Redis or a disk (L2).
//! Which responses may be stored and reused is decided by RFC 9111; under which key, and what a write
//! makes wrong, by sandboxed WebAssembly policies that `gateway.toml` names for each route.
//!
//! # The path of a request
//!
//! ```text
//! client ─ server ─▶ gateway::answer ───────────────────────────────────────────▶ server ─ client
//!   guarded: 400 or    │ 1 routes::find                       no route → 404, 405
//!   GOAWAY before      │   onward: refusal                    it has been here before → 508; too much of it → 413
//!   shortcut: most     │   token::Reader                      claims, where the route reads tokens
//!   GETs pass by hyper │   switch                             another protocol, which the route allows: tunnel
//!                      │ 2 semantics::may_answer              no → forward; a write invalidates
//!                      │   or a POST that the route lets ask  read first, as a QUERY is
//!                      │ 3 the route's key policies           failed → its on_error; its shadow is asked, too
//!                      │ 4 store::look_in_l1, look_in_l2      valid by the invalidation log?
//!                      │ 5 semantics::reuse                   fresh → a hit ends here
//!                      │   semantics::kept_fields             forward = "keyed": no more than the key holds
//!                      │ 6 collapse::enter                    one leader, others follow
//!                      │   store::turn                        of a fleet's leaders one, where the route says so
//!                      │   onward: rewritten, fields          what goes forward, by the route's words
//!                      │ 7 upstream::send                     which server, and which after it; 502, 503, 504
//!                      │   or documents::answer               503
//!                      │ 8 semantics::storable                or freshen what a 304 validated, or combine parts
//!                      │ 9 the route's storing policy, then store::put under the lease
//!                      │   coded                              in a coding of the client's, where the route compresses
//!                      ▼
//!                    Cache-Status says which way it went
//! ```
//!
//! # Layers
//!
//! Each module uses only rows below its own; `tests/tidy.rs` keeps it so.
//!
//! ```text
//! 9  main  cli
//! 8  service                        the whole, assembled from a configuration, and from the next
//! 7  server   admin
//!    changes                        of documents in MongoDB, as invalidations
//!    simulation                     what a configuration would have made of requests of a log
//! 6  gateway                        one request; the only place that picks a status
//! 5  routes   body
//!    rewriting                      what a route changes in messages
//! 4  collapse                       many equal misses, one forward request
//!    documents                      what answers a route as an upstream does
//! 3  store   plugin   upstream      what does I/O
//!    warm                           a client that has a gateway store what it will be asked for
//!    comparison                     two key policies, asked about the same requests
//! 2  stored
//! 1  semantics                      RFC 9111 as functions of values
//!    access_log                     a line for each request, when it has ended
//!    encoder                        contents brought into a coding
//!    interim                        responses before the response
//!    token                          whose a request is, by a JSON Web Token
//!    forwarded                      on whose behalf it came, by the word of proxies
//!    tunnel                         what follows HTTP on a connection
//! 0  message   octets   framing   config   clock   heard   bounded   busiest   recent   stall   stats   streams   telemetry
//!    target   traces   upgrade   handshake
//! ```
//!
//! # Invariants
//!
//! 1. `semantics` does no I/O, reads no clock and never fails: bytes from the network are data.
//! 2. Trouble in L2 is a miss, and an error only where a route says so (`on_l2_error`). Trouble in a
//!    policy is what its `on_error` says; what may have been invalidated unheard of, what the route's
//!    `on_lag` says.
//! 3. A response whose lease is older than an invalidation that covers it is never served.
//! 4. Only `gateway` picks a status, only `main` exits, only `clock` reads the time.
//! 5. No queue, map, body or task is without a bound.
//! 6. A request is answered by one configuration from its beginning to its end; a reload puts another
//!    gateway in the place of the one before, and what both must share is `gateway::Lasting`.
//!
//! # Deliberately absent
//!
//! No deletion by key: a stored response is valid or not by the invalidation log, and memory comes
//! back by lifetime and eviction. No trait with one implementation. No shared runtime for clients'
//! connections: each worker thread has its own.

pub mod access_log;
pub mod bounded;
pub mod busiest;
pub mod clock;
pub mod config;
pub mod framing;
pub mod handshake;
pub mod heard;
pub mod message;
pub mod octets;
pub mod recent;
pub mod stall;
pub mod stats;
pub mod streams;
pub mod target;
pub mod telemetry;
pub mod terminal;
pub mod traces;
pub mod upgrade;

pub mod encoder;
pub mod forwarded;
pub mod interim;
pub mod semantics;
pub mod token;
pub mod tunnel;

pub mod stored;

pub mod comparison;

pub mod plugin;
pub mod store;
pub mod upstream;
pub mod warm;

pub mod collapse;
#[cfg(feature = "mongodb")]
pub mod documents;
#[cfg(not(feature = "mongodb"))]
#[path = "documents/absent.rs"]
pub mod documents;

pub mod body;
pub mod rewriting;
pub mod routes;

pub mod gateway;

pub mod admin;
#[cfg(feature = "mongodb")]
pub mod changes;
#[cfg(not(feature = "mongodb"))]
#[path = "changes/absent.rs"]
pub mod changes;
pub mod server;
pub mod simulation;

pub mod service;

pub mod cli;
