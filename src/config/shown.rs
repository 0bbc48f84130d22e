//! Values as faults show them: in one line, not too long, and without secrets.

/// Stands for what is not shown, where what is shown may be read again.
pub(super) const HIDDEN: &str = "[hidden]";

/// Longer values are cut.
const LONGEST: usize = 80;

/// A value that may be shown. What looks like a URL loses its user information and its query all
/// the same: a value may have come from the environment, and from the wrong variable.
pub(crate) fn plain(value: &str) -> String {
    let value = if value.contains("://") { url(value) } else { value.to_owned() };
    line(&value, LONGEST)
}

/// A text in one line, without what a terminal would act on, and cut after `longest` characters.
pub(super) fn line(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(longest) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// A URL that may hold a password: `redis://…@cache:6379`. Of the rest nothing is left that could
/// be a part of one, such as a "port" that is no number because the host was forgotten.
pub(super) fn url(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return "…".to_owned() };
    if !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return "…".to_owned();
    }
    // A password may hold any character, `@` and `/` too: only what follows the last `@` is safe.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(end);
    // Several servers are separated by commas.
    let is_host = host.split(',').all(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            if is_port { name } else { "" }
        });
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
    });
    let (path, query) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
    match (is_host, query.is_empty()) {
        (false, _) => format!("{scheme}://…"),
        (true, true) => format!("{scheme}://{user}{host}{path}"),
        (true, false) => format!("{scheme}://{user}{host}{path}?…"),
    }
}

/// The URL of a page, as one that can be read again. Its query stays if the file has it as it is (`written`,
/// with its variables), and is hidden if a variable brings it.
pub(super) fn page(value: &str, written: &str) -> String {
    let split = |url: &str| url.find(['?', '#']).unwrap_or(url.len());
    let (page, query) = value.split_at(split(value));
    let path = page.match_indices('/').nth(2).map_or(page.len(), |(at, _)| at);
    let (server, _) = page.split_at(path);
    let shown = url(server);
    if shown != server {
        // It is none, and anything of it may be secret.
        return shown;
    }
    let is_written = written.split_at(split(written)).1 == query;
    if is_written || query.is_empty() { value.to_owned() } else { format!("{page}?{HIDDEN}") }
}

/// A path without its query, by which whoever asks may be let in.
pub(super) fn path(value: &str) -> String {
    match value.split_once(['?', '#']) {
        Some((path, _)) => format!("{path}?…"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (value, shown) in [
            ("redis://cache:6379", "redis://cache:6379"),
            ("redis://:hunter2@cache:6379/0", "redis://…@cache:6379/0"),
            ("redis://user:hun@ter2@cache", "redis://…@cache"),
            ("redis://user:hun/ter2@[::1]:6379", "redis://…@[::1]:6379"),
            ("redis://:hunter2", "redis://…"),
            ("redis://user:hunter2", "redis://…"),
            ("redis+cluster://:hunter2@a:1,b:2", "redis+cluster://…@a:1,b:2"),
            ("redis+cluster://a:1,b:hunter2", "redis+cluster://…"),
            ("redis://cache?password=hunter2", "redis://cache?…"),
            ("hunter2", "…"),
            ("redis:hunter2@cache", "…"),
            ("hunter2 redis://cache", "…"),
        ] {
            assert_eq!(url(value), shown, "{value}");
        }
    }

    #[test]
    fn pages_lose_queries_that_variables_bring() {
        for (value, written, shown) in [
            ("https://a/b", "https://a/b", "https://a/b"),
            ("https://a/@b?c=d@e", "https://${A}/@b?c=d@e", "https://a/@b?c=d@e"),
            ("https://a?b", "https://${A}?b", "https://a?b"),
            ("https://a:81/hunter?b=1", "https://a:81/${B}?b=1", "https://a:81/hunter?b=1"),
            ("https://a/?b=hunter2", "https://a/?b=${B}", "https://a/?[hidden]"),
            ("https://a/?hunter2", "https://a/${B}", "https://a/?[hidden]"),
            ("https://a/#hunter2", "${A}", "https://a/?[hidden]"),
            ("https://a/?hunter2?b=1", "${A}?b=1", "https://a/?[hidden]"),
            ("https://a/b", "https://a/b${B:-?c}", "https://a/b"),
            ("https://user:hunter2@a/", "https://user:hunter2@a/", "https://…@a"),
            ("https://user:hun/ter2@a/", "https://user:${B}@a/", "https://…"),
            ("hunter2", "${A}", "…"),
            ("/hunter2/a/b", "${A}", "…"),
        ] {
            assert_eq!(page(value, written), shown, "{written}");
        }
    }

    #[test]
    fn paths_lose_their_query() {
        for (value, shown) in [
            ("/healthz", "/healthz"),
            ("/healthz?token=hunter2", "/healthz?…"),
            ("/healthz#hunter2", "/healthz?…"),
            ("/a?from=http://hunter2", "/a?…"),
        ] {
            assert_eq!(path(value), shown, "{value}");
        }
    }

    #[test]
    fn values_fit_in_a_line() {
        assert_eq!(plain("5 \"minutes\""), "5 \"minutes\"");
        assert_eq!(plain("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(plain(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
        assert_eq!(plain("http://user:hunter2@host/a"), "http://…@host/a");
    }
}
