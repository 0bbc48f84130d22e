//! What editors know of `gateway.toml`: a JSON Schema (draft 2020-12), and the defaults in it.
//!
//! It stands beside the readers, which are what counts. The tests here take each key of it, at its bounds
//! and beyond, to the readers and back; so a key of one side alone does not go unseen. Bounds of durations
//! and sizes are `x-minimum` and `x-maximum`, which JSON Schema has no words for.

use std::sync::LazyLock;

use serde_json::Value;

/// The schema, as JSON.
pub const SCHEMA: &str = include_str!("schema.json");

/// The schema, read.
pub(super) static PARSED: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(SCHEMA).expect("the schema is JSON, as the tests have seen")
});

/// A part of the schema, or the part that it refers to.
pub(super) fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    let pointer = name.and_then(|name| name.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value as Json;
    use toml::{Table, Value};

    use super::super::reader::KNOWN;
    use super::super::{Draft, Fault};
    use super::{SCHEMA, resolved};

    const FILES: [&str; 3] = [
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/everything.toml")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/disk.toml")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/password.toml")),
    ];

    #[derive(Clone, Debug)]
    enum Step {
        Key(String),
        Element(usize),
    }

    /// A key of an example, and what the schema says of it.
    struct Leaf<'s> {
        path: Vec<Step>,
        schema: &'s Json,
    }

    /// What the schema says of everything in the examples.
    #[derive(Default)]
    struct Walk<'s> {
        leaves: Vec<Leaf<'s>>,
        /// The keys of each object that is there.
        objects: BTreeSet<BTreeSet<&'s str>>,
    }

    fn schema() -> Json {
        serde_json::from_str(SCHEMA).unwrap()
    }

    impl<'s> Walk<'s> {
        fn walk(&mut self, root: &'s Json, schema: &'s Json, value: &Value, path: &[Step]) {
            let schema = resolved(root, schema);
            let (is_table, is_array) = (value.is_table(), value.is_array());
            let alternatives = schema["anyOf"].as_array();
            let fitting = alternatives.into_iter().flatten().map(|it| resolved(root, it));
            let mut fitting = fitting.filter(|it| {
                is_table && it["properties"].is_object() || is_array && it["items"].is_object()
            });
            let inner = fitting.next().unwrap_or(schema);
            match value {
                Value::Table(entries) => {
                    self.object(inner, entries);
                    for (key, value) in entries {
                        let known = &inner["properties"][key];
                        let known =
                            if known.is_null() { &inner["additionalProperties"] } else { known };
                        let path = [path, &[Step::Key(key.clone())]].concat();
                        self.walk(root, known, value, &path);
                    }
                }
                Value::Array(elements) => {
                    for (index, value) in elements.iter().enumerate() {
                        let path = [path, &[Step::Element(index)]].concat();
                        self.walk(root, &inner["items"], value, &path);
                    }
                }
                _ => {}
            }
            if !schema.is_null() && matches!(path.last(), Some(Step::Key(_))) {
                self.leaves.push(Leaf { path: path.to_vec(), schema });
            }
        }

        fn object(&mut self, schema: &'s Json, entries: &Table) {
            let Some(properties) = schema["properties"].as_object() else { return };
            let has = |name: &Json| entries.contains_key(name.as_str().unwrap());
            let branch = match schema["if"]["required"].as_array() {
                Some(required) if required.iter().all(has) => "then",
                _ => "else",
            };
            let is_open = |key: &str| schema[branch]["properties"][key] != Json::Bool(false);
            let keys = properties.keys().map(String::as_str).filter(|key| is_open(key));
            self.objects.insert(keys.collect());
        }
    }

    fn faults(file: &Table) -> Vec<Fault> {
        let text = toml::to_string(file).unwrap();
        Draft::parse(&text, "g", Path::new("/etc"), &|_| None).faults
    }

    fn with(file: &Table, path: &[Step], value: Value) -> Table {
        let mut file = Value::Table(file.clone());
        let mut at = &mut file;
        for step in path {
            at = match step {
                Step::Key(key) => &mut at[key.as_str()],
                Step::Element(index) => &mut at[*index],
            };
        }
        *at = value;
        let Value::Table(file) = file else { panic!("a file is a table") };
        file
    }

    fn told(faults: &[Fault]) -> String {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_examples_are_right() {
        for file in FILES {
            let faults = faults(&file.parse().unwrap());
            assert!(faults.is_empty(), "{}", told(&faults));
        }
    }

    #[test]
    fn the_schema_has_the_keys_that_are_read_and_no_others() {
        let (root, mut walk) = (schema(), Walk::default());
        let mut asked: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        for file in FILES {
            let file: Table = file.parse().unwrap();
            walk.walk(&root, &root, &Value::Table(file.clone()), &[]);
            KNOWN.take();
            assert!(faults(&file).is_empty());
            asked.extend(KNOWN.take().into_iter().map(|keys| keys.into_iter().collect()));
        }
        asked.remove(&BTreeSet::new());
        for keys in &asked {
            let is_known = walk.objects.iter().any(|object| keys.is_subset(object));
            assert!(is_known, "these are read, and the schema lacks one of them: {keys:?}");
        }
        for keys in &walk.objects {
            assert!(asked.contains(keys), "the schema has a key that is not read: {keys:?}");
        }
        // And each key of the schema is in an example, but for those that mean a part of `anyOf`.
        let mut seen: BTreeSet<*const Json> = BTreeSet::new();
        seen.extend(walk.leaves.iter().map(|leaf| std::ptr::from_ref(leaf.schema)));
        let mut unseen = Vec::new();
        let mut all = vec![&root];
        while let Some(schema) = all.pop() {
            for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
                if !seen.contains(&std::ptr::from_ref(resolved(&root, inner))) {
                    unseen.push(key);
                }
                all.push(inner);
            }
            let inner = ["items", "additionalProperties"].map(|key| &schema[key]);
            all.extend(inner.into_iter().filter(|it| it.is_object()));
            all.extend(schema["anyOf"].as_array().into_iter().flatten());
            all.extend(schema["$defs"].as_object().into_iter().flatten().map(|(_, it)| it));
        }
        assert!(unseen.is_empty(), "write these in tests/schema/everything.toml: {unseen:?}");
    }

    /// Each key of the examples with values that the schema allows and with others, as the readers take
    /// them.
    #[test]
    fn bounds_types_and_words_of_the_schema_are_those_of_the_readers() {
        const BEYOND: [&str; 6] =
            ["shorter", "longer", "smaller", "larger", "less than", "more than"];

        let root = schema();
        for file in FILES {
            let file: Table = file.parse().unwrap();
            let mut walk = Walk::default();
            walk.walk(&root, &root, &Value::Table(file.clone()), &[]);
            for Leaf { path, schema } in &walk.leaves {
                let Some(Step::Key(key)) = path.last() else { continue };
                let says = |value: Value, words: &dyn Fn(&str) -> bool| {
                    faults(&with(&file, path, value)).iter().any(|it| words(&it.message))
                };
                let is_beyond = |message: &str| {
                    message.contains(&format!("{key} `"))
                        && BEYOND.iter().any(|word| message.contains(&format!(" is {word}")))
                };
                let wrong = Value::Array(vec![Value::Array(vec![Value::Boolean(true)])]);
                let is_free = schema["type"] == "object" && schema["properties"].is_null();
                assert!(is_free || says(wrong, &|_| true), "{key} is anything at all");
                for (bound, beyond) in bounds(schema) {
                    assert!(!says(bound.clone(), &is_beyond), "{key} may be {bound}");
                    if let Some(beyond) = beyond {
                        assert!(says(beyond.clone(), &is_beyond), "{key} must not be {beyond}");
                    }
                }
                let words = schema["anyOf"].as_array().into_iter().flatten();
                for word in words.filter_map(|it| it["enum"].as_array()).flatten() {
                    let word = word.as_str().unwrap();
                    let refused = format!("{key} `{word}`");
                    let is_refused =
                        |message: &str| message.contains(&refused) && message.contains(" is n");
                    assert!(!says(word.into(), &is_refused), "{key} may be {word}");
                    assert!(says("zzz".into(), &|it| it.contains("`zzz`")), "{key} is no word");
                }
            }
        }
    }

    /// Values at the bounds, each with the next one beyond it if there is one.
    fn bounds(schema: &Json) -> Vec<(Value, Option<Value>)> {
        let text = |bound: &str| schema[bound].as_str().map(str::to_owned);
        if let (Some(least), Some(most)) = (text("x-minimum"), text("x-maximum")) {
            return vec![
                (least.as_str().into(), under(&least).map(Value::from)),
                (most.as_str().into(), Some(over(&most).into())),
            ];
        }
        let is_count = schema["type"].as_array().is_some_and(|it| it.contains(&"integer".into()));
        match (is_count, schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (true, Some(least), Some(most)) => vec![
                (least.into(), Some((least - 1).into())),
                (most.into(), Some((most + 1).into())),
            ],
            _ => Vec::new(),
        }
    }

    fn split(amount: &str) -> (u64, &str) {
        let end = amount.find(|c: char| !c.is_ascii_digit()).unwrap_or(amount.len());
        (amount[..end].parse().unwrap(), &amount[end..])
    }

    fn over(amount: &str) -> String {
        let (number, unit) = split(amount);
        format!("{}{unit}", number + 1)
    }

    /// None below nothing, and below the smallest unit.
    fn under(amount: &str) -> Option<String> {
        let (number, unit) = split(amount);
        let finer =
            [("d", "ms"), ("h", "ms"), ("m", "ms"), ("s", "ms"), ("MiB", "KiB"), ("KiB", "B")];
        match (number, finer.iter().find(|(its, _)| *its == unit)) {
            (0, _) => None,
            (_, Some((_, finer))) => Some(format!("1{finer}")),
            (number, None) => Some(format!("{}{unit}", number - 1)),
        }
    }
}
