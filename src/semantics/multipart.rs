//! Several parts in one content: `multipart/byteranges` (RFC 9110 §14.6, §15.3.7.2).

use std::collections::HashSet;
use std::fmt::Write as _;

use bytes::Bytes;
use http::header::HeaderValue;

use super::ranges::Span;

/// A content of several parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    /// Its `Content-Type`, which names the boundary.
    pub content_type: HeaderValue,
    /// Its octets, in pieces; those of the parts are the memory that they came in.
    pub pieces: Vec<Bytes>,
}

/// Puts parts of a content of `length` octets, and of this type, behind one another. Each has the
/// fields that §15.3.7.2 asks for: `Content-Range`, and the `Content-Type` of the whole.
pub fn multipart(
    parts: impl IntoIterator<Item = (Span, Bytes)>,
    length: u64,
    content_type: Option<&HeaderValue>,
) -> Multipart {
    let parts: Vec<_> = parts.into_iter().collect();
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let octets = parts.iter().map(|(_, octets)| &**octets);
    let boundary = boundary(octets.chain(content_type.map(str::as_bytes)));
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let mut between = String::new();
    for (span, octets) in parts {
        // Writing to a string never fails.
        let written = write!(between, "--{boundary}\r\n").and_then(|()| {
            if let Some(content_type) = content_type {
                write!(between, "Content-Type: {content_type}\r\n")?;
            }
            write!(between, "Content-Range: bytes {span}/{length}\r\n\r\n")
        });
        debug_assert!(written.is_ok());
        pieces.push(std::mem::take(&mut between).into());
        pieces.push(octets);
        between.push_str("\r\n");
    }
    pieces.push(format!("{between}--{boundary}--\r\n").into());
    let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"))
        .unwrap_or(HeaderValue::from_static("multipart/byteranges"));
    Multipart { content_type, pieces }
}

/// A boundary that none of the parts has in it, nor their type: the lowest number that is nowhere
/// between these words. One pass over what is sent anyway; a content that holds many of them only
/// makes the number larger.
fn boundary<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let taken: HashSet<u64> = parts
        .flat_map(|part| part.split(|&octet| octet == b'_'))
        .filter_map(|between| str::from_utf8(between.strip_prefix(b"larder-")?).ok()?.parse().ok())
        .collect();
    // Of so many and one more, one at least is free.
    let free = (0..=taken.len() as u64).find(|number| !taken.contains(number)).unwrap_or(u64::MAX);
    format!("_larder-{free}_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(parts: &Multipart) -> Vec<u8> {
        parts.pieces.concat()
    }

    /// Takes a multipart content apart as RFC 2046 §5.1 has it: each part's lines and octets.
    fn read(parts: &Multipart) -> Vec<(Vec<String>, Vec<u8>)> {
        let content_type = parts.content_type.to_str().unwrap();
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter's line break would be the end of a preamble.
        let octets = [b"\r\n".to_vec(), whole(parts)].concat();
        let places: Vec<_> = octets
            .windows(delimiter.len())
            .enumerate()
            .filter(|(_, window)| *window == delimiter)
            .map(|(place, _)| place)
            .collect();
        assert_eq!(octets[places[places.len() - 1] + delimiter.len()..], *b"--\r\n");
        let between = places.windows(2).map(|ends| {
            let part = &octets[ends[0] + delimiter.len()..ends[1]];
            let head_end = part.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = String::from_utf8(part[..head_end].to_vec()).unwrap();
            let lines = head.strip_prefix("\r\n").unwrap().split("\r\n").map(str::to_owned);
            (lines.collect(), part[head_end + 4..].to_vec())
        });
        between.collect()
    }

    #[test]
    fn the_example_of_the_rfc() {
        let content = Bytes::from(vec![b'x'; 8000]);
        let spans = [(500, 1000), (7000, 8000)];
        let parts = spans.map(|(start, end)| {
            let octets = content.slice(usize::try_from(start).unwrap()..end);
            (Span::new(start, end as u64).unwrap(), octets)
        });
        let pdf = HeaderValue::from_static("application/pdf");
        let made = multipart(parts, 8000, Some(&pdf));
        assert_eq!(made.content_type, "multipart/byteranges; boundary=_larder-0_");
        let head = |range| vec!["Content-Type: application/pdf".to_owned(), range];
        assert_eq!(
            read(&made),
            [
                (head("Content-Range: bytes 500-999/8000".to_owned()), vec![b'x'; 500]),
                (head("Content-Range: bytes 7000-7999/8000".to_owned()), vec![b'x'; 1000]),
            ],
            "§15.3.7.2"
        );
    }

    #[test]
    fn a_boundary_is_not_in_the_content() {
        for (content, expected) in [
            ("", "_larder-0_"),
            ("--_larder-0_", "_larder-1_"),
            ("_larder-0_larder-1_larder-2", "_larder-3_"),
            ("_larder-1__larder-0_", "_larder-2_"),
            ("_larder-0x_", "_larder-0_"),
            ("_larder-18446744073709551615_", "_larder-0_"),
        ] {
            assert_eq!(boundary(std::iter::once(content.as_bytes())), expected, "{content}");
        }
    }

    #[test]
    fn a_boundary_is_not_in_the_content_type() {
        let nested = HeaderValue::from_static("multipart/byteranges; boundary=_larder-0_");
        let part = (Span::new(0, 1).unwrap(), Bytes::from_static(b"_larder-1_"));
        let made = multipart([part], 10, Some(&nested));
        assert_eq!(
            made.content_type, "multipart/byteranges; boundary=_larder-2_",
            "RFC 2046 §5.1: must not appear within the encapsulated material"
        );
    }

    proptest! {
        #[test]
        fn parts_are_read_as_they_were(
            // With much of what a boundary is made of.
            content in "[_0-3a\r\n]{0,3}((_larder-|[_0-3-]|\r\n--|\\PC)){0,60}",
            cuts in prop::collection::vec((0_usize..200, 1_usize..60), 1..6),
            content_type in prop::option::of("[a-z]{1,8}/[a-z]{1,8}"),
        ) {
            let content = Bytes::from(content);
            let parts: Vec<_> = cuts
                .iter()
                .filter(|(start, _)| *start < content.len())
                .map(|&(start, count)| {
                    let end = (start + count).min(content.len());
                    (Span::new(start as u64, end as u64).unwrap(), content.slice(start..end))
                })
                .collect();
            prop_assume!(!parts.is_empty());
            let content_type = content_type.map(|text| HeaderValue::try_from(text).unwrap());
            let length = content.len() as u64;
            let made = multipart(parts.clone(), length, content_type.as_ref());
            let expected = parts.iter().map(|(span, octets)| {
                let own = content_type.as_ref().map(|t| format!("Content-Type: {}", t.to_str().unwrap()));
                let range = format!("Content-Range: bytes {span}/{length}");
                (own.into_iter().chain([range]).collect::<Vec<_>>(), octets.to_vec())
            });
            prop_assert_eq!(read(&made), expected.collect::<Vec<_>>());
        }
    }
}
