//! The demo's bookshop: its data, held in memory and bounded, behind a database that takes its time.
//!
//! A read waits 50–200 ms, 120 ms on average, as a query that joins a few tables does; a write waits
//! a few milliseconds. Nothing is random: the same reads in the same order wait equally long. What
//! HTTP makes of the data is `api`'s.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many books the shop holds at most.
pub(super) const MAX_BOOKS: usize = 1000;
/// How many octets a text may have.
const MAX_TEXT: usize = 200;
const WRITE: Duration = Duration::from_millis(5);

/// A book as clients see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) details: Details,
}

/// What `POST` and `PUT` send of a book.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Details {
    pub(super) title: String,
    pub(super) author: String,
    pub(super) genre: String,
    pub(super) year: u16,
    /// The price in hundredths of a euro.
    pub(super) cents: u32,
}

/// What `PATCH` sends of a book: the members to replace (RFC 7396, without removal, since no member
/// is optional).
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Changes {
    title: Option<String>,
    author: Option<String>,
    genre: Option<String>,
    year: Option<u16>,
    cents: Option<u32>,
}

/// What `PUT` sends of a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) city: String,
}

/// Why the shop refuses a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is nothing with this id")]
    Absent,
    #[error("a text is empty or longer than {MAX_TEXT} octets")]
    Text,
    #[error("the shop holds no more than {MAX_BOOKS} books")]
    Full,
}

impl Details {
    fn check(self) -> Result<Self, Refused> {
        check_texts(&[&self.title, &self.author, &self.genre])?;
        Ok(self)
    }

    fn with(self, changes: Changes) -> Self {
        Self {
            title: changes.title.unwrap_or(self.title),
            author: changes.author.unwrap_or(self.author),
            genre: changes.genre.unwrap_or(self.genre),
            year: changes.year.unwrap_or(self.year),
            cents: changes.cents.unwrap_or(self.cents),
        }
    }
}

fn check_texts(texts: &[&String]) -> Result<(), Refused> {
    let good = texts.iter().all(|text| !text.trim().is_empty() && text.len() <= MAX_TEXT);
    if good { Ok(()) } else { Err(Refused::Text) }
}

/// The shop and its slow database.
#[derive(Debug)]
pub(super) struct Shop {
    tables: Mutex<Tables>,
    reads: AtomicU64,
}

#[derive(Debug)]
struct Tables {
    books: BTreeMap<u32, Details>,
    people: BTreeMap<u32, Person>,
    /// Ids are never used twice, so that a deleted book does not come back as another.
    next_book: u32,
}

impl Shop {
    /// A shop with 40 books and 12 users.
    pub(super) fn open() -> Self {
        let books: BTreeMap<u32, Details> = (1..).zip(BOOKS.iter().map(Details::from)).collect();
        let people = (1..).zip(PEOPLE.iter().map(Person::from)).collect();
        let next_book = books.last_key_value().map_or(1, |(last, _)| last + 1);
        Self { tables: Mutex::new(Tables { books, people, next_book }), reads: AtomicU64::new(0) }
    }

    /// How often the database was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(super) async fn book(&self, id: u32) -> Option<Book> {
        self.read(("book", id), |tables| {
            tables.books.get(&id).map(|details| Book { id, details: details.clone() })
        })
        .await
    }

    /// The books of one genre, or of all, by id.
    pub(super) async fn books(&self, genre: Option<&str>) -> Vec<Book> {
        self.read(("books", genre), |tables| {
            let asked = |details: &Details| genre.is_none_or(|genre| details.genre == genre);
            let found = tables.books.iter().filter(|(_, details)| asked(details));
            found.map(|(id, details)| Book { id: *id, details: details.clone() }).collect()
        })
        .await
    }

    pub(super) async fn person(&self, id: u32) -> Option<Person> {
        self.read(("person", id), |tables| tables.people.get(&id).cloned()).await
    }

    pub(super) async fn add_book(&self, details: Details) -> Result<Book, Refused> {
        let details = details.check()?;
        self.write(|tables| {
            if tables.books.len() >= MAX_BOOKS {
                return Err(Refused::Full);
            }
            let id = tables.next_book;
            tables.next_book = id.checked_add(1).ok_or(Refused::Full)?;
            tables.books.insert(id, details.clone());
            Ok(Book { id, details })
        })
        .await
    }

    pub(super) async fn replace_book(&self, id: u32, details: Details) -> Result<Book, Refused> {
        self.edit_book(id, |_| details).await
    }

    pub(super) async fn change_book(&self, id: u32, changes: Changes) -> Result<Book, Refused> {
        self.edit_book(id, |details| details.with(changes)).await
    }

    async fn edit_book(
        &self,
        id: u32,
        edit: impl FnOnce(Details) -> Details,
    ) -> Result<Book, Refused> {
        self.write(|tables| {
            let kept = tables.books.get_mut(&id).ok_or(Refused::Absent)?;
            let details = edit(kept.clone()).check()?;
            kept.clone_from(&details);
            Ok(Book { id, details })
        })
        .await
    }

    pub(super) async fn remove_book(&self, id: u32) -> Result<(), Refused> {
        self.write(|tables| tables.books.remove(&id).map(drop).ok_or(Refused::Absent)).await
    }

    pub(super) async fn replace_person(&self, id: u32, person: Person) -> Result<(), Refused> {
        check_texts(&[&person.name, &person.city])?;
        self.write(|tables| {
            let kept = tables.people.get_mut(&id).ok_or(Refused::Absent)?;
            *kept = person;
            Ok(())
        })
        .await
    }

    async fn read<T>(&self, key: impl Hash, query: impl FnOnce(&Tables) -> T) -> T {
        let nth = self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(delay(key, nth)).await;
        query(&self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write<T>(&self, statement: impl FnOnce(&mut Tables) -> T) -> T {
        tokio::time::sleep(WRITE).await;
        statement(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long the `nth` read waits. Half of all reads take 50–150 ms and half 80–200 ms, which makes
/// 120 ms on average.
fn delay(key: impl Hash, nth: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (key, nth).hash(&mut hasher);
    let drawn = hasher.finish();
    let (least, span) = if drawn & 1 == 0 { (50_000, 100_001) } else { (80_000, 120_001) };
    Duration::from_micros(least + (drawn >> 1) % span)
}

/// Title, author, genre, year, cents.
type Row = (&'static str, &'static str, &'static str, u16, u32);

impl From<&Row> for Details {
    fn from(&(title, author, genre, year, cents): &Row) -> Self {
        let [title, author, genre] = [title, author, genre].map(str::to_owned);
        Self { title, author, genre, year, cents }
    }
}

impl From<&(&str, &str)> for Person {
    fn from(&(name, city): &(&str, &str)) -> Self {
        Self { name: name.to_owned(), city: city.to_owned() }
    }
}

const BOOKS: [Row; 40] = [
    ("Middlemarch", "George Eliot", "novel", 1871, 1290),
    ("Moby-Dick", "Herman Melville", "novel", 1851, 1150),
    ("Jane Eyre", "Charlotte Brontë", "novel", 1847, 990),
    ("Wuthering Heights", "Emily Brontë", "novel", 1847, 950),
    ("Emma", "Jane Austen", "novel", 1815, 890),
    ("Great Expectations", "Charles Dickens", "novel", 1861, 1090),
    ("Madame Bovary", "Gustave Flaubert", "novel", 1857, 1190),
    ("Effi Briest", "Theodor Fontane", "novel", 1895, 850),
    ("The Moonstone", "Wilkie Collins", "crime", 1868, 990),
    ("A Study in Scarlet", "Arthur Conan Doyle", "crime", 1887, 690),
    ("The Sign of the Four", "Arthur Conan Doyle", "crime", 1890, 690),
    ("The Leavenworth Case", "Anna Katharine Green", "crime", 1878, 890),
    ("The Murders in the Rue Morgue", "Edgar Allan Poe", "crime", 1841, 590),
    ("Mademoiselle de Scuderi", "E. T. A. Hoffmann", "crime", 1819, 620),
    ("Monsieur Lecoq", "Émile Gaboriau", "crime", 1868, 920),
    ("The Big Bow Mystery", "Israel Zangwill", "crime", 1892, 720),
    ("Frankenstein", "Mary Shelley", "fantastic", 1818, 790),
    ("The Time Machine", "H. G. Wells", "fantastic", 1895, 650),
    ("The War of the Worlds", "H. G. Wells", "fantastic", 1898, 720),
    ("From the Earth to the Moon", "Jules Verne", "fantastic", 1865, 880),
    ("Dracula", "Bram Stoker", "fantastic", 1897, 940),
    ("Carmilla", "Sheridan Le Fanu", "fantastic", 1872, 560),
    ("Flatland", "Edwin A. Abbott", "fantastic", 1884, 540),
    ("Peter Schlemihl", "Adelbert von Chamisso", "fantastic", 1814, 520),
    ("Leaves of Grass", "Walt Whitman", "poetry", 1855, 1250),
    ("Goblin Market", "Christina Rossetti", "poetry", 1862, 780),
    ("Les Fleurs du mal", "Charles Baudelaire", "poetry", 1857, 1020),
    ("Book of Songs", "Heinrich Heine", "poetry", 1827, 870),
    ("Eugene Onegin", "Alexander Pushkin", "poetry", 1833, 960),
    ("Songs of Innocence", "William Blake", "poetry", 1789, 830),
    ("West-Eastern Divan", "Johann Wolfgang von Goethe", "poetry", 1819, 1080),
    ("Songs without Words", "Paul Verlaine", "poetry", 1874, 750),
    ("Alice's Adventures in Wonderland", "Lewis Carroll", "children", 1865, 840),
    ("Treasure Island", "Robert Louis Stevenson", "children", 1883, 860),
    ("The Jungle Book", "Rudyard Kipling", "children", 1894, 810),
    ("Little Women", "Louisa May Alcott", "children", 1868, 970),
    ("Heidi", "Johanna Spyri", "children", 1881, 790),
    ("Pinocchio", "Carlo Collodi", "children", 1883, 760),
    ("Black Beauty", "Anna Sewell", "children", 1877, 740),
    ("The Happy Prince", "Oscar Wilde", "children", 1888, 580),
];

const PEOPLE: [(&str, &str); 12] = [
    ("Ada", "London"),
    ("Blaise", "Paris"),
    ("Carl", "Göttingen"),
    ("Dorothea", "Halle"),
    ("Emmy", "Erlangen"),
    ("Fibonacci", "Pisa"),
    ("Grace", "New York"),
    ("Hypatia", "Alexandria"),
    ("Isaac", "Cambridge"),
    ("Johannes", "Prague"),
    ("Katherine", "Hampton"),
    ("Leonhard", "Basel"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_within_bounds_and_120_ms_on_average() {
        let delays: Vec<_> = (0..10_000).map(|nth| delay(("book", nth % 40), nth)).collect();
        let average = delays.iter().sum::<Duration>() / 10_000;
        assert!(delays.iter().all(|delay| (50..=200).contains(&delay.as_millis())));
        assert!((118..=122).contains(&average.as_millis()), "{average:?}");
        assert_eq!(delay("a", 1), delay("a", 1), "the same read waits equally long");
    }

    #[tokio::test]
    async fn a_full_shop_takes_no_more_books() {
        let shop = Shop::open();
        let details = Details::from(&BOOKS[0]);
        {
            let mut tables = shop.tables.lock().unwrap();
            let more = (41..=1000).map(|id| (id, details.clone()));
            tables.books.extend(more);
            tables.next_book = 1001;
        }
        assert_eq!(shop.add_book(details.clone()).await.unwrap_err(), Refused::Full);
        shop.remove_book(1000).await.unwrap();
        assert_eq!(shop.add_book(details).await.unwrap().id, 1001, "ids are not used twice");
    }

    #[tokio::test]
    async fn empty_and_long_texts_are_refused() {
        let shop = Shop::open();
        for title in [" ".to_owned(), "x".repeat(MAX_TEXT + 1)] {
            let changes = Changes { title: Some(title), ..Changes::default() };
            assert_eq!(shop.change_book(1, changes).await.unwrap_err(), Refused::Text);
        }
        assert_eq!(shop.book(1).await.unwrap().details.title, "Middlemarch");
    }
}
