//! Where pages come from: URLs, lists of them, sitemaps.
//!
//! A sitemap that lies at a URL is asked of the gateway, as everything else is: it goes where the routes
//! lead, and nowhere else, and no faster.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tokio::time::{Instant, sleep_until};

use crate::clock;

use super::Speed;
use super::asker::{Asker, Failure};
use super::pace::Pace;
use super::page::Page;
use super::sitemap::{LARGEST, Sitemap};

/// So many pages are warmed at once.
const MOST: usize = 500_000;

const WITHIN: &str = "it is an index of sitemaps within another";

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The sitemaps that were asked for, and whether each is an index.
    sitemaps: HashMap<Page, bool>,
}

/// A source cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {why}")]
pub struct NotRead {
    name: String,
    why: Failure,
}

impl NotRead {
    /// Whether the gateway was to be asked for it, and no connection to it was made.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self.why, Failure::OutOfReach(_))
    }
}

impl Sources {
    /// Reads them all, each sitemap once, and asks for those one after the other, at this rate at most. One that an
    /// index names and that cannot be read is one of the refused. Dropping it gives up what is under way.
    ///
    /// # Errors
    /// One of the sources cannot be read, they name too many pages, or the gateway is out of reach.
    pub async fn gather(&self, asker: &Asker, speed: Speed) -> Result<Gathered, NotRead> {
        let Self { urls, lists, sitemaps } = self;
        let mut gathered = Gathered::default();
        gathered.add(urls.iter().map(String::as_str), "the URLs")?;
        for list in lists {
            let name = list.display().to_string();
            let not_read = |why| NotRead { name: name.clone(), why: Failure::Broken(why) };
            let content = read(list).await.map_err(not_read)?;
            let text = str::from_utf8(&content).map_err(|_| not_read("it is not UTF-8".into()))?;
            gathered.add(lines(text), &name)?;
        }
        let mut reader = Reader { asker, pace: Pace::new(speed.rate, clock::instant()) };
        let mut named = HashSet::new();
        for place in sitemaps {
            if !named.insert(place) || gathered.has_pages_of(place) {
                continue;
            }
            let name = match place {
                Place::File(path) => path.display().to_string(),
                Place::Page(page) => page.to_string(),
            };
            let sitemap = reader.read(place).await;
            let sitemap = sitemap.map_err(|why| NotRead { name: name.clone(), why })?;
            if let Place::Page(page) = place {
                gathered.sitemaps.insert(page.clone(), matches!(sitemap, Sitemap::Index(_)));
            }
            match sitemap {
                Sitemap::Pages(urls) => gathered.add(urls.iter().map(String::as_str), &name)?,
                Sitemap::Index(urls) => gathered.add_sitemaps(&urls, &mut reader).await?,
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
                let why = Failure::Broken(format!("with it there are more than {MOST} URLs"));
                return Err(NotRead { name: name.to_owned(), why });
            }
        }
        Ok(())
    }

    fn refuse(&mut self, url: &str, why: impl Into<String>) {
        self.refused.push((url.to_owned(), why.into()));
    }

    /// Whether it was read before, or it was told that it cannot be: an index has named it.
    fn has_pages_of(&self, place: &Place) -> bool {
        matches!(place, Place::Page(page) if self.sitemaps.get(page) == Some(&false))
    }

    /// The pages of the sitemaps that an index names.
    async fn add_sitemaps(
        &mut self,
        urls: &[String],
        reader: &mut Reader<'_>,
    ) -> Result<(), NotRead> {
        for url in urls {
            let page = match Page::of(url) {
                Ok(page) => page,
                Err(why) => {
                    self.refuse(url, why);
                    continue;
                }
            };
            match self.sitemaps.get(&page) {
                Some(true) => self.refuse(url, WITHIN),
                Some(false) => {}
                None => self.add_sitemap(url, page, reader).await?,
            }
        }
        Ok(())
    }

    async fn add_sitemap(
        &mut self,
        url: &str,
        page: Page,
        reader: &mut Reader<'_>,
    ) -> Result<(), NotRead> {
        let sitemap = reader.ask(&page).await;
        self.sitemaps.insert(page, matches!(sitemap, Ok(Sitemap::Index(_))));
        match sitemap {
            Ok(Sitemap::Pages(urls)) => self.add(urls.iter().map(String::as_str), url)?,
            Ok(Sitemap::Index(_)) => self.refuse(url, WITHIN),
            Err(Failure::Broken(why)) => self.refuse(url, why),
            // It will answer for no other either.
            Err(why @ Failure::OutOfReach(_)) => {
                return Err(NotRead { name: url.to_owned(), why });
            }
        }
        Ok(())
    }
}

/// Reads sitemaps, and keeps a pace where it asks for them.
struct Reader<'a> {
    asker: &'a Asker,
    pace: Pace,
}

impl Reader<'_> {
    async fn read(&mut self, place: &Place) -> Result<Sitemap, Failure> {
        match place {
            Place::File(path) => {
                let content = read(path).await.map_err(Failure::Broken)?;
                Sitemap::parse(&content).map_err(Failure::Broken)
            }
            Place::Page(page) => self.ask(page).await,
        }
    }

    async fn ask(&mut self, page: &Page) -> Result<Sitemap, Failure> {
        sleep_until(Instant::from_std(self.pace.next())).await;
        self.pace.step(clock::instant());
        let content = self.asker.content(page, LARGEST).await?;
        Sitemap::parse(&content).map_err(Failure::Broken)
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
