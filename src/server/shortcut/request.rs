//! A request, read out of its octets as hyper would read it.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderName, Request};

use crate::octets;
use crate::upstream::Arriving;

/// A request of HTTP/1.1 without content, and its octets. None: hyper is to read it.
pub(super) fn read(head: &[u8]) -> Option<(Request<Arriving>, Bytes)> {
    if !head.starts_with(b"GET ") {
        return None;
    }
    // One memory for all values, and for the target.
    let octets = Bytes::copy_from_slice(head);
    let is_usual = |name: &HeaderName, _: &_| !matches!(*name, CONNECTION | EXPECT);
    let (target, fields) = octets::request(&octets, is_usual)?;
    let mut request = Request::new(Arriving::Nothing);
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    Some((request, octets))
}
