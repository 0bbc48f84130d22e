//! A key policy: requests that differ only in the order of their query parameters, or in parameters
//! that track visitors, share a stored response.
//!
//! Parameters are compared and kept as they were sent, percent-encoded, and `keep` leaves out only
//! what no server can read as kept. So no two queries that mean different things fall together, and
//! some that mean the same (`%61` and `a`) stay apart.

use larder_policy::Inputs;
use larder_policy::Key;
use larder_policy::KeyDecision;
use larder_policy::Pair;
use larder_policy::Parameter;
use larder_policy::Patterns;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Settings;
use larder_policy::Wants;
use larder_policy::concat;
use larder_policy::sorted;

/// Parameters that advertising and mailing services add to links, for their own scripts to read.
/// Only names that no API is likely to use: a parameter dropped wrongly mixes up two responses.
const TRACKING: &[&str] = &[
    // Google Analytics' campaigns, which most others have taken over.
    "utm_*",
    // Google: advertisements, shopping results, visits across sites.
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "gad_source",
    "gad_campaignid",
    "srsltid",
    "_ga",
    "_gl",
    // Facebook, Instagram.
    "fbclid",
    "igsh",
    "igshid",
    // Microsoft; Yandex.
    "msclkid",
    "yclid",
    "ysclid",
    "_openstat",
    // TikTok, X, LinkedIn, Reddit, Snapchat, Pinterest.
    "ttclid",
    "twclid",
    "li_fat_id",
    "rdt_cid",
    "ScCid",
    "epik",
    // Adobe; impact.com; Wicked Reports.
    "s_cid",
    "s_kwcid",
    "irclickid",
    "wickedid",
    // Matomo.
    "mtm_*",
    "matomo_*",
    "piwik_*",
    // HubSpot.
    "_hsenc",
    "_hsmi",
    "__hssc",
    "__hstc",
    "__hsfp",
    "hsCtaTracking",
    // Links in mails: Mailchimp, Marketo, Klaviyo, Vero, Omeda.
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_kx",
    "vero_id",
    "vero_conv",
    "oly_anon_id",
    "oly_enc_id",
];

const WINS: &str = "`, which wins: take it out of one of the two lists";

/// The settings.
#[derive(Debug)]
struct NormaliseQuery {
    /// `None` stands for [`TRACKING`], which then need not travel with every call.
    drop: Option<Patterns>,
    /// As [`loosened`].
    keep: Option<Patterns>,
    sort: bool,
}

larder_policy::prepared!(NormaliseQuery { drop, keep, sort });
larder_policy::export!(NormaliseQuery: key);

impl Policy for NormaliseQuery {
    const LOGS_PANICS: bool = false;

    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let drop = settings.texts("drop").map(Patterns::from);
        let keep = settings.texts("keep");
        let policy = Self {
            drop,
            keep: keep.as_ref().map(|keep| {
                Patterns::from(keep.iter().map(|pattern| loosened(pattern)).collect::<Vec<_>>())
            }),
            sort: settings.boolean("sort").unwrap_or(true),
        };
        for kept in keep.iter().flatten().map(String::as_str) {
            if let Some(dropped) = policy.dropped_by(kept) {
                let list = if policy.drop.is_some() { "`drop`" } else { "the default of `drop`" };
                let pieces = ["`keep` has `", kept, "`, but ", list, " has `", dropped, WINS];
                settings.refuse::<()>(concat(&pieces));
            }
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        Wants { inputs: Inputs::PATH | Inputs::QUERY, ..Wants::default() }
    }
}

impl Key for NormaliseQuery {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let mut parts = vec![Pair::new("path", &request.path)];
        let kept = self.kept(&request.query);
        if !kept.is_empty() {
            parts.push(Pair::new("query", &Parameter::join(kept)));
        }
        Ok(KeyDecision::Parts(parts))
    }
}

impl NormaliseQuery {
    /// The parameters that the key depends on, in the order of the key.
    fn kept<'a>(&self, query: &'a [Parameter]) -> Vec<&'a Parameter> {
        let mut kept: Vec<_> = query.iter().filter(|parameter| self.keeps(parameter)).collect();
        if self.sort {
            // A stable sort: `a=1&a=2` and `a=2&a=1` are two lists to most servers.
            kept = sorted(kept, |a, b| a.name.cmp(&b.name));
        }
        kept
    }

    /// Whether the key holds it. In doubt it does: a longer key is never wrong.
    fn keeps(&self, parameter: &Parameter) -> bool {
        let name = &parameter.name;
        let is_empty_piece = name.is_empty() && parameter.value.is_none();
        // With `keep = []` there is none that it could be read as.
        let is_none_kept = self.keep.as_ref().is_some_and(|keep| keep.iter().next().is_none());
        if is_empty_piece || is_none_kept {
            return false;
        }
        parameter.has_semicolon() || self.may_be_kept(name) && self.dropped_by(name).is_none()
    }

    /// Whether a server may read the name as one that `keep` has: servers decode names, and some trim
    /// them, take brackets off or ignore case.
    fn may_be_kept(&self, name: &str) -> bool {
        let Some(keep) = &self.keep else { return true };
        let is_all_plain = !name.is_empty() && name.chars().all(is_plain);
        !is_all_plain || keep.matches(&name.to_ascii_lowercase())
    }

    /// The pattern that drops the parameters of this name.
    fn dropped_by(&self, name: &str) -> Option<&str> {
        match &self.drop {
            Some(drop) => drop.find(name),
            None => TRACKING.iter().copied().find(|pattern| larder_policy::matches(pattern, name)),
        }
    }
}

/// What no server decodes, trims or takes apart.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// A pattern for the plain names, in lower case, that a server may read as one of `pattern`. Of this
/// the plain beginning counts: `a.b` may be `a_b`, `a[b]` a part of `a`, and `%61` any character.
fn loosened(pattern: &str) -> String {
    let stem = pattern.split(|c: char| !is_plain(c) && c != '*').next().unwrap_or_default();
    let rest = if stem.len() < pattern.len() { "*" } else { "" };
    concat(&[stem, rest]).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    /// The query part of the key, if there is one.
    fn query(policy: &NormaliseQuery, query: &str) -> Option<String> {
        let request =
            Request { path: "/a".to_owned(), query: Parameter::split(query), ..Request::default() };
        let KeyDecision::Parts(parts) = policy.key(&request).unwrap() else { panic!("bypassed") };
        assert_eq!(parts[0], Pair::new("path", "/a"));
        assert!(parts.len() <= 2);
        parts.get(1).map(|part| {
            assert_eq!(part.name, "query");
            part.value.clone()
        })
    }

    #[test]
    fn order_and_tracking_do_not_count() {
        let policy = configure([]).unwrap();
        for (sent, expected, why) in [
            ("b=2&a=1", Some("a=1&b=2"), "sorted by name"),
            ("a=2&b&a=1", Some("a=2&a=1&b"), "equal names keep their order"),
            ("a=1&utm_source=x&fbclid=y", Some("a=1"), "tracking is dropped"),
            ("utm_source=x", None, "no parameter is left"),
            ("", None, "an empty query is no query"),
            ("&&", None, "empty pieces are nothing"),
            ("a&&b&", Some("a&b"), "empty pieces are nothing"),
            ("=x", Some("=x"), "an empty name with a value is a parameter"),
            ("=", Some("="), "an empty name with an empty value is a parameter"),
            ("utm%5Fsource=x", Some("utm%5Fsource=x"), "names are compared as sent"),
            ("UTM_SOURCE=x", Some("UTM_SOURCE=x"), "names are case-sensitive"),
            ("utm=x", Some("utm=x"), "the pattern is `utm_*`"),
            ("b=%26&a=%3D", Some("a=%3D&b=%26"), "values stay percent-encoded"),
            ("a=b=c", Some("a=b=c"), "a value may hold `=`"),
            ("utm_source=1;a=2", Some("utm_source=1;a=2"), "some servers separate at `;`, too"),
            ("utm_source;a=2", Some("utm_source;a=2"), "in a name as well"),
        ] {
            assert_eq!(query(&policy, sent).as_deref(), expected, "{why}: `{sent}`");
        }
    }

    #[test]
    fn queries_that_differ_have_keys_that_differ() {
        let policy = configure([]).unwrap();
        for (one, other) in [
            ("a", "a="),
            ("a=1&a=2", "a=2&a=1"),
            ("a=1&b", "a=1%26b"),
            ("a", ""),
            ("=a", "a"),
            ("a=b=c", "a=b&c"),
            ("a=1", "A=1"),
        ] {
            assert_ne!(query(&policy, one), query(&policy, other), "`{one}` and `{other}`");
        }
    }

    #[test]
    fn the_order_counts_without_sort() {
        let policy = configure([Setting::new("sort", false)]).unwrap();
        assert_eq!(query(&policy, "b=2&gclid=1&a=1").as_deref(), Some("b=2&a=1"));
    }

    #[test]
    fn drop_replaces_the_default() {
        let policy = configure([Setting::new("drop", ["session", "x-*"])]).unwrap();
        let kept = query(&policy, "x-trace=1&utm_source=2&session=3&sessions=4");
        assert_eq!(kept.as_deref(), Some("sessions=4&utm_source=2"));
    }

    #[test]
    fn an_empty_drop_drops_nothing() {
        let policy = configure([Setting::new("drop", [])]).unwrap();
        assert_eq!(query(&policy, "utm_source=2").as_deref(), Some("utm_source=2"));
    }

    #[test]
    fn keep_is_all_that_counts() {
        let policy = configure([Setting::new("keep", ["page", "filter.*"])]).unwrap();
        let kept = query(&policy, "page=2&cb=17&filter.b=1&filter.a=2&utm_source=x");
        assert_eq!(kept.as_deref(), Some("filter.a=2&filter.b=1&page=2"));
        let policy = configure([Setting::new("keep", [])]).unwrap();
        for sent in ["page=2", "%70age=2", "a=1;page=2", "=2"] {
            assert_eq!(query(&policy, sent), None, "`{sent}`");
        }
    }

    #[test]
    fn what_may_be_read_as_kept_is_in_the_key() {
        let keep = Setting::new("keep", ["page", "filter.*", "ids[]", "X-*"]);
        let policy = configure([keep]).unwrap();
        for (sent, why) in [
            ("%70age=2", "servers decode names"),
            ("+page=2", "some trim them"),
            ("page[]=2", "or read a list"),
            ("page.x=2", "or a part"),
            ("PAGE=2", "some ignore case"),
            ("x-a=2", "in patterns as well"),
            ("cb=1;page=2", "some separate at `;`, too"),
            ("cb;page=2", "in a name as well"),
            ("utm_source=1;page=2", "in what is dropped as well"),
            ("=page=2", "a name may be empty"),
            ("filter_a=2", "a point may be read as `_`"),
            ("ids=2", "one value as a list"),
            ("p\u{e4}ge=2", "nor is this plain"),
        ] {
            assert_eq!(query(&policy, sent).as_deref(), Some(sent), "{why}");
        }
        for sent in ["cb=1", "cb", "c-b_2=%3B", "pages=2", "pag=2", "id=2", "x=2"] {
            assert_eq!(query(&policy, sent), None, "nobody reads `{sent}` as one of them");
        }
    }

    #[test]
    fn drop_wins_over_keep() {
        let config = [Setting::new("keep", ["*"]), Setting::new("drop", ["a"])];
        assert_eq!(query(&configure(config).unwrap(), "a=1&b=2").as_deref(), Some("b=2"));
    }

    #[test]
    fn wrong_settings_are_refused() {
        let refused = |config: Vec<Setting>| configure::<NormaliseQuery>(config).unwrap_err();
        for (config, expected) in [
            (
                vec![Setting::new("drop", "utm_*")],
                "`drop` must be an array of strings, not a string: write `drop = [\"utm_*\"]`",
            ),
            (
                vec![Setting::new("remove", ["utm_*"])],
                "unknown setting `remove`: this policy has `drop`, `keep`, `sort`",
            ),
            (
                vec![Setting::new("keep", ["page", "utm_source"])],
                "`keep` has `utm_source`, but the default of `drop` has `utm_*`, which wins: \
                 take it out of one of the two lists",
            ),
            (
                vec![Setting::new("keep", ["a"]), Setting::new("drop", ["a"])],
                "`keep` has `a`, but `drop` has `a`, which wins: \
                 take it out of one of the two lists",
            ),
        ] {
            assert_eq!(refused(config), expected);
        }
    }

    #[test]
    fn the_readme_lists_the_default() {
        let readme = include_str!("../README.md");
        for pattern in TRACKING {
            assert!(readme.contains(&format!("`{pattern}`")), "`{pattern}` is missing");
        }
    }

    #[test]
    fn only_path_and_query_are_seen() {
        let policy: NormaliseQuery = configure([]).unwrap();
        let wants = Wants { inputs: Inputs::PATH | Inputs::QUERY, ..Wants::default() };
        assert_eq!(policy.wants(), wants);
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<NormaliseQuery>(include_str!("../schema.json")), Ok(()));
    }
}
