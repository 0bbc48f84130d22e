//! What a file of cases says.

use std::time::Duration;

use super::{Cases, Cause, MaxAge, Operation, Question, read};

fn cases(text: &str) -> Cases {
    read::read(text, "cases.toml", &|_| None).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn cases_stand_in_the_order_of_the_file() {
    let cases = cases(
        "time = \"5ms\"\n[[refused]]\nerror = \"e\"\n[[equal]]\nname = \"n\"\nrequests = [\"/a\", \"/b\"]\n\
         [[refused]]\nerror = \"f\"\n",
    );
    let kinds: Vec<_> = cases.cases.iter().map(|case| (case.place.line, case.kind)).collect();
    assert_eq!(kinds, [(2, "refused"), (4, "equal"), (7, "refused")]);
    assert_eq!((cases.time, cases.memory), (Duration::from_millis(5), 8 << 20));
}

#[test]
fn a_request_is_a_url_or_a_table() {
    let cases = cases(
        "[[different]]\nrequests = [\"/a?x\", \"https://A.example/%61?\", { url = \"/a\", method = \"QUERY\", \
         fields = { x = [\"1\", \"2\"] }, cookies = { b = \"1\", a = \"2\" }, captures = { id = \"7\" }, \
         claims = { sub = \"42\", roles = [\"a\", 1] }, content = \"c\" }]\n",
    );
    let Question::Different(requests) = &cases.cases[0].question else { panic!() };
    let shown: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["/a?x", "https://a.example/%61?", "QUERY /a"]);
    let table = &requests[2];
    let lines: Vec<_> = table.fields.get_all("x").iter().collect();
    assert_eq!(lines, ["1", "2"]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(table.cookies, [pair("b", "1"), pair("a", "2")], "in the order of the file");
    assert_eq!(table.captures, [pair("id", "7")]);
    assert_eq!(table.content.as_deref(), Some(&b"c"[..]));
    let claims = serde_json::to_string(table.claims.as_ref().unwrap()).unwrap();
    assert_eq!(claims, r#"{"roles":["a",1],"sub":"42"}"#);
}

#[test]
fn answers_may_be_expected_in_part() {
    let cases = cases(
        "[[storing]]\nrequest = \"/a\"\nresponse = { json = '[1]' }\nexpect = { max_age = \"none\" }\n\
         [[storing]]\nrequest = \"/a\"\nexpect = { store = false, max_age = \"5m\", tags = [] }\n",
    );
    let [Question::Storing { response, expect, .. }, Question::Storing { expect: other, .. }] =
        [&cases.cases[0].question, &cases.cases[1].question]
    else {
        panic!()
    };
    assert_eq!((response.status.as_u16(), response.content.as_deref()), (200, Some(&b"[1]"[..])));
    assert_eq!(response.fields["content-type"], "application/json");
    assert_eq!((expect.store, expect.max_age), (None, Some(MaxAge::None)));
    assert_eq!(expect.tags, None);
    assert_eq!(other.max_age, Some(MaxAge::Bound(Duration::from_mins(5))));
    assert_eq!(other.tags, Some(Vec::new()));
}

#[test]
fn a_change_has_documents() {
    let cases = cases(
        "[[invalidation]]\nchange = { collection = \"users\", operation = \"delete\", id = 42, \
         before = '{\"a\": 1}', after = { a = [2] } }\nexpect = [{ pattern = \"*\", soft = true }]\n",
    );
    let Question::Invalidation(Cause::Change(change), expect) = &cases.cases[0].question else {
        panic!()
    };
    assert_eq!((change.operation, change.id.as_str()), (Operation::Delete, "42"));
    assert_eq!(change.before, Some(serde_json::json!({ "a": 1 })));
    assert_eq!(change.after, Some(serde_json::json!({ "a": [2] })));
    assert_eq!((expect[0].scope, expect[0].text.as_str(), expect[0].soft), ("pattern", "*", true));
}
