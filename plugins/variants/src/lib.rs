//! A key policy: a stored response for each language and for each value of a cookie.
//!
//! Both are mapped to the few values that the settings list, so that clients cannot multiply the
//! variants of a response by what they send.

use larder_policy::Inputs;
use larder_policy::Key;
use larder_policy::KeyDecision;
use larder_policy::Pair;
use larder_policy::Parameter;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Settings;
use larder_policy::Wants;

use crate::cookie::Cookie;
use crate::cookie::Value;
use crate::language::Languages;

mod cookie;
mod language;

/// The settings. Languages or a cookie are there.
#[derive(Debug)]
struct Variants {
    languages: Option<Languages>,
    cookie: Option<Cookie>,
    query: bool,
}

larder_policy::prepared!(Variants { languages, cookie, query });
larder_policy::export!(Variants: key);

impl Policy for Variants {
    const LOGS_PANICS: bool = false;

    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let policy = Self {
            languages: Languages::configure(settings),
            cookie: Cookie::configure(settings),
            query: settings.boolean("query").unwrap_or(true),
        };
        let varies = policy.languages.is_some() || policy.cookie.is_some();
        if !varies && settings.is_sound() {
            // A misspelt setting may be why: that is told as well.
            settings.refuse::<()>(
                "nothing to vary by: write `languages = [\"en\", \"de\"]`, \
                 `cookie = \"currency\"`, or both"
                    .to_owned(),
            );
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        let query = if self.query { Inputs::QUERY } else { Inputs::empty() };
        Wants {
            inputs: Inputs::PATH | query,
            fields: self.languages.iter().map(|_| "accept-language".to_owned()).collect(),
            cookies: self.cookie.iter().map(|cookie| cookie.name().to_owned()).collect(),
            ..Wants::default()
        }
    }
}

impl Key for Variants {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let mut parts = vec![Pair::new("path", &request.path)];
        if !request.query.is_empty() {
            parts.push(Pair::new("query", &Parameter::join(&request.query)));
        }
        if let Some(languages) = &self.languages {
            parts.push(Pair::new("language", languages.choose(request.field(0).unwrap_or(""))));
        }
        if let Some(cookie) = &self.cookie {
            match cookie.value(request.cookie(0)) {
                Value::Part(value) => parts.push(Pair::new(cookie.name(), value)),
                Value::Absent => {}
                Value::Bypass(reason) => return Ok(KeyDecision::Bypass(reason.to_owned())),
            }
        }
        Ok(KeyDecision::Parts(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    fn both() -> Variants {
        let config = [
            Setting::new("languages", ["en", "de"]),
            Setting::new("cookie", "currency"),
            Setting::new("cookie-values", ["EUR", "USD"]),
        ];
        configure(config).unwrap()
    }

    fn request(query: &str, language: Option<&str>, cookie: Option<&str>) -> Request {
        let query = if query.is_empty() { Vec::new() } else { Parameter::split(query) };
        Request {
            path: "/a".to_owned(),
            query,
            fields: vec![language.map(str::to_owned)],
            cookies: vec![cookie.map(str::to_owned)],
            ..Request::default()
        }
    }

    fn parts(expected: &[(&str, &str)]) -> KeyDecision {
        KeyDecision::Parts(expected.iter().map(|(name, value)| Pair::new(name, value)).collect())
    }

    #[test]
    fn the_key_holds_path_query_language_and_cookie() {
        let decision = both().key(&request("b=2&a", Some("de-AT"), Some("USD")));
        let expected =
            parts(&[("path", "/a"), ("query", "b=2&a"), ("language", "de"), ("currency", "USD")]);
        assert_eq!(decision, Ok(expected));
    }

    #[test]
    fn what_is_absent_is_no_part() {
        let decision = both().key(&request("", None, None));
        assert_eq!(decision, Ok(parts(&[("path", "/a"), ("language", "en")])));
    }

    #[test]
    fn one_of_the_two_is_enough() {
        let policy: Variants = configure([Setting::new("languages", ["en", "de"])]).unwrap();
        assert_eq!(policy.wants().fields, ["accept-language"]);
        assert!(policy.wants().cookies.is_empty());
        let policy: Variants = configure([Setting::new("cookie", "currency")]).unwrap();
        assert!(policy.wants().fields.is_empty());
        assert_eq!(policy.wants().cookies, ["currency"]);
        let sent = Request { fields: vec![], ..request("", None, Some("EUR")) };
        assert_eq!(policy.key(&sent), Ok(parts(&[("path", "/a"), ("currency", "EUR")])));
    }

    #[test]
    fn the_query_can_be_left_to_others() {
        let of =
            |query| -> Variants { configure([en_and_de(), Setting::new("query", query)]).unwrap() };
        assert_eq!(of(true).wants().inputs, Inputs::PATH | Inputs::QUERY);
        assert_eq!(of(false).wants().inputs, Inputs::PATH);
        let unseen = of(false).key(&request("", Some("de"), None));
        assert_eq!(unseen, Ok(parts(&[("path", "/a"), ("language", "de")])));
    }

    #[test]
    fn an_unlisted_value_without_a_default_is_a_bypass() {
        let decision = both().key(&request("", None, Some("XXX")));
        let reason = "cookie value not listed".to_owned();
        assert_eq!(decision, Ok(KeyDecision::Bypass(reason)));
    }

    #[test]
    fn settings_survive_prepared() {
        use larder_policy::Prepared as _;

        let mut prepared = Vec::new();
        both().write(&mut prepared);
        let read = Variants::read(&mut prepared.as_slice()).unwrap();
        let sent = request("a=1", Some("de"), Some("EUR"));
        assert_eq!(read.key(&sent), both().key(&sent));
    }

    fn assert_refused(config: Vec<Setting>, expected: &str) {
        assert_eq!(configure::<Variants>(config).unwrap_err(), expected);
    }

    fn en_and_de() -> Setting {
        Setting::new("languages", ["en", "de"])
    }

    fn currency() -> Setting {
        Setting::new("cookie", "currency")
    }

    #[test]
    fn wrong_settings_are_refused() {
        assert_refused(
            vec![],
            "nothing to vary by: write `languages = [\"en\", \"de\"]`, `cookie = \"currency\"`, or both",
        );
        assert_refused(
            vec![Setting::new("languags", ["de"])],
            "nothing to vary by: write `languages = [\"en\", \"de\"]`, `cookie = \"currency\"`, or both; \
             unknown setting `languags`: this policy has `languages`, `default-language`, \
             `cookie`, `cookie-values`, `cookie-default`, `query`",
        );
        assert_refused(
            vec![en_and_de(), Setting::new("cookies", ["a"])],
            "unknown setting `cookies`: this policy has `languages`, `default-language`, \
             `cookie`, `cookie-values`, `cookie-default`, `query`",
        );
    }

    #[test]
    fn wrong_languages_are_refused() {
        for (config, expected) in [
            (
                vec![Setting::new("languages", "en")],
                "`languages` must be an array of strings, not a string: write `languages = [\"en\"]`",
            ),
            (
                vec![Setting::new("languages", [])],
                "`languages` is empty: list the languages that the upstream answers in",
            ),
            (
                vec![Setting::new("languages", ["en", "de_AT"])],
                "`languages` has `de_AT`, which is no language tag: write `de-AT`",
            ),
            (
                vec![Setting::new("languages", ["en", "EN"])],
                "`languages` has `EN` twice: take one out",
            ),
            (
                vec![en_and_de(), Setting::new("default-language", "fr")],
                "`default-language` is `fr`, which `languages` does not list: add it there",
            ),
            (
                vec![currency(), Setting::new("default-language", "fr")],
                "`default-language` needs `languages`: write `languages = [\"fr\"]`",
            ),
        ] {
            assert_refused(config, expected);
        }
    }

    #[test]
    fn wrong_cookies_are_refused() {
        for (config, expected) in [
            (
                vec![en_and_de(), Setting::new("cookie-default", "EUR")],
                "`cookie-default` needs `cookie`: write the cookie's name, `cookie = \"...\"`",
            ),
            (
                vec![en_and_de(), Setting::new("cookie-values", ["EUR"])],
                "`cookie-values` needs `cookie`: write the cookie's name, `cookie = \"...\"`",
            ),
            (
                vec![currency(), Setting::new("cookie-values", [])],
                "`cookie-values` is empty: list the values that the upstream knows, or leave it out",
            ),
            (
                vec![Setting::new("cookie", "a b")],
                "`cookie` is `a b`, which is no cookie name: \
                 write letters, digits and any of !#$%&'*+-.^_`|~",
            ),
            (
                vec![Setting::new("cookie", "query")],
                "`cookie` is `query`, which is the name of another part of the key: \
                 no cookie named `path`, `query` or `language` can be used",
            ),
        ] {
            assert_refused(config, expected);
        }
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<Variants>(include_str!("../schema.json")), Ok(()));
    }
}
