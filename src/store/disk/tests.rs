//! The database by itself: what is removed first, and what becomes of the log. And a disk that is slow.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::Field;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::Disk;
use super::database::{Database, Kept};
use super::folder::{DATABASE, open};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::config;
use crate::store::log::{Invalidation, Scope};
use crate::store::{PurgeId, Store, Tasks};
use crate::stored::{CacheKey, Position};

fn key(number: u8) -> CacheKey {
    CacheKey([number; 32])
}

fn at(sequence: u64) -> Position {
    Position { millis: 0, sequence }
}

fn on(pattern: &str) -> Invalidation {
    Invalidation { scope: Scope::Pattern(pattern.to_owned()), soft: false }
}

fn anew(folder: &Path) -> Database {
    open(folder, Position::ZERO).unwrap()
}

/// Which of these keys have something under them.
fn there(database: &Database, keys: &[u8]) -> Vec<u8> {
    let rows = database.look(&keys.iter().map(|number| key(*number)).collect::<Vec<_>>()).unwrap();
    let keys = keys.iter().zip(rows).filter(|(_, row)| row.is_some());
    keys.map(|(key, _)| *key).collect()
}

fn append(database: &Database, place: u64, now: u64) {
    let record = on(&format!("pattern {place}"));
    database.change(true, |change| change.append(&[(at(place), &record)], now)).unwrap();
}

fn places(kept: &Kept) -> Vec<u64> {
    kept.records.iter().map(|(place, _)| place.sequence).collect()
}

#[test]
fn a_frame_comes_back_wherever_it_lies_until_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let database = anew(folder.path());
    for (end, length) in (1000..).zip([0, 1, 5000, 65_536, 65_537, 300_000, 10, 100_000]) {
        let frame: Vec<u8> = (0..=250).cycle().take(length).collect();
        database.change(false, |change| change.put(&key(1), end, &frame)).unwrap();
        let row = database.look(&[key(1)]).unwrap().pop().flatten().unwrap();
        assert_eq!((row.end, &row.frame[..]), (end, &frame[..]));
        assert!(database.room() >= length as u64, "{length}: {}", database.room());
    }
    database.change(false, |change| change.remove(&key(1))).unwrap();
    assert_eq!((there(&database, &[1]), database.room()), (vec![], 0));
}

#[test]
fn what_ends_first_is_removed_first() {
    let folder = tempfile::tempdir().unwrap();
    let database = anew(folder.path());
    database
        .change(false, |change| {
            for (number, end, length) in
                [(1, 500, 20_000), (2, 100, 70_000), (3, 300, 20_000), (4, 200, 20_000)]
            {
                change.put(&key(number), end, &vec![7; length])?;
            }
            // What is put again ends anew.
            change.put(&key(4), 400, &vec![7; 20_000])
        })
        .unwrap();
    let make_room = |now, capacity, most| {
        database.change(false, |change| change.make_room(now, capacity, most)).unwrap()
    };
    assert_eq!(make_room(99, u64::MAX, 9), (0, 0));
    assert_eq!(make_room(100, u64::MAX, 9), (1, 0), "it ends when it says");
    assert_eq!(there(&database, &[1, 2, 3, 4]), [1, 3, 4]);
    assert_eq!(make_room(100, 70_000, 9), (0, 1));
    assert_eq!(there(&database, &[1, 2, 3, 4]), [1, 4]);
    assert_eq!(make_room(1000, 0, 1), (1, 0), "no more than asked for");
    assert_eq!(make_room(1000, 0, 9), (1, 0));
    assert_eq!((there(&database, &[1, 2, 3, 4]), database.room()), (vec![], 0));
}

#[test]
fn the_log_is_there_again_and_what_is_dropped_raises_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    let database = anew(folder.path());
    for place in 1..=5 {
        append(&database, place, place * 100);
    }
    let kept = database.log().unwrap();
    assert_eq!((kept.floor, places(&kept)), (Position::ZERO, vec![1, 2, 3, 4, 5]));
    assert_eq!(kept.records[2].1, on("pattern 3"));
    let trim = |oldest, records, most| {
        database.change(false, |change| change.trim(oldest, records, most)).unwrap()
    };
    assert_eq!(trim(100, 9, 9), 0, "it is just not too old");
    assert_eq!(trim(300, 9, 1), 1, "no more than asked for");
    assert_eq!(trim(300, 9, 9), 1);
    let kept = database.log().unwrap();
    assert_eq!((kept.floor, places(&kept)), (at(2), vec![3, 4, 5]));
    assert_eq!(trim(0, 1, 9), 2, "there are too many");
    drop(database);

    let database = anew(folder.path());
    let kept = database.log().unwrap();
    assert_eq!((kept.floor, places(&kept)), (at(4), vec![5]));
    assert!(database.has_waste(0, 600, 9).unwrap());
    assert!(!database.has_waste(u64::MAX, 500, 9).unwrap());
}

#[test]
fn in_a_database_that_is_made_anew_nothing_from_before_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path(), at(7)).unwrap();
    assert_eq!(database.log().unwrap().floor, at(7));
    drop(database);
    // Only in a new one.
    let database = open(folder.path(), at(9)).unwrap();
    assert_eq!(database.log().unwrap().floor, at(7));
}

#[test]
fn a_log_that_lacks_a_record_is_damage() {
    const LOG: redb::TableDefinition<'_, (u64, u64), &[u8]> = redb::TableDefinition::new("log");
    let folder = tempfile::tempdir().unwrap();
    let database = anew(folder.path());
    for place in 1..=3 {
        append(&database, place, 100);
    }
    drop(database);
    let raw = redb::Database::create(folder.path().join(DATABASE)).unwrap();
    let txn = raw.begin_write().unwrap();
    txn.open_table(LOG).unwrap().remove((0, 2)).unwrap();
    txn.commit().unwrap();
    drop(raw);
    let database = anew(folder.path());
    assert!(matches!(database.log(), Err(Trouble::Damaged(_))));
}

#[test]
fn changes_that_were_not_saved_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let database = anew(folder.path());
    database.change(false, |change| change.put(&key(1), 100, b"one")).unwrap();
    append(&database, 1, 100);
    database.change(false, |change| change.put(&key(2), 100, b"two")).unwrap();
    // As a kill would leave it.
    fs::create_dir(&copy).unwrap();
    fs::copy(folder.path().join(DATABASE), copy.join(DATABASE)).unwrap();
    let copied = anew(&copy);
    assert_eq!(there(&copied, &[1, 2]), [1]);
    assert_eq!(places(&copied.log().unwrap()), [1]);
    assert_eq!(there(&database, &[1, 2]), [1, 2]);
    assert!(copied.room() < database.room());
}

/// A store with this folder, and what ends its writer.
fn store(folder: &Path) -> (Store, CancellationToken, TaskTracker) {
    let (tracker, end) = (TaskTracker::new(), CancellationToken::new());
    let tasks = Tasks { runtime: Handle::current(), tracker: tracker.clone(), end: end.clone() };
    let disk = Some(config::Disk::new(folder.to_owned()));
    let cache = config::Cache { disk, ..config::Cache::default() };
    (Store::new(&cache, None, tasks).with_disk(&cache, Clock::System).unwrap(), end, tracker)
}

/// What the writer has opened after this one.
async fn opened_after(disk: &Disk, before: &Weak<Database>) -> Arc<Database> {
    let opening = async {
        loop {
            let open = disk.open.load_full();
            if let Some(open) = open.filter(|open| !before.ptr_eq(&Arc::downgrade(open))) {
                return open;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), opening).await.expect("it is never opened again")
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_told_of_late_is_not_the_next_database_s() {
    let folder = tempfile::tempdir().unwrap();
    let (store, end, _) = store(folder.path());
    let disk = store.disk.as_ref().unwrap();
    let database = disk.open.load_full().unwrap();
    let named = Arc::downgrade(&database);
    disk.queue.distrust(named.clone());
    let next = opened_after(disk, &named).await;
    assert!(folder.path().join("larder.redb.damaged").exists());

    // Another reader had the same one.
    disk.queue.distrust(named);
    let purged = store.purge(vec![on("a")]).await;
    assert!(purged.shared, "the writer has seen it: {purged:?}");
    assert!(Arc::ptr_eq(&next, &disk.open.load_full().unwrap()), "it is in use still");
    end.cancel();
}

/// The errors that the program's log tells, of all tests of this process.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Errors {
    /// How many name this folder.
    fn of(&self, folder: &Path) -> usize {
        let folder = folder.display().to_string();
        self.0.lock().unwrap().iter().filter(|error| error.contains(&folder)).count()
    }
}

impl<S: Subscriber> Layer<S> for Errors {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        });
    }
}

/// As on a file system that takes no changes any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_lacks_a_record_and_cannot_be_removed_is_told_of_once_and_tried_seldom() {
    let errors = Errors::default();
    let subscriber = Registry::default().with(errors.clone());
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let folder = tempfile::tempdir().unwrap();
    let (store, end, _) = store(folder.path());
    let disk = store.disk.as_ref().unwrap();
    let named = Arc::downgrade(&disk.open.load_full().unwrap());

    // A folder with something in it cannot be removed as a file, nor another be put in its place.
    let (path, aside) = (folder.path().join(DATABASE), folder.path().join("larder.redb.damaged"));
    fs::remove_file(&path).unwrap();
    for in_the_way in [&path, &aside] {
        fs::create_dir(in_the_way).unwrap();
        fs::write(in_the_way.join("file"), "").unwrap();
    }
    disk.queue.distrust(named.clone());
    let told = || errors.of(folder.path());
    let tried = async {
        // The damage, and two vain tries.
        while disk.errors.value() < 3 && told() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), tried).await.expect("it is not tried again");
    assert_eq!(told(), 1);
    assert!(disk.errors.value() < 10, "{} tries", disk.errors.value());

    fs::remove_dir_all(&path).unwrap();
    opened_after(disk, &named).await;
    assert!(store.purge(vec![on("a")]).await.shared);
    end.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_has_invalidated_on_the_disk_is_known_when_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (own, end, tracker) = store(folder.path());
    assert!(own.purge(vec![on("a")]).await.shared);
    own.leave_disk().await;
    {
        let (other, end, tracker) = store(folder.path());
        assert!(other.purge(vec![on("b")]).await.shared);
        end.cancel();
        tracker.close();
        tracker.wait().await;
    }
    own.have_disk_again().await;
    opened_after(own.disk.as_ref().unwrap(), &Weak::new()).await;
    assert!(own.purge(vec![on("c")]).await.shared);
    end.cancel();
    tracker.close();
    tracker.wait().await;

    let kept = anew(folder.path()).log().expect("a log that is whole");
    let records: Vec<_> = kept.records.into_iter().map(|(_, record)| record).collect();
    assert_eq!(records, [on("a"), on("b"), on("c")]);
}

/// Another change holds the writer up, until it is told to end.
fn held_up(store: &Store) -> (mpsc::Sender<()>, JoinHandle<Result<(), Trouble>>) {
    let database: Arc<Database> = store.disk.as_ref().unwrap().open.load_full().unwrap();
    let (held, is_held) = mpsc::channel::<()>();
    let (release, released) = mpsc::channel::<()>();
    let holding = tokio::task::spawn_blocking(move || {
        database.change(false, |_| {
            held.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
    });
    is_held.recv().unwrap();
    (release, holding)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_the_disk_takes_late_has_its_receipt_then() {
    let folder = tempfile::tempdir().unwrap();
    let (store, end, _) = store(folder.path());
    let (release, holding) = held_up(&store);
    let purged = store.purge(vec![on("a")]).await;
    assert!(!purged.shared && matches!(purged.id, PurgeId::Waiting { .. }), "{purged:?}");
    let now = Clock::System.now();
    let told = store.receipts(&purged.id, Duration::ZERO, now).await.unwrap();
    assert!(!told.shared && told.id == purged.id, "{told:?}");

    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let told = store.receipts(&purged.id, Duration::from_secs(10), now).await.unwrap();
    assert!(told.is_complete() && matches!(told.id, PurgeId::Placed(_)), "{told:?}");
    let again = store.receipts(&told.id, Duration::ZERO, now).await.unwrap();
    assert!(again.is_complete(), "{again:?}");
    end.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_changes_is_kept_once_the_disk_has_late_what_came_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, end, _) = store(folder.path());
    let bookmark = store.bookmark(&config::Cache::default(), "shop", "shop");
    // As at the end of a process: it is kept now, or not.
    let kept = async || {
        let over = CancellationToken::new();
        over.cancel();
        bookmark.keep(over).await;
        fs::read(folder.path().join("changes/shop")).ok()
    };

    let (release, holding) = held_up(&store);
    let appended = store.invalidate_changed(vec![on("a")], None).await;
    bookmark.applied(Some(Arc::from(&b"1"[..])), Some(appended));
    assert_eq!(kept().await, None, "its record is not on the disk");
    // From now on nothing changes.
    bookmark.applied(Some(Arc::from(&b"2"[..])), None);
    assert_eq!(kept().await, None, "still not");

    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    let keeping = async {
        while kept().await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), keeping).await.expect("the place is never kept");
    assert_eq!(kept().await.as_deref(), Some(&b"2"[..]));
    end.cancel();
}
