//! Reads a policy's `config` table, and says what is wrong with it.

use std::ops::RangeInclusive;

use crate::Setting;
use crate::SettingValue;
use crate::concat;

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
            other => self.wrong_type(name, &other, "`true` or `false`", &[name, " = true"]),
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
                self.wrong_type(name, &other, &expected, &[name, " = ", &least.to_string()])
            }
        }
    }

    /// A number, with or without a fraction.
    pub fn number(&mut self, name: &'static str) -> Option<f64> {
        match self.take(name)? {
            SettingValue::Number(value) => Some(value),
            #[expect(clippy::cast_precision_loss, reason = "`1` is another way to write `1.0`")]
            SettingValue::Integer(value) => Some(value as f64),
            other => self.wrong_type(name, &other, "a number", &[name, " = 1.0"]),
        }
    }

    /// A string.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            SettingValue::Text(value) => Some(value),
            other => self.wrong_type(name, &other, "a string", &[name, " = \"...\""]),
        }
    }

    /// An array of strings.
    pub fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        match self.take(name)? {
            SettingValue::Texts(values) => Some(values),
            other => {
                let value = match &other {
                    SettingValue::Text(value) if is_plain(value) => value,
                    _ => "...",
                };
                let example = [name, " = [\"", value, "\"]"];
                self.wrong_type(name, &other, "an array of strings", &example)
            }
        }
    }

    /// A table of strings, or of arrays of strings, sorted by name: `{ a = "x", b = ["y", "z"] }`.
    /// Empty if it is not there.
    pub fn named_texts(&mut self, name: &'static str) -> Vec<NamedTexts> {
        self.known.push(name);
        let is_meant = |of_one: &str| {
            let rest = of_one.strip_prefix(name).map(str::as_bytes);
            matches!(rest, Some([] | [b'.', ..]))
        };
        let mut found = Vec::new();
        for Setting { name: full, value } in self.take_all(&is_meant) {
            let key = full.get(name.len() + 1..);
            let texts = match (key, value) {
                (Some(_), SettingValue::Text(text)) => vec![text],
                (Some(_), SettingValue::Texts(texts)) => texts,
                (Some(_), other) => {
                    let expected = "a string or an array of strings";
                    self.report_type(&full, &other, expected, &[&full, " = \"...\""]);
                    continue;
                }
                (None, other) => {
                    let example = [name, " = { name = \"...\" }"];
                    self.report_type(name, &other, "a table of strings", &example);
                    continue;
                }
            };
            found.push(NamedTexts { name: key.unwrap_or_default().to_owned(), texts });
        }
        found
    }

    /// Reports a problem of the policy's own finding, and goes on. Say which setting it is and what
    /// to write instead. Answers `None`, so that it can stand where the value would.
    pub fn refuse<T>(&mut self, problem: String) -> Option<T> {
        self.report(problem);
        None
    }

    #[inline(never)] // It is called often, and by nothing that has to be fast.
    fn report(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Whether nothing that was asked for so far is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// What `configure` answered, unless something is wrong with the settings.
    pub(crate) fn finish<P>(self, configured: Result<P, String>) -> Result<P, String> {
        let (policy, problem) = match configured {
            Ok(policy) => (Some(policy), None),
            Err(problem) => (None, Some(problem)),
        };
        let problems = self.all_problems(problem);
        policy.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// All that is wrong, in one text. `own` is what `configure` failed with.
    fn all_problems(mut self, own: Option<String>) -> String {
        let has_failed = own.is_some();
        // What cannot be read is not also missing.
        self.problems.extend(own.filter(|_| self.problems.is_empty()));
        let mut known = String::new();
        for name in &self.known {
            known.push_str(if known.is_empty() { "`" } else { ", `" });
            known.push_str(name);
            known.push('`');
        }
        for Setting { name, .. } in &self.unread {
            self.problems.push(if has_failed {
                // It may be another setting misspelt, or one that is read later.
                let known = if known.is_empty() { "nothing" } else { &known };
                concat(&["`", name, "` was not read: until then the policy had asked for ", known])
            } else {
                let known = if known.is_empty() { "no settings" } else { &known };
                concat(&["unknown setting `", name, "`: this policy has ", known])
            });
        }
        let mut all = String::new();
        for problem in &self.problems {
            if !all.is_empty() {
                all.push_str("; ");
            }
            all.push_str(problem);
        }
        all
    }

    fn take(&mut self, name: &'static str) -> Option<SettingValue> {
        self.known.push(name);
        self.take_all(&|of_one| of_one == name).pop().map(|setting| setting.value)
    }

    /// Takes the settings whose names this holds for.
    fn take_all(&mut self, is_meant: &dyn Fn(&str) -> bool) -> Vec<Setting> {
        let all = std::mem::take(&mut self.unread).into_iter();
        let (taken, unread) = all.partition(|setting| is_meant(&setting.name));
        self.unread = unread;
        taken
    }

    fn wrong_type<T>(
        &mut self,
        name: &str,
        given: &SettingValue,
        expected: &str,
        example: &[&str],
    ) -> Option<T> {
        self.report_type(name, given, expected, example);
        None
    }

    #[inline(never)] // As above.
    fn report_type(&mut self, name: &str, given: &SettingValue, expected: &str, example: &[&str]) {
        let given = match given {
            SettingValue::Boolean(_) => "a boolean",
            SettingValue::Integer(_) | SettingValue::Number(_) => "a number",
            SettingValue::Text(_) => "a string",
            SettingValue::Texts(_) => "an array",
        };
        let example = concat(example);
        let pieces =
            ["`", name, "` must be ", expected, ", not ", given, ": write `", &example, "`"];
        self.report(concat(&pieces));
    }
}

/// Whether a text can stand between quotes as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|octet| !matches!(octet, ..b' ' | b'"' | b'\\' | 0x7f))
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
                "a\"b".into(),
                "`texts` must be an array of strings, not a string: write `texts = [\"...\"]`",
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
    fn what_was_not_read_is_told_beside_the_policys_own_error() {
        let failed = |settings: Settings| settings.finish::<()>(Err("write `field`".to_owned()));
        let mut settings = Settings::new(vec![Setting::new("feild", "x")]);
        assert_eq!(settings.text("field"), None);
        assert_eq!(
            failed(settings),
            Err("write `field`; \
                 `feild` was not read: until then the policy had asked for `field`"
                .to_owned())
        );
        assert_eq!(
            failed(Settings::new(vec![Setting::new("x", 1)])),
            Err("write `field`; `x` was not read: until then the policy had asked for nothing"
                .to_owned())
        );
        assert_eq!(failed(Settings::new(vec![])), Err("write `field`".to_owned()));
    }

    #[test]
    fn a_policy_without_settings_refuses_them() {
        assert_eq!(
            Settings::new(vec![Setting::new("x", 1)]).finish(Ok(())),
            Err("unknown setting `x`: this policy has no settings".to_owned())
        );
    }
}
