//! A storing policy: a response gets tags from its JSON and from its fields, so that it can be
//! invalidated by what it shows.
//!
//! A tag that is left out is an invalidation that is missed. So what cannot be tagged in full is not
//! stored: content that cannot be read, values that name nothing, too many tags, tags too long.

use larder_policy::Json;
use larder_policy::NamedTexts;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Response;
use larder_policy::Settings;
use larder_policy::Storing;
use larder_policy::StoringDecision;
use larder_policy::Wants;
use larder_policy::log;

/// What the gateway takes from one call, and how long each may be.
const MOST_TAGS: usize = 64;
const LONGEST_TAG: usize = 256;

/// What the gateway lets a policy ask for.
const MOST_ASKED: usize = 32;
const LONGEST_QUERY: usize = 256;

/// The settings.
#[derive(Debug)]
struct ContentTags {
    /// What tags from values begin with, and the JSONPath queries of each.
    values: Vec<NamedTexts>,
    /// Response fields, and what tags from each begin with.
    fields: Vec<NamedTexts>,
    always: Vec<String>,
    /// Whether a response whose values cannot be read is stored all the same.
    stores_unreadable: bool,
}

larder_policy::prepared!(ContentTags { values, fields, always, stores_unreadable });
larder_policy::export!(ContentTags: storing);

impl Policy for ContentTags {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let values = settings.named_texts("values");
        let fields = settings.named_texts("fields");
        let always = settings.texts("static").unwrap_or_default();
        let stores_unreadable = match settings.text("unreadable").as_deref() {
            None | Some("skip") => false,
            Some("store") => true,
            Some(other) => settings
                .refuse(format!("`unreadable` is `{other}`: write `\"skip\"` or `\"store\"`"))
                .unwrap_or(false),
        };
        let policy = Self { values, fields, always, stores_unreadable };
        policy.check(settings);
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        Wants {
            response_fields: self.fields.iter().map(|field| field.name.clone()).collect(),
            response_values: self.queries().cloned().collect(),
            ..Wants::default()
        }
    }
}

impl Storing for ContentTags {
    fn storing(&self, _: &Request, response: &Response) -> Result<StoringDecision, String> {
        let tags = match self.tags(response) {
            Ok(tags) => tags,
            Err(problem) => {
                log::warn(&format!("not stored, since {problem}"));
                return Ok(StoringDecision { store: false, max_age: None, tags: Vec::new() });
            }
        };
        let is_readable = self.values.is_empty() || response.values.is_some();
        let store = is_readable || self.stores_unreadable;
        Ok(StoringDecision { store, max_age: None, tags: if store { tags } else { Vec::new() } })
    }
}

impl ContentTags {
    fn check(&self, settings: &mut Settings) {
        if settings.is_sound()
            && self.values.is_empty()
            && self.fields.is_empty()
            && self.always.is_empty()
        {
            // A misspelt setting may be why: that is told as well.
            settings.refuse::<()>(
                "nothing to tag by: write `values = { user = \"$.id\" }`, \
                 `fields = { x-kind = \"kind\" }` or `static = [\"users\"]`"
                    .to_owned(),
            );
        }
        for query in self.queries() {
            if !query.starts_with('$') {
                settings.refuse::<()>(format!(
                    "`values` has `{query}`, which is no JSONPath: it begins with `$`, as in `$.id`"
                ));
            } else if query.len() > LONGEST_QUERY {
                settings.refuse::<()>(format!(
                    "`values` has a query of more than {LONGEST_QUERY} octets: `{query}`"
                ));
            }
        }
        for (setting, count) in [("values", self.queries().count()), ("fields", self.fields.len())]
        {
            if count > MOST_ASKED {
                settings.refuse::<()>(format!(
                    "`{setting}` asks for {count} things, and {MOST_ASKED} is the most"
                ));
            }
        }
        if self.always.len() > MOST_TAGS {
            settings.refuse::<()>(format!(
                "`static` has {} tags, and a response can have {MOST_TAGS}",
                self.always.len()
            ));
        }
        for tag in &self.always {
            if tag.is_empty() || tag.len() > LONGEST_TAG {
                settings.refuse::<()>(format!(
                    "`static` has `{tag}`: a tag has 1 to {LONGEST_TAG} octets"
                ));
            }
        }
        for field in &self.fields {
            if field.texts.len() != 1 {
                settings.refuse::<()>(format!(
                    "`fields.{0}` must be one string: write `fields.{0} = \"kind\"`",
                    field.name
                ));
            }
        }
    }

    /// All JSONPath queries, in the order of `wants`.
    fn queries(&self) -> impl Iterator<Item = &String> {
        self.values.iter().flat_map(|named| &named.texts)
    }

    /// Every tag of the response, each once; or why they cannot be said in full.
    fn tags(&self, response: &Response) -> Result<Vec<String>, String> {
        let mut tags = Tags(self.always.clone());
        let selected = response.values.iter().flatten();
        let names = self.values.iter().flat_map(|named| named.texts.iter().map(|_| &named.name));
        for (name, values) in names.zip(selected) {
            for value in values {
                match Json::read(value) {
                    // What is not there has no name.
                    Some(Json::Null) => {}
                    value => match value.as_ref().and_then(Json::plain) {
                        Some(text) => tags.add(name, text)?,
                        None => {
                            return Err(format!(
                                "`values.{name}` selects an array or an object, which makes no tag"
                            ));
                        }
                    },
                }
            }
        }
        for (field, value) in self.fields.iter().zip(&response.fields) {
            let prefix = field.texts.first().map_or("", String::as_str);
            // RFC 9110 §5.6.1: empty elements of a list do not count.
            let elements = value.iter().flat_map(|value| value.split(','));
            for element in elements.map(|element| element.trim_matches([' ', '\t'])) {
                if !element.is_empty() {
                    tags.add(prefix, element)?;
                }
            }
        }
        Ok(tags.0)
    }
}

/// The tags of one response.
struct Tags(Vec<String>);

impl Tags {
    fn add(&mut self, prefix: &str, text: &str) -> Result<(), String> {
        let tag = if prefix.is_empty() { text.to_owned() } else { format!("{prefix}:{text}") };
        if tag.is_empty() || tag.len() > LONGEST_TAG {
            return Err(format!("a tag of `{prefix}` has not 1 to {LONGEST_TAG} octets"));
        }
        if self.0.contains(&tag) {
            return Ok(());
        }
        if self.0.len() == MOST_TAGS {
            return Err(format!("it would have more than {MOST_TAGS} tags"));
        }
        self.0.push(tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    fn policy(config: impl Into<Vec<Setting>>) -> ContentTags {
        configure(config).unwrap()
    }

    fn response(values: Option<&[&[&str]]>, fields: &[Option<&str>]) -> Response {
        let owned = |texts: &&[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Response {
            status: 200,
            fields: fields.iter().map(|field| field.map(str::to_owned)).collect(),
            values: values.map(|values| values.iter().map(owned).collect()),
        }
    }

    /// The tags of a response that is stored.
    fn tags(policy: &ContentTags, response: &Response) -> Option<Vec<String>> {
        let decision = policy.storing(&Request::default(), response).unwrap();
        assert_eq!(decision.max_age, None);
        if !decision.store {
            assert_eq!(decision.tags, [""; 0]);
        }
        decision.store.then_some(decision.tags)
    }

    #[test]
    fn values_fields_and_static_tags_are_put_together() {
        let policy = policy([
            Setting::new("fields.x-kind", "kind"),
            Setting::new("fields.x-tags", ""),
            Setting::new("static", ["users", "kind:a"]),
            Setting::new("values.item", ["$.items[*].id", "$.first"]),
            Setting::new("values.user", "$.id"),
        ]);
        assert_eq!(policy.wants().response_fields, ["x-kind", "x-tags"]);
        assert_eq!(policy.wants().response_values, ["$.items[*].id", "$.first", "$.id"]);
        let values: &[&[&str]] = &[&["1", "\"a b\"", "1"], &["\"\\u00fc\""], &["42"]];
        let found = tags(&policy, &response(Some(values), &[Some("a, b ,,c"), None])).unwrap();
        let expected =
            ["users", "kind:a", "item:1", "item:a b", "item:ü", "user:42", "kind:b", "kind:c"];
        assert_eq!(found, expected);
        let found = tags(&policy, &response(Some(&[&[], &[], &[]]), &[None, Some("x")])).unwrap();
        assert_eq!(found, ["users", "kind:a", "x"]);
    }

    #[test]
    fn each_kind_of_value_has_its_tag_or_none() {
        let policy = policy([Setting::new("values.v", "$.v")]);
        for (value, expected) in [
            ("\"x\"", Some(vec!["v:x"])),
            ("\"\"", Some(vec!["v:"])),
            ("1.50", Some(vec!["v:1.50"])),
            ("true", Some(vec!["v:true"])),
            ("null", Some(vec![])),
            (r#"{"$oid":"65f0"}"#, Some(vec!["v:65f0"])),
            ("[1]", None),
            (r#"{"id":1}"#, None),
            ("no JSON", None),
        ] {
            let found = tags(&policy, &response(Some(&[&[value]]), &[]));
            assert_eq!(
                found.as_ref().map(|tags| tags.iter().map(String::as_str).collect()),
                expected
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_stored_only_if_wanted() {
        let by_value = Setting::new("values.v", "$.v");
        let always = Setting::new("static", ["all"]);
        let unreadable = response(None, &[]);
        let skip = [by_value.clone(), always.clone()];
        assert_eq!(tags(&policy(skip), &unreadable), None);
        let store = [by_value, always.clone(), Setting::new("unreadable", "store")];
        assert_eq!(tags(&policy(store), &unreadable), Some(vec!["all".to_owned()]));
        // Who asks for no values misses none.
        assert_eq!(tags(&policy([always]), &unreadable), Some(vec!["all".to_owned()]));
    }

    #[test]
    fn there_are_never_fewer_tags_than_there_should_be() {
        let policy = policy([Setting::new("values.v", "$.v"), Setting::new("static", ["all"])]);
        let of = |count: usize| {
            let values: Vec<_> = (0..count).map(|value| value.to_string()).collect();
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            tags(&policy, &response(Some(&[&values]), &[])).map(|tags| tags.len())
        };
        assert_eq!(of(63), Some(64));
        assert_eq!(of(64), None);
        assert_eq!(of(1024), None);
        let long = |length: usize| {
            let value = format!("\"{}\"", "x".repeat(length));
            tags(&policy, &response(Some(&[&[&value]]), &[])).is_some()
        };
        assert!(long(LONGEST_TAG - "v:".len()));
        assert!(!long(LONGEST_TAG - "v:".len() + 1));
    }

    #[test]
    fn wrong_settings_are_refused() {
        let many: [&str; 33] = ["$.a"; 33];
        for (config, expected) in [
            (
                vec![],
                "nothing to tag by: write `values = { user = \"$.id\" }`, \
                 `fields = { x-kind = \"kind\" }` or `static = [\"users\"]`",
            ),
            (
                vec![Setting::new("values.user", "id")],
                "`values` has `id`, which is no JSONPath: it begins with `$`, as in `$.id`",
            ),
            (
                vec![Setting::new("values.user", many)],
                "`values` asks for 33 things, and 32 is the most",
            ),
            (vec![Setting::new("static", [""])], "`static` has ``: a tag has 1 to 256 octets"),
            (
                vec![Setting::new("fields.a", ["b", "c"])],
                "`fields.a` must be one string: write `fields.a = \"kind\"`",
            ),
            (
                vec![Setting::new("static", ["a"]), Setting::new("unreadable", "keep")],
                "`unreadable` is `keep`: write `\"skip\"` or `\"store\"`",
            ),
            (
                vec![Setting::new("static", ["a"]), Setting::new("value.a", "$.a")],
                "unknown setting `value.a`: this policy has \
                 `values`, `fields`, `static`, `unreadable`",
            ),
        ] {
            assert_eq!(configure::<ContentTags>(config).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<ContentTags>(include_str!("../schema.json")), Ok(()));
    }
}
