//! An invalidation policy for `[[changes]]`: a changed document invalidates the tags that the
//! responses which show it bear.
//!
//! An update may move a document from one tag to another, so tags are filled in from the document as
//! it was and as it is. MongoDB does not always have both. What cannot be filled in is made good by
//! a broader tag, the `fallback`: too much is fetched again then, but nothing stays wrong.

use larder_policy::Change;
use larder_policy::Invalidated;
use larder_policy::Invalidation;
use larder_policy::Operation;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Response;
use larder_policy::Scope;
use larder_policy::Settings;
use larder_policy::Template;
use larder_policy::Wants;
use larder_policy::log;

use crate::template::Unfilled;
use crate::template::filled;
use crate::template::needs_document;
use crate::template::queries;
use crate::template::unfit;

mod template;

/// What the gateway takes from one call, and how long each may be.
const MOST_SCOPES: usize = 64;
const LONGEST_SCOPE: usize = 1024;

/// What the gateway lets a policy ask for.
const MOST_ASKED: usize = 32;
const LONGEST_QUERY: usize = 256;

/// The settings.
#[derive(Debug)]
struct DocumentChanges {
    /// For collections that have no list of their own.
    tags: Option<Vec<Template>>,
    collections: Vec<Collection>,
    fallback: Template,
    soft: bool,
}

/// A collection with tags of its own.
#[derive(Debug)]
struct Collection {
    name: String,
    tags: Vec<Template>,
}

larder_policy::prepared!(Collection { name, tags });
larder_policy::prepared!(DocumentChanges { tags, collections, fallback, soft });
larder_policy::export!(DocumentChanges: invalidation);

impl Policy for DocumentChanges {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let tags = settings.texts("tags").map(|texts| templates(settings, "tags", texts));
        let collections = settings.named_texts("collections").into_iter().map(|named| {
            let label = format!("collections.{}", named.name);
            (label, named)
        });
        let collections: Vec<_> = collections
            .map(|(label, named)| Collection {
                name: named.name,
                tags: templates(settings, &label, named.texts),
            })
            .collect();
        let fallback = settings.text("fallback").unwrap_or_else(|| "{collection}".to_owned());
        let fallback = templates(settings, "fallback", vec![fallback]).pop();
        let soft = settings.boolean("soft").unwrap_or(false);
        if tags.is_none() && collections.is_empty() && settings.is_sound() {
            settings.refuse::<()>(
                "nothing to invalidate: write `tags = [\"{collection}:{id}\"]`, \
                 or `collections = { users = [\"user:{id}\"] }`"
                    .to_owned(),
            );
        }
        // It was refused, so `configure` answers that.
        let fallback = fallback.ok_or("`fallback` is not as it should be")?;
        if needs_document(&fallback) {
            settings.refuse::<()>(format!(
                "`fallback` has `{}`, but must hold where there is no document: \
                 write a text with `{{collection}}`, `{{database}}` or `{{mongodb}}`",
                fallback.text()
            ));
        }
        let policy = Self { tags, collections, fallback, soft };
        let queries = policy.queries();
        if queries.len() > MOST_ASKED {
            settings.refuse::<()>(format!(
                "`tags` and `collections` have {} JSONPath queries, and {MOST_ASKED} is the most",
                queries.len()
            ));
        }
        for query in queries.iter().filter(|query| query.len() > LONGEST_QUERY) {
            settings.refuse::<()>(format!(
                "a JSONPath query has more than {LONGEST_QUERY} octets: `{query}`"
            ));
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        Wants {
            document_values: self.queries().into_iter().map(str::to_owned).collect(),
            ..Wants::default()
        }
    }
}

impl Invalidation for DocumentChanges {
    fn changed(&self, change: &Change) -> Result<Vec<Invalidated>, String> {
        let mut tags = Vec::new();
        let mut is_broad = change.operation == Operation::Drop;
        match self.templates(&change.collection) {
            Some(templates) => {
                let asked = self.queries();
                for template in templates {
                    is_broad |= !fill(template, change, &asked, &mut tags);
                }
            }
            None => is_broad = true,
        }
        if tags.len() >= MOST_SCOPES {
            tags.clear();
            is_broad = true;
        }
        if is_broad {
            let fallback = filled(&self.fallback, change, &|_| None);
            for tag in fallback.map_err(|_| "`fallback` cannot be filled in")? {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
        let invalidated = |tag| Invalidated { scope: Scope::Tag(tag), soft: self.soft };
        Ok(tags.into_iter().map(invalidated).collect())
    }

    /// An error has the whole route invalidated, and says what is wrong with the configuration.
    fn written(&self, _: &Request, _: &Response) -> Result<Vec<Invalidated>, String> {
        Err("this policy is for `[[changes]]`, not for a route's `invalidation`".to_owned())
    }
}

impl DocumentChanges {
    /// The templates for a collection, if the settings have any.
    fn templates(&self, collection: &str) -> Option<&[Template]> {
        let own = self.collections.iter().find(|listed| listed.name == collection);
        own.map(|listed| &listed.tags).or(self.tags.as_ref()).map(Vec::as_slice)
    }

    /// Every JSONPath query, once, in the order of `wants`.
    fn queries(&self) -> Vec<&str> {
        let own = self.collections.iter().flat_map(|listed| &listed.tags);
        let templates = self.tags.iter().flatten().chain(own);
        let mut asked: Vec<&str> = Vec::new();
        for query in templates.flat_map(queries) {
            if !asked.contains(&query) {
                asked.push(query);
            }
        }
        asked
    }
}

/// Adds the tags of one template; false if they may not be all. `asked` are the queries in the order
/// of `wants`.
fn fill(template: &Template, change: &Change, asked: &[&str], tags: &mut Vec<String>) -> bool {
    let needs_values = queries(template).next().is_some();
    // Documents that are not there before an insertion, or after a deletion, are not missed.
    let (needs_after, needs_before) = match change.operation {
        _ if !needs_values => (true, false),
        Operation::Insert => (true, false),
        Operation::Update | Operation::Replace => (true, true),
        Operation::Delete => (false, true),
        // Nothing is known of the documents; the fallback is certain.
        Operation::Drop => (false, false),
    };
    let mut is_complete = true;
    for (is_needed, is_after) in [(needs_after, true), (needs_before, false)] {
        if !is_needed {
            continue;
        }
        let values = |query: &str| {
            let index = asked.iter().position(|asked| *asked == query)?;
            if is_after { change.after(index) } else { change.before(index) }
        };
        match filled(template, change, &values) {
            Ok(filled) => {
                for tag in filled {
                    if tag.is_empty() || tag.len() > LONGEST_SCOPE {
                        is_complete = false;
                    } else if !tags.contains(&tag) {
                        tags.push(tag);
                    }
                }
            }
            Err(why) => {
                if why == Unfilled::NoText {
                    log::warn(&format!(
                        "`{}`: a value is an array or an object, which makes no tag",
                        template.text()
                    ));
                }
                is_complete = false;
            }
        }
    }
    is_complete
}

fn templates(settings: &mut Settings, name: &str, texts: Vec<String>) -> Vec<Template> {
    texts.into_iter().filter_map(|text| settings.template(name, text, &unfit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    fn authors() -> DocumentChanges {
        let tags = ["{collection}:{id}", "author:{$.author}"];
        configure([Setting::new("tags", tags)]).unwrap()
    }

    /// A change of `posts`; documents hold what `$.author` selects.
    fn change(operation: Operation, before: Option<&[&str]>, after: Option<&[&str]>) -> Change {
        let document =
            |values: &[&str]| vec![values.iter().map(|text| (*text).to_owned()).collect()];
        Change {
            operation,
            collection: "posts".to_owned(),
            id: "7".to_owned(),
            before: before.map(document),
            after: after.map(document),
            ..Change::default()
        }
    }

    fn tags(policy: &DocumentChanges, change: &Change) -> Vec<String> {
        let scopes = policy.changed(change).unwrap().into_iter();
        let tag = |Invalidated { scope, .. }| match scope {
            Scope::Tag(tag) => tag,
            Scope::Path(_) | Scope::Pattern(_) => unreachable!("only tags"),
        };
        scopes.map(tag).collect()
    }

    #[test]
    fn before_and_after_both_count() {
        const ADA: Option<&[&str]> = Some(&["\"ada\""]);
        const BOB: Option<&[&str]> = Some(&["\"bob\""]);
        const NOBODY: Option<&[&str]> = Some(&[]);
        for (operation, before, after, expected) in [
            (Operation::Insert, None, ADA, &["posts:7", "author:ada"][..]),
            (Operation::Update, ADA, ADA, &["posts:7", "author:ada"]),
            (Operation::Update, ADA, BOB, &["posts:7", "author:bob", "author:ada"]),
            (Operation::Replace, ADA, NOBODY, &["posts:7", "author:ada"]),
            (Operation::Update, NOBODY, NOBODY, &["posts:7"]),
            (Operation::Delete, ADA, None, &["posts:7", "author:ada"]),
            // A document that cannot be had is made good by the fallback.
            (Operation::Insert, None, None, &["posts:7", "posts"]),
            (Operation::Update, None, ADA, &["posts:7", "author:ada", "posts"]),
            (Operation::Update, ADA, None, &["posts:7", "author:ada", "posts"]),
            (Operation::Replace, None, None, &["posts:7", "posts"]),
            (Operation::Delete, None, None, &["posts:7", "posts"]),
        ] {
            let change = change(operation, before, after);
            assert_eq!(tags(&authors(), &change), expected, "{change:?}");
        }
    }

    #[test]
    fn no_change_is_without_effect_unless_the_settings_say_so() {
        let drop = Change { id: String::new(), ..change(Operation::Drop, None, None) };
        assert_eq!(tags(&authors(), &drop), ["posts"]);
        let policy: DocumentChanges = configure([
            Setting::new("collections.users", ["user:{id}"]),
            Setting::new("collections.logs", []),
            Setting::new("fallback", "everything"),
        ])
        .unwrap();
        let of = |collection: &str, operation| {
            let change = change(operation, None, None);
            tags(&policy, &Change { collection: collection.to_owned(), ..change })
        };
        assert_eq!(of("users", Operation::Update), ["user:7"]);
        assert_eq!(of("posts", Operation::Update), ["everything"], "it is not listed");
        assert_eq!(of("logs", Operation::Update), [""; 0], "it is listed with nothing");
        assert_eq!(of("logs", Operation::Drop), ["everything"]);
    }

    #[test]
    fn what_makes_no_tag_is_made_good_too() {
        for values in [&["[1]"][..], &["{\"a\":1}"], &["\"\u{20ac}\", no JSON"]] {
            let change = change(Operation::Insert, None, Some(values));
            assert_eq!(tags(&authors(), &change), ["posts:7", "posts"]);
        }
        let long = format!("\"{}\"", "x".repeat(1024));
        let insert = change(Operation::Insert, None, Some(&[&long]));
        assert_eq!(tags(&authors(), &insert), ["posts:7", "posts"]);
        let compound = Change {
            id: "{\"a\":1,\"b\":2}".to_owned(),
            ..change(Operation::Insert, None, Some(&[]))
        };
        assert_eq!(tags(&authors(), &compound), ["posts"]);
    }

    #[test]
    fn more_than_an_answer_holds_becomes_the_fallback() {
        let values: Vec<_> = (0..70).map(|value| value.to_string()).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let of = |before: usize, after: usize| {
            let (before, after) = (&values[..before], &values[70 - after..]);
            tags(&authors(), &change(Operation::Update, Some(before), Some(after)))
        };
        assert_eq!(of(20, 20).len(), 41);
        assert_eq!(of(0, 70), ["posts:7", "posts"]);
        assert_eq!(of(40, 30), ["posts"]);
    }

    #[test]
    fn soft_makes_all_of_it_soft() {
        for soft in [false, true] {
            let config = [Setting::new("tags", ["a", "{$.b}"]), Setting::new("soft", soft)];
            let policy: DocumentChanges = configure(config).unwrap();
            let scopes = policy.changed(&change(Operation::Update, None, None)).unwrap();
            assert_eq!(scopes.len(), 2);
            assert!(scopes.iter().all(|invalidated| invalidated.soft == soft));
        }
    }

    #[test]
    fn a_query_is_asked_once() {
        let policy: DocumentChanges = configure([
            Setting::new("tags", ["a:{$.a}", "b:{$.b}-{$.a}"]),
            Setting::new("collections.users", ["c:{$.a}", "d:{$.d}"]),
        ])
        .unwrap();
        assert_eq!(policy.wants().document_values, ["$.a", "$.b", "$.d"]);
        assert_eq!(policy.wants().inputs, larder_policy::Inputs::empty());
    }

    #[test]
    fn a_write_is_not_its_business() {
        authors().written(&Request::default(), &Response::default()).unwrap_err();
    }

    #[test]
    fn wrong_settings_are_refused() {
        for (config, expected) in [
            (
                vec![],
                "nothing to invalidate: write `tags = [\"{collection}:{id}\"]`, \
                 or `collections = { users = [\"user:{id}\"] }`",
            ),
            (
                vec![Setting::new("tags", ["user:{_id}"])],
                "`tags` has `user:{_id}`, where `{_id}` stands for nothing: write `{id}`, \
                 `{collection}`, `{database}`, `{mongodb}`, or a JSONPath as in `{$.author}`",
            ),
            (
                vec![Setting::new("collections.users", "user:{id")],
                "`collections.users` has `user:{id`, where a brace is not closed: write `{name}`",
            ),
            (
                vec![Setting::new("tags", ["a"]), Setting::new("fallback", "{id}")],
                "`fallback` has `{id}`, but must hold where there is no document: \
                 write a text with `{collection}`, `{database}` or `{mongodb}`",
            ),
            (
                vec![Setting::new("tags", ["a"]), Setting::new("fallback", "")],
                "`fallback` has an empty string: take it out",
            ),
            (
                vec![Setting::new("tags", ["a"]), Setting::new("fall-back", "b")],
                "unknown setting `fall-back`: this policy has \
                 `tags`, `collections`, `fallback`, `soft`",
            ),
        ] {
            assert_eq!(configure::<DocumentChanges>(config).unwrap_err(), expected);
        }
        let many: Vec<_> = (0..33).map(|index| format!("{{$.a{index}}}")).collect();
        let many = larder_policy::SettingValue::Texts(many);
        assert_eq!(
            configure::<DocumentChanges>([Setting::new("tags", many)]).unwrap_err(),
            "`tags` and `collections` have 33 JSONPath queries, and 32 is the most"
        );
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<DocumentChanges>(include_str!("../schema.json")), Ok(()));
    }
}
