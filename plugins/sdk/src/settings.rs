//! Reads a policy's `config` table, and says what is wrong with it.

use std::ops::RangeInclusive;

use crate::Setting;
use crate::SettingValue;

/// What stands in the policy's `config`.
///
/// Each method reads one setting and answers `None` if it is not there. A setting of the wrong type
/// also reads as `None`, and is reported when `configure` returns, together with everything else
/// that is wrong; so is a setting that was never asked for.
#[derive(Debug)]
pub struct Settings {
    unread: Vec<Setting>,
    known: Vec<&'static str>,
    problems: Vec<String>,
}

impl Settings {
    pub(crate) fn new(config: Vec<Setting>) -> Self {
        Self { unread: config, known: Vec::new(), problems: Vec::new() }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            SettingValue::Boolean(value) => Some(value),
            other => self.wrong_type(name, &other, "`true` or `false`", &format!("{name} = true")),
        }
    }

    /// A whole number within `allowed`.
    pub fn integer(&mut self, name: &'static str, allowed: RangeInclusive<i64>) -> Option<i64> {
        let (least, most) = (allowed.start(), allowed.end());
        match self.take(name)? {
            SettingValue::Integer(value) if allowed.contains(&value) => Some(value),
            SettingValue::Integer(value) => {
                self.refuse(format!("`{name}` is {value}: write a number from {least} to {most}"))
            }
            other => {
                let expected = format!("a whole number from {least} to {most}");
                self.wrong_type(name, &other, &expected, &format!("{name} = {least}"))
            }
        }
    }

    /// A number, with or without a fraction.
    pub fn number(&mut self, name: &'static str) -> Option<f64> {
        match self.take(name)? {
            SettingValue::Number(value) => Some(value),
            #[expect(clippy::cast_precision_loss, reason = "`1` is another way to write `1.0`")]
            SettingValue::Integer(value) => Some(value as f64),
            other => self.wrong_type(name, &other, "a number", &format!("{name} = 1.0")),
        }
    }

    /// A string.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            SettingValue::Text(value) => Some(value),
            other => self.wrong_type(name, &other, "a string", &format!("{name} = \"...\"")),
        }
    }

    /// An array of strings.
    pub fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        match self.take(name)? {
            SettingValue::Texts(values) => Some(values),
            other => {
                let example = match &other {
                    SettingValue::Text(value) => format!("{name} = [{value:?}]"),
                    _ => format!("{name} = [\"...\"]"),
                };
                self.wrong_type(name, &other, "an array of strings", &example)
            }
        }
    }

    /// A table of strings, or of arrays of strings, sorted by name: `{ a = "x", b = ["y", "z"] }`.
    /// Empty if it is not there.
    pub fn named_texts(&mut self, name: &'static str) -> Vec<NamedTexts> {
        self.known.push(name);
        let mut found = Vec::new();
        let mut unread = Vec::new();
        for setting in std::mem::take(&mut self.unread) {
            let inner = setting.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            match (inner, &setting.value) {
                (Some(inner), SettingValue::Text(text)) => {
                    found.push(NamedTexts { name: inner.to_owned(), texts: vec![text.clone()] });
                }
                (Some(inner), SettingValue::Texts(texts)) => {
                    found.push(NamedTexts { name: inner.to_owned(), texts: texts.clone() });
                }
                (Some(_), other) => {
                    let example = format!("{} = \"...\"", setting.name);
                    let expected = "a string or an array of strings";
                    self.wrong_type::<()>(&setting.name, other, expected, &example);
                }
                (None, other) if setting.name == name => {
                    let example = format!("{name} = {{ name = \"...\" }}");
                    self.wrong_type::<()>(name, other, "a table of strings", &example);
                }
                (None, _) => unread.push(setting),
            }
        }
        self.unread = unread;
        found
    }

    /// Reports a problem of the policy's own finding, and goes on. Say which setting it is and what
    /// to write instead. Answers `None`, so that it can stand where the value would.
    pub fn refuse<T>(&mut self, problem: String) -> Option<T> {
        self.problems.push(problem);
        None
    }

    /// Whether nothing that was asked for so far is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// What `configure` answered, unless something is wrong with the settings.
    pub(crate) fn finish<P>(mut self, configured: Result<P, String>) -> Result<P, String> {
        match configured {
            Ok(policy) => {
                self.refuse_unread();
                if self.problems.is_empty() { Ok(policy) } else { Err(self.problems.join("; ")) }
            }
            // The policy may have missed just what could not be read, or not asked for everything.
            Err(problem) if self.problems.is_empty() => Err(problem),
            Err(_) => Err(self.problems.join("; ")),
        }
    }

    fn refuse_unread(&mut self) {
        let known: Vec<_> = self.known.iter().map(|name| format!("`{name}`")).collect();
        for Setting { name, .. } in &self.unread {
            self.problems.push(if known.is_empty() {
                format!("unknown setting `{name}`: this policy has no settings")
            } else {
                format!("unknown setting `{name}`: this policy has {}", known.join(", "))
            });
        }
    }

    fn take(&mut self, name: &'static str) -> Option<SettingValue> {
        self.known.push(name);
        let index = self.unread.iter().position(|setting| setting.name == name)?;
        Some(self.unread.remove(index).value)
    }

    fn wrong_type<T>(
        &mut self,
        name: &str,
        given: &SettingValue,
        expected: &str,
        example: &str,
    ) -> Option<T> {
        let given = match given {
            SettingValue::Boolean(_) => "a boolean",
            SettingValue::Integer(_) | SettingValue::Number(_) => "a number",
            SettingValue::Text(_) => "a string",
            SettingValue::Texts(_) => "an array",
        };
        self.refuse(format!("`{name}` must be {expected}, not {given}: write `{example}`"))
    }
}

/// One key of a table of strings, and what stands under it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTexts {
    /// The key; `b.c` where the table has a table `b` with a key `c`.
    pub name: String,
    /// The one string, or those of the array.
    pub texts: Vec<String>,
}

crate::prepared!(NamedTexts { name, texts });

impl Setting {
    /// A setting as it stands in `config`, for tests.
    pub fn new(name: &str, value: impl Into<SettingValue>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

impl From<bool> for SettingValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for SettingValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for SettingValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for SettingValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<const N: usize> From<[&str; N]> for SettingValue {
    fn from(values: [&str; N]) -> Self {
        Self::Texts(values.map(str::to_owned).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_name() {
        let mut settings = Settings::new(vec![
            Setting::new("a", true),
            Setting::new("b", 7),
            Setting::new("c", 7),
            Setting::new("d", "x"),
            Setting::new("e.f", ["x", "y"]),
        ]);
        assert_eq!(settings.boolean("a"), Some(true));
        assert_eq!(settings.integer("b", 0..=9), Some(7));
        assert_eq!(settings.number("c"), Some(7.0));
        assert_eq!(settings.text("d").as_deref(), Some("x"));
        assert_eq!(settings.texts("e.f"), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(settings.text("g"), None);
        assert_eq!(settings.finish(Ok(())), Ok(()));
    }

    #[test]
    fn tables_are_read_whole() {
        let mut settings = Settings::new(vec![
            Setting::new("values", "x"),
            Setting::new("values.a", "x"),
            Setting::new("values.b.c", ["y", "z"]),
            Setting::new("values.d", 1),
            Setting::new("values2", true),
        ]);
        let read = [("a", vec!["x"]), ("b.c", vec!["y", "z"])].map(|(name, texts)| NamedTexts {
            name: name.to_owned(),
            texts: texts.into_iter().map(str::to_owned).collect(),
        });
        assert_eq!(settings.named_texts("values"), read);
        assert_eq!(settings.named_texts("others"), []);
        assert_eq!(settings.boolean("values2"), Some(true));
        assert_eq!(
            settings.finish(Ok(())),
            Err("`values` must be a table of strings, not a string: \
                 write `values = { name = \"...\" }`; \
                 `values.d` must be a string or an array of strings, not a number: \
                 write `values.d = \"...\"`"
                .to_owned())
        );
    }

    #[test]
    fn a_wrong_setting_says_what_to_write() {
        for (value, problem) in [
            (
                SettingValue::from(1),
                "`texts` must be an array of strings, not a number: write `texts = [\"...\"]`",
            ),
            (
                "utm_*".into(),
                "`texts` must be an array of strings, not a string: write `texts = [\"utm_*\"]`",
            ),
            (
                true.into(),
                "`texts` must be an array of strings, not a boolean: write `texts = [\"...\"]`",
            ),
        ] {
            let mut settings = Settings::new(vec![Setting::new("texts", value)]);
            assert_eq!(settings.texts("texts"), None);
            assert_eq!(settings.finish(Ok(())), Err(problem.to_owned()));
        }
        let mut settings = Settings::new(vec![Setting::new("few", 10)]);
        assert_eq!(settings.integer("few", 0..=9), None);
        assert_eq!(
            settings.finish(Ok(())),
            Err("`few` is 10: write a number from 0 to 9".to_owned())
        );
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let mut settings = Settings::new(vec![Setting::new("sort", "yes"), Setting::new("x", 1)]);
        settings.boolean("sort");
        settings.texts("drop");
        assert_eq!(
            settings.finish(Ok(())),
            Err("`sort` must be `true` or `false`, not a string: write `sort = true`; \
                 unknown setting `x`: this policy has `sort`, `drop`"
                .to_owned())
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_also_missing() {
        let mut settings = Settings::new(vec![Setting::new("cookie", 1)]);
        assert_eq!(settings.text("cookie"), None);
        let problem = settings.finish::<()>(Err("`cookie` is missing".to_owned())).unwrap_err();
        assert!(problem.starts_with("`cookie` must be a string"), "{problem}");
    }

    #[test]
    fn a_policy_without_settings_refuses_them() {
        assert_eq!(
            Settings::new(vec![Setting::new("x", 1)]).finish(Ok(())),
            Err("unknown setting `x`: this policy has no settings".to_owned())
        );
    }
}
