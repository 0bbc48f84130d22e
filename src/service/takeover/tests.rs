//! One end of the connection between two processes. The test is the other.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::former::Former;
use super::link::{Mouth, listen};
use super::wire::Message;
use crate::config;
use crate::store::{Invalidation, Scope, Store, Tasks};

const CALLS: usize = 100;

fn store() -> Arc<Store> {
    let end = CancellationToken::new();
    let tasks = Tasks { runtime: Handle::current(), tracker: TaskTracker::new(), end };
    Arc::new(Store::new(&config::Cache::default(), None, tasks))
}

/// What another process says when it has so many calls to invalidate something.
async fn records() -> Vec<u8> {
    let store = store();
    let mut telling = store.tie();
    let scope = Scope::Pattern("a".to_owned());
    let invalidating = store.invalidate(vec![Invalidation { scope, soft: false }]);
    let hearing = async {
        let mut told = telling.recv().await.unwrap();
        let records = std::mem::take(&mut told.records);
        told.applied();
        records
    };
    let (receipt, records) = tokio::join!(invalidating, hearing);
    assert!(receipt.shared);
    Message::Records(records).octets().repeat(CALLS)
}

#[tokio::test]
async fn what_was_invalidated_while_a_process_started_is_applied_at_once() {
    let (one, mut other) = UnixStream::pair().unwrap();
    let (yours, gone) = (Message::Yours.octets(), Message::Gone.octets());
    other.write_all(&[records().await, yours, gone].concat()).await.unwrap();
    let (store, opens) = (store(), CancellationToken::new());
    let former = Former::on(one, Path::new(""), Vec::new());
    let ear = former.ready(&store, &opens).await.unwrap().expect("it has said that it goes");
    assert!(opens.is_cancelled());
    let noted = store.noted_since(0, 2 * CALLS);
    assert_eq!(noted.len(), CALLS);
    assert!(noted.iter().all(|it| it.applied == noted[0].applied), "each by itself");
    let mut answers = vec![0; 1 + CALLS];
    other.read_exact(&mut answers).await.unwrap();
    let applied = Message::Applied.octets().repeat(CALLS);
    assert_eq!(answers, [Message::Ready.octets(), applied].concat());
    drop(other);
    ear.closed().await;
}

#[tokio::test]
async fn what_has_come_meanwhile_is_applied_together_and_each_is_answered() {
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(&records().await).await.unwrap();
    let (from, to) = one.into_split();
    let store = store();
    let ear = listen(from, Mouth::on(to), Arc::clone(&store));
    let mut answers = vec![0; CALLS];
    other.read_exact(&mut answers).await.unwrap();
    assert_eq!(answers, Message::Applied.octets().repeat(CALLS));
    let noted = store.noted_since(0, 2 * CALLS);
    let mut times: Vec<_> = noted.iter().map(|it| it.applied).collect();
    times.dedup();
    assert_eq!(noted.len(), CALLS);
    assert!(times.len() <= CALLS / 4, "{} times", times.len());
    ear.close();
    ear.closed().await;
    assert_eq!(other.read(&mut [0]).await.unwrap(), 0, "it is heard still");
}
