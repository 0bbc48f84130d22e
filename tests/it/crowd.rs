//! Many clients that come and go over few keys, before an origin that answers in every way: whatever
//! comes whole is right, is for whoever got it, and is not older than the last write that was heard of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::PATIENCE;
use crate::support::client::Got;
use crate::support::gateway::Gateway;
use crate::support::origin::{Asked, Origin, Reply, ok, pieces, status};

const KEYS: usize = 4;
const CLIENTS: usize = 500;
const AT_ONCE: usize = 40;
const MOST_CROWDS: usize = 10;

/// Numbers by chance, from a seed (xorshift, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    /// Below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the origin and the clients know of one key.
#[derive(Default)]
struct Key {
    /// How many writes have reached the origin.
    written: AtomicU64,
    /// How many of them some client has heard of.
    heard: AtomicU64,
}

/// The origin's side of it all.
struct World {
    keys: [Key; KEYS],
    /// How many responses there were.
    serial: AtomicU64,
    chance: Mutex<Chance>,
}

impl World {
    fn by_chance(&self, bound: u64) -> u64 {
        self.chance.lock().unwrap().below(bound)
    }

    /// Answers a GET in one of many ways. The content tells what it is, and for whom.
    fn answer(&self, key: usize, asked: &Asked) -> Reply {
        let version = self.keys[key].written.load(Ordering::SeqCst);
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let etag = format!("{key}-{version}");
        let validates = asked.field("if-none-match") == Some(format!("\"{etag}\""));
        if validates && self.by_chance(2) == 0 {
            return status(304).etag(&etag).max_age(self.by_chance(2));
        }
        let user = asked.field("x-user").unwrap_or_default();
        let language = asked.field("x-language").unwrap_or_default();
        let kind = self.by_chance(10);
        let length = match kind {
            // Above the route's limit, most of them.
            0 | 1 => self.by_chance(200 << 10),
            _ => self.by_chance(8 << 10),
        };
        let owner = match kind {
            2..=4 => format!("user {user}"),
            5 | 6 => format!("language {language}"),
            _ => "all".to_owned(),
        };
        let mut content = format!("{key} {version} {serial} {length} {owner}\n").into_bytes();
        content.extend(filling(serial, length));
        let reply = self.send(content, kind == 7);
        match kind {
            2 => reply.field("cache-control", "private, max-age=60"),
            3 => reply.field("cache-control", "no-store"),
            4 => reply.max_age(60).field("set-cookie", "a=b"),
            5 | 6 => reply.max_age(60).field("vary", "x-language"),
            8 => reply.max_age(0).etag(&etag),
            _ => reply.max_age(60),
        }
    }

    /// Content whole, or in pieces that take their time, or broken off.
    fn send(&self, content: Vec<u8>, breaks_off: bool) -> Reply {
        if !breaks_off && self.by_chance(3) == 0 {
            return ok(content);
        }
        let (reply, sender) = pieces();
        let count = 1 + self.by_chance(6);
        let size = content.len() / usize::try_from(count).unwrap() + 1;
        let pause = Duration::from_millis(self.by_chance(8));
        let kept = if breaks_off { content.len() / 2 } else { content.len() };
        tokio::spawn(async move {
            for piece in content[..kept].chunks(size) {
                sender.send(piece.to_vec());
                tokio::time::sleep(pause).await;
            }
            if !breaks_off {
                sender.end();
            }
        });
        reply
    }
}

fn filling(serial: u64, length: u64) -> impl Iterator<Item = u8> {
    (serial..)
        .map(|octet| u8::try_from(octet % 251).unwrap())
        .take(usize::try_from(length).unwrap())
}

/// Who asks, and what was known then.
struct Client {
    key: usize,
    user: String,
    language: String,
    no_cache: bool,
    heard: u64,
    serial: u64,
}

impl Client {
    /// Whether a whole response is one that this client may have got.
    fn check(&self, got: &Got) {
        let Self { key, user, language, no_cache, heard, serial: asked_at } = self;
        let shown = format!("{} {:?}", got.cache_status(), got.headers);
        assert_eq!(got.status, 200, "{shown}");
        let head = got.body.split(|octet| *octet == b'\n').next().unwrap();
        let body = &got.body[head.len() + 1..];
        let head = String::from_utf8(head.to_vec()).unwrap();
        let words: Vec<&str> = head.splitn(5, ' ').collect();
        let number = |place: usize| words[place].parse::<u64>().unwrap();
        let (version, serial, length) = (number(1), number(2), number(3));
        assert_eq!(words[0], key.to_string(), "of another key: {shown}");
        assert_eq!(body.len() as u64, length, "a part looked whole: {shown}");
        assert!(body.iter().copied().eq(filling(serial, length)), "mixed up: {shown}");
        assert!(version >= *heard, "{version} after {heard}: {shown}");
        match words[4].split_once(' ') {
            Some(("user", owner)) => assert_eq!(owner, user, "for another: {shown}"),
            Some(("language", owner)) => assert_eq!(owner, language, "for others: {shown}"),
            _ => assert_eq!(words[4], "all"),
        }
        if *no_cache && !got.cache_status().contains("fwd-status=304") {
            assert!(serial >= *asked_at, "fetched before it was asked for: {shown}");
        }
    }
}

/// An origin with all keys, which are read and written there.
async fn origin(world: &Arc<World>) -> Origin {
    let origin = Origin::start().await;
    for key in 0..KEYS {
        let (reading, writing) = (Arc::clone(world), Arc::clone(world));
        let on = origin.on(&format!("/{key}")).method("GET");
        on.answer(move |asked| reading.answer(key, asked));
        origin.on(&format!("/{key}")).method("POST").answer(move |_| {
            let written = writing.keys[key].written.fetch_add(1, Ordering::SeqCst) + 1;
            status(204).field("x-version", &written.to_string())
        });
    }
    origin
}

/// One client comes, by chance to write, to read, or to leave before it has been answered. Says
/// whether a response came whole.
async fn visit(world: Arc<World>, gateway: Arc<Gateway>, mut chance: Chance) -> bool {
    let key = usize::try_from(chance.below(KEYS as u64)).unwrap();
    let target = format!("/{key}");
    let way = chance.below(20);
    if way < 3 {
        let got = gateway.ask("POST", &target).body("x").send().await.code(204);
        let version = got.field("x-version").unwrap().parse().unwrap();
        world.keys[key].heard.fetch_max(version, Ordering::SeqCst);
        return false;
    }
    let client = Client {
        key,
        user: chance.below(1000).to_string(),
        language: chance.below(3).to_string(),
        no_cache: way == 3,
        heard: world.keys[key].heard.load(Ordering::SeqCst),
        serial: world.serial.load(Ordering::SeqCst),
    };
    let mut ask = gateway.ask("GET", &target);
    ask = ask.field("x-user", &client.user).field("x-language", &client.language);
    if client.no_cache {
        ask = ask.field("cache-control", "no-cache");
    }
    let ask = if way.is_multiple_of(2) { ask.http2() } else { ask };
    let stays = match way {
        4..=6 => Duration::from_micros(chance.below(4000)),
        _ => 3 * PATIENCE,
    };
    match tokio::time::timeout(stays, ask.attempt()).await {
        Ok(Ok(got)) => {
            client.check(&got);
            true
        }
        // Broken off by the origin, or by this client.
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn come_and_go(seed: u64, workers: usize) {
    let world = Arc::new(World {
        keys: Default::default(),
        serial: AtomicU64::new(0),
        chance: Mutex::new(Chance(seed)),
    });
    let origin = origin(&world).await;
    let setup = Gateway::setup(&origin).server(&format!("workers = {workers}"));
    let gateway = Arc::new(setup.route("max_body = \"64KiB\"").start().await);

    let mut chance = Chance(seed.rotate_left(32));
    let figures = || ["collapsed", "l1_hits", "stored", "followers"].map(|it| gateway.figure(it));
    // A busy machine may let few of them meet.
    for _ in 0..MOST_CROWDS {
        let mut clients = JoinSet::new();
        let mut whole = 0;
        for _ in 0..CLIENTS {
            if clients.len() == AT_ONCE {
                whole += usize::from(clients.join_next().await.unwrap().unwrap());
            }
            let own = Chance(1 + chance.below(u64::MAX - 1));
            clients.spawn(visit(Arc::clone(&world), Arc::clone(&gateway), own));
        }
        whole += clients.join_all().await.into_iter().filter(|whole| *whole).count();
        assert!(whole > CLIENTS / 2, "{whole} came whole");
        if figures().iter().all(|figure| *figure > 0) {
            return;
        }
    }
    panic!("nothing was tried: {:?}", figures());
}

#[tokio::test]
async fn whatever_comes_whole_is_right() {
    come_and_go(1, 1).await;
    come_and_go(0x9e37_79b9_7f4a_7c15, 2).await;
}
