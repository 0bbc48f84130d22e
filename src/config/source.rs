//! The texts of a configuration: where in them something stands, and what was found wrong there.

use std::cell::{Cell, RefCell};

use http::HeaderName;

use super::fault::{Fault, Wrong};
use super::{Place, shown};

/// The texts that are read, and all that was found wrong with them.
pub(super) struct Source<'a> {
    /// At least one.
    parts: Vec<Part<'a>>,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    /// `underscores_in_fields`, once that is known.
    keeps_underscores: Cell<bool>,
}

/// A file.
struct Part<'a> {
    file: &'a str,
    text: &'a str,
    /// Where it begins, if all files are one behind the other.
    start: usize,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        file: &'a str,
        text: &'a str,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self::of([(file, text)], env)
    }

    /// Of several files, by their names.
    pub(super) fn of(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let mut next = 0;
        let parts = texts.into_iter().map(|(file, text)| {
            let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
            let start = next;
            // The end of a file is a place, too.
            next += text.len() + 1;
            Part { file, text, start, lines: lines.collect() }
        });
        Self {
            parts: parts.collect(),
            env,
            faults: RefCell::default(),
            keeps_underscores: Cell::default(),
        }
    }

    /// Where a file begins, if all are one behind the other.
    pub(super) fn start(&self, file: usize) -> usize {
        self.parts.get(file).map_or(0, |part| part.start)
    }

    /// The file, line and column of an octet of the texts, if they are one behind the other.
    pub(super) fn place(&self, offset: usize) -> Place {
        let file = self.parts.partition_point(|part| part.start <= offset).saturating_sub(1);
        let Some(Part { text, start, lines, .. }) = self.parts.get(file) else {
            return Place::default();
        };
        let offset = offset - start;
        let line = lines.partition_point(|start| *start <= offset);
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = text.get(start..offset.min(text.len()));
        Place { file, line, column: before.map_or(0, |before| before.chars().count()) + 1 }
    }

    /// A file's name.
    pub(super) fn name(&self, file: usize) -> &str {
        self.parts.get(file).map_or("", |part| part.file)
    }

    /// A place as it is told where the fault is at another.
    pub(super) fn told(&self, place: Place, from: Place) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.file).collect();
        place.told(from, &names)
    }

    pub(super) fn report(
        &self,
        place: impl Into<Option<Place>>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        // A hint may repeat a part of the value.
        let hint = hint.map(|hint| shown::line(&hint, 300));
        let place = place.into();
        let file = self.name(place.map_or(0, |place: Place| place.file));
        let fault = Fault::new(file, place, message).with_hint(hint);
        self.faults.borrow_mut().push(fault);
    }

    /// Says whether fields of requests with `_` in their names count.
    pub(super) fn keep_underscores(&self, are_kept: bool) {
        self.keeps_underscores.set(are_kept);
    }

    /// The name of a field of requests that something goes by, if such a field may be there.
    pub(super) fn kept(&self, name: HeaderName) -> Result<HeaderName, Wrong> {
        if self.keeps_underscores.get() || !name.as_str().contains('_') {
            return Ok(name);
        }
        Err(Wrong::new("names a field that is dropped from requests, as servers read `_` as `-`")
            .with_hint("write `-`, or underscores_in_fields = true in [server]"))
    }

    /// How many faults there are so far.
    pub(super) fn count(&self) -> usize {
        self.faults.borrow().len()
    }

    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    pub(super) fn take_faults(&self) -> Vec<Fault> {
        self.faults.take()
    }
}
