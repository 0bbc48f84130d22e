//! Compares a policy with the JSON Schema of its settings, for tests.
//!
//! `schema.json` beside a plugin describes its `config` table, for editors and for people. It is an
//! object with `properties`, whose `additionalProperties` is `false`, and whose `examples` are whole
//! `config` tables.

use crate::Json;
use crate::Policy;
use crate::Setting;
use crate::SettingValue;
use crate::configure;

/// Whether the schema and the policy agree: the policy knows the settings that the schema lists and
/// no others, refuses what the schema does not list, and accepts each of the examples, in which
/// every setting comes up.
pub fn compare<P: Policy>(schema: &str) -> Result<(), String> {
    let schema = Json::read(schema).ok_or("the schema is no JSON")?;
    if schema.member("additionalProperties") != Some(&Json::Boolean(false)) {
        return Err("`additionalProperties` is not `false`".to_owned());
    }
    let Some(Json::Object(properties)) = schema.member("properties") else {
        return Err("there are no `properties`".to_owned());
    };
    let listed: Vec<_> = properties.iter().map(|(name, _)| name.as_str()).collect();
    let Some(Json::Array(examples)) = schema.member("examples") else {
        return Err("there are no `examples`".to_owned());
    };
    let mut unused = listed.clone();
    for example in examples {
        let mut config = Vec::new();
        flatten("", example, &mut config)?;
        let names = config.iter().map(|setting| setting.name.clone()).collect::<Vec<_>>();
        unused.retain(|name| !names.iter().any(|used| is_or_is_in(used, name)));
        configure::<P>(config).map_err(|problem| {
            format!("the example {} is refused: {problem}", example.canonical())
        })?;
    }
    if !unused.is_empty() {
        return Err(format!("no example has {unused:?}"));
    }
    let known = known::<P>()?;
    let mut known: Vec<_> = known.iter().map(String::as_str).collect();
    known.sort_unstable();
    if known == listed {
        Ok(())
    } else {
        Err(format!("the policy has {known:?}, and the schema {listed:?}"))
    }
}

/// The names of a policy's settings, as it lists them when it refuses one that it does not know.
fn known<P: Policy>() -> Result<Vec<String>, String> {
    const UNKNOWN: &str = "no-such-setting";
    let Err(problem) = configure::<P>([Setting::new(UNKNOWN, true)]) else {
        return Err("an unknown setting is accepted".to_owned());
    };
    let start = format!("unknown setting `{UNKNOWN}`: this policy has ");
    let Some((_, list)) = problem.split_once(&start) else {
        return Err(format!("an unknown setting is not refused as one: {problem}"));
    };
    Ok(list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect())
}

/// Whether `name` is the setting `listed`, or a key of the table `listed`.
fn is_or_is_in(name: &str, listed: &str) -> bool {
    name.strip_prefix(listed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A `config` table, as the gateway hands it to `configure`.
fn flatten(name: &str, value: &Json<'_>, to: &mut Vec<Setting>) -> Result<(), String> {
    let no_setting = || format!("{} is nothing that a setting can hold", value.canonical());
    let value = match value {
        Json::Object(members) => {
            for (member, value) in members {
                let name =
                    if name.is_empty() { member.clone() } else { format!("{name}.{member}") };
                flatten(&name, value, to)?;
            }
            return Ok(());
        }
        Json::Boolean(value) => SettingValue::Boolean(*value),
        Json::Number(text) => match text.parse() {
            Ok(number) => SettingValue::Integer(number),
            Err(_) => SettingValue::Number(text.parse().map_err(|_| no_setting())?),
        },
        Json::Text(text) => SettingValue::Text(text.clone()),
        Json::Array(values) => {
            let texts = values.iter().map(|value| value.text().map(str::to_owned));
            SettingValue::Texts(texts.collect::<Option<_>>().ok_or_else(no_setting)?)
        }
        Json::Null => return Err(no_setting()),
    };
    to.push(Setting { name: name.to_owned(), value });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::Wants;

    struct Sample {}

    crate::prepared!(Sample {});

    impl Policy for Sample {
        fn configure(settings: &mut Settings) -> Result<Self, String> {
            settings.boolean("sort");
            settings.named_texts("values");
            Ok(Self {})
        }

        fn wants(&self) -> Wants {
            Wants::default()
        }
    }

    fn schema(properties: &str, examples: &str) -> String {
        format!(
            r#"{{"additionalProperties": false, "properties": {properties}, "examples": {examples}}}"#
        )
    }

    #[test]
    fn agreement_and_every_disagreement_are_found() {
        let both = r#"{"sort": {}, "values": {}}"#;
        let examples = r#"[{"sort": true}, {"values": {"a": "x", "b": ["y"]}}]"#;
        assert_eq!(compare::<Sample>(&schema(both, examples)), Ok(()));
        for (properties, examples, problem) in [
            (both, r#"[{"sort": true}]"#, "no example has [\"values\"]"),
            (both, r#"[{"sort": 1}, {"values": {"a": "x"}}]"#, "is refused: `sort` must be"),
            (r#"{"sort": {}}"#, r#"[{"sort": true}]"#, "the policy has"),
            (r#"{"drop": {}, "sort": {}}"#, r#"[{"drop": []}]"#, "unknown setting `drop`"),
        ] {
            let found = compare::<Sample>(&schema(properties, examples)).unwrap_err();
            assert!(found.contains(problem), "{found}");
        }
        assert!(compare::<Sample>(r#"{"properties": {}, "examples": []}"#).is_err());
    }
}
