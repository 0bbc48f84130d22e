//! `[warm]`: what is stored before anybody asks for it.

use std::path::{Path, PathBuf};

use http::HeaderName;
use toml::de::DeValue;

use super::fault::Wrong;
use super::reader::{Table, Value};
use super::{Listener, Place, Server, routes, shown};

/// `[warm]`. Whether a text is a URL or a field is for whoever asks for it to say, at its place.
#[derive(Clone, Debug)]
pub struct Warm {
    /// `urls`.
    pub urls: Vec<(String, Place)>,
    /// `list`: a file with a URL in each line.
    pub list: Option<PathBuf>,
    /// `sitemap`.
    pub sitemap: Option<(Sitemap, Place)>,
    /// `busiest`: so many URLs that were asked for most, at most 5000; 0, the default, is none.
    pub busiest: usize,
    /// `headers`: fields of each request, as `Accept-Language: de`.
    pub headers: Vec<(String, Place)>,
    /// `rate`: so many requests a second at most, default 50, 1 to 10000.
    pub rate: u32,
    /// `concurrency`: so many at once at most, default 8, 1 to 1000.
    pub concurrency: usize,
    /// `when`, default `start`.
    pub when: Vec<Occasion>,
}

/// Where a sitemap lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sitemap {
    /// Something with `://`.
    Url(String),
    /// A file; relative ones are looked for from the configuration's folder.
    File(PathBuf),
}

/// When it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// `start`: when the gateway has begun to answer, and when a reload has changed `[warm]`.
    Start,
    /// `purge`: after a purge by an operator that is not soft.
    Purge,
}

impl Default for Warm {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            list: None,
            sitemap: None,
            busiest: 0,
            headers: Vec::new(),
            rate: 50,
            concurrency: 8,
            when: vec![Occasion::Start],
        }
    }
}

/// What `[warm]` says. The busiest URLs are kept in L2, and the server is who is asked.
pub(super) fn read(mut table: Table<'_>, folder: &Path, has_l2: bool, server: &Server) -> Warm {
    let default = Warm::default();
    let (source, faults) = (table.source, table.source.count());
    let sitemap = table.take("sitemap");
    let warm = Warm {
        urls: texts(&mut table, "urls", "write urls = [\"https://shop.example/\"]"),
        list: table.read("list", None, |text| path(text, folder).map(Some)),
        sitemap: sitemap
            .and_then(|value| Some((value.read(|text| self::sitemap(text, folder))?, value.place))),
        busiest: busiest(&mut table, has_l2),
        headers: headers(&mut table),
        rate: table.count("rate", default.rate, 1..=10_000),
        concurrency: table.count("concurrency", default.concurrency, 1..=1000),
        when: table.take("when").and_then(|value| when(&value)).unwrap_or(default.when),
    };
    let has_source = !warm.urls.is_empty() || warm.list.is_some() || warm.sitemap.is_some();
    let has_source = has_source || warm.busiest > 0;
    if !has_source && source.count() == faults {
        let hint = "write `urls`, `list`, `sitemap` or `busiest`, or leave the table out";
        table.report(table.place, "nothing is named", Some(hint.to_owned()));
    }
    if !warm.when.is_empty() && !server.listeners().any(Listener::answers_itself) {
        let message = "no listener can be asked: each has `proxy_protocol`, redirects, or wants clients' \
                       certificates";
        let hint = "add `[[server.listeners]]` on a loopback address".to_owned();
        table.report(table.place, message, Some(hint));
    }
    table.finish();
    warm
}

/// The elements of an array of strings, and where they stand.
fn texts(table: &mut Table<'_>, key: &'static str, hint: &str) -> Vec<(String, Place)> {
    let Some(elements) = table.take(key).and_then(|value| value.list(|| hint.to_owned())) else {
        return Vec::new();
    };
    elements.iter().filter_map(|element| Some((element.text()?, element.place))).collect()
}

/// Whether one is a field, others say; but not that it would be dropped from the requests.
fn headers(table: &mut Table<'_>) -> Vec<(String, Place)> {
    let headers = texts(table, "headers", "write headers = [\"Accept-Encoding: gzip\"]");
    for (text, place) in &headers {
        let name = text.split(':').next().unwrap_or_default();
        let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        if let Err(Wrong { complaint, hint }) = table.source.kept(field) {
            table.report(*place, &format!("headers `{}` {complaint}", shown::plain(name)), hint);
        }
    }
    headers
}

fn busiest(table: &mut Table<'_>, has_l2: bool) -> usize {
    let Some(value) = table.take("busiest") else { return 0 };
    let Some(count) = value.count(1..=5000) else { return 0 };
    if !has_l2 {
        let hint = "write `redis` or `disk` in `[cache.l2]`, or leave it out".to_owned();
        value.report("busiest is kept in L2, and there is none", Some(hint));
    }
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The occasions; none is for whoever warms by other means.
fn when(value: &Value<'_>) -> Option<Vec<Occasion>> {
    const HINT: &str = "write when = [\"start\", \"purge\"], or one of them";

    if let DeValue::Array(elements) = value.content
        && elements.is_empty()
    {
        return Some(Vec::new());
    }
    routes::all(value, HINT, |text| match text {
        "start" => Ok(Occasion::Start),
        "purge" => Ok(Occasion::Purge),
        _ => Err(Wrong::new("is no occasion").with_hint(HINT)),
    })
}

fn sitemap(text: &str, folder: &Path) -> Result<Sitemap, Wrong> {
    if text.contains("://") {
        return Ok(Sitemap::Url(text.to_owned()));
    }
    path(text, folder).map(Sitemap::File)
}

fn path(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint("write the path of a file"));
    }
    Ok(folder.join(text))
}
