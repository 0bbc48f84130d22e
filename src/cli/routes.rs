//! `larder routes`: the route table of a running gateway, the most specific first.

use std::io::Write;

use serde_json::Value;

use super::Exit;
use super::admin::Asked;
use super::table::{Side, Table};

pub(super) const EXAMPLES: &str = "\
Examples:
  larder routes
      The routes of the gateway on this machine.
  larder routes --admin http://10.0.0.7:9080 --token-file token --json
      The same of another one, as JSON.";

/// Prints the table.
pub(super) fn routes(asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    asked.print("/routes", text, out, err)
}

/// None of what is no answer of a gateway.
fn text(told: &Value) -> Option<String> {
    let routes = told["routes"].as_array()?;
    let mut table = Table::new(&[
        ("route", Side::Left),
        ("host", Side::Left),
        ("path", Side::Left),
        ("methods", Side::Left),
        ("answered by", Side::Left),
        ("policies", Side::Left),
        ("ttl", Side::Right),
    ]);
    for route in routes {
        let name = route["name"].as_str().unwrap_or_default().to_owned();
        let path = route["path"].as_str().unwrap_or_default().to_owned();
        let ttl = route["ttl_seconds"].as_u64().map_or("-".to_owned(), |ttl| format!("{ttl}s"));
        let (hosts, methods) = (list(&route["hosts"], "any"), list(&route["methods"], "any"));
        table.row([name, hosts, path, methods, origin(route), policies(route), ttl]);
    }
    Some(table.lines(usize::MAX).join("\n"))
}

fn list(names: &Value, none: &str) -> String {
    let names: Vec<&str> =
        names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { none.to_owned() } else { names.join(",") }
}

fn origin(route: &Value) -> String {
    let document = &route["document"];
    let name = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    match route["upstream"].as_str() {
        Some(upstream) => upstream.to_owned(),
        None => format!("{}:{}.{}", name("mongodb"), name("database"), name("collection")),
    }
}

fn policies(route: &Value) -> String {
    let keys = list(&route["key"], "");
    let keys = (!keys.is_empty()).then(|| format!("key={keys}"));
    let others = ["storing", "invalidation", "shadow"].into_iter();
    let others = others.filter_map(|role| Some(format!("{role}={}", route[role].as_str()?)));
    let all: Vec<String> = keys.into_iter().chain(others).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_are_lines() {
        let told = json!({ "routes": [
            { "name": "users", "hosts": ["a", "b"], "path": "/users/{id}", "methods": ["GET"],
              "upstream": "api", "key": ["k", "l"], "storing": null, "invalidation": "w",
              "shadow": null, "ttl_seconds": 300 },
            { "name": "orders", "hosts": [], "path": "/orders/{id}", "methods": [], "upstream": null,
              "document": { "mongodb": "shop", "database": "app", "collection": "orders" },
              "key": [], "ttl_seconds": null },
        ]});
        assert_eq!(
            text(&told).unwrap(),
            "route   host  path          methods  answered by      policies                 ttl\n\
             users   a,b   /users/{id}   GET      api              key=k,l invalidation=w  300s\n\
             orders  any   /orders/{id}  any      shop:app.orders  -                          -"
        );
    }
}
