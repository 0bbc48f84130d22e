//! The types of the contract, `wit/policy.wit`, as Rust has them.
//!
//! The contract says more of each: units, bounds, and who fills it in.

use std::ops::BitOr;
use std::ops::BitOrAssign;

/// One key of the policy's `config` table and its value. A nested table `a = { b = 1 }` arrives as the
/// key `a.b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key.
    pub name: String,
    /// What stands under it.
    pub value: SettingValue,
}

/// What a `config` table may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
}

/// Parts of a request that a policy can ask for. What it does not ask for it sees empty.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Inputs(u8);

impl Inputs {
    /// `GET`, `POST`, ... (RFC 9110 §9). `HEAD` is seen as `GET` by `key`.
    pub const METHOD: Self = Self(1);
    /// `http` or `https`.
    pub const SCHEME: Self = Self(1 << 1);
    /// Host and port as the client named them, in lower case.
    pub const AUTHORITY: Self = Self(1 << 2);
    /// The path, still percent-encoded, beginning with `/`.
    pub const PATH: Self = Self(1 << 3);
    /// What the route's path pattern captured, still percent-encoded.
    pub const CAPTURES: Self = Self(1 << 4);
    /// The query, split at `&`.
    pub const QUERY: Self = Self(1 << 5);
    /// The content of a request that asks by it or that changes something, up to the route's bounds.
    pub const CONTENT: Self = Self(1 << 6);

    /// None of them.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// All of them.
    pub const fn all() -> Self {
        Self((1 << 7) - 1)
    }

    /// Whether all of `others` are among them.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// One bit each, in the order of the contract.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }
}

impl BitOr for Inputs {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitOrAssign for Inputs {
    fn bitor_assign(&mut self, others: Self) {
        *self = *self | others;
    }
}

/// What a policy wants to see of each request. The rest stays hidden from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    /// The parts of the request.
    pub inputs: Inputs,
    /// Request field names, in any case.
    pub fields: Vec<String>,
    /// Names of cookies, case-sensitive (RFC 6265).
    pub cookies: Vec<String>,
    /// Claims of the JSON Web Token (RFC 7519) that the route reads: the name of a member, or a JSON
    /// Pointer (RFC 6901) where it begins with `/`.
    pub claims: Vec<String>,
    /// Response field names.
    pub response_fields: Vec<String>,
    /// `JSONPath` queries (RFC 9535) into a response's content.
    pub response_values: Vec<String>,
    /// `JSONPath` queries into a changed document.
    pub document_values: Vec<String>,
}

/// A query parameter as it was sent: percent-encoded, `a` without and `a=` with an empty value.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// What stands before the first `=`.
    pub name: String,
    /// What follows it.
    pub value: Option<String>,
}

/// A name and what stands under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// What stands under it.
    pub value: String,
}

/// A request, as far as the policy asked for it. By default nothing is to be seen of it, for tests to
/// fill in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// With [`Inputs::METHOD`].
    pub method: String,
    /// With [`Inputs::SCHEME`].
    pub scheme: String,
    /// With [`Inputs::AUTHORITY`].
    pub authority: String,
    /// With [`Inputs::PATH`].
    pub path: String,
    /// With [`Inputs::CAPTURES`], in the order of the route's pattern.
    pub captures: Vec<Pair>,
    /// With [`Inputs::QUERY`], in the order sent.
    pub query: Vec<Parameter>,
    /// One value for each name in `wants.fields`, in that order; lines of the same name are joined
    /// with `, ` (RFC 9110 §5.3), those of `cookie` with `; ` (RFC 9113 §8.2.3).
    pub fields: Vec<Option<String>>,
    /// One value for each name in `wants.cookies`, in that order; the first where several are sent.
    pub cookies: Vec<Option<String>>,
    /// One JSON value for each name in `wants.claims`, in that order.
    pub claims: Vec<Option<String>>,
    /// With [`Inputs::CONTENT`].
    pub content: Option<Vec<u8>>,
}

/// A response, as far as the policy asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// One value for each name in `wants.response_fields`, in that order.
    pub fields: Vec<Option<String>>,
    /// For each query in `wants.response_values`, in that order, the JSON values that it selects.
    /// `None` where they cannot be said.
    pub values: Option<Vec<Vec<String>>>,
}

/// What `key` decides.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyDecision {
    /// The parts of the cache key: at most 64, and 16 KiB in all.
    ///
    /// Parts also make the readable name: `path` first, without its leading `/`, then `?` and the
    /// others as `name=value`, joined with `&`; the value of a part named `query` stands alone.
    Parts(Vec<Pair>),
    /// Forward the request and store nothing. The reason, at most 128 octets, is shown in
    /// `Cache-Status`.
    Bypass(String),
}

/// What `storing` decides.
#[derive(Clone, Debug, PartialEq)]
pub struct StoringDecision {
    /// False: the response is passed on and not stored.
    pub store: bool,
    /// A bound on the freshness lifetime in seconds; none leaves it as it is.
    pub max_age: Option<u32>,
    /// Tags to be invalidated by. At most 64, each at most 256 octets and not empty.
    pub tags: Vec<String>,
}

/// A change of one document in `MongoDB`.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// As `gateway.toml` names it: `[mongodb.NAME]`.
    pub mongodb: String,
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
    /// What happened.
    pub operation: Operation,
    /// The document's `_id` as JSON, in `MongoDB`'s relaxed extended form; empty for a drop.
    pub id: String,
    /// For each query in `wants.document_values`, in that order, the JSON values that it selects in
    /// the document as the change left it. `None` where they cannot be said.
    pub after: Option<Vec<Vec<String>>>,
    /// The same of the document as it was before.
    pub before: Option<Vec<Vec<String>>>,
}

/// What happened to a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// It is new.
    Insert,
    /// Parts of it are others.
    Update,
    /// Another one is in its place.
    Replace,
    /// It is gone.
    Delete,
    /// The whole collection is gone, or has another name.
    Drop,
}

/// What an invalidation covers.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// Stored responses with this tag, from the same upstream; after a change, from any.
    Tag(String),
    /// Stored responses to requests for this path, percent-encoded as in `request.path`, of the same
    /// authority: with any query, under any key. After a change, of any authority.
    Path(String),
    /// Stored responses whose readable name matches: `*` stands for any run of characters, the rest
    /// for itself.
    Pattern(String),
}

/// What is invalidated, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalidated {
    /// What is covered.
    pub scope: Scope,
    /// True: covered responses become stale, and may be validated. False: they are gone.
    pub soft: bool,
}
