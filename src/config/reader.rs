//! Tables and values of a parsed file, read so that nothing stops at the first fault: what is
//! wrong is reported to the [`Source`], and the reader goes on without it.

#[cfg(test)]
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Wrong;
use super::source::Source;
use super::{Place, amount, env, nearest, shown};

#[cfg(test)]
thread_local! {
    /// The keys of each table that was finished.
    pub(super) static KNOWN: RefCell<Vec<Vec<&'static str>>> = const { RefCell::new(Vec::new()) };
}

/// A table, of which each key is taken once. [`Table::finish`] reports those left over.
pub(super) struct Table<'a> {
    pub(super) source: &'a Source<'a>,
    /// How faults name the table: `[cache.l1]`, ``route `users` ``; empty for the file itself.
    pub(super) label: Rc<str>,
    /// Where the table begins.
    pub(super) place: Place,
    /// What was not taken yet, in the order of the file.
    entries: Vec<(&'a str, Place, &'a Spanned<DeValue<'a>>)>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        source: &'a Source<'a>,
        label: &str,
        place: Place,
        table: &'a DeTable<'a>,
    ) -> Self {
        let mut entries: Vec<_> =
            table.iter().map(|(key, value)| (key.span().start, key.get_ref(), value)).collect();
        entries.sort_by_key(|(start, ..)| *start);
        let entries = entries
            .into_iter()
            .map(|(start, key, value)| (&**key, source.place(start), value))
            .collect();
        Self { source, label: label.into(), place, entries, known: Vec::new() }
    }

    /// A key's value, if the key is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let at = self.entries.iter().position(|(name, ..)| *name == key)?;
        let (key, _, value) = self.entries.remove(at);
        Some(self.value(key, value))
    }

    /// Whether a key is there, and not taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, ..)| *name == key)
    }

    /// Where a key's value stands, if it is there and not taken yet.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        let found = self.entries.iter().find(|(name, ..)| *name == key);
        found.map(|(.., value)| self.source.place(value.span().start))
    }

    /// All keys that are left, with their places: for tables whose keys are names.
    pub(super) fn take_all(&mut self) -> Vec<(&'a str, Place, Value<'a>)> {
        let entries = std::mem::take(&mut self.entries);
        entries
            .into_iter()
            .map(|(key, place, value)| (key, place, self.value(key, value)))
            .collect()
    }

    /// A key's value by way of its text, or the default.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> T {
        self.take(key).and_then(|value| value.read(parse)).unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        self.take(key).and_then(|value| value.duration(bounds)).unwrap_or(default)
    }

    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        let value = self.take(key);
        value
            .and_then(|value| value.amount("a size", |text| amount::size(text, bounds)))
            .unwrap_or(default)
    }

    /// As `size`, for what has to fit in this machine's memory; the upper bound does.
    pub(super) fn memory(
        &mut self,
        key: &'static str,
        default: usize,
        bounds: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.size(key, default as u64, bounds)).unwrap_or(usize::MAX)
    }

    pub(super) fn count<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: T,
        bounds: RangeInclusive<u64>,
    ) -> T {
        let value = self.take(key).and_then(|value| value.count(bounds));
        value.and_then(|count| T::try_from(count).ok()).unwrap_or(default)
    }

    /// A part of the whole.
    pub(super) fn share(&mut self, key: &'static str, default: f64) -> f64 {
        self.take(key).and_then(|value| value.share()).unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key).and_then(|value| value.boolean()).unwrap_or(default)
    }

    /// A table below this one, if it is there.
    pub(super) fn table(&mut self, key: &'static str, label: &str) -> Option<Table<'a>> {
        self.take(key)?.table(label, || format!("write `{label}`"))
    }

    /// Reports a key that has to be there and is not.
    pub(super) fn missing(&self, key: &str, hint: impl Into<String>) {
        self.report(self.place, &format!("no `{key}`"), Some(hint.into()));
    }

    /// Reports those of these keys that are there, if the one without which they mean nothing is not. To be asked
    /// before any of them is taken.
    pub(super) fn only_with(&self, wanted: &str, keys: &[&str]) {
        let keys = keys.iter().filter(|_| !self.has(wanted));
        for (key, place) in keys.filter_map(|key| Some((key, self.place_of(key)?))) {
            let hint = format!("add `{wanted}`, or leave it out");
            self.report(place, &format!("{key} means nothing without `{wanted}`"), Some(hint));
        }
    }

    pub(super) fn report(&self, place: Place, message: &str, hint: Option<String>) {
        self.source.report(place, named(&self.label, message), hint);
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        #[cfg(test)]
        KNOWN.with_borrow_mut(|known| known.push(self.known.clone()));
        for (key, place, _) in &self.entries {
            let hint = nearest::hint(key, "known keys", self.known.iter().copied());
            self.report(*place, &format!("unknown key `{}`", shown::plain(key)), hint);
        }
    }

    fn value(&self, key: &'a str, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            source: self.source,
            label: Rc::clone(&self.label),
            key,
            place: self.source.place(value.span().start),
            content: value.get_ref(),
            show: shown::plain,
        }
    }
}

/// A value and where it stands.
pub(super) struct Value<'a> {
    source: &'a Source<'a>,
    label: Rc<str>,
    key: &'a str,
    pub(super) place: Place,
    pub(super) content: &'a DeValue<'a>,
    /// How faults show it.
    show: fn(&str) -> String,
}

impl<'a> Value<'a> {
    /// The same value, never shown as it is.
    pub(super) fn secret(mut self, show: fn(&str) -> String) -> Self {
        self.show = show;
        self
    }

    /// The string with its variables replaced, or a fault.
    pub(super) fn text(&self) -> Option<String> {
        match self.content {
            DeValue::String(text) => self.expand(text),
            DeValue::Array(_) | DeValue::Table(_) => {
                self.not_a("a string", Some("write one string, in quotes".to_owned()))
            }
            _ => self.not_a("a string", Some("write it in quotes".to_owned())),
        }
    }

    /// The string as what it stands for.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        self.parse(&self.text()?, parse)
    }

    pub(super) fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.amount("a duration", |text| amount::duration(text, bounds))
    }

    /// A number with a unit. A bare number goes the same way, and meets the same complaint.
    fn amount<T>(&self, wanted: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        match self.content {
            DeValue::Integer(number) => self.parse(&number.to_string(), parse),
            DeValue::Float(number) => self.parse(number.as_str(), parse),
            DeValue::String(_) => self.read(parse),
            _ => self.not_a(wanted, Some("write a number and a unit, in quotes".to_owned())),
        }
    }

    /// A whole number, or a string that a variable makes one.
    pub(super) fn count(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let (text, number) = match self.content {
            DeValue::Integer(number) => {
                // Beyond 128 bits, only the sign matters.
                let far = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                (number.to_string(), Some(parsed.unwrap_or(far)))
            }
            DeValue::String(text) if text.contains("${") => {
                let text = self.expand(text)?;
                let number = text.parse().ok();
                (text, number)
            }
            _ => {
                let hint = "write digits alone, without quotes".to_owned();
                return self.not_a("a whole number", Some(hint));
            }
        };
        let (least, most) = (i128::from(*bounds.start()), i128::from(*bounds.end()));
        let complaint = match number {
            None => "is not a whole number".to_owned(),
            Some(number) if number < least => format!("is less than {least}"),
            Some(number) if number > most => format!("is more than {most}"),
            Some(number) => return u64::try_from(number).ok(),
        };
        self.wrong(&text, Wrong::new(complaint));
        None
    }

    /// A number from 0 to 1, or a string that a variable makes one.
    fn share(&self) -> Option<f64> {
        let text = match self.content {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::String(text) if text.contains("${") => self.expand(text)?,
            _ => return self.not_a("a number from 0 to 1", Some("write 0.1".to_owned())),
        };
        let number = text.replace('_', "").parse().ok().filter(|it| (0.0..=1.0).contains(it));
        if number.is_none() {
            self.wrong(&text, Wrong::new("is not a number from 0 to 1"));
        }
        number
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.content {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if text.contains("${") => self
                .read(|text| text.parse().map_err(|_| Wrong::new("is neither `true` nor `false`"))),
            DeValue::String(text) if matches!(&**text, "true" | "false") => {
                self.not_a("a boolean", Some(format!("write `{text}` without quotes")))
            }
            _ => self.not_a("a boolean", Some("write `true` or `false`".to_owned())),
        }
    }

    /// The elements of an array that has at least one.
    pub(super) fn list(&self, hint: impl FnOnce() -> String) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(elements) = self.content else {
            return self.not_a("an array", Some(hint()));
        };
        if elements.is_empty() {
            self.report(&format!("{} is empty", self.key), Some(hint()));
            return None;
        }
        Some(elements.iter().map(|element| self.element(element)).collect())
    }

    /// One element of this array, under the array's key.
    pub(super) fn element(&self, element: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            source: self.source,
            label: Rc::clone(&self.label),
            key: self.key,
            place: self.source.place(element.span().start),
            content: element.get_ref(),
            show: self.show,
        }
    }

    pub(super) fn table(&self, label: &str, hint: impl FnOnce() -> String) -> Option<Table<'a>> {
        match self.content {
            DeValue::Table(table) => Some(Table::new(self.source, label, self.place, table)),
            _ => self.not_a("a table", Some(hint())),
        }
    }

    /// A table that faults name as they do this value's.
    pub(super) fn inner_table(&self, hint: impl FnOnce() -> String) -> Option<Table<'a>> {
        self.table(&Rc::clone(&self.label), hint)
    }

    /// Reports that the value is of the wrong type.
    pub(super) fn not_a<T>(&self, wanted: &str, hint: Option<String>) -> Option<T> {
        let (found, text) = match self.content {
            DeValue::String(text) => ("a string", text.to_string()),
            DeValue::Integer(number) => ("a whole number", number.to_string()),
            DeValue::Float(number) => ("a number", number.to_string()),
            DeValue::Boolean(value) => ("a boolean", value.to_string()),
            DeValue::Datetime(date) => ("a date", date.to_string()),
            DeValue::Array(_) => ("an array", String::new()),
            DeValue::Table(_) => ("a table", String::new()),
        };
        let complaint = format!("is {found}, not {wanted}");
        if text.is_empty() {
            self.report(&format!("{} {complaint}", self.key), hint);
        } else {
            self.wrong(&text, Wrong { complaint, hint });
        }
        None
    }

    /// Reports what is wrong with the value that `text` is.
    pub(super) fn wrong(&self, text: &str, wrong: Wrong) {
        let message = match text {
            "" => format!("{} is empty", self.key),
            _ => format!("{} `{}` {}", self.key, (self.show)(text), wrong.complaint),
        };
        self.report(&message, wrong.hint);
    }

    pub(super) fn report(&self, message: &str, hint: Option<String>) {
        self.source.report(self.place, named(&self.label, message), hint);
    }

    fn parse<T>(&self, text: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        parse(text).map_err(|wrong| self.wrong(text, wrong)).ok()
    }

    /// What is wrong with a variable is told without the value around it.
    fn expand(&self, text: &str) -> Option<String> {
        let faults = match env::expand(text, self.source.env) {
            Ok(text) => return Some(text),
            Err(faults) => faults,
        };
        for Wrong { complaint, hint } in faults {
            self.report(&format!("{} {complaint}", self.key), hint);
        }
        None
    }
}

fn named(label: &str, message: &str) -> String {
    if label.is_empty() { message.to_owned() } else { format!("{label}: {message}") }
}
