"""What the compared servers are asked for: the works of `hits` and `latency`, and who does which.

A work is one request, or a few in turn, with an answer that comes from a cache, over so many connections.
"""

import time
from dataclasses import dataclass, field, replace

import measure
from servers import Failure, body

VARIANTS = 12
ENTITY_TAG = '"5f3c-61a2b7e0"'
# A part of 1 KiB.
FIRST, LAST = 100_000, 101_023


@dataclass(frozen=True)
class Work:
    kind: str
    path: str
    length: int
    connections: int = 64
    is_second: bool = False
    status: int = 200
    more: dict = field(default_factory=dict)
    variants: int = 1

    @property
    def name(self):
        many = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"{self.kind}, {many}, HTTP/{'2' if self.is_second else '1.1'}"

    def fields(self, variant="{n}"):
        more = {name: value.format(n=variant) for name, value in self.more.items()}
        return {**measure.FIELDS, **more}

    def content(self):
        return {200: body(self.length), 206: body(LAST + 1)[FIRST:], 304: b""}[self.status]


def hit(kind, path, connections=64, is_second=False):
    return Work(kind, path, measure.SIZES[path.removeprefix("/")], connections, is_second)


SIZED = [("1 KiB", "/1k"), ("16 KiB", "/16k"), ("256 KiB", "/256k")]
SPECIAL = [
    Work("304", "/1k", 0, status=304, more={"If-None-Match": ENTITY_TAG}),
    Work("1 KiB of 256 KiB", "/256k", LAST + 1 - FIRST, status=206, more={"Range": f"bytes={FIRST}-{LAST}"}),
    # Tags for private use (RFC 5646 §2.2.7): nobody knows them, so that nobody makes two of them one.
    Work(f"1 KiB, {VARIANTS} variants", "/variants/1k", 1 << 10, more={"Accept-Language": "x-{n}"},
         variants=VARIANTS),
]
EVERY = [hit(kind, path, connections, is_second) for is_second in (False, True) for kind, path in SIZED
         for connections in (1, 64, 512)]
EVERY[9:9] = SPECIAL
# Sizes at 64 connections, and numbers of connections at 1 KiB; the rest with `--every`.
USUAL = [work for work in EVERY if work.connections == 64 or work.kind == "1 KiB"]
QUICK = [work for work in USUAL if work.connections == 64 and work.kind in ("1 KiB", "256 KiB", "304")]

# Who does not do which works, and why.
CANNOT = [
    ("haproxy", lambda work: work.status == 206, "ranges: its cache answers with the whole content"),
    ("haproxy", lambda work: work.variants > 1,
     "variants: its cache stores what varies by `Accept-Encoding`, `Referer` or `Origin` alone"),
    ("trafficserver", lambda work: work.is_second, "HTTP/2, which it speaks over TLS alone"),
]


def chosen(options):
    """The works that these options want."""
    usual = EVERY if options.every else QUICK if options.quick else USUAL
    if options.vary:
        usual = [work if work.variants > 1 else replace(work, path="/vary" + work.path) for work in usual]
    return [work for work in usual if not options.work or any(part in work.name for part in options.work)]


def why_not(name, work):
    return next((why for who, cannot, why in CANNOT if who == name and cannot(work)), None)


def able(servers, work, note):
    """Those of the servers that do the work; the notes say why the others do not."""
    found = []
    for server in servers:
        if why := why_not(server.name, work):
            note(f"{server.name} is left out of {why}")
        else:
            found.append(server)
    return found


def check(load, server, work):
    """Asks until the server answers all of it by itself, with the right octets."""
    for variant in range(work.variants):
        # Whole at first: a cache may pass on what asks for less, and store nothing.
        whole = Work(work.kind, work.path, measure.SIZES[work.path.rpartition("/")[2]],
                     more=work.more if work.variants > 1 else {})
        check_one(load, server, whole, variant)
        if work.status != 200:
            check_one(load, server, work, variant)
    if work.is_second:
        # HAProxy has another key for what comes by HTTP/2.
        load.first(server, replace(work, connections=1))


def check_one(load, server, work, variant):
    for _ in range(50):
        before = load.asked()
        for _ in range(3):
            status, content = server.get(work.path + measure.QUERY, work.fields(variant))
            if status != work.status or content != work.content():
                raise Failure(f"wrong answer to `{work.kind}`: {status}, {len(content)} octets")
        if load.asked() == before:
            return
        time.sleep(0.1)
    raise Failure(f"`{work.kind}` is no hit: every request reaches the origin")
