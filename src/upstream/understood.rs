//! What of a server's answer is not for the client, as it could be read in two ways.

use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode};

use crate::message;
use crate::upgrade;

use super::Failure;

/// Refuses what nobody asked for, or what is not clear, as it is not for the client:
///
/// - what follows a 101, unless it is of the protocol that was asked for (RFC 9110 §7.8);
/// - content that could end in two places, with what an attacker has put behind the first;
/// - content in a transfer coding other than `chunked`, which `TE` does not announce (RFC 9112
///   §7.4): it would pass for the content itself.
pub(super) fn understood<B>(
    response: Response<B>,
    upgrade: Option<&str>,
) -> Result<Response<B>, Failure> {
    let framing = message::response_framing(response.headers());
    let codings = || response.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let unasked = if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Err(unasked) = upgrade::agreed(upgrade, response.headers())
    {
        unasked
    } else if framing != Ok(false) && !codings().all(is_chunked) {
        "upstream answered in a transfer coding unasked"
    } else if let Err(unclear) = framing {
        unclear
    } else {
        return Ok(response);
    };
    Err(Failure::broken(std::io::Error::other(unasked)))
}
