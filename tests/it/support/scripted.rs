//! A MongoDB server as it is seen through a script: it answers some commands itself, with an error or with
//! half of what the server says, and can stand for a replica set whose members vote for each other.
//!
//! Commands and answers follow each other on a connection, as the script hides what would let a server
//! stream its answers (`topologyVersion`).

use std::sync::{Arc, Mutex};

use mongodb::bson::{Document, doc, oid::ObjectId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::mongodb::MongoDb;

/// The message of a command, its answer, and those of the first one on a connection.
const MSG: i32 = 2013;
const QUERY: i32 = 2004;
const REPLY: i32 = 1;

/// What comes of a command instead of what the server says.
#[derive(Clone)]
pub(crate) enum Answer {
    /// An error with this code and these labels.
    Error(i32, &'static [&'static str]),
    /// So many octets of the server's answer, and the end of the connection.
    Cut(usize),
    /// The server's answer, once the script says so.
    Hold,
    /// A batch of a stream with this event, as if the server had sent it.
    Event(Document),
}

struct Rule {
    command: &'static str,
    when: Box<dyn Fn(&Document) -> bool + Send>,
    answer: Answer,
    left: usize,
}

/// Listens on a port for each member, and has one server behind them all.
pub(crate) struct Scripted {
    stage: Arc<Stage>,
    _serving: JoinSet<()>,
}

struct Stage {
    server: u16,
    ports: Vec<u16>,
    rules: Mutex<Vec<Rule>>,
    /// The member that writes, and how often that was decided.
    primary: watch::Sender<(usize, u8)>,
    is_held: watch::Sender<bool>,
}

impl Scripted {
    /// One server.
    pub(crate) async fn before(mongodb: &MongoDb) -> Self {
        Self::set(mongodb, 1).await
    }

    /// A replica set of so many, the first of which is the primary.
    pub(crate) async fn set(mongodb: &MongoDb, members: usize) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..members {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let ports = listeners.iter().map(|it| it.local_addr().unwrap().port()).collect();
        let stage = Arc::new(Stage {
            server: mongodb.port(),
            ports,
            rules: Mutex::default(),
            primary: watch::Sender::new((0, 1)),
            is_held: watch::Sender::new(true),
        });
        let mut serving = JoinSet::new();
        for (member, listener) in listeners.into_iter().enumerate() {
            serving.spawn(listen(listener, member, Arc::clone(&stage)));
        }
        Self { stage, _serving: serving }
    }

    /// For `uri` in `[mongodb.NAME]`.
    pub(crate) fn uri(&self) -> String {
        match &*self.stage.ports {
            [one] => MongoDb::uri_of(*one),
            several => {
                let hosts: Vec<_> =
                    several.iter().map(|port| format!("127.0.0.1:{port}")).collect();
                format!("mongodb://{}/?replicaSet=scripted", hosts.join(","))
            }
        }
    }

    /// Answers this command so the next `times`. What was said first counts first.
    pub(crate) fn on(&self, command: &'static str, times: usize, answer: Answer) {
        self.on_such(command, |_| true, times, answer);
    }

    /// As [`Scripted::on`], where the command is one of those.
    pub(crate) fn on_such(
        &self,
        command: &'static str,
        when: impl Fn(&Document) -> bool + Send + 'static,
        times: usize,
        answer: Answer,
    ) {
        let when = Box::new(when);
        self.stage.rules.lock().unwrap().push(Rule { command, when, answer, left: times });
    }

    /// Lets go of what is held, and of what would be.
    pub(crate) fn release(&self) {
        self.stage.is_held.send_replace(false);
    }

    /// Whether everything that was to be answered has been.
    pub(crate) fn is_over(&self) -> bool {
        self.stage.rules.lock().unwrap().iter().all(|rule| rule.left == 0)
    }

    /// Another member is the primary now. What the former one was doing is broken off.
    pub(crate) fn elect(&self, member: usize) {
        self.stage.primary.send_modify(|(primary, term)| (*primary, *term) = (member, *term + 1));
    }
}

/// The place after which an `aggregate` opens a stream of changes.
pub(crate) fn place(command: &Document) -> Option<Document> {
    let stage = command.get_array("pipeline").ok()?.first()?.as_document()?;
    let stream = stage.get_document("$changeStream").ok()?;
    let place = stream.get_document("startAfter").or_else(|_| stream.get_document("resumeAfter"));
    place.ok().cloned()
}

fn name(command: &Document) -> &str {
    command.keys().next().map_or("", String::as_str)
}

/// One message, whole as it came.
struct Message {
    octets: Vec<u8>,
}

impl Message {
    async fn read(from: &mut TcpStream) -> Option<Self> {
        let mut octets = vec![0; 16];
        from.read_exact(&mut octets).await.ok()?;
        let length = usize::try_from(i32_at(&octets, 0)).ok()?;
        octets.resize(length, 0);
        from.read_exact(&mut octets[16..]).await.ok()?;
        Some(Self { octets })
    }

    fn code(&self) -> i32 {
        i32_at(&self.octets, 12)
    }

    /// Where its document begins.
    fn at(&self) -> usize {
        match self.code() {
            // Flags, and the kind of the first section.
            MSG => 16 + 4 + 1,
            // Flags, cursor, place and count.
            REPLY => 16 + 20,
            // Flags, a name, and two numbers.
            QUERY => {
                16 + 4 + self.octets[20..].iter().position(|octet| *octet == 0).unwrap() + 1 + 8
            }
            code => panic!("a message of another kind: {code}"),
        }
    }

    fn document(&self) -> Document {
        Document::from_reader(&self.octets[self.at()..]).unwrap()
    }

    /// The same with another document.
    fn with(&self, document: &Document) -> Self {
        let mut octets = self.octets[..self.at()].to_vec();
        octets.extend(document.to_vec().unwrap());
        let length = i32::try_from(octets.len()).unwrap();
        octets[..4].copy_from_slice(&length.to_le_bytes());
        Self { octets }
    }

    /// The answer to this command.
    fn answer(&self, document: &Document) -> Self {
        let mut octets = vec![0; 16 + 5];
        octets[8..12].copy_from_slice(&self.octets[4..8]);
        octets[12..16].copy_from_slice(&MSG.to_le_bytes());
        Self { octets }.with(document)
    }
}

fn i32_at(octets: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(octets[at..at + 4].try_into().unwrap())
}

async fn listen(listener: TcpListener, member: usize, stage: Arc<Stage>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let stage = Arc::clone(&stage);
        connections.spawn(async move { stage.serve(client, member).await });
    }
}

impl Stage {
    async fn serve(&self, mut client: TcpStream, member: usize) -> Option<()> {
        let mut server = TcpStream::connect(("127.0.0.1", self.server)).await.ok()?;
        let mut primary = self.primary.subscribe();
        loop {
            let request = Message::read(&mut client).await?;
            let command = request.document();
            let is_own = ["hello", "ismaster", "isMaster"].contains(&name(&command));
            let answer = if is_own { None } else { self.find(&command) };
            let mut most = usize::MAX;
            match answer {
                Some(Answer::Error(code, labels)) => {
                    client.write_all(&request.answer(&error(code, labels)).octets).await.ok()?;
                    continue;
                }
                Some(Answer::Event(event)) => {
                    client.write_all(&request.answer(&batch(&command, event)).octets).await.ok()?;
                    continue;
                }
                Some(Answer::Hold) => {
                    self.is_held.subscribe().wait_for(|is_held| !is_held).await.ok()?;
                }
                Some(Answer::Cut(octets)) => most = octets,
                None => {}
            }
            let is_primary = primary.borrow_and_update().0 == member;
            if !is_own && !is_primary {
                let labels: &[_] = &["ResumableChangeStreamError"];
                client.write_all(&request.answer(&error(10107, labels)).octets).await.ok()?;
                continue;
            }
            server.write_all(&request.octets).await.ok()?;
            let reply = tokio::select! {
                reply = Message::read(&mut server) => Some(reply?),
                () = is_another(&mut primary, member), if !is_own => None,
            };
            let Some(reply) = reply else {
                let labels: &[_] = &["ResumableChangeStreamError"];
                client.write_all(&request.answer(&error(11602, labels)).octets).await.ok()?;
                // The server's own answer is nobody's any more.
                return None;
            };
            let reply = if is_own { self.hello(&reply, member) } else { reply };
            let most = most.min(reply.octets.len());
            client.write_all(&reply.octets[..most]).await.ok()?;
            if most < reply.octets.len() {
                return None;
            }
        }
    }

    fn find(&self, command: &Document) -> Option<Answer> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules
            .iter_mut()
            .find(|it| it.left > 0 && it.command == name(command) && (it.when)(command))?;
        rule.left -= 1;
        Some(rule.answer.clone())
    }

    /// What a member says of itself.
    fn hello(&self, reply: &Message, member: usize) -> Message {
        let mut told = reply.document();
        told.remove("topologyVersion");
        if self.ports.len() > 1 {
            let (primary, term) = *self.primary.borrow();
            let hosts: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            let mut election = [0; 12];
            (election[0], election[11]) = (0x7f, term);
            told.insert("setName", "scripted");
            told.insert("setVersion", 1);
            told.insert("me", &hosts[member]);
            told.insert("primary", &hosts[primary]);
            told.insert("hosts", hosts);
            told.insert("secondary", member != primary);
            for name in ["isWritablePrimary", "ismaster"] {
                told.insert(name, member == primary);
            }
            told.remove("electionId");
            if member == primary {
                told.insert("electionId", ObjectId::from_bytes(election));
            }
        }
        reply.with(&told)
    }
}

/// Waits until this member is not the primary.
async fn is_another(primary: &mut watch::Receiver<(usize, u8)>, member: usize) {
    drop(primary.wait_for(|(primary, _)| *primary != member).await);
}

fn error(code: i32, labels: &[&str]) -> Document {
    doc! { "ok": 0, "code": code, "codeName": "Scripted", "errmsg": "scripted", "errorLabels": labels }
}

/// The next batch of a cursor, of one event.
fn batch(command: &Document, event: Document) -> Document {
    let id = command.get_i64("getMore").unwrap();
    let ns = format!("app.{}", command.get_str("collection").unwrap());
    let token = event.get_document("_id").unwrap().clone();
    doc! {
        "ok": 1,
        "cursor": { "id": id, "ns": ns, "nextBatch": [event], "postBatchResumeToken": token },
    }
}
