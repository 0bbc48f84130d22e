//! HAR, as browsers write down what a page has asked for (`HTTP Archive` 1.2). It tells of responses' fields.

use std::fmt;
use std::io::BufRead;

use http::header::{HOST, HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::exchange::{self, Asked, Broken, Exchange};
use super::time::Times;

/// So many exchanges are taken out of one file, which has them in any order.
const MOST: usize = 1 << 20;

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "startedDateTime")]
    started: String,
    request: Request,
    response: Response,
    /// Chromium says by this that nothing was sent.
    #[serde(rename = "_fromCache")]
    from_cache: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<Field>,
}

#[derive(Deserialize)]
struct Response {
    status: i64,
    #[serde(default)]
    headers: Vec<Field>,
    #[serde(default)]
    content: Content,
    #[serde(rename = "bodySize")]
    body_size: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Content {
    size: Option<f64>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    value: String,
}

/// What a file tells: its exchanges, the oldest first, and why others are none.
pub(super) type Told = Vec<Result<Exchange, Broken>>;

/// Reads a whole file.
///
/// # Errors
/// It is no such file, or there is no more of it.
pub(super) fn read(file: &mut dyn BufRead) -> Result<Told, serde_json::Error> {
    let mut told = Told::new();
    let mut file = serde_json::Deserializer::from_reader(file);
    Whole(&mut told).deserialize(&mut file)?;
    file.end()?;
    // Those that are none stay where they are: nobody asks when they were.
    told.sort_by_key(|it| it.as_ref().map_or(0, |exchange| exchange.at));
    Ok(told)
}

impl Entry {
    fn exchange(self, times: &mut Times) -> Result<Exchange, Broken> {
        if self.from_cache.is_some() {
            return Err(Broken("the browser had it"));
        }
        let at = times.any(self.started.as_bytes()).ok_or(Broken("the time cannot be read"))?;
        let Request { method, url, headers } = self.request;
        let status = exchange::status(&self.response.status.to_string())?;
        let length = |size: Option<f64>| size.filter(|size| *size >= 0.0);
        let octets = length(self.response.body_size).or(length(self.response.content.size));
        // As a number of octets is written.
        let octets = octets.and_then(|octets| format!("{octets:.0}").parse().ok());
        let mut exchange = Asked::of(method.as_bytes(), url.split('#').next().unwrap_or_default())?
            .answered(at, None, status, octets);
        add(headers, &mut exchange.head.headers);
        add(self.response.headers, &mut exchange.fields);
        Ok(exchange)
    }
}

/// Without what HTTP/2 writes into fields.
fn add(all: Vec<Field>, fields: &mut HeaderMap) {
    for Field { name, value } in all {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| *name != HOST);
        if let Some(name) = name {
            // Lines of one name are one line with breaks.
            for line in value.lines() {
                exchange::add(fields, name.clone(), line.as_bytes());
            }
        }
    }
}

/// The object that a file is.
struct Whole<'t>(&'t mut Told);

/// What `log` is.
struct Log<'t>(&'t mut Told);

/// What `entries` is.
struct Entries<'t>(&'t mut Told);

macro_rules! seed {
    ($name:ident, $by:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.$by(self)
            }
        }
    };
}

seed!(Whole, deserialize_map);
seed!(Log, deserialize_map);
seed!(Entries, deserialize_seq);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `log`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "log" {
                map.next_value_seed(Log(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Log<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `entries`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "entries" {
                map.next_value_seed(Entries(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        let mut times = Times::default();
        while let Some(entry) = all.next_element::<Entry>()? {
            if self.0.len() == MOST {
                let why = format_args!("it has more than {MOST} entries").to_string();
                return Err(serde::de::Error::custom(why));
            }
            self.0.push(entry.exchange(&mut times));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(at: &str, url: &str, status: i64) -> serde_json::Value {
        json!({
            "startedDateTime": at,
            "time": 1.5,
            "request": { "method": "GET", "url": url, "httpVersion": "http/2.0", "cookies": [],
                         "headers": [{ "name": ":authority", "value": "h" },
                                     { "name": "Host", "value": "x" },
                                     { "name": "accept", "value": "a/b" }] },
            "response": { "status": status, "bodySize": -1,
                          "content": { "size": 5, "text": "hello" },
                          "headers": [{ "name": "Cache-Control", "value": "max-age=60" },
                                      { "name": "vary", "value": "accept\norigin" }] },
        })
    }

    #[test]
    fn what_a_browser_writes_down_is_read() {
        let file = json!({ "log": { "version": "1.2", "creator": {}, "pages": [{}], "entries": [
            entry("2026-11-26T04:34:25.000Z", "https://h:8443/a?b#c", 200),
            entry("2026-11-26T04:34:24.000Z", "http://h/", 304),
            entry("2026-11-26T04:34:24.000Z", "http://h/", 0),
            entry("2026-11-26T04:34:24.000Z", "data:text/plain,x", 200),
        ] }, "more": 1 });
        let told = read(&mut file.to_string().as_bytes()).unwrap();
        let [Err(Broken(no_status)), Err(Broken(no_target)), Ok(first), Ok(second)] = &told[..]
        else {
            panic!("{told:?}")
        };
        assert_eq!((*no_status, *no_target), ("there is no status", "the target is none of HTTP"));
        assert_eq!((first.head.uri.to_string().as_str(), first.scheme), ("/", Some("http")));
        assert_eq!(second.head.uri, "/a?b");
        assert_eq!((second.octets, second.scheme), (Some(5), Some("https")));
        assert_eq!(second.head.headers[HOST], "h:8443");
        assert_eq!(second.head.headers.len(), 2);
        assert_eq!(second.fields["cache-control"], "max-age=60");
        assert_eq!(second.fields.get_all("vary").iter().count(), 2);
        for broken in [
            "{\"log\":{\"entries\":[{}]}}",
            "{\"log\":[]}",
            "{\"log\":{\"entries\":[",
            "[]",
            "{\"log\":{\"entries\":[]}} x",
        ] {
            assert!(read(&mut broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
