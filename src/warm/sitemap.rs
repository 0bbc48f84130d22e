//! Sitemaps as sitemaps.org describes them: a list of URLs in XML, or an index of such lists.
//!
//! *Not supported:* what is compressed, and entities other than those that XML has itself. A sitemap
//! that is a text is a list.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// A sitemap "must have no more than 50,000 URLs and must be no larger than 50MB", and so an index.
const MOST: usize = 50_000;
pub(super) const LARGEST: usize = 50 << 20;

/// So many elements are open at once. Those that are read lie three deep.
const DEEPEST: usize = 32;

/// What a sitemap names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sitemap {
    /// URLs of pages.
    Pages(Vec<String>),
    /// URLs of sitemaps.
    Index(Vec<String>),
}

impl Sitemap {
    /// Reads one. The error says what it is not.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        if content.starts_with(&[0x1f, 0x8b]) {
            return Err("it is compressed: unpack it first".to_owned());
        }
        let text = str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        // The elements that are open, `loc` last: that of an image or a video lies deeper.
        let mut open: Vec<String> = Vec::new();
        let mut is_index = None;
        let mut urls = Vec::new();
        let mut url = String::new();
        loop {
            let event = reader.read_event();
            let at = reader.error_position().max(reader.buffer_position());
            match event.map_err(|error| format!("it is not XML at octet {at}: {error}"))? {
                Event::Start(element) => {
                    if open.len() == DEEPEST {
                        return Err(format!(
                            "it has more than {DEEPEST} elements within each other"
                        ));
                    }
                    open.push(element.local_name().as_ref().to_owned());
                    if open.len() == 1 {
                        is_index = Some(is_an_index(element.local_name().as_ref())?);
                    }
                }
                Event::Empty(element) if open.is_empty() => {
                    is_index = Some(is_an_index(element.local_name().as_ref())?);
                }
                Event::End(_) => {
                    if is_loc(&open) {
                        if urls.len() == MOST {
                            return Err(format!("it has more than {MOST} URLs"));
                        }
                        urls.push(std::mem::take(&mut url).trim().to_owned());
                    }
                    open.pop();
                }
                Event::Text(text) if is_loc(&open) => url.push_str(&text),
                Event::CData(text) if is_loc(&open) => url.push_str(&text),
                Event::GeneralRef(reference) if is_loc(&open) => {
                    let character = reference.resolve_char_ref().ok().flatten();
                    match (character, resolve_predefined_entity(&reference)) {
                        (Some(character), _) => url.push(character),
                        (None, Some(text)) => url.push_str(text),
                        (None, None) => {
                            return Err(format!("it has an entity of its own at octet {at}"));
                        }
                    }
                }
                Event::Eof if open.is_empty() => break,
                Event::Eof => return Err("it ends before its last element does".to_owned()),
                _ => {}
            }
        }
        match is_index {
            Some(true) => Ok(Self::Index(urls)),
            Some(false) => Ok(Self::Pages(urls)),
            None => Err("it has no element".to_owned()),
        }
    }
}

fn is_an_index(root: &str) -> Result<bool, String> {
    match root {
        "urlset" => Ok(false),
        "sitemapindex" => Ok(true),
        _ => Err("it begins with neither `urlset` nor `sitemapindex`".to_owned()),
    }
}

fn is_loc(open: &[String]) -> bool {
    let open: [&str; 3] = match open {
        [root, parent, own] => [root, parent, own],
        _ => return false,
    };
    matches!(open, ["urlset", "url", "loc"] | ["sitemapindex", "sitemap", "loc"])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_urls_of_pages_or_of_sitemaps_are_read() {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        for (text, expected) in [
            (
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n\
                 <url>\n<loc>http://h/a</loc>\n<lastmod>2026-11-26</lastmod></url>\n\
                 <url><priority>0.5</priority><loc> http://h/b?c=1&amp;d=&#50; </loc></url></urlset>",
                Sitemap::Pages(urls(&["http://h/a", "http://h/b?c=1&d=2"])),
            ),
            (
                "\u{feff}<s:urlset xmlns:s=\"x\"><s:url><s:loc><![CDATA[http://h/?a&b]]></s:loc>\
                 <image:image><image:loc>http://h/image</image:loc></image:image></s:url></s:urlset>",
                Sitemap::Pages(urls(&["http://h/?a&b"])),
            ),
            (
                "<sitemapindex><!-- <loc>no</loc> --><sitemap><loc>http://h/1.xml</loc></sitemap>\
                 <sitemap><loc>http://h/2.xml</loc></sitemap><loc>no</loc></sitemapindex>",
                Sitemap::Index(urls(&["http://h/1.xml", "http://h/2.xml"])),
            ),
            ("<urlset/>", Sitemap::Pages(Vec::new())),
            ("<urlset><url/><url><loc/></url></urlset>", Sitemap::Pages(Vec::new())),
        ] {
            assert_eq!(Sitemap::parse(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        let many =
            format!("<urlset>{}</urlset>", "<url><loc>http://h/</loc></url>".repeat(MOST + 1));
        let nested = |count: usize| {
            format!("<urlset>{}{}</urlset>", "<a>".repeat(count), "</a>".repeat(count))
        };
        let deep = nested(DEEPEST);
        assert_eq!(Sitemap::parse(nested(DEEPEST - 1).as_bytes()), Ok(Sitemap::Pages(Vec::new())));
        for (text, why) in [
            ("", "it has no element"),
            ("http://h/a\nhttp://h/b\n", "it has no element"),
            ("<html><body/></html>", "it begins with neither `urlset` nor `sitemapindex`"),
            ("<urlset><url><loc>http://h/a", "it ends before its last element does"),
            ("<urlset><url></urlset>", "it is not XML at octet"),
            (&many, "it has more than 50000 URLs"),
            (&deep, "it has more than 32 elements within each other"),
            (
                "<!DOCTYPE urlset [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
                 <urlset><url><loc>&b;</loc></url></urlset>",
                "it has an entity of its own at octet",
            ),
        ] {
            let told = Sitemap::parse(text.as_bytes()).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        assert_eq!(
            Sitemap::parse(&[0x1f, 0x8b, 8]),
            Err("it is compressed: unpack it first".into())
        );
        assert_eq!(Sitemap::parse(b"<urlset>\xff</urlset>"), Err("it is not UTF-8".into()));
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_read_or_refused(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "<urlset>", "</urlset>", "<url>", "</url>", "<loc>", "</loc>", "<sitemapindex>",
                    "&amp;", "&a;", "&#0;", "&#x;", "<![CDATA[", "]]>", "<!--", "-->", "<", ">", "a",
                    "<!DOCTYPE", "<?", "?>", "\u{e9}",
                ]),
                0..30,
            ),
        ) {
            let _read = Sitemap::parse(parts.concat().as_bytes());
        }
    }
}
