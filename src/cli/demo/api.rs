//! The demo's API: a small bookshop over HTTP, as slow as its database (`shop`).
//!
//! It behaves as APIs do, the awkward ones included: `/books` sends `Cache-Control` and a strong
//! `ETag`, and pays the database for a 304 too (RFC 9110 §13.1.2); `/users` says nothing about
//! freshness; `/offers` depends on a field and a cookie and names neither in `Vary`; `/me` is
//! private. Errors are problem documents (RFC 9457).
//!
//! Not supported: `If-Match`, ranges, TLS, any limit on connections. It serves a demo on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Json, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve as serve_router};
use http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH,
    LOCATION, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shop::{Book, Changes, Details, Person, Refused, Shop};

const MAX_BODY: usize = 16 * 1024;
const PAGE: usize = 10;
const FRESH: &str = "max-age=60";

/// A running API. Dropping it leaves the API running; the token given to [`serve`] ends it.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    desk: Arc<Desk>,
    tasks: TaskTracker,
}

impl Api {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often its database has been read.
    pub fn reads(&self) -> u64 {
        self.desk.shop.reads()
    }

    /// Returns once the token given to [`serve`] is cancelled and every connection has ended.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

/// Serves the API on `listener` until `shutdown` is cancelled; running requests end first. Must be
/// called within a tokio runtime. The error is the listener's, which has no address.
pub fn serve(listener: TcpListener, shutdown: CancellationToken) -> io::Result<Api> {
    let address = listener.local_addr()?;
    let desk = Arc::new(Desk { shop: Shop::open(), visitors: AtomicU64::new(0) });
    let server = serve_router(listener, router(Arc::clone(&desk)))
        .with_graceful_shutdown(shutdown.cancelled_owned());
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::warn!(%error, "the demo's API ended");
        }
    });
    tasks.close();
    Ok(Api { address, desk, tasks })
}

/// What the handlers share.
#[derive(Debug)]
struct Desk {
    shop: Shop,
    /// How many visitors came without a cookie.
    visitors: AtomicU64,
}

type AtDesk = State<Arc<Desk>>;

fn router(desk: Arc<Desk>) -> Router {
    let book = get(read_book).put(replace_book).patch(change_book).delete(remove_book);
    Router::new()
        .route("/books", get(list_books).post(add_book))
        .route("/books/{id}", book)
        .route("/users/{id}", get(read_user).put(replace_user))
        .route("/offers", get(offers))
        .route("/me", get(me))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(desk)
}

/// The query of `GET /books`. Parameters that are not known are ignored, as most APIs do, so that
/// `utm_source` changes a cache key but not the content.
#[derive(Deserialize)]
struct Listing {
    page: Option<usize>,
    genre: Option<String>,
}

async fn list_books(
    State(desk): AtDesk,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(Listing { page, genre }) =
        listing.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let page = page.unwrap_or(1);
    let before = page.checked_sub(1).and_then(|before| before.checked_mul(PAGE));
    let before = before.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "`page` is a number that counts from 1")
    })?;
    let all = desk.shop.books(genre.as_deref()).await;
    let (total, pages) = (all.len(), all.len().div_ceil(PAGE));
    let books: Vec<Book> = all.into_iter().skip(before).take(PAGE).collect();
    let content = json!({ "page": page, "pages": pages, "total": total, "books": books });
    Ok(validated(&headers, &content))
}

async fn read_book(
    State(desk): AtDesk,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let book = desk.shop.book(number(&id)?).await.ok_or(Refused::Absent)?;
    Ok(validated(&headers, &book))
}

async fn add_book(
    State(desk): AtDesk,
    details: Result<Json<Details>, JsonRejection>,
) -> Result<Response, Problem> {
    let book = desk.shop.add_book(details?.0).await?;
    let location = [(LOCATION, format!("/books/{}", book.id))];
    Ok((StatusCode::CREATED, location, Json(book)).into_response())
}

async fn replace_book(
    State(desk): AtDesk,
    Path(id): Path<String>,
    details: Result<Json<Details>, JsonRejection>,
) -> Result<Json<Book>, Problem> {
    Ok(Json(desk.shop.replace_book(number(&id)?, details?.0).await?))
}

async fn change_book(
    State(desk): AtDesk,
    Path(id): Path<String>,
    changes: Result<Json<Changes>, JsonRejection>,
) -> Result<Json<Book>, Problem> {
    Ok(Json(desk.shop.change_book(number(&id)?, changes?.0).await?))
}

async fn remove_book(State(desk): AtDesk, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    desk.shop.remove_book(number(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct User {
    id: u32,
    #[serde(flatten)]
    person: Person,
}

async fn read_user(State(desk): AtDesk, Path(id): Path<String>) -> Result<Json<User>, Problem> {
    let id = number(&id)?;
    let person = desk.shop.person(id).await.ok_or(Refused::Absent)?;
    Ok(Json(User { id, person }))
}

async fn replace_user(
    State(desk): AtDesk,
    Path(id): Path<String>,
    person: Result<Json<Person>, JsonRejection>,
) -> Result<Json<User>, Problem> {
    let (id, Json(person)) = (number(&id)?, person?);
    desk.shop.replace_person(id, person.clone()).await?;
    Ok(Json(User { id, person }))
}

async fn offers(State(desk): AtDesk, headers: HeaderMap) -> impl IntoResponse {
    let language = language(&headers);
    let headline = match language {
        "de" => "Nur diese Woche",
        "fr" => "Cette semaine seulement",
        _ => "This week only",
    };
    let (currency, per_euro) = match cookie(&headers, "currency") {
        Some("USD") => ("USD", 108),
        Some("GBP") => ("GBP", 85),
        _ => ("EUR", 100),
    };
    let books = desk.shop.books(Some("poetry")).await;
    let offers: Vec<_> = books
        .iter()
        .take(3)
        .map(|Book { id, details }| {
            let cents = u64::from(details.cents) * per_euro / 100;
            json!({ "book": id, "title": details.title, "cents": cents })
        })
        .collect();
    // A correct API would send `Vary: Accept-Language, Cookie`. Many do not, and then it is for the
    // route's key policy to keep languages and currencies apart.
    let fields = [(CACHE_CONTROL, FRESH), (CONTENT_LANGUAGE, language)];
    (fields, Json(json!({ "headline": headline, "currency": currency, "offers": offers })))
}

/// Recommends a book to a visitor, who is known by the number that the first answer hands out.
async fn me(State(desk): AtDesk, headers: HeaderMap) -> Response {
    let known = cookie(&headers, "visitor").and_then(|visitor| visitor.parse::<u64>().ok());
    let private = [(CACHE_CONTROL, "private, max-age=60")];
    let visitor = known.unwrap_or_else(|| desk.visitors.fetch_add(1, Ordering::Relaxed) + 1);
    let book = desk.shop.book(u32::try_from(visitor % 40).unwrap_or_default() + 1).await;
    let content = Json(json!({ "visitor": visitor, "recommended": book }));
    if known.is_some() {
        return (private, content).into_response();
    }
    let set = [(SET_COOKIE, format!("visitor={visitor}; Path=/; HttpOnly; SameSite=Lax"))];
    (private, set, content).into_response()
}

/// The content with its validator, or 304 when the client has it already (RFC 9110 §15.4.5).
fn validated(headers: &HeaderMap, content: &impl Serialize) -> Response {
    let content = serde_json::to_vec(content).expect("names are strings, and no value can fail");
    let etag: String = blake3::hash(&content).to_hex().chars().take(16).collect();
    let etag = format!("\"{etag}\"");
    let matches = is_known(headers, &etag);
    let fields = [(ETAG, etag), (CACHE_CONTROL, FRESH.to_owned())];
    if matches {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, [(CONTENT_TYPE, "application/json")], content).into_response()
}

/// RFC 9110 §13.1.2: `*`, or a list that is compared weakly. No tag of ours has a comma in it.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    lines(headers, &IF_NONE_MATCH)
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The language that the client likes best (RFC 9110 §12.5.4): the first of the highest weight.
fn language(headers: &HeaderMap) -> &'static str {
    let mut best = ("en", 0.0);
    for range in lines(headers, &ACCEPT_LANGUAGE).flat_map(|line| line.split(',')) {
        let (range, weight) = range.split_once(';').unwrap_or((range, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        let primary = range.trim().split('-').next().unwrap_or_default();
        let offered = ["en", "de", "fr"].into_iter().find(|it| it.eq_ignore_ascii_case(primary));
        if let (Some(offered), Some(weight)) = (offered, weight)
            && weight > best.1
        {
            best = (offered, weight);
        }
    }
    best.0
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    lines(headers, &COOKIE)
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// An id in a path. What is not a number is the id of nothing.
fn number(id: &str) -> Result<u32, Refused> {
    id.parse().map_err(|_| Refused::Absent)
}

/// A problem document (RFC 9457).
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl From<Refused> for Problem {
    fn from(why: Refused) -> Self {
        let status = match why {
            Refused::Absent => StatusCode::NOT_FOUND,
            Refused::Text => StatusCode::BAD_REQUEST,
            Refused::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, why.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(why: JsonRejection) -> Self {
        Self::new(why.status(), why.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let content =
            json!({ "title": title, "status": self.status.as_u16(), "detail": self.detail });
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, content.to_string()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::client::{Answer, Ask, Client, Peer};
    use super::*;

    struct Stage {
        api: Api,
        client: Client,
        shutdown: CancellationToken,
    }

    impl Stage {
        async fn open() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let shutdown = CancellationToken::new();
            let api = serve(listener, shutdown.clone()).unwrap();
            Self { api, client: Client::new(2), shutdown }
        }

        async fn ask(&self, ask: Ask) -> Answer {
            let peer = Peer { role: "the API", address: self.api.address() };
            self.client.send(peer, &ask).await.unwrap()
        }

        async fn get(&self, path: &str) -> Answer {
            self.ask(Ask::get(path)).await
        }
    }

    fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
        answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn book(title: &str) -> Value {
        json!({ "title": title, "author": "A", "genre": "novel", "year": 1900, "cents": 500 })
    }

    #[tokio::test]
    async fn a_book_is_fresh_for_a_minute_and_can_be_validated_at_the_price_of_a_read() {
        let stage = Stage::open().await;
        let first = stage.get("/books/1").await;
        assert_eq!(first.status, 200);
        assert_eq!(first.json()["title"], "Middlemarch");
        assert_eq!(text(&first, "cache-control"), "max-age=60");
        let etag = text(&first, "etag");
        assert!(etag.starts_with('"'), "a strong validator, not {etag}");

        let again = stage.ask(Ask::get("/books/1").with("if-none-match", etag)).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(text(&again, "etag"), etag);
        let other = stage.ask(Ask::get("/books/1").with("if-none-match", "\"x\"")).await;
        assert_eq!(other.status, 200);
        assert_eq!(stage.api.reads(), 3);
    }

    #[tokio::test]
    async fn a_book_can_be_added_replaced_changed_and_removed() {
        let stage = Stage::open().await;
        let added = stage.ask(Ask::new("POST", "/books").json(&book("New"))).await;
        assert_eq!((added.status, text(&added, "location")), (StatusCode::CREATED, "/books/41"));
        assert_eq!(added.json()["id"], 41);

        let put = stage.ask(Ask::new("PUT", "/books/41").json(&book("Newer"))).await;
        assert_eq!((put.status, &put.json()["title"]), (StatusCode::OK, &json!("Newer")));
        let patch = Ask::new("PATCH", "/books/41").json(&json!({ "cents": 700 }));
        assert_eq!(stage.ask(patch).await.status, 200);
        let read = stage.get("/books/41").await.json();
        assert_eq!((&read["title"], &read["cents"]), (&json!("Newer"), &json!(700)));

        assert_eq!(stage.ask(Ask::new("DELETE", "/books/41")).await.status, 204);
        assert_eq!(stage.get("/books/41").await.status, 404);
        assert_eq!(stage.ask(Ask::new("DELETE", "/books/41")).await.status, 404);
    }

    #[tokio::test]
    async fn books_are_listed_by_page_and_genre() {
        let stage = Stage::open().await;
        let list = stage.get("/books?page=4&utm_source=mail").await.json();
        assert_eq!((&list["total"], &list["pages"]), (&json!(40), &json!(4)));
        assert_eq!(list["books"][9]["title"], "The Happy Prince");
        let list = stage.get("/books?genre=crime").await.json();
        assert_eq!((&list["total"], &list["books"][0]["id"]), (&json!(8), &json!(9)));
        assert_eq!(stage.get("/books?page=99").await.json()["books"], json!([]));
    }

    #[tokio::test]
    async fn mistakes_are_answered_with_problem_documents() {
        let stage = Stage::open().await;
        let large = json!({ "title": "x".repeat(MAX_BODY) });
        for (ask, status) in [
            (Ask::get("/nothing"), 404),
            (Ask::get("/books/abc"), 404),
            (Ask::get("/books/999"), 404),
            (Ask::get("/users/999"), 404),
            (Ask::get("/books?page=0"), 400),
            (Ask::get("/books?page=x"), 400),
            (Ask::get("/books?page=18446744073709551615"), 400),
            (Ask::new("POST", "/books").json(&book(" ")), 400),
            (Ask::new("POST", "/books").json(&json!({})), 422),
            (Ask::new("POST", "/books").json(&large), 413),
            (Ask::new("POST", "/books"), 415),
            (Ask::new("PUT", "/books/999").json(&book("x")), 404),
            (Ask::new("DELETE", "/books"), 405),
        ] {
            let answer = stage.ask(ask.clone()).await;
            assert_eq!(answer.status, status, "{ask:?}");
            assert_eq!(text(&answer, "content-type"), "application/problem+json", "{ask:?}");
            assert_eq!(answer.json()["status"], status, "{ask:?}");
        }
    }

    #[tokio::test]
    async fn users_say_nothing_about_freshness() {
        let stage = Stage::open().await;
        let person = json!({ "name": "Ada", "city": "Turin" });
        let put = stage.ask(Ask::new("PUT", "/users/1").json(&person)).await;
        assert_eq!(put.status, 200);
        let user = stage.get("/users/1").await;
        assert_eq!(user.json(), json!({ "id": 1, "name": "Ada", "city": "Turin" }));
        assert!(["cache-control", "expires", "etag"].iter().all(|it| text(&user, it).is_empty()));
    }

    #[tokio::test]
    async fn offers_follow_language_and_currency() {
        let stage = Stage::open().await;
        for (accepted, cookie, language, currency) in [
            ("", "", "en", "EUR"),
            ("de-AT, en;q=0.5", "currency=USD", "de", "USD"),
            ("en;q=0.3, fr;q=0.9", "a=b; currency=GBP", "fr", "GBP"),
            ("it, de;q=0", "currency=XXX", "en", "EUR"),
        ] {
            let ask = Ask::get("/offers").with("accept-language", accepted).with("cookie", cookie);
            let answer = stage.ask(ask).await;
            assert_eq!(text(&answer, "content-language"), language, "{accepted}");
            assert_eq!(answer.json()["currency"], currency, "{cookie}");
        }
    }

    #[tokio::test]
    async fn a_visitor_gets_a_number_for_themselves_alone() {
        let stage = Stage::open().await;
        let first = stage.get("/me").await;
        assert!(text(&first, "cache-control").contains("private"));
        assert!(text(&first, "set-cookie").starts_with("visitor=1;"));
        let again = stage.ask(Ask::get("/me").with("cookie", "visitor=1")).await;
        assert_eq!((&again.json()["visitor"], again.json()), (&json!(1), first.json()));
        assert_eq!(text(&again, "set-cookie"), "");
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let stage = Stage::open().await;
        stage.get("/me").await;
        stage.shutdown.cancel();
        stage.api.ended().await;
        let peer = Peer { role: "the API", address: stage.api.address() };
        assert!(stage.client.send(peer, &Ask::get("/me")).await.is_err());
    }
}
