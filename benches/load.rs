//! A load generator with a fixed schedule of arrivals: latency counts from the moment when a
//! request was due, so a slow answer also counts for those that had to wait behind it.
//!
//! `load ADDRESS CONNECTIONS COUNT DISTINCT [RATE [WORD…]]` reads one HTTP/1.1 request from standard input
//! and sends it COUNT times. `{n}` in it becomes the number of the request modulo DISTINCT. With
//! RATE, that many requests are due each second and the next idle connection takes the next one;
//! without, or with `-`, each connection sends as soon as it has its answer. The result is one line of JSON,
//! times in microseconds: `late` is how long after its time a request was sent.
//!
//! One thread that never sleeps, because a timer is coarser than what is measured: give it a core
//! of its own. It wants answers of one status, 200, 206 or 304, with `Content-Length` where there
//! is content; anything else ends the run with an error.
//!
//! A request whose first line ends in `HTTP/2` is sent by HTTP/2, without TLS and without content. The words:
//!
//! | word | meaning |
//! |---|---|
//! | `rest` | it sleeps whenever there is nothing to do, for those with whom it shares a core; then its times are worth less |
//! | `zipf=S` | `{n}` is drawn, below DISTINCT: the k-th number is asked for k^-S times as often as the first; all alike with 0 |
//! | `seed=N` | other draws than with another N; the same with the same |

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use http2::Frames;

mod http2;

/// Without any answer for so long, the server is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// As long as a few requests take.
const REST: Duration = Duration::from_micros(50);

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: load ADDRESS CONNECTIONS COUNT DISTINCT [RATE [WORD...]] < REQUEST";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections, count, distinct, more @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let (rate, words) =
        more.split_first().map_or((None, more), |(rate, words)| (Some(rate), words));
    let (mut rests, mut exponent, mut seed) = (false, None, 0);
    for word in words {
        match word.split_once('=') {
            None if word == "rest" => rests = true,
            Some(("zipf", number)) => exponent = Some(number.parse()?),
            Some(("seed", number)) => seed = number.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let distinct = distinct.parse()?;
    let mut request = String::new();
    io::stdin().read_to_string(&mut request)?;
    let mut plan = Plan {
        address: address.parse()?,
        connections: connections.parse()?,
        count: count.parse()?,
        numbers: match exponent {
            Some(exponent) => Numbers::Drawn(Zipf::new(distinct, exponent, seed)),
            None => Numbers::InTurn(distinct.max(1)),
        },
        gap: match rate.filter(|rate| *rate != "-") {
            Some(rate) => Some(Duration::try_from_secs_f64(1.0 / rate.parse::<f64>()?)?),
            None => None,
        },
        rests,
        request,
    };
    let outcome = plan.run()?;
    writeln!(io::stdout(), "{}", outcome.json())?;
    Ok(())
}

/// What to send, and when.
struct Plan {
    address: SocketAddr,
    connections: usize,
    count: u32,
    numbers: Numbers,
    /// Between two arrivals; none sends as fast as the connections allow.
    gap: Option<Duration>,
    rests: bool,
    request: String,
}

/// What came of it.
struct Outcome {
    elapsed: Duration,
    latencies: Vec<Duration>,
    late: Vec<Duration>,
}

impl Plan {
    fn run(&mut self) -> Result<Outcome, Box<dyn Error>> {
        let is_second = self.request.lines().next().is_some_and(|line| line.ends_with(" HTTP/2"));
        let connect = || Connection::open(self.address, is_second);
        let mut idle: VecDeque<Connection> =
            (0..self.connections).map(|_| connect()).collect::<Result<_, _>>()?;
        let mut busy: Vec<Connection> = Vec::with_capacity(self.connections);
        let mut buffer = vec![0; 64 << 10];
        let mut latencies = Vec::new();
        let mut late = Vec::new();

        let start = Instant::now();
        let mut last_answer = start;
        let mut next = 0;
        while next < self.count || !busy.is_empty() {
            let now = Instant::now();
            let before = (next, busy.len());
            while next < self.count {
                let due = self.gap.map_or(now, |gap| start + gap * next);
                if due > now {
                    break;
                }
                let Some(mut connection) = idle.pop_front() else { break };
                connection.send(&self.number(next), due)?;
                late.push(connection.sent.duration_since(due));
                busy.push(connection);
                next += 1;
            }
            for place in (0..busy.len()).rev() {
                let done = match busy.get_mut(place) {
                    Some(connection) => connection.receive(&mut buffer)?,
                    None => false,
                };
                if done {
                    let connection = busy.swap_remove(place);
                    last_answer = Instant::now();
                    latencies.push(last_answer.duration_since(connection.due));
                    idle.push_back(connection);
                }
            }
            if self.rests && before == (next, busy.len()) {
                thread::sleep(REST);
            }
            // An idle server is not a dead one: at low rates nothing may be due for long.
            if !busy.is_empty() && now.saturating_duration_since(last_answer) > PATIENCE {
                return Err("no answer within 10 s".into());
            }
            if busy.is_empty() {
                last_answer = now;
            }
        }
        Ok(Outcome { elapsed: start.elapsed(), latencies, late })
    }

    fn number(&mut self, n: u32) -> String {
        let number = match &mut self.numbers {
            Numbers::InTurn(distinct) => n % *distinct,
            Numbers::Drawn(zipf) => zipf.draw(),
        };
        self.request.replace("{n}", &number.to_string())
    }
}

/// What `{n}` becomes.
enum Numbers {
    /// The numbers below this one, over and over.
    InTurn(u32),
    Drawn(Zipf),
}

/// Draws numbers, the lower the more often.
struct Zipf {
    /// How often a number or a lower one is drawn, by the number.
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(distinct: u32, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=distinct.max(1)).map(|place| f64::from(place).powf(-exponent));
        let sums = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect(), state: seed }
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    fn draw(&mut self) -> u32 {
        // SplitMix64: any seed will do, and nothing is to be guessed from it.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        let sought = share * self.sums.last().copied().unwrap_or_default();
        let place = self.sums.partition_point(|sum| *sum <= sought);
        u32::try_from(place.min(self.sums.len().saturating_sub(1))).unwrap_or(u32::MAX)
    }
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
    fn json(mut self) -> String {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        let [p50, p99, p999, max] =
            [0.5, 0.99, 0.999, 1.0].map(|share| percentile(&self.latencies, share));
        let [late, late_p999] = [0.99, 0.999].map(|share| percentile(&self.late, share));
        let (requests, seconds) = (self.latencies.len(), self.elapsed.as_secs_f64());
        let all: Duration = self.latencies.iter().sum();
        let mean = 1e6 * all.as_secs_f64() / (requests.max(1) as f64);
        format!(
            "{{\"requests\": {requests}, \"seconds\": {seconds:.6}, \"mean\": {mean:.1}, \
             \"p50\": {p50:.1}, \"p99\": {p99:.1}, \"p999\": {p999:.1}, \"max\": {max:.1}, \
             \"late_p99\": {late:.1}, \"late_p999\": {late_p999:.1}}}"
        )
    }
}

/// Of sorted times, in microseconds; 0 of none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a count of requests is far below 2^52, and the share is between 0 and 1"
)]
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    let time = sorted.get(place).or(sorted.last()).copied().unwrap_or_default();
    time.as_secs_f64() * 1e6
}

/// A kept-alive connection with at most one request under way.
struct Connection {
    stream: TcpStream,
    /// When the request under way should have been sent.
    due: Instant,
    /// When it was.
    sent: Instant,
    answer: Answer,
    /// Of the first answer, and so of all.
    status: Option<u16>,
}

/// What of an answer has come, in either version.
enum Answer {
    First(Message),
    Second(Frames),
}

/// What the last octets have brought.
struct Progress {
    status: Option<u16>,
    is_done: bool,
}

impl Connection {
    fn open(address: SocketAddr, is_second: bool) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let answer = if is_second {
            stream.write_all(&Frames::opening())?;
            Answer::Second(Frames::new())
        } else {
            Answer::First(Message::default())
        };
        let now = Instant::now();
        Ok(Connection { stream, due: now, sent: now, answer, status: None })
    }

    fn send(&mut self, request: &str, due: Instant) -> io::Result<()> {
        self.due = due;
        self.sent = Instant::now();
        // With one request under way, the socket's buffer always has room for the next.
        match &mut self.answer {
            Answer::First(message) => {
                *message = Message::default();
                self.stream.write_all(request.as_bytes())
            }
            Answer::Second(frames) => self.stream.write_all(&frames.request(request)),
        }
    }

    /// Takes what has come; true once the response is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, Box<dyn Error>> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let came = buffer.get(..length).unwrap_or_default();
        let progress = match &mut self.answer {
            Answer::First(message) => message.take(came)?,
            Answer::Second(frames) => {
                let mut reply = Vec::new();
                let progress = frames.take(came, &mut reply)?;
                self.stream.write_all(&reply)?;
                progress
            }
        };
        if let Some(status) = progress.status
            && *self.status.get_or_insert(status) != status
        {
            return Err(format!("a {status} after others").into());
        }
        Ok(progress.is_done)
    }
}

/// An answer of HTTP/1.1.
#[derive(Default)]
struct Message {
    /// What has come of the head.
    head: Vec<u8>,
    /// How much of the content is still to come; none while the head is.
    missing: Option<usize>,
}

impl Message {
    fn take(&mut self, came: &[u8]) -> Result<Progress, Box<dyn Error>> {
        let mut status = None;
        let missing = if let Some(missing) = self.missing {
            missing.checked_sub(came.len())
        } else {
            self.head.extend_from_slice(came);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(Progress { status, is_done: false });
            };
            let (head, content) = self.head.split_at(end + 4);
            let (number, length) = status_and_length(head)?;
            status = Some(number);
            length.checked_sub(content.len())
        };
        self.missing = Some(missing.ok_or("more came than `Content-Length` says")?);
        Ok(Progress { status, is_done: self.missing == Some(0) })
    }
}

/// Of a head. A 304 has no content, whatever it says of its length (RFC 9110 §8.6).
fn status_and_length(head: &[u8]) -> Result<(u16, usize), Box<dyn Error>> {
    let head = str::from_utf8(head)?;
    let first = head.lines().next().unwrap_or_default();
    let status = match first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some("200") => 200,
        Some("206") => 206,
        Some("304") => return Ok((304, 0)),
        _ => return Err(format!("neither 200, 206 nor 304: `{first}`").into()),
    };
    let value = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim())
        .ok_or("no `Content-Length`")?;
    Ok((status, value.parse()?))
}
