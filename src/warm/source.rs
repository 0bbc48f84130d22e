//! Where pages come from: URLs, lists of them, sitemaps.
//!
//! A sitemap that lies at a URL is asked of the gateway, as everything else is: it goes where the routes
//! lead, and nowhere else.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::asker::Asker;
use super::page::Page;
use super::sitemap::{LARGEST, Sitemap};

/// So many pages are warmed at once.
const MOST: usize = 500_000;

/// What names pages, in the order in which they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// URLs.
    pub urls: Vec<String>,
    /// Files with a URL in each line; see [`lines`].
    pub lists: Vec<PathBuf>,
    /// Sitemaps.
    pub sitemaps: Vec<Place>,
}

/// Where a sitemap lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// What the gateway answers this URL with.
    Page(Page),
}

/// What sources name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Each once.
    pub pages: Vec<Page>,
    /// What cannot be asked for, and why.
    pub refused: Vec<(String, String)>,
    known: HashSet<Page>,
}

/// A source cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {why}")]
pub struct NotRead {
    name: String,
    why: String,
}

impl Sources {
    /// Reads them all. A sitemap that an index names and that cannot be read is one of the refused.
    ///
    /// # Errors
    /// One of the sources cannot be read, or they name too many pages.
    pub async fn gather(&self, asker: &Asker) -> Result<Gathered, NotRead> {
        let Self { urls, lists, sitemaps } = self;
        let mut gathered = Gathered::default();
        gathered.add(urls.iter().map(String::as_str), "the URLs")?;
        for list in lists {
            let name = list.display().to_string();
            let not_read = |why| NotRead { name: name.clone(), why };
            let content = read(list).await.map_err(not_read)?;
            let text = str::from_utf8(&content).map_err(|_| not_read("it is not UTF-8".into()))?;
            gathered.add(lines(text), &name)?;
        }
        for place in sitemaps {
            let name = match place {
                Place::File(path) => path.display().to_string(),
                Place::Page(page) => page.to_string(),
            };
            let sitemap = place.read(asker).await.and_then(|content| Sitemap::parse(&content));
            match sitemap.map_err(|why| NotRead { name: name.clone(), why })? {
                Sitemap::Pages(urls) => gathered.add(urls.iter().map(String::as_str), &name)?,
                Sitemap::Index(urls) => gathered.add_sitemaps(&urls, asker).await?,
            }
        }
        Ok(gathered)
    }
}

impl Gathered {
    fn add<'a>(
        &mut self,
        urls: impl IntoIterator<Item = &'a str>,
        name: &str,
    ) -> Result<(), NotRead> {
        for url in urls {
            match Page::of(url) {
                Ok(page) if self.known.insert(page.clone()) => self.pages.push(page),
                Ok(_) => {}
                Err(why) => self.refused.push((url.to_owned(), why.to_owned())),
            }
            if self.pages.len() + self.refused.len() > MOST {
                let why = format!("with it there are more than {MOST} URLs");
                return Err(NotRead { name: name.to_owned(), why });
            }
        }
        Ok(())
    }

    /// The pages of the sitemaps that an index names.
    async fn add_sitemaps(&mut self, urls: &[String], asker: &Asker) -> Result<(), NotRead> {
        for url in urls {
            let content = match Page::of(url) {
                Ok(page) => Place::Page(page).read(asker).await,
                Err(why) => Err(why.to_owned()),
            };
            match content.and_then(|content| Sitemap::parse(&content)) {
                Ok(Sitemap::Pages(urls)) => self.add(urls.iter().map(String::as_str), url)?,
                Ok(Sitemap::Index(_)) => {
                    let why = "it is an index of sitemaps within another".to_owned();
                    self.refused.push((url.clone(), why));
                }
                Err(why) => self.refused.push((url.clone(), why)),
            }
        }
        Ok(())
    }
}

impl Place {
    /// A URL with `http` or `https`, or the path of a file. The error says what the URL is not.
    pub fn of(text: &str) -> Result<Self, &'static str> {
        match text.split_once("://") {
            Some(_) => Page::of(text).map(Self::Page),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }

    async fn read(&self, asker: &Asker) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => read(path).await,
            Self::Page(page) => asker.content(page, LARGEST).await.map(Into::into),
        }
    }
}

/// The URLs of a text, one a line. Empty lines and those that begin with `#` are none.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        // One octet more than allowed tells a file that is too large from one that just fits.
        let file = File::open(path)?;
        file.take(LARGEST as u64 + 1).read_to_end(&mut content).map(|_| content)
    });
    match reading.await {
        Ok(Ok(content)) if content.len() <= LARGEST => Ok(content),
        Ok(Ok(_)) => Err(format!("it has more than {LARGEST} octets")),
        Ok(Err(error)) => Err(format!("the file cannot be read: {error}")),
        Err(error) => Err(format!("the file cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_url_in_each_line() {
        let text =
            "\u{feff}# busiest first\r\nhttp://h/a\r\n\n  http://h/b  \n#http://h/c\nhttp://h/d";
        assert_eq!(lines(text).collect::<Vec<_>>(), ["http://h/a", "http://h/b", "http://h/d"]);
    }

    #[test]
    fn each_page_is_gathered_once_and_no_more_than_so_many() {
        let mut gathered = Gathered::default();
        let urls = ["http://h/a", "/b", "http://h:80/a", "http://h/c"];
        gathered.add(urls, "the URLs").unwrap();
        let pages: Vec<_> = gathered.pages.iter().map(ToString::to_string).collect();
        assert_eq!(pages, ["http://h/a", "http://h/c"]);
        assert_eq!(gathered.refused.len(), 1);

        let urls: Vec<_> = (0..=MOST).map(|number| format!("http://h/{number}")).collect();
        let mut gathered = Gathered::default();
        let told = gathered.add(urls.iter().map(String::as_str), "list.txt").unwrap_err();
        assert_eq!(told.to_string(), "`list.txt`: with it there are more than 500000 URLs");
    }

    #[test]
    fn a_sitemap_is_a_url_or_a_file() {
        assert_eq!(Place::of("public/sitemap.xml"), Ok(Place::File("public/sitemap.xml".into())));
        let page = Page::of("https://h/sitemap.xml").unwrap();
        assert_eq!(Place::of("https://h/sitemap.xml"), Ok(Place::Page(page)));
        assert_eq!(Place::of("ftp://h/"), Err("is not an absolute URL with http or https"));
    }
}
