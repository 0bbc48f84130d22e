//! Content as it may lie in L2: an LZ4 block behind the content's own length (4 octets,
//! little-endian). Which content that is done to is decided here, and that nothing is unpacked
//! which would be larger than asked for.
//!
//! Zstandard would make it smaller still, but its library is C, and what lies in L2 is not trusted.

use http::header::CONTENT_ENCODING;
use lz4_flex::block;

use crate::stored::StoredResponse;

/// Shorter content is left as it is: its head is as long.
const LEAST: usize = 1 << 10;

/// LZ4 makes no more than this of one octet, so what claims to be longer is damaged.
const MOST_OF_ONE: usize = 255;

/// Why content cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotUnpacked {
    /// It is no block, or one of another length than it says.
    Damaged,
    /// It would be larger than asked for.
    TooLarge,
}

/// The content of a response, packed; `None` where that does not save a tenth of it at least. What
/// comes in a coding is as small as its origin wants it, and is not tried. Images and the like are:
/// the compressor sees quickly that there is nothing to save.
pub(super) fn pack(stored: &StoredResponse) -> Option<Vec<u8>> {
    let body = &stored.body;
    if body.len() < LEAST || stored.fields.value(&CONTENT_ENCODING).is_some() {
        return None;
    }
    let length = u32::try_from(body.len()).ok()?.to_le_bytes();
    let mut packed = vec![0; length.len() + block::get_maximum_output_size(body.len())];
    let (before, room) = packed.split_at_mut(length.len());
    before.copy_from_slice(&length);
    let taken = block::compress_into(body, room).ok()?;
    packed.truncate(length.len() + taken);
    (packed.len() <= body.len() - body.len() / 10).then_some(packed)
}

/// What was packed. Nothing is allocated before its length is known to be no more than `most`.
pub(super) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, NotUnpacked> {
    let (length, block) = packed.split_first_chunk().ok_or(NotUnpacked::Damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| NotUnpacked::TooLarge)?;
    if length > most {
        return Err(NotUnpacked::TooLarge);
    }
    if length > block.len().saturating_mul(MOST_OF_ONE) {
        return Err(NotUnpacked::Damaged);
    }
    let mut body = vec![0; length];
    match block::decompress_into(block, &mut body) {
        Ok(taken) if taken == length => Ok(body),
        _ => Err(NotUnpacked::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::semantics::Freshness;
    use crate::stored::{Fields, Moment, Original, Position};

    fn response(body: Vec<u8>, coding: Option<&'static str>) -> StoredResponse {
        let coding = coding.map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding)));
        StoredResponse {
            name: "a".into(),
            status: StatusCode::OK,
            fields: Fields::encode(&HeaderMap::from_iter(coding)).unwrap(),
            body: body.into(),
            part: None,
            freshness: Freshness::fresh_for(Duration::ZERO, SystemTime::UNIX_EPOCH),
            marks: Box::default(),
            position: Position::ZERO,
            begun: Moment::BEFORE_ALL,
            checked: AtomicU64::new(0),
            original: Original::default(),
        }
    }

    /// Octets that nothing can be saved of.
    fn noise(count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        blake3::Hasher::new().finalize_xof().fill(&mut octets);
        octets
    }

    #[test]
    fn only_what_pays_is_packed() {
        let text = "{\"id\": 1, \"name\": \"one\"}, ".repeat(100).into_bytes();
        let nine_tenths_noise = [noise(9_500), vec![0; 500]].concat();
        for (body, coding, is_packed, why) in [
            (text.clone(), None, true, "it is text"),
            (text.clone(), Some("gzip"), false, "it is in a coding already"),
            (text[..LEAST - 1].to_vec(), None, false, "it is short"),
            (text[..LEAST].to_vec(), None, true, "it is just long enough"),
            (noise(10_000), None, false, "it cannot be smaller"),
            (nine_tenths_noise, None, false, "it saves less than a tenth"),
        ] {
            let packed = pack(&response(body.clone(), coding));
            assert_eq!(packed.is_some(), is_packed, "{why}");
            if let Some(packed) = packed {
                assert_eq!(unpack(&packed, body.len()), Ok(body), "{why}");
            }
        }
    }

    #[test]
    fn no_length_is_believed() {
        let body = "a".repeat(100_000).into_bytes();
        let packed = pack(&response(body.clone(), None)).unwrap();
        assert_eq!(unpack(&packed, body.len() - 1), Err(NotUnpacked::TooLarge));
        for length in [0, 1, 99_999, 100_001] {
            let mut other = packed.clone();
            other[..4].copy_from_slice(&u32::to_le_bytes(length));
            assert_eq!(unpack(&other, usize::MAX), Err(NotUnpacked::Damaged), "{length}");
        }
        let endless = [&u32::MAX.to_le_bytes()[..], &[0x1f; 64]].concat();
        assert_eq!(unpack(&endless, usize::MAX), Err(NotUnpacked::Damaged));
        assert_eq!(unpack(&endless, 32 << 20), Err(NotUnpacked::TooLarge));
    }

    proptest! {
        #[test]
        fn arbitrary_octets_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(body) = unpack(&octets, 1 << 16) {
                prop_assert!(body.len() <= 1 << 16);
            }
        }

        #[test]
        fn what_is_packed_comes_back(seed in any::<Vec<u8>>(), times in 1..200_usize) {
            let body = seed.repeat(times);
            if let Some(packed) = pack(&response(body.clone(), None)) {
                prop_assert_eq!(unpack(&packed, body.len()), Ok(body));
            }
        }
    }
}
