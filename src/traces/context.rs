//! W3C Trace Context: `traceparent` and `tracestate`.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that says which span a request is a part of.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What tracing systems add to that, for themselves.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a request stands in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; not 0.
    pub trace: u128,
    /// The span that it was sent from, if it said so.
    pub parent: Option<u64>,
    /// The span of the request itself.
    pub span: u64,
    /// The trace is told.
    pub is_sampled: bool,
    /// What systems before this one have added.
    pub state: Option<HeaderValue>,
}

impl Context {
    /// Of a request with these fields. A trace that begins here is told with this probability.
    pub fn of(fields: &HeaderMap, share: f64) -> Self {
        let span = random();
        if let Some((trace, parent, is_sampled)) = parent(fields) {
            // RFC 9110 §5.3: a list may stand in several lines.
            let mut states = fields.get_all(&TRACESTATE).iter();
            let state = states.next().filter(|_| states.next().is_none()).cloned();
            return Self { trace, parent: Some(parent), span, is_sampled, state };
        }
        let (high, low) = (random(), random());
        let trace = (u128::from(high) << 64) | u128::from(low);
        // Even in all of its bits: the share of the range below.
        #[expect(clippy::cast_precision_loss, reason = "52 bits of chance are enough")]
        let is_sampled = share >= 1.0 || (low as f64) < share * u64::MAX as f64;
        Self { trace, parent: None, span, is_sampled, state: None }
    }

    /// Says in a forward request that it is a part of this, sent from the span `forward`.
    pub fn write_to(&self, forward: u64, fields: &mut HeaderMap) {
        let Self { trace, is_sampled, .. } = self;
        let text = format!("00-{trace:032x}-{forward:016x}-0{}", u8::from(*is_sampled));
        if let Ok(text) = HeaderValue::try_from(text) {
            fields.insert(TRACEPARENT, text);
        }
        // "If the vendor failed to parse traceparent, it MUST NOT attempt to parse tracestate."
        if self.parent.is_none() {
            fields.remove(TRACESTATE);
        }
    }
}

/// The trace, the span and whether they are sampled, as `traceparent` says it.
fn parent(fields: &HeaderMap) -> Option<(u128, u64, bool)> {
    let mut lines = fields.get_all(&TRACEPARENT).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
    let mut parts = line.split('-');
    let mut part = |digits: usize| {
        let is_small = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|it| it.len() == digits && it.bytes().all(is_small))
    };
    let (version, trace) = (part(2)?, u128::from_str_radix(part(32)?, 16).ok()?);
    let span = u64::from_str_radix(part(16)?, 16).ok()?;
    let flags = u8::from_str_radix(part(2)?, 16).ok()?;
    // Later versions may say more behind, version 0 says nothing else, and 255 is none.
    let is_right = version != "ff" && (version != "00" || parts.next().is_none());
    (is_right && trace != 0 && span != 0).then_some((trace, span, flags & 1 == 1))
}

/// The trace that a request with these fields belongs to, if they say so.
pub fn trace_of(fields: &HeaderMap) -> Option<u128> {
    parent(fields).map(|(trace, _, _)| trace)
}

/// Not 0, and hardly ever the same, in this process or another. Nobody has to be kept from guessing it.
pub fn random() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEYS.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn fields(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(TRACEPARENT, HeaderValue::try_from(*line).unwrap());
        }
        fields
    }

    #[test]
    fn what_is_no_parent_begins_a_trace() {
        let right = format!("00-{TRACE}-{SPAN}-01");
        for (lines, is_parent, is_sampled) in [
            (vec![right.clone()], true, true),
            (vec![format!("00-{TRACE}-{SPAN}-00")], true, false),
            (vec![format!("cc-{TRACE}-{SPAN}-03-more")], true, true),
            (vec![format!("00-{TRACE}-{SPAN}-01-more")], false, false),
            (vec![format!("ff-{TRACE}-{SPAN}-01")], false, false),
            (vec![format!("00-{}-{SPAN}-01", "0".repeat(32))], false, false),
            (vec![format!("00-{TRACE}-{}-01", "0".repeat(16))], false, false),
            (vec![right.to_uppercase()], false, false),
            (vec![format!("00-{TRACE}-{SPAN}")], false, false),
            (vec![right.clone(), right], false, false),
            (vec![String::new()], false, false),
            (vec![], false, false),
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let context = Context::of(&fields(&lines), 0.0);
            assert_eq!(context.parent.is_some(), is_parent, "{lines:?}");
            assert_eq!(context.is_sampled, is_sampled, "{lines:?}");
            assert_eq!(format!("{:032x}", context.trace) == TRACE, is_parent, "{lines:?}");
        }
    }

    #[test]
    fn what_goes_forward_is_a_part_of_it() {
        let mut given = fields(&[&format!("00-{TRACE}-{SPAN}-01")]);
        given.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        let context = Context::of(&given, 0.0);
        context.write_to(0xabc, &mut given);
        assert_eq!(given[TRACEPARENT], format!("00-{TRACE}-0000000000000abc-01"));
        assert_eq!(given[TRACESTATE], "a=b");
        given.insert(TRACEPARENT, HeaderValue::from_static("nonsense"));
        Context::of(&given, 0.0).write_to(1, &mut given);
        assert_eq!(given.get(TRACESTATE), None);
    }

    #[test]
    fn a_share_of_what_begins_here_is_told() {
        let told = |share| {
            let all = (0..10_000).map(|_| Context::of(&HeaderMap::new(), share));
            all.filter(|context| context.is_sampled).count()
        };
        assert_eq!((told(0.0), told(1.0)), (0, 10_000));
        let tenth = told(0.1);
        assert!((800..1200).contains(&tenth), "{tenth}");
    }
}
