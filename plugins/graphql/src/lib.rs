//! A policy for GraphQL: keys by operation and variables, tags by type, and mutations that invalidate
//! the types they touched.
//!
//! It knows no schema. What it cannot tell it takes for the worst: a request that could be read in two
//! ways has no key; a response that need not name all the types it depends on is *untyped*, and every
//! mutation invalidates it; a mutation of which nothing is known invalidates every response.

use larder_policy::Inputs;
use larder_policy::Invalidated;
use larder_policy::Invalidation;
use larder_policy::Json;
use larder_policy::Key;
use larder_policy::KeyDecision;
use larder_policy::NamedTexts;
use larder_policy::Pair;
use larder_policy::Parameter;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Response;
use larder_policy::Scope;
use larder_policy::Settings;
use larder_policy::Storing;
use larder_policy::StoringDecision;
use larder_policy::Wants;
use larder_policy::concat;

use sha2::Digest as _;
use sha2::Sha256;

use crate::asked::Asked;
use crate::document::Document;
use crate::document::Does;
use crate::document::Field;
use crate::document::Operation;
use crate::lexer::is_name_octet;

mod asked;
mod document;
mod lexer;

/// What the gateway takes from one call, and how long a tag may be.
const MOST_TAGS: usize = 64;
const LONGEST_TAG: usize = 256;

/// What a server says of a hash by which it has no document, in a code or in the message itself.
const UNKNOWN: [&str; 4] = [
    "PERSISTED_QUERY_NOT_FOUND",
    "PERSISTED_QUERY_NOT_SUPPORTED",
    "PersistedQueryNotFound",
    "PersistedQueryNotSupported",
];

const NOT_QUERIES: &str = "`: write `\"queries\"` if no client asks for a mutation by its hash \
                           alone, or take it out";
const NO_TYPE: &str = "`, which is no type: write `[\"User\"]`";

/// The tag of every response.
const ALL: &str = "graphql";
/// The tag of those that may depend on types that they do not name.
const UNTYPED: &str = "graphql:untyped";

/// What is longer stands in the key as its digest. A key has room for 16 KiB, and names are read by
/// people.
const LONGEST_PART: usize = 1024;

/// What is asked of a response, in this order.
const ERRORS: &str = "$.errors";
const TYPES: &str = "$.data..__typename";
/// Arrays and objects without anything in them.
const EMPTY: &str = "$.data..[?length(@) == 0 && @ != '']";
/// Fields of the root and items of lists that have no value. What has none below belongs to an object
/// that says its type. One query for both, as each takes its time: it tells as well of lists beside
/// the data and of fields of another `data`, which is coarse and not wrong.
const NULLS: &str = "$..['data', ?@[0]][?@ == null]";

/// The settings.
#[derive(Debug)]
struct GraphQl {
    /// The types that a field of `Query` depends on.
    types: Vec<NamedTexts>,
    /// The types that a field of `Mutation` touches.
    mutations: Vec<NamedTexts>,
    /// Whether `__typename` is looked for in responses.
    typenames: bool,
    /// Whether a `POST` with a hash and no document asks for a query: clients know, and requests do not
    /// say.
    are_persisted_queries: bool,
    soft: bool,
}

larder_policy::prepared!(GraphQl { types, mutations, typenames, are_persisted_queries, soft });
larder_policy::export!(GraphQl: key, storing, invalidation);

impl Policy for GraphQl {
    const LOGS_PANICS: bool = false;

    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let policy = Self {
            types: settings.named_texts("types"),
            mutations: settings.named_texts("mutations"),
            typenames: settings.boolean("typenames").unwrap_or(true),
            are_persisted_queries: are_persisted_queries(settings),
            soft: settings.boolean("soft").unwrap_or(false),
        };
        for (table, entries) in [("types", &policy.types), ("mutations", &policy.mutations)] {
            for NamedTexts { name, texts } in entries {
                if !is_name(name) {
                    settings.refuse::<()>(concat(&[
                        "`",
                        table,
                        ".",
                        name,
                        "` is no field of GraphQL",
                    ]));
                }
                for wrong in texts.iter().filter(|text| !is_name(text)) {
                    settings
                        .refuse::<()>(concat(&["`", table, ".", name, "` has `", wrong, NO_TYPE]));
                }
            }
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        let of_types = self.typenames.then_some([TYPES, EMPTY, NULLS]);
        let values = [ERRORS].into_iter().chain(of_types.into_iter().flatten());
        Wants {
            inputs: Inputs::METHOD | Inputs::PATH | Inputs::QUERY | Inputs::CONTENT,
            fields: vec!["content-type".to_owned()],
            response_values: values.map(str::to_owned).collect(),
            ..Wants::default()
        }
    }
}

impl Key for GraphQl {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        Ok(match self.parts(request) {
            Ok(parts) => KeyDecision::Parts(parts),
            Err(why) => KeyDecision::Bypass(why.to_owned()),
        })
    }
}

impl Storing for GraphQl {
    fn storing(&self, request: &Request, response: &Response) -> Result<StoringDecision, String> {
        let tags = self.tags(request, response);
        let store = tags.is_ok();
        Ok(StoringDecision { store, max_age: None, tags: tags.unwrap_or_default() })
    }
}

impl Invalidation for GraphQl {
    fn written(&self, request: &Request, response: &Response) -> Result<Vec<Invalidated>, String> {
        let tags = match Asked::read_all(request) {
            Ok(asked) => self.touched_by_all(&asked, response),
            // A write that is no GraphQL, or none that is known.
            Err(_) => vec![ALL.to_owned()],
        };
        let invalidated = |tag| Invalidated { scope: Scope::Tag(tag), soft: self.soft };
        Ok(tags.into_iter().map(invalidated).collect())
    }
}

impl GraphQl {
    /// The parts of a key, or why there is none.
    fn parts(&self, request: &Request) -> Result<Vec<Pair>, asked::Why> {
        let asked = Asked::read(request)?;
        let mut parts = vec![Pair::new("path", &request.path)];
        let form = match &asked.document {
            Some(document) => {
                let document = Document::read(document).ok_or(asked::NOT_UNDERSTOOD)?;
                let operation = document.operation(asked.operation.as_deref());
                let Operation { does, .. } = operation.ok_or(asked::NO_OPERATION)?;
                match does {
                    Does::Query => (request.method != "GET").then(|| document.form()),
                    Does::Mutation => return Err("mutation"),
                    Does::Subscription => return Err("subscription"),
                }
            }
            // GraphQL over HTTP: a GET must not execute a mutation, and a QUERY is safe (RFC 10008).
            // A POST may be anything.
            None if request.method == "POST" && !self.are_persisted_queries => {
                return Err("persisted");
            }
            None => None,
        };
        if request.method == "GET" {
            // As it was sent: of what the key holds in another form a route with `forward = "keyed"`
            // sends nothing on.
            parts.push(Pair::new("query", &Parameter::join(&request.query)));
            return Ok(parts);
        }
        if !asked.rest.is_empty() {
            parts.push(Pair::new("query", &Parameter::join(&asked.rest)));
        }
        if let Some(form) = &form {
            parts.push(part("document", "document-sha256", form));
        }
        if let Some(operation) = &asked.operation {
            parts.push(Pair::new("operation", operation));
        }
        if let Some(variables) = &asked.variables {
            parts.push(part("variables", "variables-sha256", variables));
        }
        if let Some(extensions) = &asked.extensions {
            parts.push(part("extensions", "extensions-sha256", extensions));
        }
        Ok(parts)
    }

    /// The tags of a response, or why it is not to be stored.
    fn tags(&self, request: &Request, response: &Response) -> Result<Vec<String>, &'static str> {
        if response.status != 200 {
            return Err("the status is not 200");
        }
        let errors = response.values(0).ok_or("the response cannot be read")?;
        if errors.iter().any(|errors| errors != "null" && errors != "[]") {
            return Err("there are errors");
        }
        let mut tags = vec![ALL.to_owned()];
        let asked = Asked::read(request).ok();
        let operation = asked.as_ref().map(operation);
        let fields = match &operation {
            Some(Ok(Some(Operation { does: Does::Query, fields }))) => Some(fields.as_slice()),
            // Asked for by its hash; or by a request that another policy has keyed.
            Some(Ok(None)) | None => None,
            Some(Ok(Some(_)) | Err(_)) => return Err("it is no query"),
        };
        let (types, is_typed) = self.types_of(fields, &self.types, response);
        if !is_typed {
            add(&mut tags, UNTYPED.to_owned());
        }
        add_types(&mut tags, &types);
        for Field { name, .. } in fields.unwrap_or_default() {
            add(&mut tags, concat(&["field:", name]));
            if tags.len() > MOST_TAGS {
                break;
            }
        }
        // With fewer it would miss invalidations.
        let fits = tags.len() <= MOST_TAGS && tags.iter().all(|tag| tag.len() <= LONGEST_TAG);
        if fits { Ok(tags) } else { Err("there are too many tags, or too long ones") }
    }

    /// What a write with these operations invalidates.
    fn touched_by_all(&self, asked: &[Asked], response: &Response) -> Vec<String> {
        let mut tags = Vec::new();
        for one in asked {
            match operation(one) {
                Ok(Some(Operation { does: Does::Query | Does::Subscription, .. })) => {}
                Ok(Some(Operation { does: Does::Mutation, fields })) => {
                    let (types, is_typed) = self.types_of(Some(&fields), &self.mutations, response);
                    // A mutation has to name something, or be said to touch nothing.
                    let is_listed = fields.iter().all(|field| is_in(&self.mutations, field.name));
                    if !is_typed || types.is_empty() && !is_listed {
                        return vec![ALL.to_owned()];
                    }
                    if !types.is_empty() {
                        add(&mut tags, UNTYPED.to_owned());
                    }
                    add_types(&mut tags, &types);
                }
                // The client sends the document next, and what that does is then known.
                Ok(None) if is_unknown(response) => {}
                Ok(None) | Err(_) => return vec![ALL.to_owned()],
            }
        }
        // No response bears a longer one.
        tags.retain(|tag| tag.len() <= LONGEST_TAG);
        if tags.len() > MOST_TAGS { vec![ALL.to_owned()] } else { tags }
    }

    /// The types that a response depends on, or that a mutation has touched, and whether those are
    /// all. `fields` are the root's, if they are known; `listed` what the settings say of them.
    fn types_of(
        &self,
        fields: Option<&[Field<'_>]>,
        listed: &[NamedTexts],
        response: &Response,
    ) -> (Vec<String>, bool) {
        let mut types: Vec<String> = Vec::new();
        for field in fields.unwrap_or_default() {
            let entry = listed.iter().find(|entry| entry.name == field.name);
            for name in entry.into_iter().flat_map(|entry| &entry.texts) {
                add(&mut types, name.clone());
            }
        }
        let selected = |index: usize| response.values(index).filter(|_| self.typenames);
        let names = selected(1).unwrap_or_default();
        let mut are_names = !names.is_empty();
        for value in names {
            match Json::read(value) {
                Some(Json::Text(name)) if is_name(&name) => add(&mut types, name),
                // Another field, with `__typename` as its alias.
                _ => are_names = false,
            }
        }
        let Some(fields) = fields else { return (types, false) };
        // The settings have the last word on a field. Of the others each object must say its type,
        // and there must be one: an empty list tells nothing of what could be in it.
        let mut unlisted = fields.iter().filter(|field| !is_in(listed, field.name)).peekable();
        let is_all_listed = unlisted.peek().is_none();
        let is_nothing_selected = |index| selected(index).is_some_and(<[String]>::is_empty);
        let is_full = is_nothing_selected(2) && is_nothing_selected(3);
        let is_typed =
            is_all_listed || are_names && is_full && unlisted.all(|field| field.is_typed);
        (types, is_typed)
    }
}

/// A part of a key, which people can read if it is short.
fn part(name: &str, digest_name: &str, text: &str) -> Pair {
    if text.len() <= LONGEST_PART {
        return Pair::new(name, text);
    }
    let mut hex = String::with_capacity(64);
    for octet in Sha256::digest(text) {
        for digit in [octet >> 4, octet & 0xf] {
            hex.extend(char::from_digit(digit.into(), 16));
        }
    }
    Pair::new(digest_name, &hex)
}

/// Whether all errors say that the server does not know the document of this hash, or none by any
/// hash: then nothing was executed.
fn is_unknown(response: &Response) -> bool {
    let Some([errors]) = response.values(0) else { return false };
    let Some(Json::Array(errors)) = Json::read(errors) else { return false };
    let says_so = |error: &Json| {
        let code = error.member("extensions").and_then(|more| more.member("code"));
        let said = [code, error.member("message")].map(|said| said.and_then(Json::text));
        said.into_iter().flatten().any(|said| UNKNOWN.contains(&said))
    };
    !errors.is_empty() && errors.iter().all(says_so)
}

/// The operation that is asked for: none if its document is not there.
fn operation(asked: &Asked) -> Result<Option<Operation<'_>>, asked::Why> {
    let Some(text) = &asked.document else { return Ok(None) };
    let document = Document::read(text).ok_or(asked::NOT_UNDERSTOOD)?;
    let operation = document.operation(asked.operation.as_deref());
    operation.map(Some).ok_or(asked::NO_OPERATION)
}

fn are_persisted_queries(settings: &mut Settings) -> bool {
    match settings.text("persisted") {
        Some(are) if are == "queries" => true,
        Some(other) => {
            settings.refuse::<()>(concat(&["`persisted` is `", &other, NOT_QUERIES]));
            false
        }
        None => false,
    }
}

fn add(texts: &mut Vec<String>, text: String) {
    if !texts.contains(&text) {
        texts.push(text);
    }
}

fn add_types(tags: &mut Vec<String>, types: &[String]) {
    for name in types {
        add(tags, concat(&["type:", name]));
    }
}

fn is_in(listed: &[NamedTexts], field: &str) -> bool {
    listed.iter().any(|entry| entry.name == field)
}

/// GraphQL §2.1.9.
fn is_name(text: &str) -> bool {
    let begins_well = text.bytes().next().is_some_and(|octet| !octet.is_ascii_digit());
    begins_well && text.bytes().all(is_name_octet)
}

#[cfg(test)]
mod tests;
