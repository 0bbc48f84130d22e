//! `GET /test/performance` and `GET /test/hit-rate`: small checks of the running gateway by requests of its
//! own.
//!
//! They go to its own listener for clients, as those of `[warm]` do, so they are asked of this gateway and of
//! nobody else; and one check at a time, as one takes from the other.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock;
use crate::gateway::NoRanking;
use crate::warm::{self, Answer, Asker, Gateway, OutOfReach, Page};

use super::parameters::Parameters;
use super::{Context, problem};

/// The bounds of parameters.
const MOST_ITERATIONS: usize = 1000;
const MOST_REQUESTS: usize = 1000;
const MOST_DISTINCT: usize = 1000;

/// No request is begun later.
const LONGEST: Duration = Duration::from_mins(1);

/// So many reasons are told.
const MOST_REASONS: usize = 10;

/// Where checks go, and that there is one.
#[derive(Clone)]
pub(super) struct Measuring {
    /// The gateway's own listeners for clients, if it can ask there.
    pub(super) gateway: Arc<OnceLock<Gateway>>,
    turn: Arc<Semaphore>,
}

/// What some requests took, in milliseconds.
#[derive(Debug, Serialize)]
struct Times {
    requests: usize,
    /// Answered from the cache.
    hits: usize,
    average: f64,
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// Why there is no check.
enum Refusal {
    /// What was asked for cannot be.
    Bad(String),
    /// Another one is running.
    Busy,
    /// The gateway is not there.
    Unavailable(String),
}

/// Requests of one kind.
#[derive(Default)]
struct Run {
    times: Vec<Duration>,
    hits: usize,
    stored: usize,
    reasons: BTreeMap<String, usize>,
}

impl Default for Measuring {
    fn default() -> Self {
        Self { gateway: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Measuring {
    /// What asks, with these fields and directives.
    fn asker(
        &self,
        fields: &HeaderMap,
        directives: Option<&'static str>,
    ) -> Result<Asker, Refusal> {
        let gateway = self.gateway.get().ok_or_else(|| {
            let why = "no listener for clients answers without the PROXY protocol or a certificate of the client";
            Refusal::Unavailable(why.to_owned())
        })?;
        let fields = fields.iter().map(|(name, value)| (name.clone(), value.clone()));
        let directives = directives.map(|it| (CACHE_CONTROL, HeaderValue::from_static(it)));
        Ok(Asker::new(gateway.clone(), fields.chain(directives)))
    }

    /// The right to check. Dropping it gives it to the next one.
    fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.turn.try_acquire().map_err(|_| Refusal::Busy)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = match self {
            Self::Bad(detail) => return problem(StatusCode::BAD_REQUEST, &detail),
            Self::Unavailable(detail) => return problem(StatusCode::SERVICE_UNAVAILABLE, &detail),
            Self::Busy => "another check is running, and they are made one at a time",
        };
        let mut response = problem(StatusCode::TOO_MANY_REQUESTS, detail);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }
}

/// `GET /test/performance?url=…&iterations=10`.
pub(super) async fn performance(State(context): State<Context>, uri: Uri) -> Response {
    compare(&context, &uri).await.unwrap_or_else(Refusal::into_response)
}

/// `GET /test/hit-rate?requests=100`.
pub(super) async fn hit_rate(State(context): State<Context>, uri: Uri) -> Response {
    play(&context, &uri).await.unwrap_or_else(Refusal::into_response)
}

/// The same URL with the cache and past it.
async fn compare(context: &Context, uri: &Uri) -> Result<Response, Refusal> {
    let parameters = read(uri, &["url", "iterations", "header"])?;
    let url = parameters
        .text("url")
        .ok_or_else(|| bad("say by `url` what to ask for: ?url=http://shop.example/books/1"))?;
    let page = page(url)?;
    let iterations = count(&parameters, "iterations", 10, MOST_ITERATIONS)?;
    let fields = fields(&parameters)?;
    let route = route_of(context, &page, &fields)?;
    let _turn = context.measuring.turn()?;
    // `no-cache` has it fetched, and `no-store` what comes of it kept out of the cache, so that the check
    // leaves there what was there.
    let past = context.measuring.asker(&fields, Some("no-cache, no-store"))?;
    let by_cache = context.measuring.asker(&fields, None)?;
    let begun = clock::instant();
    let mut first = Run::default();
    let (mut with, mut without) = (Run::default(), Run::default());
    first.ask(&by_cache, &page).await?;
    for _ in 0..iterations {
        if begun.elapsed() >= LONGEST {
            break;
        }
        // In turn, so that a slow moment meets both.
        without.ask(&past, &page).await?;
        with.ask(&by_cache, &page).await?;
    }
    let validated = without.reasons.keys().any(|reason| reason.contains("fwd-status=304"));
    let (with, without, reasons) = (with.told(), without.told(), with.reasons);
    let faster = without.average / with.average;
    Ok(Json(json!({
        "url": page.to_string(),
        "route": route,
        "iterations": with.requests,
        "with_cache": with,
        "without_cache": without,
        "times_faster": faster.is_finite().then_some(faster),
        "validated": validated,
        "not_hits": reasons,
    }))
    .into_response())
}

/// Requests of which four in five go to one URL in five.
async fn play(context: &Context, uri: &Uri) -> Result<Response, Refusal> {
    let parameters = read(uri, &["requests", "url", "distinct", "header"])?;
    let requests = count(&parameters, "requests", 100, MOST_REQUESTS)?;
    let distinct = count(&parameters, "distinct", 100, MOST_DISTINCT)?;
    let fields = fields(&parameters)?;
    let pages = pages(context, &parameters, distinct, &fields).await?;
    let _turn = context.measuring.turn()?;
    let asker = context.measuring.asker(&fields, None)?;
    let begun = clock::instant();
    let mut run = Run::default();
    let mut seen = vec![false; pages.len()];
    let mut draw = Draw(requests as u64);
    for _ in 0..requests {
        if begun.elapsed() >= LONGEST {
            break;
        }
        let place = draw.place(pages.len());
        let (Some(page), Some(is_seen)) = (pages.get(place), seen.get_mut(place)) else { break };
        *is_seen = true;
        run.ask(&asker, page).await?;
    }
    let times = run.told();
    #[expect(clippy::cast_precision_loss, reason = "a share of few")]
    let share = run.hits as f64 / times.requests.max(1) as f64;
    Ok(Json(json!({
        "requests": times.requests,
        "urls": seen.iter().filter(|is_seen| **is_seen).count(),
        "hits": run.hits,
        "stored": run.stored,
        "hit_rate": share,
        "times": times,
        "not_hits": run.reasons,
    }))
    .into_response())
}

/// What to ask for: a URL with `{n}` in it, or what clients ask for most.
async fn pages(
    context: &Context,
    parameters: &Parameters,
    distinct: usize,
    fields: &HeaderMap,
) -> Result<Vec<Page>, Refusal> {
    let Some(url) = parameters.text("url") else {
        return busiest(context, distinct, fields).await;
    };
    if !url.contains("{n}") {
        return Err(bad(
            "`url` has `{n}` where each URL has a number: http://shop.example/books/{n} (curl: `-g`)",
        ));
    }
    let mut pages = Vec::new();
    for number in 1..=distinct {
        let page = page(&url.replace("{n}", &number.to_string()))?;
        route_of(context, &page, fields)?;
        pages.push(page);
    }
    Ok(pages)
}

/// The ranking is the fleet's: what has no route here is left aside.
async fn busiest(context: &Context, most: usize, fields: &HeaderMap) -> Result<Vec<Page>, Refusal> {
    let ranking = context.current.gateway().busiest().await.map_err(|why| match why {
        NoRanking::NotWanted => {
            bad(&format!("{why}; or say by `url` what to ask for: http://shop.example/books/{{n}}"))
        }
        NoRanking::NotKept(_) => Refusal::Unavailable(why.to_string()),
    })?;
    let pages = ranking.iter().filter_map(|(url, _)| Page::of(url).ok());
    let pages = pages.filter(|page| route_of(context, page, fields).is_ok()).take(most);
    let pages: Vec<_> = pages.collect();
    if pages.is_empty() {
        return Err(bad("clients have asked for nothing yet: say by `url` what to ask for"));
    }
    Ok(pages)
}

/// The parameters of a check.
fn read(uri: &Uri, known: &[&str]) -> Result<Parameters, Refusal> {
    Parameters::of_several(uri.query(), known, Some("header")).map_err(Refusal::Bad)
}

/// What its requests have besides their own: a route may be chosen by it, or a response.
fn fields(parameters: &Parameters) -> Result<HeaderMap, Refusal> {
    let mut fields = HeaderMap::new();
    for text in parameters.texts("header") {
        let field = warm::field(text).map_err(|why| bad(&format!("a `header` {why}")))?;
        fields.append(field.0, field.1);
    }
    Ok(fields)
}

fn page(url: &str) -> Result<Page, Refusal> {
    Page::of(url).map_err(|why| bad(&format!("`url` {why}")))
}

/// A number from 1 to `most`.
fn count(parameters: &Parameters, name: &str, usual: usize, most: usize) -> Result<usize, Refusal> {
    let Some(value) = parameters.text(name) else { return Ok(usual) };
    let is_number = value.bytes().all(|octet| octet.is_ascii_digit());
    let count = value.parse().ok().filter(|count| is_number && (1..=most).contains(count));
    count.ok_or_else(|| bad(&format!("`{name}` is a number from 1 to {most}")))
}

/// The route that takes a `GET` of this page with these fields. Without one there is nothing to ask.
fn route_of(context: &Context, page: &Page, fields: &HeaderMap) -> Result<String, Refusal> {
    let gateway = context.current.gateway();
    let route = gateway.route_for_get(page.authority(), page.path(), fields);
    route.map(str::to_owned).ok_or_else(|| bad("no route of this gateway takes a GET of `url`"))
}

fn bad(detail: &str) -> Refusal {
    Refusal::Bad(detail.to_owned())
}

impl From<OutOfReach> for Refusal {
    fn from(error: OutOfReach) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Run {
    async fn ask(&mut self, asker: &Asker, page: &Page) -> Result<(), OutOfReach> {
        let begun = clock::instant();
        let answer = asker.ask(page).await?;
        self.times.push(begun.elapsed());
        match answer {
            Answer::Hit => self.hits += 1,
            Answer::Stored => self.stored += 1,
            Answer::NotWarmed(why) => {
                let full = self.reasons.len() >= MOST_REASONS && !self.reasons.contains_key(&why);
                let why = if full { "other".to_owned() } else { why };
                *self.reasons.entry(why).or_default() += 1;
            }
        }
        Ok(())
    }

    fn told(&self) -> Times {
        let mut times: Vec<_> = self.times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let requests = times.len();
        // The smallest that so many of a hundred do not exceed.
        let at = |percent: usize| {
            let place = (requests * percent).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default()
        };
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let average = times.iter().sum::<f64>() / requests.max(1) as f64;
        let (p50, p90, p99) = (at(50), at(90), at(99));
        Times { requests, hits: self.hits, average, min: at(0), p50, p90, p99, max: at(100) }
    }
}

/// Numbers without order, the same for each check of as many requests.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        // Knuth's numbers for this.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % most.max(1)
    }

    /// One of so many places: of five times, four times one of the first fifth.
    fn place(&mut self, count: usize) -> usize {
        let popular = count.div_ceil(5);
        if self.below(5) < 4 || popular == count {
            self.below(popular)
        } else {
            popular + self.below(count - popular)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_in_five_requests_go_to_one_url_in_five() {
        for count in [1, 2, 5, 7, 100] {
            let (mut draw, mut popular) = (Draw(1), 0);
            for _ in 0..10_000 {
                let place = draw.place(count);
                assert!(place < count);
                popular += usize::from(place < count.div_ceil(5));
            }
            let expected = if count == 1 { 10_000..=10_000 } else { 7800..=8200 };
            assert!(expected.contains(&popular), "{count}: {popular}");
        }
    }

    #[test]
    fn times_are_told_by_their_ranks() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let told = Run { times, ..Run::default() }.told();
        let shown = [told.min, told.p50, told.p90, told.p99, told.max, told.average];
        let expected = ["1.0", "50.0", "90.0", "99.0", "100.0", "50.5"];
        assert_eq!(shown.map(|it| format!("{it:.1}")), expected);
        let none = Run::default().told();
        assert_eq!((none.requests, none.max.to_bits()), (0, 0.0_f64.to_bits()));
    }
}
