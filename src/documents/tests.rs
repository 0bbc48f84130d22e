//! What requests become, and what documents look like.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Method};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::{RawBsonRef, RawDocumentBuf};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, Uuid,
    doc,
};
use mongodb::options::ReadConcern;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::config::{From, Json, Kind, Mongodb, Operand, Place, Slot};

use super::filter::{Given, Query, Refused, Why, query};
use super::{Documents, Found, Source, id_of, json, relaxed};

const HEX: &str = "65f0a1b2c3d4e5f60718293a";

fn wanted(find: Vec<(String, Operand)>) -> crate::config::Document {
    crate::config::Document {
        mongodb: 0,
        database: "app".to_owned(),
        collection: "users".to_owned(),
        find,
        projection: Vec::new(),
        sort: Vec::new(),
        many: false,
        limit: 100,
        skip: None,
        version: None,
        modified: None,
        json: Json::Plain,
        max_time: std::time::Duration::from_secs(1),
        missing_ttl: std::time::Duration::from_secs(1),
    }
}

fn slot(from: From, kind: Kind, default: Option<&str>) -> Operand {
    Operand::Slot(Slot { from, kind, default: default.map(str::to_owned) })
}

/// The filter of `{ _id = "{id:kind}" }` for what a path captured.
fn captured(kind: Kind, text: &str) -> Result<Document, Refused> {
    let find = vec![("_id".to_owned(), slot(From::Capture("id".to_owned()), kind, None))];
    query(&wanted(find), &Given { captures: &[("id", text)], query: "" }).map(|it| it.filter)
}

/// The filter of `{ a = "{?a:kind=default}" }` for a query.
fn parameter(kind: Kind, default: Option<&str>, given: &str) -> Result<Document, Refused> {
    let find = vec![("a".to_owned(), slot(From::Parameter("a".to_owned()), kind, default))];
    query(&wanted(find), &Given { captures: &[], query: given }).map(|it| it.filter)
}

#[test]
fn what_a_request_says_is_a_value_of_the_type_that_is_wanted() {
    let oid = ObjectId::parse_str(HEX).unwrap();
    let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    for (kind, text, value) in [
        (Kind::Text, "42", Bson::String("42".to_owned())),
        (Kind::Text, "J%C3%B6rg%20%2F", Bson::String("Jörg /".to_owned())),
        (Kind::Text, HEX, Bson::String(HEX.to_owned())),
        (Kind::ObjectId, HEX, Bson::ObjectId(oid)),
        (Kind::Integer, "42", Bson::Int64(42)),
        (Kind::Integer, "-9223372036854775808", Bson::Int64(i64::MIN)),
        (Kind::Number, "1e3", Bson::Double(1000.0)),
        (Kind::Boolean, "true", Bson::Boolean(true)),
        (Kind::Date, "1970-01-01T00:00:01Z", Bson::DateTime(DateTime::from_millis(1000))),
        (Kind::Uuid, "01890a5d-ac96-774b-bcce-b302099a8057", Bson::Binary(uuid.into())),
    ] {
        assert_eq!(captured(kind, text), Ok(doc! { "_id": value }), "{text}");
    }
}

#[test]
fn what_is_of_another_type_is_refused() {
    for (kind, texts) in [
        (Kind::ObjectId, &["", "42", "65f0a1b2c3d4e5f60718293", "65f0a1b2c3d4e5f60718293z"][..]),
        (Kind::Integer, &["", "+1", "1.0", "0x10", "9223372036854775808", "1 ", "NaN"]),
        (Kind::Number, &["", "inf", "NaN", "1e999", "0x1", "infinity"]),
        (Kind::Boolean, &["", "1", "True", "yes"]),
        (Kind::Date, &["", "2026-11-26", "yesterday"]),
        (Kind::Uuid, &["", HEX, "{}"]),
    ] {
        for text in texts {
            let refused = Refused { name: "id".to_owned(), why: Why::NotA(kind) };
            assert_eq!(captured(kind, text), Err(refused), "{text}");
        }
    }
    let not_utf8 = Refused { name: "id".to_owned(), why: Why::NotUtf8 };
    assert_eq!(captured(Kind::Text, "%ff"), Err(not_utf8));
}

#[test]
fn operators_of_a_request_are_texts() {
    for text in [
        "{\"$gt\":\"\"}",
        "%7B%22$gt%22%3A%22%22%7D",
        "$gt",
        "$where",
        "[$ne]",
        "{\"$where\":\"sleep(1000)\"}",
    ] {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8().unwrap();
        let filter = captured(Kind::Text, text).unwrap();
        assert_eq!(filter, doc! { "_id": decoded.as_ref() });
        for kind in [Kind::ObjectId, Kind::Integer, Kind::Number, Kind::Boolean, Kind::Date] {
            assert!(captured(kind, text).is_err(), "{text} as {kind:?}");
        }
    }
    // A name that other servers read as a table's is another name here.
    for given in ["a[$gt]=", "a%5B$gt%5D=", "a.$gt=1", "$gt=1", "a[]=1"] {
        let missing = Refused { name: "a".to_owned(), why: Why::Missing };
        assert_eq!(parameter(Kind::Text, None, given), Err(missing), "{given}");
    }
}

#[test]
fn parameters_are_read_as_forms_are() {
    let text = |text: &str| Ok(doc! { "a": text });
    let refused = |why| Err(Refused { name: "a".to_owned(), why });
    for (default, given, expected) in [
        (None, "a=b", text("b")),
        (None, "a=b+c%20d&x=1", text("b c d")),
        (None, "%61=b", text("b")),
        (None, "a", text("")),
        (None, "a=", text("")),
        (None, "", refused(Why::Missing)),
        (None, "b=a", refused(Why::Missing)),
        (None, "a=1&a=1", refused(Why::Repeated)),
        (None, "a=1&%61=2", refused(Why::Repeated)),
        (None, "a=%ff", refused(Why::NotUtf8)),
        (Some("d"), "", text("d")),
        (Some("d"), "a=", text("")),
    ] {
        assert_eq!(parameter(Kind::Text, default, given), expected, "{given}");
    }
    assert_eq!(parameter(Kind::Integer, Some("1"), ""), Ok(doc! { "a": 1_i64 }));
}

#[test]
fn what_is_written_in_the_file_stays_as_it_is() {
    let from = |name: &str| From::Parameter(name.to_owned());
    let find = vec![
        ("state".to_owned(), Operand::Text("open".to_owned())),
        (
            "age".to_owned(),
            Operand::Table(vec![("$gte".to_owned(), slot(from("min"), Kind::Integer, None))]),
        ),
        (
            "$or".to_owned(),
            Operand::List(vec![
                Operand::Table(vec![("vip".to_owned(), Operand::Boolean(true))]),
                Operand::Table(vec![("score".to_owned(), Operand::Number(0.5))]),
            ]),
        ),
    ];
    let mut wanted = wanted(find);
    wanted.skip = Some(Slot { from: from("skip"), kind: Kind::Integer, default: None });
    let asked = |given| query(&wanted, &Given { captures: &[], query: given });
    let filter = doc! {
        "state": "open", "age": { "$gte": 18_i64 }, "$or": [{ "vip": true }, { "score": 0.5 }],
    };
    assert_eq!(asked("min=18&skip=20"), Ok(Query { filter, skip: 20 }));
    for skip in ["-1", "1000001"] {
        let refused = Refused { name: "skip".to_owned(), why: Why::NotSkipped };
        assert_eq!(refused.to_string(), "`skip` is not from 0 to 1000000");
        let given = format!("min=18&skip={skip}");
        let given = Given { captures: &[], query: &given };
        assert_eq!(query(&wanted, &given), Err(refused));
    }
}

fn written(document: &Document, form: Json) -> String {
    let raw = RawDocumentBuf::try_from(document).unwrap();
    let mut out = String::new();
    json::document(&mut out, &raw, form.into(), true).unwrap();
    out
}

/// One of each type.
fn everything() -> Document {
    let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    let scope = JavaScriptCodeWithScope { code: "f()".to_owned(), scope: doc! { "x": 1 } };
    doc! {
        "_id": ObjectId::parse_str(HEX).unwrap(),
        "z \"quoted\"\n": "Jörg \u{1}\u{2028}",
        "int": 1_i32,
        "long": i64::MAX,
        "double": 1.5,
        "whole": 2.0,
        "large": 1e300,
        "nan": f64::NAN,
        "infinite": f64::INFINITY,
        "minus": f64::NEG_INFINITY,
        "yes": true,
        "null": Bson::Null,
        "date": DateTime::from_millis(1_795_000_000_123),
        "before": DateTime::from_millis(-1),
        "far": DateTime::from_millis(i64::MAX),
        "decimal": "1.20".parse::<Decimal128>().unwrap(),
        "octets": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] },
        "uuid": uuid,
        "stamp": Timestamp { time: 1, increment: 2 },
        "regex": Regex { pattern: "a\"b".try_into().unwrap(), options: "i".try_into().unwrap() },
        "code": Bson::JavaScriptCode("f()".to_owned()),
        "scope": scope,
        "symbol": Bson::Symbol("s".to_owned()),
        "undefined": Bson::Undefined,
        "least": Bson::MinKey,
        "most": Bson::MaxKey,
        "list": [1, "two", { "three": [] }],
        "table": {},
    }
}

#[test]
fn extended_json_is_what_the_driver_makes_of_it() {
    let mut document = everything();
    // The driver writes the last date that is a text instead.
    document.remove("far");
    let read = |form| serde_json::from_str::<serde_json::Value>(&written(&document, form)).unwrap();
    let relaxed = Bson::Document(document.clone()).into_relaxed_extjson();
    assert_eq!(read(Json::Relaxed), relaxed);
    // Numbers are texts there, and 1e300 may be written in more than one way.
    let (mut ours, mut theirs) =
        (read(Json::Canonical), Bson::Document(document).into_canonical_extjson());
    let number = |value: &serde_json::Value| {
        value["$numberDouble"].as_str().unwrap().parse::<f64>().unwrap().to_bits()
    };
    for name in ["double", "whole", "large"] {
        assert_eq!(number(&ours[name]), number(&theirs[name]), "{name}");
        for value in [&mut ours, &mut theirs] {
            value.as_object_mut().unwrap().remove(name);
        }
    }
    assert_eq!(ours, theirs);
}

#[test]
fn plain_json_is_what_an_api_would_answer() {
    assert_eq!(
        written(&everything(), Json::Plain),
        concat!(
            r#"{"_id":"65f0a1b2c3d4e5f60718293a","z \"quoted\"\n":"Jörg \u0001"#,
            "\u{2028}",
            r#"","int":1,"long":9223372036854775807,"double":1.5,"whole":2.0,"large":1e300,"#,
            r#""nan":null,"infinite":null,"minus":null,"yes":true,"null":null,"#,
            r#""date":"2026-11-18T11:06:40.123Z","before":"1969-12-31T23:59:59.999Z","#,
            r#""far":9223372036854775807,"decimal":"1.20","octets":"AP8=","#,
            r#""uuid":"01890a5d-ac96-774b-bcce-b302099a8057","stamp":{"t":1,"i":2},"#,
            r#""regex":"/a\"b/i","code":"f()","scope":"f()","symbol":"s","undefined":null,"#,
            r#""least":null,"most":null,"list":[1,"two",{"three":[]}],"table":{}}"#,
        )
    );
}

#[test]
fn an_id_is_written_in_tags_as_in_answers() {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (id, text) in [
        (Bson::from("a b"), "a%20b"),
        (Bson::from(7_i64), "7"),
        (Bson::from(7.0), "7"),
        (Bson::from(1.5), "1.5"),
        (Bson::from(true), "true"),
        (Bson::from(Uuid::parse_str(uuid).unwrap()), uuid),
        (Bson::from(DateTime::from_millis(0)), "1970-01-01T00:00:00Z"),
        (Bson::from(doc! { "a": 1, "b": "c" }), "{\"a\":1%2C\"b\":\"c\"}"),
    ] {
        assert_eq!(id_of(id.clone()), text, "{id:?}");
    }
}

/// MongoDB finds each by the other.
#[test]
fn equal_ids_are_written_alike() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    for (one, other, text) in [
        (Bson::Double(-0.0), Bson::Int64(0), "0"),
        (decimal("7.0"), Bson::Int64(7), "7"),
        (decimal("-0.00"), Bson::Int32(0), "0"),
        (decimal("0E+3"), Bson::Double(0.0), "0"),
        (decimal("1E3"), Bson::Int64(1000), "1000"),
        (decimal("-1.50E+1"), Bson::Double(-15.0), "-15"),
        (decimal("0.50"), Bson::Double(0.5), "0.5"),
        (decimal("9007199254740993"), Bson::Int64(9_007_199_254_740_993), "9007199254740993"),
        (decimal("1E22"), Bson::Double(1e22), "10000000000000000000000"),
        (
            decimal("9.094947017729282379150390625E-13"),
            Bson::Double(2_f64.powi(-40)),
            "9.094947017729282e-13",
        ),
        (decimal("10E+40"), decimal("1E41"), "1E41"),
        (Bson::Symbol("a\"b".to_owned()), Bson::from("a\"b"), "a\"b"),
    ] {
        for id in [one, other] {
            assert_eq!(id_of(id.clone()), text, "{id:?}");
        }
    }
    for (text, number) in
        [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)]
    {
        assert_eq!(id_of(decimal(text)), text);
        assert_eq!(id_of(Bson::Double(number)), text);
    }
}

#[test]
fn policies_are_shown_the_text_of_a_uuid() {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let octets = |subtype| Binary { subtype, bytes: vec![0, 255] };
    let document = doc! {
        "_id": Uuid::parse_str(uuid).unwrap(),
        "octets": octets(BinarySubtype::Generic),
        "short": octets(BinarySubtype::Uuid),
        "date": DateTime::from_millis(0),
    };
    let raw = RawDocumentBuf::try_from(&document).unwrap();
    assert_eq!(
        relaxed(RawBsonRef::Document(&raw)).unwrap(),
        concat!(
            r#"{"_id":{"$uuid":"01890a5d-ac96-774b-bcce-b302099a8057"},"#,
            r#""octets":{"$binary":{"base64":"AP8=","subType":"00"}},"#,
            r#""short":{"$binary":{"base64":"AP8=","subType":"04"}},"#,
            r#""date":{"$date":"1970-01-01T00:00:00Z"}}"#,
        )
    );
}

/// A deployment that is not there.
fn source(uri: &str, is_watched: bool) -> Source {
    let config = Mongodb {
        name: "shop".to_owned(),
        uri: uri.to_owned(),
        username: None,
        password: None,
        ca: None,
        identity: None,
        timeout: std::time::Duration::from_secs(1),
        max_connections: 1,
        place: Place::default(),
    };
    Source::new(&config, is_watched).unwrap()
}

#[test]
fn large_documents_are_written_on_another_thread() {
    let threads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&threads);
    let beside = Builder::new_current_thread()
        .on_thread_start(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let worker = Builder::new_current_thread().build().unwrap();
    let find = vec![("_id".to_owned(), Operand::Text("1".to_owned()))];
    let source = Arc::new(source("mongodb://127.0.0.1:1", false));
    let documents = Documents::new(source, wanted(find), beside.handle().clone());
    let permits = Arc::new(Semaphore::new(1));
    for (octets, begun) in [(60 << 10, 0), (70 << 10, 1)] {
        let document = doc! { "_id": "1", "text": "a".repeat(octets) };
        let length = written(&document, Json::Plain).len().to_string();
        let found = Found::One(Some(RawDocumentBuf::try_from(&document).unwrap()));
        let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
        let query = Query { filter: doc! { "_id": "1" }, skip: 0 };
        let (method, fields) = (Method::GET, HeaderMap::new());
        let response = worker.block_on(documents.written(query, found, permit, &method, &fields));
        assert_eq!(response.unwrap().headers()["content-length"], length, "{octets}");
        assert_eq!(threads.load(Ordering::Relaxed), begun, "{octets}");
        assert_eq!(permits.available_permits(), 1, "{octets}");
    }
}

#[tokio::test]
async fn what_is_read_cannot_be_rolled_back_unless_the_uri_says_so() {
    for (options, concern) in
        [("", ReadConcern::majority()), ("/?readConcernLevel=local", ReadConcern::local())]
    {
        let source = source(&format!("mongodb://127.0.0.1:1{options}"), true);
        let client = source.client().await.unwrap();
        assert_eq!(client.read_concern(), Some(&concern), "{options}");
    }
}

/// It would be what was before a write that a majority does not have yet, and nothing would tell of that.
#[tokio::test]
async fn what_nobody_watches_is_read_as_it_is_unless_the_uri_says_so() {
    for (options, concern) in
        [("", None), ("/?readConcernLevel=majority", Some(ReadConcern::majority()))]
    {
        let source = source(&format!("mongodb://127.0.0.1:1{options}"), false);
        let client = source.client().await.unwrap();
        assert_eq!(client.read_concern(), concern.as_ref(), "{options}");
    }
    let (watched, other) =
        (source("mongodb://127.0.0.1:1", true), source("mongodb://127.0.0.1:1", false));
    assert!(!watched.is_same(&other) && other.is_same(&source("mongodb://127.0.0.1:1", false)));
}
