//! Metrics as text, for Prometheus: its format 0.0.4, or `OpenMetrics` 1.0 for who asks for that. The two
//! differ in little: the name of a counter's family, and how the text ends.
//!
//! The crates for this keep the figures as well, each behind a lock or a map of labels. The figures are
//! there already, and written down they are one function.

use std::fmt::{Display, Write as _};

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What a client would rather have. The former, if it does not say.
    pub(super) fn wanted(fields: &HeaderMap) -> Self {
        let lines = fields.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let (mut open, mut plain) = (0.0, 0.0_f64);
        for range in lines.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters = parts.filter_map(|parameter| parameter.split_once('='));
            let (mut weight, mut version) = (1.0, None);
            for (name, value) in parameters {
                match name.to_ascii_lowercase().as_str() {
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim_matches('"')),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if version.is_none_or(|it| it == "1.0.0") => {
                    open = f64::max(open, weight);
                }
                "text/plain" | "text/*" | "*/*" => plain = plain.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The type of its text.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows. Its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of what is no larger than each of some bounds.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label: its name and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// The text in the making.
pub(super) struct Exposition {
    format: Format,
    text: String,
    name: &'static str,
}

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(64 << 10), name: "" }
    }

    /// Begins with the figures of a name, which follow one another.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let family = match self.format {
            Format::OpenMetrics if kind == Kind::Counter => {
                name.strip_suffix("_total").unwrap_or(name)
            }
            _ => name,
        };
        let kind = kind.as_str();
        self.line(format_args!("# HELP {family} {}", escaped(help)));
        self.line(format_args!("# TYPE {family} {kind}"));
    }

    /// A figure of the family.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.part("", labels, value);
    }

    /// A figure of the family's, whose name ends with this.
    pub(super) fn part(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        // What is empty is as if it was not there.
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let mut end = "";
        for (place, (name, value)) in labels.enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            self.write(format_args!("{name}=\"{}\"", escaped(value)));
            end = "}";
        }
        self.line(format_args!("{end} {value}"));
    }

    /// The whole.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.write(line);
        self.text.push('\n');
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("there is no end to a text");
    }
}

/// As it stands in quotes, or in a line of `HELP`, where `OpenMetrics` wants the same.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn who_prefers_open_metrics_gets_it() {
        use Format::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("text/plain, application/openmetrics-text;version=1.0.0;q=0.5", Prometheus),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; q=nonsense", Prometheus),
            (";;=,=;q", Prometheus),
        ] {
            let fields = [(ACCEPT, HeaderValue::from_static(accept))];
            let fields = HeaderMap::from_iter(fields);
            assert_eq!(Format::wanted(&fields), expected, "{accept}");
        }
    }

    #[test]
    fn the_text_is_that_of_the_format() {
        let written = |format| {
            let mut all = Exposition::new(format);
            all.family("larder_a_total", Kind::Counter, "Counts \"a\".");
            all.sample(&[], 1);
            all.sample(&[("route", "a\"b\\c\nd"), ("none", ""), ("x", "y")], 2);
            all.family("larder_b_seconds", Kind::Histogram, "Times.");
            all.part("_sum", &[("none", "")], 0.5);
            all.end()
        };
        assert_eq!(
            written(Format::Prometheus),
            "# HELP larder_a_total Counts \\\"a\\\".\n# TYPE larder_a_total counter\nlarder_a_total 1\n\
             larder_a_total{route=\"a\\\"b\\\\c\\nd\",x=\"y\"} 2\n# HELP larder_b_seconds Times.\n\
             # TYPE larder_b_seconds histogram\nlarder_b_seconds_sum 0.5\n"
        );
        let open = written(Format::OpenMetrics);
        assert!(open.starts_with("# HELP larder_a Counts"), "{open}");
        assert!(open.contains("# TYPE larder_a counter\nlarder_a_total 1\n"), "{open}");
        assert!(open.ends_with("larder_b_seconds_sum 0.5\n# EOF\n"), "{open}");
    }
}
