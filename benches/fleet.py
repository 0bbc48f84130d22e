"""What a fleet costs: L2 beside bare Redis, and the invalidation log beside what it covers.

Two gateways share a Redis. Each figure stands beside its aim.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from statistics import median

import report
from measure import SIZES
from servers import HOST, Failure, route, to_origin

NEEDS = {"wrk", "redis-server"}
# Of the look-ups in L2, a round.
LOOK_UPS = 20_000
# So many purges tell what one costs, and so many of them are measured together.
PURGES, TOGETHER = 1000, 50
# Arriving in a second, while hits are counted.
RATE = 1000
NAMESPACE = "bench"
# What `constant` gives each of its small answers.
TAG = "small"


def measure(bench):
    starter, load, count = bench.starter, bench.load, bench.options.stored
    server_core, load_core, redis_core = bench.options.cores
    samples = {}
    with contextlib.ExitStack() as stack:
        bench.say("fleet: look-ups in L2")
        # This load comes from the measured process itself: the load's core is free.
        redis = stack.enter_context(starter.start_redis(load_core))
        samples["look-ups"] = look_ups(bench.binaries, redis, server_core, 2 * bench.options.rounds + 1)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(starter.start_redis())
        near, far = (stack.enter_context(start(starter, name, redis, core))
                     for name, core in (("fleet-a", redis_core), ("fleet-b", server_core)))
        bench.say("fleet: from one gateway to the other")
        samples["spread"] = spread(near, far, 100 * bench.options.rounds)
        load.check_hit(far, bench.path("1k"), SIZES["1k"])
        samples["hits"] = bench.interleaved(
            "fleet-hits", situations(near, far), lambda situation: hits_while_purging(bench, situation),
            bench.options.seconds)
    with contextlib.ExitStack() as stack:
        fleets = {}
        capacity = f"{max(64, min(count * 2 // 1024, 512))}MiB"
        for name, number in (("one", 1), ("all", count)):
            bench.say(f"fleet: storing {number:,} small responses")
            redis = stack.enter_context(starter.start_redis(name=f"redis-{name}"))
            server = stack.enter_context(start(starter, f"fleet-{name}", redis, server_core, capacity))
            fleets[name] = server, redis
            samples[name] = store(load, server, redis, number)
        bench.say("fleet: purging them")
        samples["purges"] = purges(fleets)
        missed, asked = gone(fleets["all"][0], load, count)
        if missed != asked:
            raise Failure(f"{asked - missed} of {asked} were not gone after the purge")
    bench.samples["fleet"] = samples


class Wire:
    """A kept connection to a server. Requests go one after the other, or several ahead."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.came = b""

    def close(self):
        self.socket.close()

    def send(self, method, target, content=b""):
        head = f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(content)}\r\n"
        if content:
            head += "Content-Type: application/json\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + content)

    def receive(self):
        """Head and content of the next response."""
        while b"\r\n\r\n" not in self.came:
            self._more()
        head, _, rest = self.came.partition(b"\r\n\r\n")
        lines = head.decode().lower().splitlines()
        length = int(next(line for line in lines if line.startswith("content-length:"))[15:])
        self.came = rest
        while len(self.came) < length:
            self._more()
        content, self.came = self.came[:length], self.came[length:]
        if not lines[0].startswith("http/1.1 200"):
            raise Failure(f"wrong answer: {lines[0]}, {content[:200]}")
        return "\n".join(lines), content

    def ask(self, method, target, content=b""):
        self.send(method, target, content)
        return self.receive()

    def _more(self):
        came = self.socket.recv(1 << 16)
        if not came:
            raise Failure("the connection was closed")
        self.came += came


class Situation:
    """Hits on a gateway, while purges arrive at an admin listener, or none."""

    def __init__(self, name, server, admin):
        self.name, self.server, self.admin = name, server, admin


def situations(near, far):
    return [Situation("none", far, None), Situation("other gateway", far, near.admin),
            Situation("same gateway", far, far.admin)]


def purge(tag):
    return "POST", "/purge", json.dumps({"tags": [tag]}).encode()


class Purger(threading.Thread):
    """Purges `RATE` tags a second that nothing bears, until told to stop."""

    def __init__(self, admin):
        super().__init__(daemon=True)
        self.admin = admin
        self.stopping = threading.Event()
        self.failure = None
        self.rate = 0

    def run(self):
        try:
            wires = [Wire(self.admin) for _ in range(8)]
            begun, sent = time.monotonic(), 0
            while not self.stopping.is_set():
                due = int((time.monotonic() - begun) * RATE)
                while sent < due:
                    wire = wires[sent % len(wires)]
                    # The answer before this one, if there was one.
                    if sent >= len(wires):
                        wire.receive()
                    wire.send(*purge(f"nobody-{os.getpid()}-{sent}-{begun}"))
                    sent += 1
                time.sleep(1 / RATE)
            for number in range(max(0, sent - len(wires)), sent):
                wires[number % len(wires)].receive()
            self.rate = sent / (time.monotonic() - begun)
            for wire in wires:
                wire.close()
        except (OSError, Failure) as failure:
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.join(30)
        if self.failure:
            raise Failure(f"purges failed: {self.failure}")
        return self.rate


def hits_while_purging(bench, situation):
    purger = Purger(situation.admin) if situation.admin else None
    if purger:
        purger.start()
    try:
        seen = bench.load.saturate(situation.server, bench.path("1k"), bench.options.seconds)
    finally:
        rate = purger.stop() if purger else 0
    if purger and rate < 0.95 * RATE:
        raise Failure(f"{rate:.0f} purges a second instead of {RATE}")
    return seen


def start(starter, name, redis, core, capacity="256MiB"):
    """A gateway of the fleet; it knows the fleet when this returns."""
    server = starter.start_with_admin(name, f"""
[cache]
namespace = "{NAMESPACE}"

[cache.l1]
capacity = "{capacity}"
ttl      = "1h"

[cache.l2]
redis   = "redis://{HOST}:{redis.port}"
timeout = "1s"
""" + to_origin(starter.origin.port, route()), f'name = "{name}"\nwatch = false', core)
    for _ in range(200):
        if l2(server)["log_in_step"]:
            return server
        time.sleep(0.05)
    server.close()
    raise Failure(f"{name} does not come into step with the log")


def stats(server):
    """What a gateway tells of itself."""
    wire = Wire(server.admin)
    try:
        return json.loads(wire.ask("GET", "/stats")[1])
    finally:
        wire.close()


def l2(server):
    return stats(server)["store"]["l2"]


def settled(server):
    """Waits until nothing is on its way to Redis."""
    for _ in range(600):
        if l2(server)["writing"] == 0:
            return
        time.sleep(0.05)
    raise Failure("L2 is never written")


def cpu_seconds(*servers):
    """Processor time of their threads so far, to the nanosecond; ended threads are missing."""
    spans = 0
    for server in servers:
        for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
            spans += int((thread / "schedstat").read_text().split()[0])
    return spans / 1e9


def look_ups(binaries, redis, core, rounds):
    """Of each crowd and way, the rounds' wall time, own processor time and Redis' in µs."""
    command = ["taskset", "-c", core, binaries / "examples/l2", redis.port, rounds, LOOK_UPS]
    try:
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True,
                              text=True, timeout=1200)
    except subprocess.CalledProcessError as error:
        raise Failure(f"l2: {error.stderr.strip()}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"l2: {error}") from error
    return json.loads(done.stdout)


def spread(here, there, count):
    """Milliseconds from a purge at one gateway to the first answer of another that is no hit; and to
    the purge's own answer. Idle gateways, one after the other."""
    operator, client = Wire(here.admin), Wire(there.port)
    reached, answered = [], []
    for _ in range(count):
        for _ in range(1000):
            if "larder; hit" in client.ask("GET", "/small/spread")[0]:
                break
        else:
            raise Failure("a response is never a hit")
        begun = time.perf_counter()
        operator.send(*purge(TAG))
        while "larder; hit" in client.ask("GET", "/small/spread")[0]:
            if time.perf_counter() - begun > 10:
                raise Failure("a purge never reached the other gateway")
        reached.append((time.perf_counter() - begun) * 1e3)
        operator.receive()
        answered.append((time.perf_counter() - begun) * 1e3)
    operator.close()
    client.close()
    return {"reached": reached, "answered": answered}


def purges(fleets):
    """What it costs to purge all that is stored. `fleets`: a gateway and its Redis by name, in turn."""
    wires = {name: Wire(server.admin) for name, (server, _) in fleets.items()}
    told = {name: [] for name in fleets}
    for _ in range(PURGES // TOGETHER):
        for name, (server, redis) in fleets.items():
            spans, before = [], cpu_seconds(server, redis)
            for _ in range(TOGETHER):
                begun = time.perf_counter()
                wires[name].ask(*purge(TAG))
                spans.append((time.perf_counter() - begun) * 1e3)
            # What it may have set off beside the answers.
            time.sleep(0.1)
            cpu = (cpu_seconds(server, redis) - before) * 1e6 / TOGETHER
            # The very first one found everything valid.
            told[name].append({"first": spans[0], "time": median(spans), "cpu": cpu})
    for wire in wires.values():
        wire.close()
    return told


def gone(server, load, count):
    """How many of some stored responses are no longer answered with. They are all over the tier."""
    wire = Wire(server.port)
    asked = load.asked()
    some = min(count, 100)
    for number in range(0, count, max(1, count // some)):
        wire.ask("GET", f"/small/{number}")
    wire.close()
    return load.asked() - asked, len(range(0, count, max(1, count // some)))


class Keys:
    """Redis' keys, as it tells them itself."""

    def __init__(self, redis):
        self.socket = socket.create_connection((HOST, redis.port), 60)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def ask(self, *words):
        parts = [str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts)
                            + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._answer()

    def _answer(self):
        kind = self.file.read(1)
        line = self.file.readline().rstrip()
        if kind == b"*":
            return [self._answer() for _ in range(int(line))]
        if kind == b"$":
            return self.file.read(int(line) + 2)[:-2]
        if kind == b"-":
            raise Failure(f"Redis: {line.decode()}")
        return int(line) if kind == b":" else line

    def octets(self):
        """In use for what it holds."""
        told = self.ask("INFO", "memory").decode()
        return int(next(line for line in told.splitlines() if line.startswith("used_memory:"))[12:])

    def census(self):
        """How many keys are stored responses, and which are not, with their types."""
        responses, others, cursor = 0, {}, b"0"
        prefix = f"{NAMESPACE}:r:".encode()
        while True:
            cursor, names = self.ask("SCAN", cursor.decode(), "COUNT", 10_000)
            for name in names:
                if name.startswith(prefix):
                    responses += 1
                else:
                    others[name.decode()] = self.ask("TYPE", name.decode()).decode()
            if cursor == b"0":
                return responses, others


def store(load, server, redis, count):
    """Has a gateway store so many responses, each with the tag; tells what Redis keeps of them."""
    keys = Keys(redis)
    octets = keys.octets()
    load.send(server, "/small/{n}", count, count, cold=True)
    settled(server)
    responses, others = keys.census()
    told = {"asked": count, "responses": responses, "others": others, "octets": (keys.octets() - octets) / responses,
            "all": keys.ask("DBSIZE")}
    keys.close()
    return told


def table(samples):
    """Each cost beside its aim; the last column compares the worst of a row with it."""
    ways = samples["look-ups"]
    rows = []

    def row(what, found, aim, digits=2, worst=max, least=False):
        shown = ", ".join(f"{name} {value:.{digits}f}".strip() for name, value in found.items())
        bound = worst(found.values())
        beside = aim / bound if least else bound / aim
        rows.append([what, shown, f"{'>' if least else '<'} {aim}", f"{beside:.2f}"])

    def to_get(crowd, cost):
        pairs = zip(ways[crowd]["look-up"], ways[crowd]["get"])
        return median(cost(a) / cost(b) for a, b in pairs)

    row("a look-up in L2, to a bare `GET`: time", {
        "by one": to_get("one", lambda it: it[0]), "by 64": to_get("many", lambda it: it[0])}, 1.3)
    row("the same: processor time, Redis' included", {
        "by one": to_get("one", lambda it: it[1] + it[2]),
        "by 64": to_get("many", lambda it: it[1] + it[2])}, 1.3)
    spread = samples["spread"]
    row("from a purge to another gateway's L1, ms", {
        "median": median(spread["reached"]),
        "p99": sorted(spread["reached"])[len(spread["reached"]) * 99 // 100]}, 5,
        worst=lambda spans: next(iter(spans)))
    one, every = samples["purges"]["one"], samples["purges"]["all"]
    row(f"a purge of {samples['all']['responses']:,} responses, to one of 1", {
        name: median(a[key] / b[key] for a, b in zip(every, one))
        for name, key in (("time", "time"), ("processor time", "cpu"))}, 1.1)
    hits = samples["hits"]
    found = {}
    for name, rounds in hits.items():
        pairs = [(a, b) for a, b in zip(rounds, hits["none"]) if a and b]
        if name != "none" and pairs:
            # Of a second: what all took, less what as many hits take without purges.
            found[f"by the {name}"] = median(
                1 - (a["cpu"] - b["cpu"]) * a["rate"] / 1e6 for a, b in pairs)
    if found:
        row("hits of a busy core that are left by 1,000 purges a second", found, 0.9, worst=min,
            least=True)
    costs = report.table(["cost", "measured", "aim", "worst to aim"], rows)
    return costs + "\n\n" + kept(samples["all"], every)


def kept(stored, purges):
    """What Redis keeps of many responses, and what purges of them took."""
    receipts = [name for name in stored["others"] if ":receipt:" in name]
    others = [f"`{name}` ({kind})" for name, kind in sorted(stored["others"].items())
              if name not in receipts]
    if receipts:
        others.append(f"{len(receipts):,} receipts of the last hour's purges")
    missing = stored["asked"] - stored["responses"]
    missing = f" ({missing:,} more were not written in time)" if missing else ""
    return (f"{stored['responses']:,} stored responses of 16 octets{missing} take "
            f"{stored['octets']:,.0f} octets of Redis each, of its {stored['all']:,} keys. The others are "
            f"{', '.join(others)}. The first purge of all that is stored took "
            f"{purges[0]['first']:.2f} ms, the median of all {report.middle(purges, 'time'):.2f} ms, with "
            f"{report.middle(purges, 'cpu'):.0f} µs of processor time, Redis' included.")
