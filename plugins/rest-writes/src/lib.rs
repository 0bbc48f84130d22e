//! An invalidation policy for REST: a write makes the resource wrong, and the collections above it.
//!
//! RFC 9111 §4.4 has the gateway invalidate the target URI alone. A list of users is another URI, and
//! so is the same user with a query; this policy names the paths, which cover any query.

use larder_policy::Inputs;
use larder_policy::Invalidated;
use larder_policy::Invalidation;
use larder_policy::Policy;
use larder_policy::Request;
use larder_policy::Response;
use larder_policy::Scope;
use larder_policy::Settings;
use larder_policy::Template;
use larder_policy::Wants;
use larder_policy::log;

/// The methods that write (RFC 9110 §9.3, RFC 5789).
const WRITING: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// Methods that change nothing (RFC 9110 §9.2.1); the gateway never asks about them.
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];

/// What the gateway takes from one call, and how long each may be.
const MOST_SCOPES: usize = 64;
const LONGEST_SCOPE: usize = 1024;

/// More levels than any API has; it bounds the number of scopes.
const MOST_PARENTS: i64 = 16;

/// The settings.
#[derive(Debug)]
struct RestWrites {
    /// `None` stands for [`WRITING`].
    methods: Option<Vec<String>>,
    parents: u32,
    below: bool,
    also: Vec<Template>,
    tags: Vec<Template>,
    soft: bool,
}

larder_policy::prepared!(RestWrites { methods, parents, below, also, tags, soft });
larder_policy::export!(RestWrites: invalidation);

impl Policy for RestWrites {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let policy = Self {
            methods: methods(settings),
            parents: settings
                .integer("parents", 0..=MOST_PARENTS)
                .and_then(|parents| parents.try_into().ok())
                .unwrap_or(1),
            below: settings.boolean("below").unwrap_or(false),
            also: templates(settings, "also"),
            tags: templates(settings, "tags"),
            soft: settings.boolean("soft").unwrap_or(false),
        };
        for template in &policy.also {
            let text = template.text();
            if !text.starts_with(['/', '*']) {
                settings.refuse::<()>(format!(
                    "`also` has `{text}`, which is no path: write `/{text}`"
                ));
            }
        }
        let most = policy.most_scopes();
        if most > MOST_SCOPES {
            settings.refuse::<()>(format!(
                "a write would invalidate up to {most} things, and {MOST_SCOPES} is the most: \
                 lower `parents`, or list less in `also` and `tags`"
            ));
        }
        Ok(policy)
    }

    fn wants(&self) -> Wants {
        let mut templates = self.also.iter().chain(&self.tags);
        let uses_captures = templates.any(|template| template.names().next().is_some());
        let captures = if uses_captures { Inputs::CAPTURES } else { Inputs::empty() };
        Wants { inputs: Inputs::METHOD | Inputs::PATH | captures, ..Wants::default() }
    }
}

impl Invalidation for RestWrites {
    fn written(&self, request: &Request, _: &Response) -> Result<Vec<Invalidated>, String> {
        if !self.is_write(&request.method) {
            return Ok(Vec::new());
        }
        let mut scopes: Vec<Scope> = paths(&request.path, self.parents).map(Scope::Path).collect();
        if self.below {
            scopes.extend(below(&request.path));
        }
        for template in &self.also {
            let path = filled("also", template, request)?;
            // A `*` in what was captured is a character like any other, which a pattern cannot say.
            match (stars(template.text()), stars(&path)) {
                (0, _) => scopes.push(Scope::Path(path)),
                (meant, all) if meant == all => scopes.push(pattern(&path)),
                _ => left_out(&path),
            }
        }
        for template in &self.tags {
            scopes.push(Scope::Tag(filled("tags", template, request)?));
        }
        Ok(scopes
            .into_iter()
            .filter(is_short_enough)
            .map(|scope| Invalidated { scope, soft: self.soft })
            .collect())
    }
}

impl RestWrites {
    fn is_write(&self, method: &str) -> bool {
        match &self.methods {
            Some(methods) => methods.iter().any(|listed| listed == method),
            None => WRITING.contains(&method),
        }
    }

    /// The resource and its ancestors, each with and without a slash, and what was configured.
    fn most_scopes(&self) -> usize {
        let paths = 2 * (1 + self.parents as usize);
        paths + usize::from(self.below) + self.also.len() + self.tags.len()
    }
}

fn methods(settings: &mut Settings) -> Option<Vec<String>> {
    let methods = settings.texts("methods")?;
    if methods.is_empty() {
        return settings.refuse(
            "`methods` is empty, so nothing would ever be invalidated: \
             write `methods = [\"POST\", \"PUT\", \"PATCH\", \"DELETE\"]`"
                .to_owned(),
        );
    }
    for method in &methods {
        let upper = method.to_ascii_uppercase();
        if SAFE.contains(&upper.as_str()) {
            settings.refuse::<()>(format!(
                "`methods` has `{method}`, which writes nothing: take it out"
            ));
        } else if *method != upper && WRITING.contains(&upper.as_str()) {
            // RFC 9110 §9.1: the method is case-sensitive.
            settings.refuse::<()>(format!("`methods` has `{method}`: write `{upper}`"));
        }
    }
    Some(methods)
}

fn templates(settings: &mut Settings, name: &'static str) -> Vec<Template> {
    let unfit = |name: &str| name.is_empty().then(|| "a capture has no name".to_owned());
    let texts = settings.texts(name).unwrap_or_default().into_iter();
    texts.filter_map(|text| settings.template(name, text, &unfit)).collect()
}

/// A template with what the route's path captured.
fn filled(setting: &str, template: &Template, request: &Request) -> Result<String, String> {
    let missing = |name| format!("`{setting}`: the route's path captures no `{{{name}}}`");
    template.filled(|name| request.capture(name)).map_err(missing)
}

/// The path and its ancestors, `parents` of them, each without a slash at the end and with one:
/// servers differ in which of the two they answer to, and many answer to both.
///
/// `/` is no ancestor. It is the start page of the API more often than the collection of what lies
/// one level below; a policy that means it says `also = ["/"]`.
fn paths(path: &str, parents: u32) -> impl Iterator<Item = String> {
    let resource = path.trim_end_matches('/');
    let root = resource.is_empty().then(|| "/".to_owned());
    let levels = std::iter::successors(Some(resource), |path| Some(parent(path)))
        .take(1 + parents as usize)
        .take_while(|path| !path.is_empty());
    root.into_iter().chain(levels.flat_map(|path| [path.to_owned(), format!("{path}/")]))
}

/// The path without its last segment; empty when none is left.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent.trim_end_matches('/'))
}

/// Everything with a path below this one, unless that is a pattern as it is: a client would choose what is invalidated.
fn below(path: &str) -> Option<Scope> {
    if stars(path) > 0 {
        left_out(path);
        return None;
    }
    Some(pattern(&format!("{}/*", path.trim_end_matches('/'))))
}

fn stars(text: &str) -> usize {
    text.matches('*').count()
}

fn left_out(path: &str) {
    log::warn(&format!(
        "not invalidated below it, since `*` in a pattern stands for anything: {path}"
    ));
}

/// Readable names begin with the path, without its first `/`.
fn pattern(path: &str) -> Scope {
    Scope::Pattern(path.strip_prefix('/').unwrap_or(path).to_owned())
}

/// The gateway would refuse the whole answer for one scope that is too long, so it is left out.
fn is_short_enough(scope: &Scope) -> bool {
    let (Scope::Tag(text) | Scope::Path(text) | Scope::Pattern(text)) = scope;
    let is_short_enough = text.len() <= LONGEST_SCOPE;
    if !is_short_enough {
        log::warn(&format!(
            "not invalidated, since it is longer than {LONGEST_SCOPE} octets: {text}"
        ));
    }
    is_short_enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Pair;
    use larder_policy::Setting;
    use larder_policy::configure;
    use larder_policy::schema;

    fn request(method: &str, path: &str) -> Request {
        Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() }
    }

    /// What a write invalidates, in one text: `/path`, `*pattern*` or `#tag`, separated by spaces.
    fn invalidated(config: &[Setting], request: &Request) -> String {
        let policy: RestWrites = configure(config).unwrap();
        let scopes = policy.written(request, &Response::default()).unwrap().into_iter();
        let texts: Vec<_> = scopes
            .map(|Invalidated { scope, .. }| match scope {
                Scope::Path(path) => path,
                Scope::Pattern(pattern) => pattern,
                Scope::Tag(tag) => format!("#{tag}"),
            })
            .collect();
        texts.join(" ")
    }

    #[test]
    fn a_write_invalidates_the_resource_and_its_collection() {
        for (method, path, expected) in [
            ("POST", "/users", "/users /users/"),
            ("PUT", "/users/42", "/users/42 /users/42/ /users /users/"),
            ("PATCH", "/users/42", "/users/42 /users/42/ /users /users/"),
            ("DELETE", "/users/42", "/users/42 /users/42/ /users /users/"),
            ("DELETE", "/users/42/", "/users/42 /users/42/ /users /users/"),
            (
                "DELETE",
                "/users/42/orders/7",
                "/users/42/orders/7 /users/42/orders/7/ /users/42/orders /users/42/orders/",
            ),
            ("POST", "/users/42/orders", "/users/42/orders /users/42/orders/ /users/42 /users/42/"),
            ("DELETE", "/users//42", "/users//42 /users//42/ /users /users/"),
            ("PUT", "/%C3%BC/a%2Fb", "/%C3%BC/a%2Fb /%C3%BC/a%2Fb/ /%C3%BC /%C3%BC/"),
            ("POST", "/", "/"),
            ("POST", "", "/"),
            ("POST", "//", "/"),
            ("GET", "/users", ""),
            ("LOCK", "/users", ""),
            ("post", "/users", ""),
        ] {
            assert_eq!(invalidated(&[], &request(method, path)), expected, "{method} {path}");
        }
    }

    #[test]
    fn parents_counts_the_ancestors() {
        let write = request("PUT", "/a/b/c");
        for (parents, expected) in [
            (0, "/a/b/c /a/b/c/"),
            (1, "/a/b/c /a/b/c/ /a/b /a/b/"),
            (2, "/a/b/c /a/b/c/ /a/b /a/b/ /a /a/"),
            (16, "/a/b/c /a/b/c/ /a/b /a/b/ /a /a/"),
        ] {
            assert_eq!(invalidated(&[Setting::new("parents", parents)], &write), expected);
        }
    }

    #[test]
    fn below_covers_what_lies_under_the_resource() {
        let config = [Setting::new("below", true), Setting::new("parents", 0)];
        let of = |path| invalidated(&config, &request("DELETE", path));
        assert_eq!(of("/users/42"), "/users/42 /users/42/ users/42/*");
        assert_eq!(of("/users/42/"), "/users/42 /users/42/ users/42/*");
        assert_eq!(of("/"), "/ *");
    }

    #[test]
    fn other_paths_patterns_and_tags_can_be_named() {
        let config = [
            Setting::new("parents", 0),
            Setting::new("also", ["/", "/search*", "/by-owner/{owner}", "/reports/{owner}/*"]),
            Setting::new("tags", ["users", "user-{id}"]),
        ];
        let write = Request {
            captures: vec![Pair::new("owner", "a%20b"), Pair::new("id", "42")],
            ..request("DELETE", "/users/42")
        };
        assert_eq!(
            invalidated(&config, &write),
            "/users/42 /users/42/ / search* /by-owner/a%20b reports/a%20b/* #users #user-42"
        );
    }

    #[test]
    fn a_captured_star_is_no_pattern() {
        let config = [Setting::new("parents", 0), Setting::new("also", ["/by-owner/{owner}"])];
        let write =
            Request { captures: vec![Pair::new("owner", "*")], ..request("DELETE", "/users/42") };
        let policy: RestWrites = configure(config).unwrap();
        let last = policy.written(&write, &Response::default()).unwrap().pop().unwrap();
        assert_eq!(last.scope, Scope::Path("/by-owner/*".to_owned()));
    }

    #[test]
    fn a_star_of_the_clients_makes_no_pattern() {
        let config = [
            Setting::new("parents", 0),
            Setting::new("below", true),
            Setting::new("also", ["/by-owner/{owner}/*"]),
        ];
        let write = |path, owner| Request {
            captures: vec![Pair::new("owner", owner)],
            ..request("POST", path)
        };
        let patterns = "/a /a/ a/* by-owner/1/*";
        assert_eq!(invalidated(&config, &write("/a", "1")), patterns);
        assert_eq!(invalidated(&config, &write("/*", "1")), "/* /*/ by-owner/1/*");
        assert_eq!(invalidated(&config, &write("/a", "*")), "/a /a/ a/*");
    }

    #[test]
    fn a_missing_capture_is_an_error() {
        let policy: RestWrites = configure([Setting::new("also", ["/by-owner/{owner}"])]).unwrap();
        assert_eq!(
            policy.written(&request("DELETE", "/users/42"), &Response::default()),
            Err("`also`: the route's path captures no `{owner}`".to_owned())
        );
    }

    #[test]
    fn methods_can_be_chosen() {
        let config = [Setting::new("methods", ["DELETE", "LOCK"])];
        assert_eq!(invalidated(&config, &request("LOCK", "/a")), "/a /a/");
        assert_eq!(invalidated(&config, &request("DELETE", "/a")), "/a /a/");
        assert_eq!(invalidated(&config, &request("POST", "/a")), "");
    }

    #[test]
    fn soft_makes_all_of_it_soft() {
        for soft in [false, true] {
            let policy: RestWrites = configure([Setting::new("soft", soft)]).unwrap();
            let scopes = policy.written(&request("PUT", "/a/b"), &Response::default()).unwrap();
            assert!(scopes.iter().all(|invalidated| invalidated.soft == soft));
        }
    }

    #[test]
    fn what_is_too_long_does_not_spoil_the_rest() {
        let write = request("DELETE", &format!("/users/{}", "a".repeat(1024)));
        assert_eq!(invalidated(&[], &write), "/users /users/");
    }

    #[test]
    fn captures_are_asked_for_only_where_used() {
        let inputs = |config: &[Setting]| configure::<RestWrites>(config).unwrap().wants().inputs;
        assert_eq!(inputs(&[]), Inputs::METHOD | Inputs::PATH);
        let tags = [Setting::new("tags", ["user-{id}"])];
        assert_eq!(inputs(&tags), Inputs::METHOD | Inputs::PATH | Inputs::CAPTURES);
    }

    #[test]
    fn wrong_settings_are_refused() {
        let many = [(); 63].map(|()| "/a");
        for (setting, expected) in [
            (
                Setting::new("methods", ["get"]),
                "`methods` has `get`, which writes nothing: take it out",
            ),
            (Setting::new("methods", ["post"]), "`methods` has `post`: write `POST`"),
            (
                Setting::new("methods", []),
                "`methods` is empty, so nothing would ever be invalidated: \
                 write `methods = [\"POST\", \"PUT\", \"PATCH\", \"DELETE\"]`",
            ),
            (Setting::new("parents", 17), "`parents` is 17: write a number from 0 to 16"),
            (
                Setting::new("also", ["users"]),
                "`also` has `users`, which is no path: write `/users`",
            ),
            (
                Setting::new("also", ["/users/{id"]),
                "`also` has `/users/{id`, where a brace is not closed: write `{name}`",
            ),
            (
                Setting::new("tags", ["user-{}"]),
                "`tags` has `user-{}`, where a capture has no name",
            ),
            (
                Setting::new("also", many),
                "a write would invalidate up to 67 things, and 64 is the most: \
                 lower `parents`, or list less in `also` and `tags`",
            ),
            (
                Setting::new("depth", 1),
                "unknown setting `depth`: this policy has \
                 `methods`, `parents`, `below`, `also`, `tags`, `soft`",
            ),
        ] {
            assert_eq!(configure::<RestWrites>([setting]).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_schema_lists_the_settings() {
        assert_eq!(schema::compare::<RestWrites>(include_str!("../schema.json")), Ok(()));
    }
}
