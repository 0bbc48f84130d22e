//! The demo's guided tour: real requests through the gateway, and what came of each, in 80 columns.
//!
//! It prints what it measured and nothing else. Headings ask; the rows, and lines counted from
//! answers, tell. So it can be pointed at any gateway, or at the API itself, and still be true.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_LANGUAGE;
use serde_json::Value;

use super::client::{Answer, Ask, Client};
use super::compare::{self, Effort};
use super::shop::Book;

pub use super::client::Peer;
pub use super::compare::Run;

/// Why the tour broke off.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// No answer, or half of one, or none in time.
    #[error("{peer} does not answer `{ask}`")]
    NoAnswer {
        /// Who was asked.
        peer: Peer,
        /// Method and path.
        ask: String,
        /// What the connection said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// An answer that the tour has no use for.
    #[error("{peer} answers `{ask}` with {status}, and not with {wanted}")]
    Unexpected {
        /// Who was asked.
        peer: Peer,
        /// Method and path.
        ask: String,
        /// The answer's status.
        status: StatusCode,
        /// What the tour needs there.
        wanted: &'static str,
    },
    /// Not one read of the comparison went well.
    #[error("{peer} answers none of the reads with success")]
    NothingRead {
        /// Who was asked.
        peer: Peer,
    },
    /// The tour's own output.
    #[error("cannot print the tour")]
    Output(#[from] io::Error),
}

/// What the tour measured.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests of the guided part, up to the figures.
    pub requests: u64,
    /// How many of them were answered with `hit` in `Cache-Status`.
    pub hits: u64,
    /// Whether the read right after the write had what was written.
    pub fresh_after_write: bool,
    /// Whether every offer was in the language and the currency that were asked for.
    pub offers_kept_apart: bool,
    /// The gateway's own figures, as `GET /stats` gave them; none without an admin listener.
    pub figures: Option<Value>,
    /// The comparison: through the gateway.
    pub through_gateway: Run,
    /// The comparison: at the API.
    pub at_api: Run,
}

impl Summary {
    /// How many times as fast the gateway answered, on average and misses included. 0 when nothing
    /// was measured.
    pub fn speedup(&self) -> f64 {
        let (with, without) = (self.through_gateway.average, self.at_api.average);
        if with.is_zero() { 0.0 } else { without.as_secs_f64() / with.as_secs_f64() }
    }
}

/// Leads through `gateway`, which stands before the demo's API at `api`, and prints to `out` as it
/// goes; it takes a few seconds. `token` is the admin listener's. It changes a price in the shop.
///
/// Dropping the future ends the tour.
pub async fn tour(
    gateway: SocketAddr,
    admin: Option<SocketAddr>,
    token: Option<&str>,
    api: SocketAddr,
    out: &mut (dyn Write + Send),
) -> Result<Summary, TourError> {
    guide(gateway, admin, token, api, out, Effort::FULL).await
}

async fn guide(
    gateway: SocketAddr,
    admin: Option<SocketAddr>,
    token: Option<&str>,
    api: SocketAddr,
    out: &mut (dyn Write + Send),
    effort: Effort,
) -> Result<Summary, TourError> {
    let mut guide = Guide {
        client: Client::new(effort.connections),
        gateway: Peer { role: "the gateway", address: gateway },
        admin: admin.map(|address| Peer { role: "the admin listener", address }),
        token,
        api: Peer { role: "the API", address: api },
        out,
        requests: 0,
        hits: 0,
    };
    guide.introduce()?;
    let book = guide.read_a_book().await?;
    let fresh_after_write = guide.write(book).await?;
    let offers_kept_apart = guide.compare_offers().await?;
    guide.read_users().await?;
    let figures = guide.show_figures().await?;
    let (through_gateway, at_api) = guide.measure(effort).await?;
    let (requests, hits) = (guide.requests, guide.hits);
    let summary = Summary {
        requests,
        hits,
        fresh_after_write,
        offers_kept_apart,
        figures,
        through_gateway,
        at_api,
    };
    guide.conclude(&summary)?;
    Ok(summary)
}

struct Guide<'a> {
    client: Client,
    gateway: Peer,
    admin: Option<Peer>,
    token: Option<&'a str>,
    api: Peer,
    out: &'a mut (dyn Write + Send),
    requests: u64,
    hits: u64,
}

impl Guide<'_> {
    fn introduce(&mut self) -> io::Result<()> {
        let (gateway, api) = (self.gateway.address, self.api.address);
        writeln!(self.out, "The gateway            http://{gateway}")?;
        writeln!(self.out, "before a bookshop API  http://{api}")?;
        if let Some(Peer { address, .. }) = self.admin {
            writeln!(self.out, "with its figures at    http://{address}")?;
        }
        writeln!(self.out, "\nThe API's database takes 50-200 ms for every read.")
    }

    fn head(&mut self, heading: &str) -> io::Result<()> {
        writeln!(self.out, "\n{heading}\n")
    }

    /// Sends `ask` to the gateway and prints a row. `note` tells requests apart that have the same
    /// method and path.
    async fn ask(&mut self, ask: &Ask, note: &str) -> Result<Answer, TourError> {
        let answer = self.client.send(self.gateway, ask).await?;
        self.requests += 1;
        self.hits += u64::from(answer.is_hit());
        let mut what = format!("{ask}  {note}");
        if !answer.status.is_success() {
            what = format!("{ask}  {note} ({})", answer.status.as_u16());
        }
        let said = answer.cache_status();
        let said = said.as_deref().unwrap_or("(no Cache-Status)");
        let row = format!("  {:<30} {:>9}  ", what.trim_end(), Millis(answer.took).to_string());
        writeln!(self.out, "{row}{}", folded(said, 80, row.chars().count()))?;
        self.out.flush()?;
        Ok(answer)
    }

    async fn read_a_book(&mut self) -> Result<Book, TourError> {
        self.head("A book, three times; the third time with a tracking parameter")?;
        let ask = Ask::get("/books/1");
        let first = self.ask(&ask, "").await?;
        self.ask(&ask, "").await?;
        self.ask(&Ask::get("/books/1?utm_source=mail"), "").await?;
        self.book(&ask, &first)
    }

    /// Raises the book's price by a cent, and answers whether the next read shows it.
    async fn write(&mut self, mut book: Book) -> Result<bool, TourError> {
        self.head("A write: what becomes of the book and the list that were stored?")?;
        book.details.cents = book.details.cents.saturating_add(1);
        let (read, list) = (Ask::get("/books/1"), Ask::get("/books?page=1"));
        self.ask(&list, "").await?;
        let put = Ask::new("PUT", "/books/1").json(&book.details);
        let written = self.ask(&put, "").await?;
        self.book(&put, &written)?;
        let after = self.ask(&read, "").await?;
        let after = self.book(&read, &after)?;
        let listed = self.ask(&list, "").await?.json();
        let listed = listed.pointer("/books/0/cents").and_then(Value::as_u64).unwrap_or_default();
        let [written, after] = [&book, &after].map(|it| Price(it.details.cents.into()));
        let listed = Price(listed);
        writeln!(self.out, "\n  Price written: {written}; read: {after}; in the list: {listed}")?;
        Ok(written == after && written == listed)
    }

    /// Answers whether each offer was in the language and the currency that were asked for.
    async fn compare_offers(&mut self) -> Result<bool, TourError> {
        self.head("One path, several answers: Accept-Language and a cookie decide")?;
        let mut right = 0;
        let visits = [("de", "EUR"), ("de", "EUR"), ("fr", "EUR"), ("de", "USD"), ("de", "USD")];
        for (language, currency) in visits {
            let ask = Ask::get("/offers")
                .with("accept-language", language)
                .with("cookie", format!("currency={currency}"));
            let answer = self.ask(&ask, &format!("{language} {currency}")).await?;
            let spoken = answer.headers.get(CONTENT_LANGUAGE).is_some_and(|it| it == language);
            let priced = answer.json().get("currency").is_some_and(|it| it == currency);
            right += usize::from(spoken && priced);
        }
        writeln!(
            self.out,
            "\n  {right} of {} answers in the language and the currency asked for",
            visits.len()
        )?;
        Ok(right == visits.len())
    }

    async fn read_users(&mut self) -> Result<(), TourError> {
        self.head("A user, for whom the API names no lifetime; and a private answer")?;
        for path in ["/users/1", "/users/1", "/me", "/me"] {
            self.ask(&Ask::get(path), "").await?;
        }
        Ok(())
    }

    async fn show_figures(&mut self) -> Result<Option<Value>, TourError> {
        let Some(admin) = self.admin else { return Ok(None) };
        self.head("The gateway's own figures so far, from GET /stats")?;
        let mut ask = Ask::get("/stats");
        if let Some(token) = self.token {
            ask = ask.with("authorization", format!("Bearer {token}"));
        }
        let answer = self.client.send(admin, &ask).await?;
        let figures = answer.json();
        if !answer.status.is_success() || !figures.is_object() {
            return Err(unexpected(admin, &ask, &answer, "figures as a JSON object"));
        }
        for (label, name, unit) in [
            ("requests", "total_requests", ""),
            ("hits in memory (L1)", "l1_hits", ""),
            ("hits in Redis (L2)", "l2_hits", ""),
            ("forwarded to the API", "upstream_requests", ""),
            ("hit rate", "hit_rate", " %"),
        ] {
            if let Some(Value::Number(figure)) = figures.get(name) {
                writeln!(self.out, "  {label:<30} {:>6}{unit}", figure.to_string())?;
            }
        }
        Ok(Some(figures))
    }

    async fn measure(&mut self, effort: Effort) -> Result<(Run, Run), TourError> {
        let (books, connections) = (compare::BOOKS, effort.connections);
        self.head(&format!(
            "Many reads of {books} books over {connections} connections, 4 in 5 of them of 8 books"
        ))?;
        self.out.flush()?;
        let with = compare::read(&self.client, self.gateway, effort.reads, effort).await?;
        self.row("through the gateway", &with)?;
        let without = compare::read(&self.client, self.api, effort.sample, effort).await?;
        self.row("at the API itself", &without)?;
        for (run, peer) in [(&with, self.gateway), (&without, self.api)] {
            if run.reads == 0 {
                return Err(TourError::NothingRead { peer });
            }
        }
        Ok((with, without))
    }

    fn row(&mut self, label: &str, run: &Run) -> io::Result<()> {
        let [average, median] = [run.average, run.median].map(|it| Millis(it).to_string());
        writeln!(
            self.out,
            "  {label:<20} {:>5} reads   average {average:>9}   median {median:>9}",
            run.reads
        )?;
        if run.other > 0 {
            writeln!(self.out, "  {:20} {:>5} answers were not 2xx", "", run.other)?;
        }
        self.out.flush()
    }

    fn conclude(&mut self, summary: &Summary) -> io::Result<()> {
        let Run { reads, hits, elapsed, .. } = summary.through_gateway;
        writeln!(
            self.out,
            "\n  {hits} of the {reads} were hits; they took {:.1} s together.\n  \
             On average {:.1} times as fast as the API, misses included.",
            elapsed.as_secs_f64(),
            summary.speedup()
        )?;
        self.head("Try it yourself:")?;
        let site = format!("http://{}", self.gateway.address);
        self.hint("a miss, then a hit", &format!("curl -i '{site}/books?genre=crime'"))?;
        self.hint(
            "a write, and then read again",
            &format!(
                "curl -i -X PATCH -H 'Content-Type: application/json' \\\n         \
                 -d '{{\"cents\": 500}}' {site}/books/9"
            ),
        )?;
        if let Some(Peer { address, .. }) = self.admin {
            let bearer = match self.token {
                Some(_) => " \\\n         -H \"Authorization: Bearer $LARDER_ADMIN_TOKEN\"",
                None => "",
            };
            let admin = format!("http://{address}");
            self.hint("the figures", &format!("curl {admin}/stats{bearer}"))?;
            self.hint(
                "invalidate some, or all",
                &format!("curl -X DELETE '{admin}/pattern/books*'{bearer}"),
            )?;
            writeln!(self.out, "    curl -X POST {admin}/clear{bearer}")?;
        }
        self.hint("before an API of your own", "larder run --upstream http://127.0.0.1:3000")?;
        self.out.flush()
    }

    fn hint(&mut self, what: &str, command: &str) -> io::Result<()> {
        writeln!(self.out, "  {what}\n    {command}")
    }

    /// The book in `answer`; without one the tour has nothing to show.
    fn book(&self, ask: &Ask, answer: &Answer) -> Result<Book, TourError> {
        let book = serde_json::from_slice(&answer.body).ok();
        book.filter(|_| answer.status.is_success())
            .ok_or_else(|| unexpected(self.gateway, ask, answer, "a book of the demo's shop"))
    }
}

fn unexpected(peer: Peer, ask: &Ask, answer: &Answer, wanted: &'static str) -> TourError {
    TourError::Unexpected { peer, ask: ask.to_string(), status: answer.status, wanted }
}

/// `text`, with line breaks at its spaces so that it ends before column `width`; it begins at
/// column `indent`, as its further lines do.
fn folded(text: &str, width: usize, indent: usize) -> String {
    let mut folded = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            folded.push('\n');
            folded.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > indent {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    folded
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1000.0;
        // A hit takes a fraction of a millisecond, so one decimal would hide it.
        if millis < 1.0 { write!(f, "{millis:.2} ms") } else { write!(f, "{millis:.1} ms") }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Price(u64);

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use axum::Json;
    use axum::body::{Body, to_bytes};
    use axum::extract::{Request, State};
    use axum::response::{IntoResponse, Response};
    use bytes::Bytes;
    use hyper_util::client::legacy::Client as Pool;
    use hyper_util::rt::TokioExecutor;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::super::api::{self, Api};
    use super::*;

    const SMALL: Effort =
        Effort { reads: 100, sample: 4, connections: 8, limit: Duration::from_mins(1) };

    /// A cache that knows just enough for the tour: it stores every 200 to a `GET` by path and what
    /// a route would name, and forgets everything at a write.
    #[derive(Clone)]
    struct StandIn {
        api: SocketAddr,
        stored: Arc<Mutex<HashMap<String, (http::response::Parts, Bytes)>>>,
        forgets: bool,
    }

    impl StandIn {
        async fn answer(State(this): State<Self>, request: Request) -> Response {
            let (mut head, body) = request.into_parts();
            let path = head.uri.to_string().replace("?utm_source=mail", "");
            let is_get = head.method == http::Method::GET;
            let nominated = [head.headers.get("accept-language"), head.headers.get("cookie")];
            let key = format!("{path} {nominated:?}");
            let found = this.stored.lock().unwrap().get(&key).cloned().filter(|_| is_get);
            if let Some((mut head, body)) = found {
                head.headers.insert("cache-status", "larder; hit; ttl=60".parse().unwrap());
                return Response::from_parts(head, Body::from(body));
            }
            head.uri = format!("http://{}{path}", this.api).parse().unwrap();
            let pool = Pool::builder(TokioExecutor::new()).build_http();
            let response = pool.request(Request::from_parts(head, body)).await.unwrap();
            let (mut head, body) = response.into_parts();
            let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
            let may_store = is_get && head.status == 200 && path != "/me";
            let said = match (is_get, may_store) {
                (true, true) => "larder; fwd=uri-miss; stored",
                (true, false) => "larder; fwd=uri-miss",
                (false, _) => "larder; fwd=method",
            };
            head.headers.insert("cache-status", said.parse().unwrap());
            let mut stored = this.stored.lock().unwrap();
            if may_store {
                stored.insert(key, (head.clone(), body.clone()));
            } else if !is_get && this.forgets {
                stored.clear();
            }
            Response::from_parts(head, Body::from(body))
        }

        fn stats(request: &Request) -> Response {
            if request.headers().get("authorization").is_none_or(|it| it != "Bearer t0ken") {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            Json(json!({ "total_requests": 7, "l1_hits": 3, "hit_rate": 42.9 })).into_response()
        }
    }

    struct Stage {
        api: Api,
        gateway: SocketAddr,
        _end: DropGuard,
    }

    impl Stage {
        async fn open(forgets: bool) -> Self {
            let shutdown = CancellationToken::new();
            let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let api = api::serve(api, shutdown.clone()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let gateway = listener.local_addr().unwrap();
            let proxy = StandIn { api: api.address(), stored: Arc::default(), forgets };
            let router = axum::Router::new()
                .route(
                    "/stats",
                    axum::routing::get(async |request: Request| StandIn::stats(&request)),
                )
                .fallback(StandIn::answer)
                .with_state(proxy);
            let end = shutdown.clone().drop_guard();
            let server =
                axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
            tokio_util::task::TaskTracker::new().spawn(async { server.await.unwrap() });
            Self { api, gateway, _end: end }
        }

        async fn tour(&self, token: Option<&str>) -> (Result<Summary, TourError>, String) {
            let mut out = Vec::new();
            let gateway = self.gateway;
            let summary =
                guide(gateway, Some(gateway), token, self.api.address(), &mut out, SMALL).await;
            (summary, String::from_utf8(out).unwrap())
        }
    }

    #[tokio::test]
    async fn before_a_cache_it_shows_hits_a_write_and_the_difference() {
        let stage = Stage::open(true).await;
        let (summary, text) = stage.tour(Some("t0ken")).await;
        let summary = summary.unwrap();
        assert_eq!((summary.requests, summary.hits), (16, 5), "{text}");
        assert!(summary.fresh_after_write && summary.offers_kept_apart, "{text}");
        assert_eq!(summary.through_gateway.reads, SMALL.reads);
        assert!(summary.through_gateway.hits > 0 && summary.at_api.hits == 0, "{text}");
        assert_eq!(summary.at_api.reads, SMALL.sample);
        for part in [
            "larder; fwd=uri-miss; stored\n",
            "larder; hit; ttl=60\n",
            "Price written: 12.91; read: 12.91; in the list: 12.91\n",
            "5 of 5 answers in the language",
            "  requests                            7\n",
            "  hit rate                         42.9 %\n",
            "Authorization: Bearer $LARDER_ADMIN_TOKEN",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
        assert!(!text.contains("t0ken"), "a secret is not printed:\n{text}");
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "a line is wider than 80 columns");
    }

    #[tokio::test]
    async fn a_cache_that_misses_a_write_is_told_on() {
        let stage = Stage::open(false).await;
        let (summary, text) = stage.tour(Some("t0ken")).await;
        assert!(!summary.unwrap().fresh_after_write, "{text}");
        assert!(text.contains("Price written: 12.91; read: 12.90; in the list: 12.90"), "{text}");
    }

    #[tokio::test]
    async fn without_a_cache_it_claims_none() {
        let stage = Stage::open(true).await;
        let api = stage.api.address();
        let mut out = Vec::new();
        let effort = Effort { reads: 16, ..SMALL };
        let summary = guide(api, None, None, api, &mut out, effort).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!((summary.hits, summary.through_gateway.hits), (0, 0));
        assert!(summary.fresh_after_write && summary.figures.is_none());
        assert!(text.contains("(no Cache-Status)"), "{text}");
        assert!(!text.contains("/stats"), "no admin listener, no figures:\n{text}");
        assert_eq!(stage.api.reads(), 35, "each read of the tour is one of the database");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named() {
        let stage = Stage::open(true).await;
        let (refused, _) = stage.tour(None).await;
        let refused = refused.unwrap_err().to_string();
        let admin = stage.gateway;
        let expected = format!(
            "the admin listener at {admin} answers `GET /stats` with 401 Unauthorized, \
             and not with figures as a JSON object"
        );
        assert_eq!(refused, expected);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let silent = tour(nobody, None, None, stage.api.address(), &mut Vec::new()).await;
        let silent = silent.unwrap_err().to_string();
        assert_eq!(silent, format!("the gateway at {nobody} does not answer `GET /books/1`"));
    }

    #[test]
    fn long_values_are_folded_at_spaces() {
        for (text, folded_text) in [
            ("ab; cd; ef", "ab; cd;\n    ef"),
            ("ab", "ab"),
            ("abcdefghijkl mn", "abcdefghijkl\n    mn"),
        ] {
            assert_eq!(folded(text, 11, 4), folded_text);
        }
    }
}
