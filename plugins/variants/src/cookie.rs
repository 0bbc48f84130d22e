//! The part of the key that a cookie gives.

use larder_policy::Settings;
use larder_policy::concat;

/// Part names that are taken. A cookie of the same name could make two requests look alike.
const TAKEN: [&str; 3] = ["path", "query", "language"];

/// The longest value that is used where no values are listed.
const LONGEST_VALUE: usize = 64;

const NEEDS: &str = "` needs `cookie`: write the cookie's name, `cookie = \"...\"`";

/// Which cookie, and what its values may be.
#[derive(Debug)]
pub(crate) struct Cookie {
    name: String,
    values: Option<Vec<String>>,
    default: Option<String>,
}

larder_policy::prepared!(Cookie { name, values, default });

/// What a request's cookie means to the key.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Part(&'a str),
    /// The request has no such cookie, and that is a variant of its own.
    Absent,
    Bypass(&'static str),
}

impl Cookie {
    /// `None` if no cookie is configured, or if something is wrong with it.
    pub(crate) fn configure(settings: &mut Settings) -> Option<Self> {
        let name = settings.text("cookie");
        let values = settings.texts("cookie-values");
        let default = settings.text("cookie-default");
        let Some(name) = name else {
            let given =
                [("cookie-values", values.is_some()), ("cookie-default", default.is_some())];
            for (setting, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                settings.refuse::<()>(concat(&["`", setting, NEEDS]));
            }
            return None;
        };
        if !is_token(&name) {
            return settings.refuse(concat(&[
                "`cookie` is `",
                &name,
                "`, which is no cookie name: write letters, digits and any of !#$%&'*+-.^_`|~",
            ]));
        }
        if TAKEN.contains(&name.as_str()) {
            return settings.refuse(concat(&[
                "`cookie` is `",
                &name,
                "`, which is the name of another part of the key: \
                 no cookie named `path`, `query` or `language` can be used",
            ]));
        }
        if values.as_ref().is_some_and(Vec::is_empty) {
            return settings.refuse(
                "`cookie-values` is empty: list the values that the upstream knows, or leave it out"
                    .to_owned(),
            );
        }
        Some(Self { name, values, default })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a request that sent `value` in the cookie, or no cookie, depends on.
    pub(crate) fn value<'a>(&'a self, value: Option<&'a str>) -> Value<'a> {
        let default = self.default.as_deref();
        let Some(value) = value else { return default.map_or(Value::Absent, Value::Part) };
        match &self.values {
            None if value.len() <= LONGEST_VALUE => Value::Part(value),
            None => Value::Bypass("cookie value too long"),
            Some(values) if values.iter().any(|listed| listed == value) => Value::Part(value),
            // Without a default nobody has said what the upstream makes of such a value.
            Some(_) => default.map_or(Value::Bypass("cookie value not listed"), Value::Part),
        }
    }
}

/// RFC 6265 §4.1.1: a cookie's name is a token (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    let is_token_octet =
        |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    !name.is_empty() && name.bytes().all(is_token_octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(values: Option<&[&str]>, default: Option<&str>) -> Cookie {
        Cookie {
            name: "currency".to_owned(),
            values: values.map(|values| values.iter().map(|value| (*value).to_owned()).collect()),
            default: default.map(str::to_owned),
        }
    }

    #[test]
    fn values_are_mapped_to_those_that_are_known() {
        let listed: Option<&[&str]> = Some(&["EUR", "USD"]);
        let not_listed = Value::Bypass("cookie value not listed");
        for (values, default, sent, expected) in [
            (listed, Some("EUR"), Some("USD"), Value::Part("USD")),
            (listed, Some("EUR"), Some("usd"), Value::Part("EUR")),
            (listed, Some("EUR"), Some(""), Value::Part("EUR")),
            (listed, Some("EUR"), None, Value::Part("EUR")),
            (listed, Some("CHF"), Some("CHF"), Value::Part("CHF")),
            (listed, None, Some("USD"), Value::Part("USD")),
            (listed, None, Some("usd"), not_listed),
            (listed, None, None, Value::Absent),
            (None, Some("EUR"), None, Value::Part("EUR")),
            (None, Some("EUR"), Some("x"), Value::Part("x")),
            (None, None, Some(""), Value::Part("")),
            (None, None, None, Value::Absent),
        ] {
            assert_eq!(
                cookie(values, default).value(sent),
                expected,
                "{values:?} {default:?} {sent:?}"
            );
        }
    }

    #[test]
    fn a_free_value_is_bounded() {
        let longest = "a".repeat(LONGEST_VALUE);
        assert_eq!(cookie(None, None).value(Some(&longest)), Value::Part(&longest));
        let longer = "a".repeat(LONGEST_VALUE + 1);
        let expected = Value::Bypass("cookie value too long");
        assert_eq!(cookie(None, Some("EUR")).value(Some(&longer)), expected);
    }
}
