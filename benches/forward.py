"""What it costs to pass on what no cache answers: beside nginx as a plain proxy, and in memory.

Requests that all reach the origin, contents of any length in both directions, and connections on which
nothing happens.
"""

import contextlib
import http.client
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import time

import report
from measure import settled
from servers import HOST, Failure, body, free_port, route, to_origin

NEEDS = {"wrk", "nginx"}
# The compared servers, and what they are asked: method, path, and the length of the request's content.
SERVERS = ["larder", "nginx-proxy"]
REQUESTS = {
    "a GET, 1 KiB": ("GET", "/no-store/1k", 0),
    "a GET, 64 KiB": ("GET", "/no-store/64k", 0),
    "a POST of 1 KiB, 1 KiB": ("POST", "/no-store/1k", 1 << 10),
}
# How long a content is, and a longer one beside it.
LENGTHS, QUICK_LENGTHS = (10 << 20, 10 << 30), (10 << 20, 1 << 30)
# What streams: method and path; of an upload the request's content.
STREAMS = {
    "not to be stored": ("GET", "/no-store/large/{length}"),
    "too large to be stored": ("GET", "/large/{length}"),
    "of unknown length": ("GET", "/endless/{length}"),
    "an upload": ("POST", "/no-store/1k"),
    "an upload in chunks": ("PUT", "/no-store/1k"),
}
# Idle connections, and those to begin with, by which everything has been used once.
IDLE, QUICK_IDLE, FIRST = 10_000, 1000, 500
# Seconds after which a connection of HTTP/1.1 is idle, and a little more.
MOMENT = 1.5
PIECE = 256 << 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def measure(bench):
    samples, seconds = {"requests": {}}, bench.options.seconds
    names = [name for name in SERVERS if name.startswith("larder") or shutil.which("nginx")]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(bench.starter.start(name)) for name in names]
        for what, (method, path, length) in REQUESTS.items():
            # The same rate for all: who is faster finds those around it awake more often, and
            # to wake them is a large part of what a request costs.
            rate = min(bench.load.highest(server, method, path, length, 2) for server in servers) / 2
            samples["requests"][what] = bench.interleaved(
                f"forward, {what}", servers,
                lambda server: bench.load.forward(server, method, path, length, rate, seconds), seconds)
    bench.say("forward: memory of streams")
    samples["lengths"] = QUICK_LENGTHS if bench.options.quick else LENGTHS
    samples["streams"] = streams(bench.starter, samples["lengths"])
    bench.say("forward: memory of idle connections")
    samples["count"] = QUICK_IDLE if bench.options.quick else raise_limit()
    secured = certificate(bench.starter.folder)
    samples["idle"] = idle(bench.starter, secured, samples["count"])
    bench.samples["forward"] = samples


def start(starter, name, secured=None):
    """A Larder with one worker. `secured`: of TLS, with this certificate and key."""
    port = free_port()
    listens = f'listen = "{HOST}:{port}"'
    if secured:
        listens += f'\ntls = {{ certificate = "{secured[0]}", key = "{secured[1]}" }}'
    config = f"""
[server]
{listens}
workers         = 1
max_connections = {IDLE + FIRST + 100}
header_timeout  = "10m"
watch           = false
[cache.l1]
capacity = "64MiB"
""" + to_origin(starter.origin.port, route())
    return starter.start_by(config, name, port)


def streams(starter, lengths):
    """The most memory that a Larder has had at any time, by what streamed through it, for each length."""
    found = {}
    for number, (name, (method, path)) in enumerate(STREAMS.items()):
        peaks = []
        for length in lengths:
            with start(starter, f"stream-{number}-{length}") as server:
                begun = time.monotonic()
                if method == "GET":
                    download(server, path.format(length=length), length)
                else:
                    upload(server, method, path, length)
                peaks.append({"peak": server.most_resident(), "seconds": time.monotonic() - begun})
        found[name] = peaks
    return found


def download(server, path, length):
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise Failure(f"wrong answer: {response.status}")
        buffer, came = bytearray(PIECE), 0
        while count := response.readinto(buffer):
            came += count
        if came != length:
            raise Failure(f"{came} octets came of {length}")


def upload(server, method, path, length):
    """By POST with its length, by PUT in chunks."""
    piece = body(PIECE)
    in_chunks = method == "PUT"
    framing = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {length}"
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
    with socket.create_connection((HOST, server.port), 60) as stream:
        stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n".encode())
        for _ in range(length // len(piece)):
            stream.sendall(chunk if in_chunks else piece)
        if in_chunks:
            stream.sendall(b"0\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            came = stream.recv(1 << 16)
            if not came:
                break
            answer += came
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Failure(f"wrong answer: {answer[:200]}")


def idle(starter, secured, count):
    """Octets that an idle connection takes, by what is spoken on it. Each has had one answer."""
    found = {}
    for name, over_tls, opened in (
            ("HTTP/1.1", False, by_http1), ("HTTP/2", False, by_http2),
            ("HTTP/1.1 over TLS", True, by_http1), ("HTTP/2 over TLS", True, by_http2)):
        with start(starter, f"idle-{len(found)}", secured if over_tls else None) as server, \
                contextlib.ExitStack() as connections:
            context = None
            if over_tls:
                context = ssl.create_default_context(cafile=secured[0])
                context.set_alpn_protocols(["h2"] if opened is by_http2 else ["http/1.1"])

            def open_more(count):
                for _ in range(count):
                    connections.enter_context(opened(connected(server, context)))
                time.sleep(MOMENT)
                return settled(server)

            before = open_more(FIRST)
            found[name] = (open_more(count) - before) / count
    return found


def connected(server, context):
    stream = socket.create_connection((HOST, server.port), 10)
    return context.wrap_socket(stream, server_hostname="localhost") if context else stream


def by_http1(stream):
    """The connection after one answer."""
    stream.sendall(f"GET /1k HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    came = b""
    while not came.endswith(body(1 << 10)):
        more = stream.recv(1 << 14)
        if not more:
            raise Failure(f"the connection was closed after {came[:200]}")
        came += more
    return stream


def by_http2(stream):
    """The connection after one answer (RFC 9113 §3.4)."""
    # GET, /1k, http, localhost: of the static table, or literally (RFC 7541).
    fields = b"\x82\x04\x03/1k\x86\x01\x09localhost"
    stream.sendall(PREFACE + frame(4, 0, 0) + frame(1, 0x5, 1, fields))
    came = b""
    while True:
        while len(came) < 9 or len(came) < 9 + int.from_bytes(came[:3], "big"):
            more = stream.recv(1 << 14)
            if not more:
                raise Failure(f"the connection was closed after {came[:200]}")
            came += more
        end = 9 + int.from_bytes(came[:3], "big")
        kind, flags, number = came[3], came[4], int.from_bytes(came[5:9], "big")
        came = came[end:]
        if kind == 4 and not flags & 1:
            stream.sendall(frame(4, 1, 0))  # Their settings, acknowledged.
        elif kind in (3, 7):
            raise Failure("the connection was refused")
        elif number == 1 and flags & 1:
            return stream


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def certificate(folder):
    """Files with a certificate for `localhost` and its key."""
    files = folder / "localhost.pem", folder / "localhost.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
               "-out", files[0], "-keyout", files[1]]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"openssl: {error}") from error
    return files


def raise_limit():
    """As many open files as this process and its children may have: both ends of each connection are
    one. Answers how many connections that allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(IDLE, hard - FIRST - 100)


def table(samples):
    """Requests beside nginx, and memory, each beside its aim."""
    rows = []
    for what, by_server in samples["requests"].items():
        for name, rounds in by_server.items():
            found = [sample for sample in rounds if sample]
            if found:
                rows.append([
                    what, name, f"{report.middle(found, 'cpu'):.1f}",
                    report.ratio(rounds, by_server.get("nginx-proxy", [])),
                    f"{report.middle(found, 'rate'):,.0f}", f"{report.middle(found, 'busy'):.0%}"])
    head = ["request and its answer", "server", "µs/request", "to nginx (aim: 1.20)", "requests/s",
            "core busy"]
    requests = report.table(head, rows)
    lengths = [f"{length >> 20:,} MiB" for length in samples["lengths"]]
    rows = []
    for what, peaks in samples["streams"].items():
        most = [it["peak"] for it in peaks]
        rows.append([what, *(f"{peak / 2**20:.1f}" for peak in most), f"{most[-1] / most[0]:.2f}",
                     f"{peaks[-1]['seconds']:.1f}"])
    head = ["what streams", *(f"most memory at {length}, MiB" for length in lengths), "ratio",
            f"seconds for {lengths[-1]}"]
    streams = report.table(head, rows)
    rows = [[what, f"{octets / 1024:.1f}"] for what, octets in samples["idle"].items()]
    idle = report.table([f"{samples['count']:,} idle connections", "KiB each (aim: < 20)"], rows)
    return "\n\n".join([requests, streams, idle])
