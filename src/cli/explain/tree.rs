//! An explanation as a tree: a line or a few for each thing that decided.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::shown;

/// How wide the names of branches are, and the texts beside them.
const WIDTH: usize = 12;
const TEXT: usize = 86;

/// The text of an explanation. What it does not have is left out.
pub(super) fn text(told: &Value) -> String {
    let mut tree = Tree(String::new());
    let request = &told["request"];
    tree.line(&format!("{} {}", word(&request["method"]), word(&request["url"])));
    let directives = list(&request["directives"]);
    if !directives.is_empty() {
        tree.branch("asks", &directives);
    }
    let dropped = list(&request["dropped"]);
    if !dropped.is_empty() {
        tree.branch("dropped", &dropped);
    }
    if !request["content_octets"].is_null() {
        tree.branch("content", &count(&request["content_octets"], "octet"));
    }
    route(&mut tree, &told["route"]);
    policies(&mut tree, told);
    if !told["key"].is_null() {
        tree.branch("key", &word(at(told, "/key/name")));
    }
    let is_asked = |tier: &Value| tier["state"] != "not-asked";
    for (name, tier) in [("L1", &told["l1"]), ("L2", &told["l2"])] {
        if is_asked(tier) {
            tree.branch(name, &of_tier(tier));
        }
    }
    stored(&mut tree, &told["stored"]);
    last(&mut tree, told);
    forward(&mut tree, &told["forward"]);
    storing(&mut tree, &told["storing"]);
    outcome(&mut tree, &told["outcome"]);
    tree.0
}

struct Tree(String);

impl Tree {
    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _written = writeln!(self.0, "{}", shown(text));
    }

    /// A text that is too long goes on in further lines, where it has spaces.
    fn branch(&mut self, name: &str, text: &str) {
        let (mut name, mut line) = (name, String::new());
        for word in text.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > TEXT {
                self.line(&format!("  {name:<WIDTH$}{line}"));
                (name, line) = ("", String::new());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("  {name:<WIDTH$}{line}"));
    }

    fn leaf(&mut self, text: &str) {
        self.branch("", text);
    }
}

fn route(tree: &mut Tree, route: &Value) {
    if route.is_null() {
        return;
    }
    match route["name"].as_str() {
        Some(name) => {
            tree.branch("route", &format!("{name}: {}", word(&route["path"])));
            for (capture, value) in route["captures"].as_object().into_iter().flatten() {
                tree.leaf(&format!("{capture} = {}", word(value)));
            }
        }
        None => tree.branch("route", "none"),
    }
    tree.leaf(&word(&route["why"]));
    for other in all(&route["runners_up"]) {
        tree.leaf(&format!(
            "not {}: {}, {}",
            word(&other["name"]),
            word(&other["path"]),
            word(&other["why"])
        ));
    }
}

fn policies(tree: &mut Tree, told: &Value) {
    let policies = all(&told["policies"]);
    if policies.is_empty() && !told["key"].is_null() {
        tree.branch("policy", "none: path and query make the key");
    }
    for policy in policies {
        let digest: String = word(&policy["digest"]).chars().take(12).collect();
        let how = if policy["remembered"] == true { ", remembered" } else { "" };
        let said = match policy["answer"].as_str().unwrap_or_default() {
            "key" => format!("a part of the key{how}"),
            "bypass" => format!("past the cache{how}: {}", word(&policy["reason"])),
            "failed" => {
                let on_error = word(&policy["on_error"]);
                format!("failed (on_error = \"{on_error}\"): {}", word(&policy["reason"]))
            }
            _ => "not asked".to_owned(),
        };
        tree.branch("policy", &format!("{} {digest}: {said}", word(&policy["name"])));
        for part in all(&policy["parts"]) {
            tree.leaf(&format!("{} = {}", word(&part["name"]), word(&part["value"])));
        }
    }
}

fn of_tier(tier: &Value) -> String {
    let kept = tier["kept_seconds"].as_u64();
    let kept = kept.map(|seconds| format!(", kept for {seconds} s more")).unwrap_or_default();
    let why = word(&tier["why"]);
    match tier["state"].as_str().unwrap_or_default() {
        "response" => format!("a response{kept}; {why}"),
        "variants" => {
            let lists = all(at(tier, "/variants/vary"));
            let lists: Vec<_> = lists.iter().map(list).collect();
            format!("variants by {}: {why}{kept}", lists.join("; or by "))
        }
        _ => why,
    }
}

fn stored(tree: &mut Tree, stored: &Value) {
    if stored.is_null() {
        return;
    }
    let tier = word(&stored["tier"]).to_uppercase();
    let whole = if stored["whole"] == true { "" } else { ", a part" };
    let octets = count(&stored["octets"], "octet");
    tree.branch("stored", &format!("{} in {tier}, {octets}{whole}", word(&stored["status"])));
    let (age, lifetime) = (word(&stored["age"]), word(&stored["lifetime"]));
    let left = stored["ttl"].as_i64().unwrap_or_default();
    let state = match (stored["invalidated"].is_null(), left > 0) {
        (true, true) => format!("fresh for {left} s more"),
        (true, false) => "stale".to_owned(),
        (false, _) => "invalidated".to_owned(),
    };
    tree.leaf(&format!("{age} s old of {lifetime} s, {state}"));
    tree.leaf(&format!("lifetime by {}", word(&stored["lifetime_why"])));
    let restrictions = list(&stored["restrictions"]);
    if !restrictions.is_empty() {
        tree.leaf(&restrictions);
    }
    for (name, value) in stored["fields"].as_object().into_iter().flatten() {
        tree.leaf(&format!("{name}: {}", word(value)));
    }
    let tags = all(&stored["tags"]);
    let tag = |it: &Value| format!("{} (by {})", word(&it["tag"]), word(&it["by"]));
    let tags: Vec<_> = tags.iter().map(tag).collect();
    if !tags.is_empty() {
        tree.leaf(&format!("tags: {}", tags.join(", ")));
    }
    tree.leaf(&format!("log position {}", word(&stored["position"])));
    if !stored["invalidated"].is_null() {
        tree.branch("invalidated", &record(&stored["invalidated"]));
    }
}

fn last(tree: &mut Tree, told: &Value) {
    let last = &told["last_invalidation"];
    let is_same = &last["position"] == at(told, "/stored/invalidated/position");
    if !last.is_null() && !is_same {
        tree.branch("before that", &format!("invalidated {}", record(last)));
    }
    let refusal = &told["last_refusal"];
    if !refusal.is_null() {
        let status = refusal["status"].as_u64().map(|it| format!(", a {it}")).unwrap_or_default();
        let ago = word(&refusal["seconds_ago"]);
        tree.branch(
            "not stored",
            &format!("{}: the last response{status}, {ago} s ago", word(&refusal["reason"])),
        );
        tree.leaf(&word(&refusal["why"]));
    }
}

fn record(record: &Value) -> String {
    let how = if record["soft"] == true { "softly" } else { "hard" };
    let label = record["label"].as_str().map(|label| format!(" `{label}`")).unwrap_or_default();
    let ago = record["seconds_ago"].as_u64();
    let ago = ago.map(|seconds| format!(", {seconds} s ago")).unwrap_or_default();
    let cause = record["cause"].as_str().map(|cause| format!(" ({cause}")).unwrap_or_default();
    let by = match (cause.is_empty(), record["by"].as_str()) {
        (true, Some(by)) => format!(" (by {by})"),
        (true, None) => String::new(),
        (false, Some(by)) => format!("{cause} by {by})"),
        (false, None) => format!("{cause})"),
    };
    let (covers, position) = (word(&record["covers"]), word(&record["position"]));
    format!("{how} by {covers}{label} at {position}{ago}{by}")
}

fn forward(tree: &mut Tree, forward: &Value) {
    if forward.is_null() {
        return;
    }
    let (method, target) = (word(&forward["method"]), word(&forward["target"]));
    let to = match (forward["upstream"].as_str(), forward["server"].as_str()) {
        (Some(upstream), Some(server)) => format!("{upstream} ({server})"),
        (Some(upstream), None) => format!("{upstream}, of which no server is free"),
        (None, _) => word(&forward["documents"]),
    };
    tree.branch("forward", &format!("{method} {target} to {to}"));
    for condition in all(&forward["conditions"]) {
        tree.leaf(&format!("{}: {}", word(&condition["name"]), word(&condition["value"])));
    }
    if forward["collapses"] == true {
        tree.leaf("together with equal requests");
    }
}

fn storing(tree: &mut Tree, storing: &Value) {
    if storing.is_null() {
        return;
    }
    let may = if storing["may"] == true { "maybe" } else { "no" };
    tree.branch("storing", &format!("{may}: {}", word(&storing["why"])));
    for rule in all(&storing["rules"]) {
        tree.leaf(&word(rule));
    }
}

fn outcome(tree: &mut Tree, outcome: &Value) {
    let status = outcome["status"].as_u64().map(|it| format!(" {it}")).unwrap_or_default();
    let does = word(&outcome["does"]);
    tree.branch("=>", &format!("{does}{status}: {}", word(&outcome["why"])));
    if let Some(status) = outcome["cache_status"].as_str() {
        tree.leaf(&format!("Cache-Status: {status}"));
    }
}

/// What stands there; nothing is `null`.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn all(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text as it is; an empty one, and another value, as JSON has it.
fn word(value: &Value) -> String {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> String {
    all(value).iter().map(word).collect::<Vec<_>>().join(", ")
}

fn count(value: &Value, one: &str) -> String {
    let count = word(value);
    if count == "1" { format!("1 {one}") } else { format!("{count} {one}s") }
}
