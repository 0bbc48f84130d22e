//! Connections to one server: how they are made and kept.

use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config;

use super::Content;
use super::names::Whereto;

/// The connections to one server. Dropping it closes those that are idle; others close when they become so.
pub(super) type Client = legacy::Client<HttpsConnector<HttpConnector<Whereto>>, Content>;

/// Opens no connection yet.
pub(super) fn client(
    config: &config::Upstream,
    tls: rustls::ClientConfig,
    whereto: Whereto,
) -> Client {
    let mut connector = HttpConnector::new_with_resolver(whereto);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.connect_timeout));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(256)
        .build(connector)
}
