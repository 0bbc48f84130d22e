//! Larder from outside: what a client gets, what an origin sees, and what `Cache-Status` says.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]
#![expect(unreachable_pub, reason = "the stage's modules are written as a library's")]
#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

mod support;

// Responses from the cache, by RFC 9111: which are stored, which are served, which of several, which
// parts of them, how they are validated, and what makes them invalid.
mod broken;
mod examples;
mod groups;
mod head;
mod invalidation;
mod no_vary_search;
mod parts;
mod post;
mod query;
mod ranges;
mod reuse;
mod rules;
mod stale;
mod storing;
mod validation;
mod vary;

// Messages on their way through, by RFC 9110, 9112 and 9113, and those that are none.
mod by_fields;
mod forwarding;
mod loops;
mod malformed;
mod proxies;
mod rewriting;
mod sizes;

// Content on its way: passed on as it comes, never a part for the whole; and in a coding.
mod compression;
mod events;
mod streaming;
mod uploads;

// Other protocols than HTTP on its connections.
mod switching;
mod websocket;

// Many equal misses, one forward request; and crowds of clients that come and go.
mod collapse;
mod crowd;
mod fleet;

// Clients' connections: used again, shared, bounded; over TLS; flooded with
// frames, and with frames that HTTP/2 forbids; behind a proxy that passes them on.
mod aged;
mod client_certificates;
mod connections;
mod floods;
mod http2;
mod listeners;
mod nghttp;
mod proxied;

// What fails behind the gateway, who is asked, and who instead.
mod balancing;
mod bounds;
mod calamities;
mod direct;
mod ejection;
mod names;
mod probes;
mod retries;
mod upstream;
mod upstream_http2;
mod upstream_tls;

// L1 and L2, alone and together, in one gateway and in a fleet.
mod tiers;

// The fleet that the README starts.
mod three;

// What lies in Redis: damaged, too large, compressed.
mod frames;

// L2 on a disk: over restarts and kills, full, damaged.
mod disk;

// Answers out of MongoDB, and who it lets ask.
#[cfg(feature = "mongodb")]
mod documents;
#[cfg(feature = "mongodb")]
mod logins;
#[cfg(feature = "mongodb")]
mod srv;

// What changes in MongoDB, as invalidations.
#[cfg(feature = "mongodb")]
mod changes;
#[cfg(feature = "mongodb")]
mod changes_trouble;
#[cfg(feature = "mongodb")]
mod scripted;
#[cfg(feature = "mongodb")]
mod worked;

// What operators purge, and which gateways have applied it.
mod purge;
mod purge_command;
mod receipts;
mod stored;

// The page for operators, and the feed behind it.
mod browser;
mod dashboard;

// What a configuration would have made of what was asked before; and checks of the one that runs.
mod measure;
mod simulate;

// What is stored before anybody asks for it.
mod busiest;
mod warm;
mod warming;

// Redis down, hanging, lying, losing what it held.
mod outages;

// Redis that answers, and refuses: full, a replica, too slow, somebody else's.
mod refusals;

// What a route does without L2.
mod spared;

// Behind the invalidation log for too long, and what each route does about it.
mod lag;

// Redis as people run it: behind sentinels, as a cluster, over TLS; users and their rights.
mod cluster;
mod dialects;
mod sentinel;
mod tls;
mod users;

// Plugins on routes: what they decide, and what their failure leads to.
mod bundled;
mod contents;
mod policies;
mod several;
mod shadow;

// One small policy in several languages.
mod languages;

// Plugins that mean harm, one each: what the client gets, what the operator sees, what goes on.
mod hostile;

// What a policy may share, and what reaches the upstream.
mod asking;
mod grants;
mod issuers;
mod poisoning;
mod together;
mod tokens;

// Before an API and a test suite that nobody here wrote, and between a client and a server.
mod conformance;
mod foreign;
mod grpc;

// What operators see and do, and what they are told of a request.
mod access_log;
mod admin;
mod explain;
mod explain_command;
mod explain_content;
mod health;
mod metrics;
mod openapi;
mod outcomes;
mod traces;

// Another configuration, and other plugins, while requests run.
mod include;
mod reload;

// A policy's author: begin one, try its cases, look into it, measure it; what the crate for policies
// says of the contract.
mod author;
mod contract;

// The program: its arguments and the faults it tells, how it ends, and how another takes its place.
mod cli;
mod operators;
mod packaged;
mod schema;
mod shortcut;
mod shutdown;
mod supervised;
mod takeover;
