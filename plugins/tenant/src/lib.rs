//! A key policy: a response is shared within one tenant, and never across.
//!
//! Who the tenant is comes from a claim of the token that the gateway has verified, or from a request
//! field that something before the gateway sets. A request that names none, or more than one, is
//! forwarded and its response not stored.

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

/// The settings. One of `claim` and `field` is there.
#[derive(Debug)]
struct Tenant {
    claim: Option<String>,
    field: Option<String>,
    query: bool,
    drop: Patterns,
    sort: bool,
}

larder_policy::prepared!(Tenant { claim, field, query, drop, sort });
larder_policy::export!(Tenant: key);

impl Policy for Tenant {
    const LOGS_PANICS: bool = false;

    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let policy = Self {
            claim: settings.text("claim"),
            field: settings.text("field"),
            query: settings.boolean("query").unwrap_or(true),
            drop: Patterns::from(settings.texts("drop").unwrap_or_default()),
            sort: settings.boolean("sort").unwrap_or(false),
        };
        match (&policy.claim, &policy.field) {
            (None, None) if settings.is_sound() => settings.refuse(
                "nothing names the tenant: write `claim = \"tenant\"` or `field = \"x-tenant\"`"
                    .to_owned(),
            ),
            (Some(_), Some(_)) => settings.refuse(
                "`claim` and `field` both name the tenant: take one of them out".to_owned(),
            ),
            (Some(claim), None) if claim.is_empty() => settings.refuse(
                "`claim` is empty: write the name of a claim, `claim = \"tenant\"`".to_owned(),
            ),
            (None, Some(field)) if !is_field_name(field) => settings.refuse(concat(&[
                "`field` is `",
                field,
                "`, which is no field name: write `field = \"x-tenant\"`",
            ])),
            _ => None::<()>,
        };
        if !policy.query && (policy.sort || policy.drop.iter().next().is_some()) {
            settings.refuse::<()>(
                "`query` is false, so `drop` and `sort` have nothing to do: take them out"
                    .to_owned(),
            );
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        let query = if self.query { Inputs::QUERY } else { Inputs::empty() };
        Wants {
            inputs: Inputs::PATH | query,
            claims: self.claim.iter().cloned().collect(),
            fields: self.field.iter().cloned().collect(),
            ..Wants::default()
        }
    }
}

impl Key for Tenant {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let tenant = match self.tenant(request) {
            Ok(tenant) => tenant,
            Err(reason) => return Ok(KeyDecision::Bypass(reason.to_owned())),
        };
        let mut parts = vec![Pair::new("path", &request.path)];
        let kept = self.kept(&request.query);
        if !kept.is_empty() {
            parts.push(Pair::new("query", &Parameter::join(kept)));
        }
        parts.push(Pair::new("tenant", tenant));
        Ok(KeyDecision::Parts(parts))
    }
}

impl Tenant {
    /// The tenant as it stands in the key, or why there is none.
    ///
    /// A claim keeps its JSON form there: the tenants `"1"` and `1` are two.
    fn tenant<'a>(&self, request: &'a Request) -> Result<&'a str, &'static str> {
        const NONE: &str = "no-tenant";
        const SEVERAL: &str = "several-tenants";
        if self.claim.is_some() {
            let claim = request.claim(0).ok_or(NONE)?;
            // The gateway shows a JSON value, whose first octet tells its type.
            return match claim.bytes().next() {
                Some(b'"' | b'-' | b'0'..=b'9') if claim != "\"\"" => Ok(claim),
                // Which of them the upstream goes by is not known here.
                Some(b'[' | b'{') => Err(SEVERAL),
                _ => Err(NONE),
            };
        }
        match request.field(0).ok_or(NONE)? {
            "" => Err(NONE),
            // Several lines, joined: servers differ in which of them counts.
            several if several.contains(',') => Err(SEVERAL),
            tenant => Ok(tenant),
        }
    }

    /// The parameters that the key depends on, in the order of the key.
    fn kept<'a>(&self, query: &'a [Parameter]) -> Vec<&'a Parameter> {
        // Some servers separate parameters at `;`, too, and find another one in what has it.
        let is_kept = |parameter: &&Parameter| {
            parameter.has_semicolon() || !self.drop.matches(&parameter.name)
        };
        let mut kept: Vec<_> = query.iter().filter(is_kept).collect();
        if self.sort {
            // A stable sort: `a=1&a=2` and `a=2&a=1` are two lists to most servers.
            kept = sorted(kept, |a, b| a.name.cmp(&b.name));
        }
        kept
    }
}

/// RFC 9110 §5.1: a field name is a token.
fn is_field_name(text: &str) -> bool {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    fn by_claim() -> Tenant {
        configure([Setting::new("claim", "tenant")]).unwrap()
    }

    fn by_field() -> Tenant {
        configure([Setting::new("field", "x-tenant")]).unwrap()
    }

    fn request(query: &str) -> Request {
        let query = if query.is_empty() { Vec::new() } else { Parameter::split(query) };
        Request { path: "/a".to_owned(), query, ..Request::default() }
    }

    fn with_claim(claim: Option<&str>) -> Request {
        Request { claims: vec![claim.map(str::to_owned)], ..request("") }
    }

    fn with_field(value: Option<&str>) -> Request {
        Request { fields: vec![value.map(str::to_owned)], ..request("") }
    }

    fn parts(expected: &[(&str, &str)]) -> KeyDecision {
        KeyDecision::Parts(expected.iter().map(|(name, value)| Pair::new(name, value)).collect())
    }

    fn bypass(reason: &str) -> KeyDecision {
        KeyDecision::Bypass(reason.to_owned())
    }

    #[test]
    fn each_tenant_has_keys_of_its_own() {
        let policy = by_claim();
        for claim in ["\"acme\"", "\"Acme\"", "\"42\"", "42", "42.0", "\"a,b\"", "\"ü\"", "\" \""]
        {
            let expected = Ok(parts(&[("path", "/a"), ("tenant", claim)]));
            assert_eq!(policy.key(&with_claim(Some(claim))), expected, "{claim}");
        }
        let policy = by_field();
        for value in ["acme", "42", "\"acme\"", "\u{c3}\u{bc}"] {
            let expected = Ok(parts(&[("path", "/a"), ("tenant", value)]));
            assert_eq!(policy.key(&with_field(Some(value))), expected, "{value}");
        }
    }

    #[test]
    fn without_one_tenant_there_is_no_key() {
        let policy = by_claim();
        for (claim, reason) in [
            (None, "no-tenant"),
            (Some("null"), "no-tenant"),
            (Some("\"\""), "no-tenant"),
            (Some("true"), "no-tenant"),
            (Some(""), "no-tenant"),
            (Some("acme"), "no-tenant"),
            (Some("[\"a\"]"), "several-tenants"),
            (Some("{}"), "several-tenants"),
        ] {
            assert_eq!(policy.key(&with_claim(claim)), Ok(bypass(reason)), "{claim:?}");
        }
        assert_eq!(policy.key(&request("")), Ok(bypass("no-tenant")), "nothing is shown at all");
        let policy = by_field();
        for (value, reason) in [
            (None, "no-tenant"),
            (Some(""), "no-tenant"),
            (Some("a, b"), "several-tenants"),
            (Some("a,b"), "several-tenants"),
            (Some(","), "several-tenants"),
        ] {
            assert_eq!(policy.key(&with_field(value)), Ok(bypass(reason)), "{value:?}");
        }
    }

    #[test]
    fn the_query_counts_as_configured() {
        let key = |settings: &[Setting], query: &str| {
            let mut config = vec![Setting::new("field", "x-tenant")];
            config.extend_from_slice(settings);
            let policy: Tenant = configure(config).unwrap();
            let sent = Request { fields: vec![Some("t".to_owned())], ..request(query) };
            let KeyDecision::Parts(parts) = policy.key(&sent).unwrap() else { unreachable!() };
            parts.into_iter().find(|part| part.name == "query").map(|part| part.value)
        };
        assert_eq!(key(&[], "b=2&a&a=").as_deref(), Some("b=2&a&a="));
        assert_eq!(key(&[], ""), None);
        let sorted = [Setting::new("sort", true), Setting::new("drop", ["utm_*"])];
        assert_eq!(key(&sorted, "b=2&utm_x=1&a=3&a=1").as_deref(), Some("a=3&a=1&b=2"));
        assert_eq!(key(&sorted, "utm_x=1;b=2&a=1").as_deref(), Some("a=1&utm_x=1;b=2"));
        assert_eq!(key(&[Setting::new("query", false)], ""), None);
    }

    #[test]
    fn only_what_the_key_holds_is_seen() {
        let expected = Wants {
            inputs: Inputs::PATH | Inputs::QUERY,
            claims: vec!["tenant".to_owned()],
            ..Wants::default()
        };
        assert_eq!(by_claim().wants(), expected);
        let policy: Tenant =
            configure([Setting::new("field", "X-Tenant"), Setting::new("query", false)]).unwrap();
        let expected =
            Wants { inputs: Inputs::PATH, fields: vec!["X-Tenant".to_owned()], ..Wants::default() };
        assert_eq!(policy.wants(), expected);
    }

    #[test]
    fn a_huge_tenant_is_a_bypass() {
        let huge = format!("\"{}\"", "x".repeat(20_000));
        let decision = by_claim().key(&with_claim(Some(&huge))).unwrap();
        assert_eq!(decision.within_bounds(), KeyDecision::Bypass("key too long".to_owned()));
    }

    #[test]
    fn wrong_settings_are_refused() {
        for (config, expected) in [
            (
                vec![],
                "nothing names the tenant: write `claim = \"tenant\"` or `field = \"x-tenant\"`",
            ),
            (
                vec![Setting::new("claim", "t"), Setting::new("field", "t")],
                "`claim` and `field` both name the tenant: take one of them out",
            ),
            (
                vec![Setting::new("claim", 1)],
                "`claim` must be a string, not a number: write `claim = \"...\"`",
            ),
            (
                vec![Setting::new("claim", "")],
                "`claim` is empty: write the name of a claim, `claim = \"tenant\"`",
            ),
            (
                vec![Setting::new("field", "x tenant")],
                "`field` is `x tenant`, which is no field name: write `field = \"x-tenant\"`",
            ),
            (
                vec![
                    Setting::new("claim", "t"),
                    Setting::new("query", false),
                    Setting::new("sort", true),
                ],
                "`query` is false, so `drop` and `sort` have nothing to do: take them out",
            ),
            (
                vec![Setting::new("claim", "t"), Setting::new("tenants", ["a"])],
                "unknown setting `tenants`: this policy has `claim`, `field`, `query`, `drop`, `sort`",
            ),
        ] {
            assert_eq!(configure::<Tenant>(config).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<Tenant>(include_str!("../schema.json")), Ok(()));
    }
}
