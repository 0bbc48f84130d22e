//! `include`: further files of one configuration.
//!
//! A pattern is a path, of which the last part may have `*` in it. Included files include none
//! themselves, so there is no order to get wrong and nothing that goes round in circles.

use std::io;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Wrong};
use super::load::{self, Look};
use super::reader::{Table, Value};
use super::source::Source;
use super::{nearest, sections, shown};

/// So many patterns, and files by all of them.
const MOST_PATTERNS: usize = 64;
const MOST_FILES: usize = 1000;

/// So many octets of all files.
const LARGEST: usize = 16 << 20;

/// A folder with more entries is none of a configuration's.
const MOST_ENTRIES: usize = 10_000;

pub(super) const SHAPE: &str = "write include = [\"routes/*.toml\"]";

/// What a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    folder: PathBuf,
    /// What a name begins with, holds in this order, and ends with: what is between the `*`. One
    /// part is a name.
    pieces: Vec<String>,
}

/// A file that is included.
pub(super) struct Included {
    /// As faults call it.
    pub(super) name: String,
    pub(super) text: String,
}

impl Listing {
    fn of(pattern: &str, folder: &Path) -> Result<Self, Wrong> {
        let (before, name) = pattern.rsplit_once('/').map_or(("", pattern), |(before, name)| {
            (if before.is_empty() { "/" } else { before }, name)
        });
        if name.is_empty() || pattern.contains('\0') {
            return Err(Wrong::new("names no file").with_hint(SHAPE));
        }
        if before.contains('*') {
            return Err(Wrong::new("has `*` in the name of a folder").with_hint(
                "write a pattern for each folder, with `*` in the names of files alone",
            ));
        }
        let pieces = name.split('*').map(str::to_owned).collect();
        let folder = if before.is_empty() { folder.to_owned() } else { folder.join(before) };
        Ok(Self { folder, pieces })
    }

    /// The files at this moment, sorted by name. Those that begin with a dot are an editor's or the
    /// system's.
    ///
    /// # Errors
    /// The folder cannot be read, or has too many entries.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        if let [name] = &self.pieces[..] {
            return Ok(vec![self.folder.join(name)]);
        }
        let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let mut names = Vec::new();
        for (count, entry) in folder.read_dir()?.enumerate() {
            if count == MOST_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MOST_ENTRIES} entries")));
            }
            // A name that is not UTF-8 matches nothing that is.
            if let Ok(name) = entry?.file_name().into_string()
                && self.matches(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        let paths = names.iter().map(|name| self.folder.join(name));
        Ok(paths.filter(|path| path.is_file()).collect())
    }

    fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else { return false };
        let Some(mut left) = name.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = rest.split_last() else { return left.is_empty() };
        for piece in between {
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = left.get(at + piece.len()..).unwrap_or_default();
        }
        left.ends_with(last.as_str()) && !name.starts_with('.')
    }
}

/// The files that a text includes, in the order of its patterns, each once; and what is wrong with
/// that. What is wrong with the rest of the text is not told here.
pub(super) fn find(
    text: &str,
    file: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    look: &mut dyn FnMut(Look<'_>),
) -> (Vec<Included>, Vec<Fault>) {
    let mut included = Vec::new();
    // Whatever else is wrong is told when all of it is read.
    let silent = Source::new(file, text, env);
    let Some(document) = sections::document(text, &silent) else { return (included, Vec::new()) };
    let source = Source::new(file, text, env);
    let mut root = Table::new(&source, "", source.place(0), document.get_ref());
    let patterns = root.take("include").and_then(|value| {
        let patterns = value.list(|| SHAPE.to_owned())?;
        if patterns.len() > MOST_PATTERNS {
            value.report(&format!("include has more than {MOST_PATTERNS} patterns"), None);
            return None;
        }
        Some(patterns)
    });
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut octets = text.len();
    for pattern in patterns.unwrap_or_default() {
        let Some(listing) = pattern.read(|text| Listing::of(text, folder)) else { continue };
        look(Look::Listing(&listing));
        match listing.files() {
            Ok(found) => paths.extend(found),
            Err(error) => unreadable(&pattern, &listing, &error),
        }
        for path in std::mem::take(&mut paths) {
            let name = path.display().to_string();
            if included.iter().any(|it: &Included| it.name == name) {
                continue;
            }
            let wrong = if is_same(&path, Path::new(file)) {
                Err("is this file itself".to_owned())
            } else if included.len() == MOST_FILES {
                Err(format!("is one more than {MOST_FILES} files"))
            } else {
                look(Look::File(&path));
                load::text(&path)
            };
            octets += wrong.as_ref().map_or(0, String::len);
            match wrong {
                Ok(text) if octets <= LARGEST => included.push(Included { name, text }),
                Ok(_) => pattern.report("the files are larger than 16MiB, all together", None),
                Err(why) => {
                    let is_wrong = why.starts_with("is ");
                    let hint = is_wrong.then(|| "keep them in a folder of their own".to_owned());
                    let colon = if is_wrong { "" } else { ":" };
                    let name = shown::plain(&name);
                    pattern.report(&format!("include `{name}`{colon} {why}"), hint);
                }
            }
        }
    }
    (included, source.into_faults())
}

/// What a folder that cannot be read may have been meant to be.
fn unreadable(pattern: &Value<'_>, listing: &Listing, error: &io::Error) {
    let folder = listing.folder.display().to_string();
    let message = format!("the folder `{}` cannot be read: {error}", shown::plain(&folder));
    let parent = listing.folder.parent().map(|parent| match parent.as_os_str().len() {
        0 => Path::new("."),
        _ => parent,
    });
    let siblings = parent.and_then(|parent| parent.read_dir().ok()).into_iter().flatten();
    let siblings = siblings.take(MOST_ENTRIES).filter_map(|entry| {
        let entry = entry.ok().filter(|entry| entry.path().is_dir())?;
        entry.file_name().into_string().ok()
    });
    let siblings: Vec<String> = siblings.collect();
    let name = listing.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let meant = nearest::nearest(name, siblings.iter().map(String::as_str));
    pattern.report(&message, meant.map(|meant| format!("did you mean `{meant}`?")));
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".a.toml", false),
            ("*.toml", "a.toml.swp", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("routes-*", "routes-", true),
            ("*", "a", true),
        ] {
            let listing = Listing::of(pattern, Path::new("")).unwrap();
            assert_eq!(listing.matches(name), expected, "{pattern} {name}");
        }
        for pattern in ["", "routes/", "*/a.toml", "ro*/a.toml", "a\0"] {
            assert!(Listing::of(pattern, Path::new("")).is_err(), "{pattern}");
        }
        let folder = |pattern| Listing::of(pattern, Path::new("/etc/larder")).unwrap().folder;
        assert_eq!(folder("routes/*.toml"), Path::new("/etc/larder/routes"));
        assert_eq!(folder("/*.toml"), Path::new("/"));
        assert_eq!(folder("a.toml"), Path::new("/etc/larder"));
    }

    #[test]
    fn files_of_all_patterns_count_together() {
        let folder = tempfile::tempdir().unwrap();
        for name in (1..=9).flat_map(|number| [format!("a{number}"), format!("b{number}")]) {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_len(1 << 20).unwrap();
        }
        let text = "include = [\"a*\", \"b*\"]";
        let (included, faults) = find(text, "gateway.toml", folder.path(), &|_| None, &mut |_| ());
        assert_eq!(included.len(), 15, "the first file counts as well");
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let told = "gateway.toml:1:18: the files are larger than 16MiB, all together";
        assert_eq!(faults, [told; 3]);
    }
}
