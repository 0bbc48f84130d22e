"""What no cache answers, beside peers as plain proxies: processor time, the first octet, and memory."""

import contextlib
import selectors
import socket
import time
from statistics import median

import measure as single
import report
from servers import HOST, Failure

NEEDS = {"wrk"}
SERVERS = ["larder", "nginx-proxy", "varnish", "haproxy", "trafficserver"]
SMALL, LARGE = 1 << 10, 10 << 20
# The origin has a core with those who ask: it pauses, or it would go on sending before the first octet was seen.
PATHS = {SMALL: "/no-store/1k", LARGE: f"/no-store/paused/{LARGE}"}
# One after the other, in a round.
TIMES = {SMALL: 200, LARGE: 20}
# Before each: who has just moved 10 MiB would have to wait for whatever else the machine does.
REST = {SMALL: 0, LARGE: 0.02}
# At the same time, for their memory.
STREAMS = 8


def measure(bench):
    samples = bench.samples["misses"] = {}
    rounds, seconds = bench.options.compared["misses"]
    with contextlib.ExitStack() as stack:
        names = [name for name in SERVERS if name.removesuffix("-proxy") in bench.names]
        servers = bench.start_servers(stack, names)
        highest = {server.name: bench.load.highest(server, "GET", PATHS[SMALL], 0, seconds) for server in servers}
        # The same for the two that are compared, below saturation: see README.md on forwarding. No other is to be
        # asked for more than it can.
        rate = min([found for name, found in highest.items() if name in SERVERS[:2]] or highest.values()) / 2
        bench.load.calm()
        samples["highest"] = highest
        samples["requests"] = bench.in_turn(
            "misses: 1 KiB", servers,
            lambda server: bench.load.forward(
                server, "GET", PATHS[SMALL], 0, min(rate, highest[server.name] / 2), seconds), rounds, seconds,
            base="nginx-proxy")
        # The origin itself comes first in each round: the others are compared with it.
        everyone = [bench.load.origin, *servers]
        for key, length in (("first", SMALL), ("first-large", LARGE)):
            samples[key] = bench.in_turn(
                f"misses: {length >> 10:,} KiB, one by one", everyone,
                lambda server: one_by_one(server, PATHS[length], length, TIMES[length]), rounds)
        samples["memory"] = bench.in_turn(
            f"misses: {STREAMS} times {LARGE >> 20} MiB", servers, memory, rounds)


def request(server, path):
    lines = [f"GET {path}{single.QUERY} HTTP/1.1", f"Host: {HOST}:{server.port}"]
    lines += [f"{name}: {value}" for name, value in single.FIELDS.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def one_by_one(server, path, length, times):
    """Seconds from a request to the first octet of its answer, and to the last, in the median."""
    asked, buffer = request(server, path), bytearray(256 << 10)
    firsts, lasts = [], []
    with socket.create_connection((HOST, server.port), 10) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            time.sleep(REST[length])
            begun = time.perf_counter()
            stream.sendall(asked)
            count = stream.recv_into(buffer)
            firsts.append(time.perf_counter() - begun)
            read(stream, bytes(buffer[:count]), buffer, length)
            lasts.append(time.perf_counter() - begun)
    return {"first": median(firsts), "last": median(lasts)}


def read(stream, came, buffer, length):
    """The rest of an answer of known length, or in chunks."""
    while b"\r\n\r\n" not in came:
        came += more(stream, buffer)
    head, _, content = came.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Failure(f"wrong answer: {head.splitlines()[0]}")
    if b"content-length:" in head.lower():
        missing = length - len(content)
        while missing > 0:
            missing -= len(more(stream, buffer))
    else:
        # The last chunk ends what is read here, as there is one answer at a time.
        end = content[-5:]
        while not end.endswith(b"0\r\n\r\n"):
            end = (end + more(stream, buffer))[-5:]


def more(stream, buffer):
    count = stream.recv_into(buffer)
    if not count:
        raise Failure("the connection was closed within an answer")
    return memoryview(buffer)[:count]


def memory(server):
    """Octets that the server's processes had in use more than before at most, while a few large answers passed."""
    before = single.settled(server)
    server.forget_most()
    asked, buffer = request(server, PATHS[LARGE]), bytearray(64 << 10)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        left = {}
        for _ in range(STREAMS):
            stream = stack.enter_context(socket.create_connection((HOST, server.port), 10))
            stream.sendall(asked)
            selector.register(stream, selectors.EVENT_READ)
            left[stream] = LARGE
        while left:
            ready = selector.select(10)
            if not ready:
                raise Failure("nothing came for 10 s")
            for key, _ in ready:
                left[key.fileobj] -= len(more(key.fileobj, buffer))
                # Heads and the framing of chunks count too: what is left of them is of no matter.
                if left[key.fileobj] <= 0:
                    selector.unregister(key.fileobj)
                    del left[key.fileobj]
    return {"more": max(server.most_of_all() - before, 0)}


def table(samples):
    rows = []
    requests, singles = samples.get("requests", {}), {key: samples.get(key, {}) for key in ("first", "first-large")}
    for name, rounds in requests.items():
        found = [it for it in rounds if it]
        if not found:
            continue
        row = [name, f"{report.middle(found, 'cpu'):.1f}",
               report.ratio(rounds, requests.get("nginx-proxy", [])),
               f"{samples['highest'][name]:,.0f}"]
        for firsts in singles.values():
            row.append(_shown(later(firsts.get(name, []), firsts.get("origin", [])), 1e6))
        large = [it["last"] for it in singles["first-large"].get(name, []) if it]
        row.append(_shown(large and median(large), 1e3, 1))
        memory_of = [it["more"] for it in samples.get("memory", {}).get(name, []) if it]
        row.append(_shown(memory_of and median(memory_of), 1 / 2**20, 1))
        rows.append(row)
    head = ["server", "µs/request, 1 KiB", "to nginx", "requests/s", "first octet of 1 KiB, µs later",
            "first octet of 10 MiB, µs later", "last of 10 MiB after, ms", f"{STREAMS} streams take, MiB"]
    return report.table(head, rows)


def later(rounds, origins):
    """Seconds by which the first octet came later than the origin's own."""
    pairs = [(a, b) for a, b in zip(rounds, origins) if a and b]
    return median(a["first"] - b["first"] for a, b in pairs) if pairs else None


def _shown(value, unit, digits=0):
    return "–" if value in (None, []) else f"{value * unit:.{digits}f}"
