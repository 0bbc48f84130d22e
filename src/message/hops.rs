//! How far a message may go: `Max-Forwards` (RFC 9110 §7.6.2), of the two methods that look for who is on the way.

use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue, Method};

/// How often a request may still be sent on, if it says so. For other methods nobody has to heed that.
pub fn forwards_left(method: &Method, fields: &HeaderMap) -> Option<u64> {
    if !matches!(*method, Method::OPTIONS | Method::TRACE) {
        return None;
    }
    let said = fields.get(MAX_FORWARDS)?.to_str().ok()?;
    let is_number = !said.is_empty() && said.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| said.parse().unwrap_or(u64::MAX))
}

/// Counts that a request with this method is sent on.
pub fn count_forward(method: &Method, fields: &mut HeaderMap) {
    if let Some(left) = forwards_left(method, fields) {
        fields.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_a_number_of_two_methods() {
        for (method, said, left, then) in [
            (Method::OPTIONS, "0", Some(0), "0"),
            (Method::TRACE, "10", Some(10), "9"),
            (Method::OPTIONS, "99999999999999999999", Some(u64::MAX), "18446744073709551614"),
            (Method::OPTIONS, "+1", None, "+1"),
            (Method::OPTIONS, "", None, ""),
            (Method::GET, "0", None, "0"),
        ] {
            let mut fields = HeaderMap::from_iter([(MAX_FORWARDS, HeaderValue::from_static(said))]);
            assert_eq!(forwards_left(&method, &fields), left, "{method} {said}");
            count_forward(&method, &mut fields);
            assert_eq!(fields[MAX_FORWARDS], then, "{method} {said}");
        }
    }
}
