//! What is wrong with a configuration, and how it is told: file, line, column, what is wrong, and
//! what to write instead.
//!
//! Nothing here knows a key of `gateway.toml`; the readers beside it do.

use std::fmt;

use super::{Config, Place};

/// One thing that is wrong. Displayed in one line, and a second one for the hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as the operator named it, or the flag that brought the value.
    pub file: String,
    /// Where in the file; none if it is about the file as a whole.
    pub place: Option<Place>,
    /// What is wrong: lower case, no final dot, values in backticks and without secrets.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(
        file: impl Into<String>,
        place: impl Into<Option<Place>>,
        message: impl Into<String>,
    ) -> Self {
        Self { file: file.into(), place: place.into(), message: message.into(), hint: None }
    }

    /// The same fault, with what to write instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(Place { line, column, .. }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// As it is told where a fault is at another: `line 3`, with its file's name if it is in another file.
    pub(super) fn told(self, from: Self, names: &[impl AsRef<str>]) -> String {
        match names.get(self.file) {
            Some(name) if self.file != from.file => {
                format!("line {} of `{}`", self.line, name.as_ref())
            }
            _ => format!("line {}", self.line),
        }
    }
}

impl Config {
    /// Faults of these files, each with the name of its own.
    pub fn faults(&self, mut faults: Vec<Fault>) -> Faults {
        for fault in &mut faults {
            let file = fault.place.map(|place| place.file).filter(|file| *file > 0);
            if let Some(name) = file.and_then(|file| self.sources.get(file)) {
                fault.file.clone_from(name);
            }
        }
        faults.into()
    }

    /// A place as a fault at another tells it: `line 3`, with its file's name if it is in another file.
    pub fn told(&self, place: Place, from: Place) -> String {
        place.told(from, &self.sources)
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults, those about the file as a whole first.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Fault>> for Faults {
    fn from(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.place);
        Self(faults)
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self {
            writeln!(f, "{fault}")?;
        }
        match self.len() {
            1 => write!(f, "1 fault"),
            count => write!(f, "{count} faults"),
        }
    }
}

impl std::error::Error for Faults {}

/// What is wrong with a value, without saying where: the words that follow ``ttl `5x` ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) complaint: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    pub(crate) fn new(complaint: impl Into<String>) -> Self {
        Self { complaint: complaint.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_shown_in_the_order_of_the_file() {
        let at = |line, column| Place { file: 0, line, column };
        let faults = Faults::from(vec![
            Fault::new("gateway.toml", at(14, 10), "unknown policy `kyes`")
                .with_hint("did you mean `keys`?".to_owned()),
            Fault::new("gateway.toml", at(2, 1), "unknown key `sever`"),
            Fault::new("gateway.toml", None, "no routes"),
        ]);
        assert_eq!(
            faults.to_string(),
            "gateway.toml: no routes\n\
             gateway.toml:2:1: unknown key `sever`\n\
             gateway.toml:14:10: unknown policy `kyes`\n  hint: did you mean `keys`?\n\
             3 faults"
        );
        let one = Faults::from(vec![Fault::new("--upstream", None, "x")]);
        assert_eq!(one.to_string(), "--upstream: x\n1 fault");
    }
}
