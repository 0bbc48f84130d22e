//! `compress` of a route: in which codings its responses are sent.

use toml::de::DeValue;

use super::fault::Wrong;
use super::nearest;
use super::reader::Value;
use super::routes;

/// `compress`: an array of codings, or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// `codings`, the one that is liked best first; default all, in the order in which they are here.
    pub codings: Vec<Coding>,
    /// `types`: media types, in lower case: `text/html`, `text/*`, `application/*+json`, `*/*`; at
    /// most 64.
    pub types: Vec<String>,
    /// `min_length` of a content, default 1 KiB, at most 1 GiB.
    pub min_length: u64,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `zstd`.
    Zstd,
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
}

/// What is text, or as good as text, though it is not called so.
const TYPES: [&str; 15] = [
    "text/*",
    "application/*+json",
    "application/*+xml",
    "application/javascript",
    "application/json",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
];

const SHAPE: &str = "write compress = [\"zstd\", \"br\", \"gzip\"], or leave it out";

const CODINGS: &str = "write codings = [\"zstd\", \"br\", \"gzip\"], or leave it out";

impl Default for Compress {
    fn default() -> Self {
        Self {
            codings: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            types: TYPES.map(str::to_owned).into(),
            min_length: 1024,
        }
    }
}

/// None if it cannot be said which codings are wanted.
pub(super) fn read(value: &Value<'_>) -> Option<Compress> {
    const MOST: usize = 64;

    let default = Compress::default();
    if !matches!(value.content, DeValue::Table(_)) {
        let codings = routes::all(value, SHAPE, coding)?;
        return Some(Compress { codings, ..default });
    }
    let mut table = value.inner_table(|| SHAPE.to_owned())?;
    let codings = table.take("codings");
    let codings =
        codings.map_or(Some(default.codings), |value| routes::all(&value, CODINGS, coding));
    let types = table.take("types").map_or(Some(default.types), |value| {
        let types = routes::all(&value, "write types = [\"text/*\"], or leave it out", media_type)?;
        if types.len() > MOST {
            value.report(&format!("types names more than {MOST} types"), None);
        }
        Some(types)
    });
    let min_length = table.size("min_length", default.min_length, 0..=1 << 30);
    table.finish();
    Some(Compress { codings: codings?, types: types?, min_length })
}

fn coding(text: &str) -> Result<Coding, Wrong> {
    match text {
        "zstd" => Ok(Coding::Zstd),
        "br" => Ok(Coding::Brotli),
        "gzip" => Ok(Coding::Gzip),
        _ => {
            let hint = match text {
                "brotli" => Some("write \"br\"".to_owned()),
                _ => nearest::hint(text, "write one of", ["zstd", "br", "gzip"]),
            };
            Err(Wrong { complaint: "is no coding that is made here".to_owned(), hint })
        }
    }
}

/// A media type without parameters, or several by a `*`.
fn media_type(text: &str) -> Result<String, Wrong> {
    let is_name = |name: &str| {
        let is_known = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !name.is_empty() && name.bytes().all(is_known)
    };
    let subtype = |name: &str| match name.strip_prefix('*') {
        Some(suffix) => suffix.is_empty() || suffix.starts_with('+') && is_name(suffix),
        None => is_name(name),
    };
    let is_type = text.split_once('/').is_some_and(|(kind, name)| match kind {
        "*" => name.starts_with('*') && subtype(name),
        _ => is_name(kind) && subtype(name),
    });
    if is_type {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Wrong::new("is no media type")
        .with_hint("write one as in \"text/html\", \"text/*\" or \"application/*+json\""))
}
