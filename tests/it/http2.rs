//! What HTTP/2 (RFC 9113) and its packed fields (RFC 7541) ask of a server, frame by frame.

use std::fmt::Write as _;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PADDED, PING,
    PRIORITISED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame,
    request,
};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};

/// What has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// The connection ends, with this error.
    Goaway(u32),
    /// The stream does, and the connection goes on.
    Reset(u32),
    /// A response with this status, and the connection goes on.
    Status(u16),
    /// Nothing but that the connection goes on.
    Nothing,
    /// The stream should end with this error. §5.4.1: "an endpoint MAY choose to treat a stream error as a
    /// connection error", and so it is, with `PROTOCOL_ERROR`.
    Harsh(u32),
    /// The connection ends, as it should, with `PROTOCOL_ERROR` instead of this error.
    Unspecific(u32),
    /// A request that should be refused is answered.
    Taken,
}
use Comes::{Goaway, Harsh, Nothing, Reset, Status, Taken, Unspecific};

// Error codes (RFC 9113 §7).
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

const ENDS: u8 = END_HEADERS | END_STREAM;

/// What the section is about, what is sent, and what has to come.
type Case = (&'static str, Vec<u8>, Comes);

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, ENDS, stream, &request("GET", "/a"))
}

/// The head of a request whose content follows.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", "/a"))
}

/// A request that is answered later than anything else here.
fn held(stream: u32) -> Vec<u8> {
    frame(HEADERS, ENDS, stream, &request("GET", "/held"))
}

/// A GET with more fields.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, ENDS, 1, &[request("GET", "/a"), fields(more)].concat())
}

/// A GET with these fields and no others.
fn of(these: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, ENDS, 1, &fields(these))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

fn data(flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, content)
}

/// Frames (§4).
fn frames() -> Vec<Case> {
    let block = request("GET", "/a");
    let (one, other) = block.split_at(5);
    let begun = frame(HEADERS, END_STREAM, 1, one);
    vec![
        ("§4.1: frames of unknown kinds are ignored", frame(99, 255, 0, &[7; 8]), Nothing),
        (
            "§4.1: on a stream, too",
            [post(1), frame(99, 0, 1, &[7; 8]), data(1, 1, b"")].concat(),
            Status(200),
        ),
        ("§4.1: unknown flags are ignored", frame(SETTINGS, 0xfe, 0, &[]), Nothing),
        (
            "§4.1: the reserved bit is ignored",
            frame(PRIORITY, 0, 1 << 31 | 1, &[0, 0, 0, 3, 1]),
            Nothing,
        ),
        ("§4.2: 2^14 octets are taken", [post(1), data(1, 1, &[7; 1 << 14])].concat(), Status(200)),
        (
            "§4.2: DATA beyond that",
            [post(1), data(1, 1, &[7; (1 << 14) + 1])].concat(),
            Goaway(FRAME_SIZE),
        ),
        (
            "§4.2: HEADERS beyond that",
            frame(HEADERS, ENDS, 1, &[0; (1 << 14) + 1]),
            Goaway(FRAME_SIZE),
        ),
        (
            "§4.3: a head in pieces",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 1, other)].concat(),
            Status(200),
        ),
        (
            "§4.3: PRIORITY within",
            [begun.clone(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])].concat(),
            Goaway(PROTOCOL),
        ),
        ("§4.3: HEADERS of another within", [begun.clone(), get(3)].concat(), Goaway(PROTOCOL)),
        (
            "§5.5: an unknown frame within",
            [begun.clone(), frame(99, 0, 1, b"")].concat(),
            Goaway(PROTOCOL),
        ),
        (
            "§6.10: the next piece on another stream",
            [begun.clone(), frame(CONTINUATION, END_HEADERS, 3, other)].concat(),
            Goaway(PROTOCOL),
        ),
        (
            "§6.10: on no stream",
            [begun, frame(CONTINUATION, END_HEADERS, 0, other)].concat(),
            Goaway(PROTOCOL),
        ),
        (
            "§6.10: behind the last piece",
            [held(1), frame(CONTINUATION, END_HEADERS, 1, other)].concat(),
            Goaway(PROTOCOL),
        ),
        ("§6.10: behind no piece", frame(CONTINUATION, END_HEADERS, 1, &block), Goaway(PROTOCOL)),
    ]
}

/// Streams (§5).
fn streams() -> Vec<Case> {
    let dependent = |stream: u32, on: u32| {
        let block = [&on.to_be_bytes()[..], &[16], &request("GET", "/a")].concat();
        frame(HEADERS, ENDS | PRIORITISED, stream, &block)
    };
    vec![
        ("§5.1: idle, DATA", data(1, 1, b"a"), Goaway(PROTOCOL)),
        ("§5.1: idle, RST_STREAM", reset(1), Goaway(PROTOCOL)),
        ("§5.1: idle, WINDOW_UPDATE", window(1, 1), Goaway(PROTOCOL)),
        ("§5.1: half-closed, DATA", [held(1), data(1, 1, b"a")].concat(), Harsh(CLOSED)),
        ("§5.1: half-closed, HEADERS", [held(1), get(1)].concat(), Harsh(CLOSED)),
        ("§5.1: half-closed, WINDOW_UPDATE", [held(1), window(1, 1)].concat(), Nothing),
        (
            "§5.1: half-closed, PRIORITY",
            [held(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])].concat(),
            Nothing,
        ),
        ("§5.1: reset, DATA", [post(1), reset(1), data(1, 1, b"a")].concat(), Reset(CLOSED)),
        ("§5.1: reset, HEADERS", [post(1), reset(1), get(1)].concat(), Harsh(CLOSED)),
        ("§5.1: reset, WINDOW_UPDATE", [post(1), reset(1), window(1, 1)].concat(), Nothing),
        ("§5.1: reset, RST_STREAM", [post(1), reset(1), reset(1)].concat(), Nothing),
        ("§5.1.1: a number of the server's", get(2), Goaway(PROTOCOL)),
        ("§5.1.1: a number below the last", [held(5), get(3)].concat(), Goaway(PROTOCOL)),
        (
            "§5.1.2: more than may be",
            (0..4).flat_map(|turn| held(2 * turn + 1)).collect(),
            Reset(REFUSED),
        ),
        ("§5.3: priorities are taken", dependent(1, 3), Status(200)),
        ("RFC 7540 §5.3.1: on itself", dependent(1, 1), Reset(PROTOCOL)),
        (
            "RFC 7540 §5.3.1: PRIORITY on itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]),
            Reset(PROTOCOL),
        ),
    ]
}

/// Each kind of frame (§6).
fn kinds() -> Vec<Case> {
    let padded = |kind, flags, padding: u8, content: &[u8]| {
        frame(kind, flags | PADDED, 1, &[&[padding], content].concat())
    };
    let block = request("GET", "/a");
    let padded_block = [&block[..], &[0; 9]].concat();
    vec![
        ("§6.1: DATA on no stream", data(0, 0, b"a"), Goaway(PROTOCOL)),
        ("§6.1: padding", [post(1), padded(DATA, 1, 3, b"abc\0\0\0")].concat(), Status(200)),
        (
            "§6.1: more padding than there is",
            [post(1), padded(DATA, 1, 6, b"abc")].concat(),
            Goaway(PROTOCOL),
        ),
        ("§6.2: HEADERS on no stream", get(0), Goaway(PROTOCOL)),
        ("§6.2: padding", padded(HEADERS, ENDS, 9, &padded_block), Status(200)),
        ("§6.2: more padding than there is", padded(HEADERS, ENDS, 200, &block), Goaway(PROTOCOL)),
        ("§6.3: PRIORITY on no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]), Goaway(PROTOCOL)),
        ("§6.3: of another length", frame(PRIORITY, 0, 1, &[0, 0, 0, 3]), Harsh(FRAME_SIZE)),
        ("§6.4: RST_STREAM on no stream", reset(0), Goaway(PROTOCOL)),
        (
            "§6.4: of another length",
            [post(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Unspecific(FRAME_SIZE),
        ),
        (
            "§6.5: SETTINGS acknowledged with settings",
            frame(SETTINGS, 1, 0, &[0, 3, 0, 0, 0, 9]),
            Unspecific(FRAME_SIZE),
        ),
        ("§6.5: on a stream", frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9]), Goaway(PROTOCOL)),
        ("§6.5: of another length", frame(SETTINGS, 0, 0, &[0, 3, 0]), Unspecific(FRAME_SIZE)),
        ("§6.5.2: ENABLE_PUSH is 0 or 1", setting(2, 2), Goaway(PROTOCOL)),
        ("§6.5.2: INITIAL_WINDOW_SIZE below 2^31", setting(4, 1 << 31), Unspecific(FLOW_CONTROL)),
        ("§6.5.2: MAX_FRAME_SIZE of 2^14 at least", setting(5, (1 << 14) - 1), Goaway(PROTOCOL)),
        ("§6.5.2: MAX_FRAME_SIZE below 2^24", setting(5, 1 << 24), Goaway(PROTOCOL)),
        ("§6.5.2: unknown settings are ignored", setting(0xaaaa, 7), Nothing),
        (
            "§6.6: a client promises nothing",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &block[..]].concat()),
            Goaway(PROTOCOL),
        ),
        ("§6.7: a PING that nobody sent, acknowledged", frame(PING, 1, 0, b"01234567"), Nothing),
        ("§6.7: on a stream", frame(PING, 0, 1, b"01234567"), Goaway(PROTOCOL)),
        ("§6.7: of another length", frame(PING, 0, 0, b"0123456"), Unspecific(FRAME_SIZE)),
        ("§6.8: GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Goaway(PROTOCOL)),
    ]
}

/// Windows (§6.9).
fn windows() -> Vec<Case> {
    let most = (1 << 31) - 1_u32;
    let beyond: Vec<u8> = (0..200).flat_map(|_| data(0, 1, &[7; 1 << 14])).collect();
    vec![
        ("§6.9: of no octet, for the connection", window(0, 0), Goaway(PROTOCOL)),
        ("§6.9: of no octet, for a stream", [held(1), window(1, 0)].concat(), Harsh(PROTOCOL)),
        ("§6.9: of another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Unspecific(FRAME_SIZE)),
        ("§6.9.1: beyond 2^31-1, for the connection", window(0, most), Goaway(FLOW_CONTROL)),
        (
            "§6.9.1: beyond 2^31-1, for a stream",
            [held(1), window(1, most)].concat(),
            Reset(FLOW_CONTROL),
        ),
        (
            "§6.9.2: beyond 2^31-1 by a setting",
            [held(1), window(1, 1 << 20), setting(4, most)].concat(),
            Goaway(FLOW_CONTROL),
        ),
        (
            "§6.9.1: more than the window has room for",
            [frame(HEADERS, END_HEADERS, 1, &request("POST", "/held")), beyond].concat(),
            Goaway(FLOW_CONTROL),
        ),
    ]
}

/// Messages (§8).
fn messages() -> Vec<Case> {
    let (method, scheme, path, host) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "a"));
    let sized = |length: &str, data: Vec<u8>| {
        let block = [request("POST", "/a"), fields(&[("content-length", length)])].concat();
        [frame(HEADERS, END_HEADERS, 1, &block), data].concat()
    };
    let trailers = |flags, more: &[(&str, &str)]| {
        [post(1), data(0, 1, b"a"), frame(HEADERS, flags, 1, &fields(more))].concat()
    };
    vec![
        ("§8.1: trailers", trailers(ENDS, &[("x-sum", "1")]), Status(200)),
        (
            "§8.1: trailers that do not end the stream",
            trailers(END_HEADERS, &[("x-sum", "1")]),
            Reset(PROTOCOL),
        ),
        ("§8.1: pseudo-fields in trailers", trailers(ENDS, &[(":method", "GET")]), Taken),
        ("§8.1.1: less content than said", sized("2", data(1, 1, b"a")), Reset(PROTOCOL)),
        ("§8.1.1: more content than said", sized("1", data(1, 1, b"ab")), Reset(PROTOCOL)),
        (
            "§8.1.1: less in several frames",
            sized("3", [data(0, 1, b"a"), data(1, 1, b"b")].concat()),
            Reset(PROTOCOL),
        ),
        (
            "§8.1.1: more in several frames",
            sized("1", [data(0, 1, b"a"), data(1, 1, b"b")].concat()),
            Reset(PROTOCOL),
        ),
        ("§8.2.1: capitals in a name", with(&[("X-Test", "1")]), Harsh(PROTOCOL)),
        ("§8.2.1: a space in a name", with(&[("x test", "1")]), Harsh(PROTOCOL)),
        ("§8.2.1: a line's end in a value", with(&[("x-test", "a\r\nb: c")]), Harsh(PROTOCOL)),
        ("§8.2.2: Connection", with(&[("connection", "keep-alive")]), Reset(PROTOCOL)),
        ("§8.2.2: Keep-Alive", with(&[("keep-alive", "timeout=5")]), Reset(PROTOCOL)),
        ("§8.2.2: Proxy-Connection", with(&[("proxy-connection", "keep-alive")]), Reset(PROTOCOL)),
        ("§8.2.2: Transfer-Encoding", with(&[("transfer-encoding", "chunked")]), Reset(PROTOCOL)),
        ("§8.2.2: Upgrade", with(&[("upgrade", "h2c")]), Reset(PROTOCOL)),
        ("§8.2.2: TE of anything but trailers", with(&[("te", "gzip")]), Reset(PROTOCOL)),
        ("§8.2.2: TE of trailers", with(&[("te", "trailers")]), Status(200)),
        ("§8.3: an unknown pseudo-field", with(&[(":test", "a")]), Harsh(PROTOCOL)),
        ("§8.3: one of responses", with(&[(":status", "200")]), Reset(PROTOCOL)),
        ("§8.3: one behind fields", of(&[method, scheme, ("x", "1"), path, host]), Reset(PROTOCOL)),
        ("§8.3.1: no :method", of(&[scheme, path, host]), Reset(PROTOCOL)),
        ("§8.3.1: no :scheme", of(&[method, path, host]), Reset(PROTOCOL)),
        ("§8.3.1: no :path", of(&[method, scheme, host]), Reset(PROTOCOL)),
        ("§8.3.1: an empty :path", of(&[method, scheme, (":path", ""), host]), Reset(PROTOCOL)),
        ("§8.3.1: two of :method", of(&[method, method, scheme, path, host]), Reset(PROTOCOL)),
        ("§8.3.1: two of :scheme", of(&[method, scheme, scheme, path, host]), Reset(PROTOCOL)),
        ("§8.3.1: two of :path", of(&[method, scheme, path, path, host]), Reset(PROTOCOL)),
        ("§8.3.1: two of :authority", of(&[method, scheme, path, host, host]), Reset(PROTOCOL)),
        ("§8.3.1: Host beside :authority", with(&[("host", "b")]), Status(400)),
        (
            "§8.5: CONNECT with :path",
            of(&[(":method", "CONNECT"), scheme, path, host]),
            Reset(PROTOCOL),
        ),
    ]
}

/// Packed fields (RFC 7541).
fn packed() -> Vec<Case> {
    let block =
        |octets: &[u8]| frame(HEADERS, ENDS, 1, &[&request("GET", "/a")[..], octets].concat());
    let first = |octets: &[u8]| frame(HEADERS, ENDS, 1, &[octets, &request("GET", "/a")].concat());
    vec![
        ("§2.3.3: index 0", block(&[0x80]), Unspecific(COMPRESSION)),
        (
            "§2.3.3: an index beyond both tables",
            block(&[0xff, 0x80, 0x01]),
            Unspecific(COMPRESSION),
        ),
        (
            "§2.3.3: a name beyond both tables",
            block(&[0x7f, 0x80, 0x01, 1, b'a']),
            Unspecific(COMPRESSION),
        ),
        ("§4.2: a table of another size behind fields", block(&[0x20]), Unspecific(COMPRESSION)),
        ("§4.2: before them", first(&[0x20]), Status(200)),
        (
            "§6.3: a larger table than was said",
            first(&[0x3f, 0xff, 0xff, 0x7f]),
            Unspecific(COMPRESSION),
        ),
        (
            "§5.1: a number without end",
            block(&[&[0x7f][..], &[0xff; 20]].concat()),
            Unspecific(COMPRESSION),
        ),
        (
            "§5.2: a text that is longer than the block",
            block(&[0, 1, b'a', 9, b'b']),
            Unspecific(COMPRESSION),
        ),
        (
            "§5.2: padding of more than 7 bits",
            block(&[0, 1, b'a', 0x82, 0x1f, 0xff]),
            Unspecific(COMPRESSION),
        ),
        ("§5.2: padding that is none", block(&[0, 1, b'a', 0x81, 0x18]), Unspecific(COMPRESSION)),
        (
            "§5.2: the end's symbol",
            block(&[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Unspecific(COMPRESSION),
        ),
    ]
}

/// What comes, as far as it says what was expected; none if it says something else.
async fn came(gateway: &Gateway, sent: &[u8], expected: Comes) -> Result<(), String> {
    const LAST: &[u8] = b"the last";

    let mut client = Frames::to(gateway.address()).await;
    client.send(sent).await;
    // A ping behind it is answered behind what comes of it, if the connection goes on.
    let mut seen: Vec<Frame> = Vec::new();
    client.send(&frame(PING, 0, 0, LAST)).await;
    let is_answered = |frame: &Frame| frame.kind == HEADERS && frame.stream == 1;
    loop {
        let Some(next) = client.next().await else { break };
        let is_last = next.kind == PING && next.content == LAST;
        seen.push(next);
        let has_pong = seen.iter().any(|it| it.kind == PING && it.content == LAST);
        let is_enough = match expected {
            Status(_) | Taken => has_pong && seen.iter().any(is_answered),
            Reset(_) => has_pong && seen.iter().any(|it| it.kind == RST_STREAM),
            Nothing => is_last,
            Goaway(_) | Harsh(_) | Unspecific(_) => false,
        };
        if is_enough {
            break;
        }
    }
    let code = |kind: u8, at: usize| {
        let frame = seen.iter().find(|frame| frame.kind == kind)?;
        Some(u32::from_be_bytes(frame.content.get(at..at + 4)?.try_into().unwrap()))
    };
    let (goaway, reset) = (code(GOAWAY, 4), code(RST_STREAM, 0));
    let status = seen.iter().find(|frame| is_answered(frame)).and_then(|it| it.content.first());
    let found = match (goaway, reset, status) {
        (Some(code), _, _) => Goaway(code),
        (None, Some(code), _) => Reset(code),
        (None, None, Some(0x88)) => Status(200),
        (None, None, Some(0x8c)) => Status(400),
        _ => Nothing,
    };
    let expected = match expected {
        Harsh(_) | Unspecific(_) => Goaway(PROTOCOL),
        Taken => Status(200),
        expected => expected,
    };
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

#[tokio::test]
async fn what_a_client_may_not_send_is_answered_as_the_rfc_says() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 1\nmax_streams = 3").start().await;
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    let _held = origin.on("/held").hold(ok("late"));
    let mut wrong = String::new();
    let all = [frames(), streams(), kinds(), windows(), messages(), packed()].concat();
    for (what, sent, expected) in all {
        if let Err(found) = came(&gateway, &sent, expected).await {
            writeln!(wrong, "{what}: {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // Whatever came, others are served.
    let ask = gateway.ask("GET", "/a").http2();
    ask.send().await.code(200).body("1");
}

#[tokio::test]
async fn settings_and_pings_are_acknowledged() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let mut client = Frames::to(gateway.address()).await;
    client.send(&frame(PING, 0xfe, 0, b"01234567")).await;
    let came = client.until(PING).await;
    let settings: Vec<_> =
        came.iter().filter(|it| it.kind == SETTINGS).map(|it| it.flags).collect();
    assert_eq!(settings, [0, 1]);
    let pong = came.last().unwrap();
    assert_eq!((pong.flags, pong.stream, &pong.content[..]), (1, 0, &b"01234567"[..]));
}

#[tokio::test]
async fn no_more_is_sent_than_the_client_has_room_for() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("12345").max_age(60));
    // INITIAL_WINDOW_SIZE.
    let mut client = Frames::with(gateway.address(), &[0, 4, 0, 0, 0, 2]).await;
    client.send(&get(1)).await;
    let content = |frames: Vec<Frame>| -> Vec<u8> {
        frames.into_iter().filter(|it| it.kind == DATA).flat_map(|it| it.content).collect()
    };
    assert_eq!(content(client.until(DATA).await), b"12");
    // By a setting the room becomes less than nothing, and by a window one octet.
    client.send(&[setting(4, 0), window(1, 3)].concat()).await;
    assert_eq!(content(client.until(DATA).await), b"3");
    client.send(&setting(4, 7)).await;
    assert_eq!(content(client.until(DATA).await), b"45");
}
