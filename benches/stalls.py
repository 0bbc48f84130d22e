"""Whether a hit waits for what else a gateway does: latency on a schedule while misses, slow misses, purges,
reloads and evictions run, each beside the same without.

The generator wakes before everything else on its core, so that neither the origin nor those who cause the
trouble make it late. The gateway has one core for all it does, as always here.
"""

import shutil
import subprocess
import threading
import time
from statistics import median

import fleet
import reload
import report
from fleet import stats
from measure import QUERY
from servers import Failure, free_port, head, route, to_origin

# Hits a second, for so long.
RATE, SECONDS, QUICK_SECONDS = 4000, 4, 2
# In a second: what else is asked for.
MISSES, SLOW, STORES, RELOADS = 500, 90, 300, 5
# A hit may take so much longer, in milliseconds: what the kernel lets another thread of the same core have
# before it takes turns.
AIM = 5
HIT = "/1k" + QUERY
# Twice what L1 has room for, of 9.6 KiB in the mean.
ROOM, FILL = 32, 8000


class Trouble(threading.Thread):
    """Runs `cause` over and over until told to stop."""

    def __init__(self, cause):
        super().__init__(daemon=True)
        self.cause, self.failure = cause, None
        self.stopping = threading.Event()

    def run(self):
        try:
            number = 0
            while not self.stopping.is_set():
                self.cause(number)
                number += 1
        except Failure as failure:
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.join(60)
        if self.failure:
            raise self.failure


class Situation:
    """What runs meanwhile; `name` is how the samples call it."""

    def __init__(self, name, trouble):
        self.name, self.trouble = name, trouble


def start(starter):
    port, admin = free_port(), free_port()
    server = starter.start_by(configuration(starter, port, admin, 0), "stalls", port)
    server.admin = admin
    return server


def configuration(starter, port, admin, round):
    """A hundred routes, of which one has other lines each time; and all else by one more."""
    text = head(port, admin, 'watch = false\ncompiled_cache = "off"')
    text += f'[cache.l1]\ncapacity = "{ROOM}MiB"\nttl = "1h"\n'
    return text + to_origin(starter.origin.port, route(), *reload.in_turn(round))


def situations(bench, server):
    def asking(path, rate):
        def cause(number):
            count = rate // 2
            # Each half second asks for other ones.
            bench.load.send(server, f"{path.replace('{m}', unique())}{QUERY}", count, count, rate, cold=True,
                            words=["rest"], connections=32)
        return lambda: Trouble(cause)

    def reloading():
        def cause(number):
            file = bench.starter.folder / "stalls.toml"
            file.write_text(configuration(bench.starter, server.port, server.admin, number + 1))
            reload.reload(server.admin)
            time.sleep(1 / RELOADS)
        return Trouble(cause)

    def unique():
        unique.number += 1
        return str(unique.number)
    unique.number = 0

    return [
        Situation("nothing", lambda: None),
        Situation(f"{MISSES} misses a second", asking("/no-store/1k", MISSES)),
        Situation(f"{SLOW} slow misses a second", asking("/paced/{m}-{n}", SLOW)),
        Situation(f"{fleet.RATE:,} purges a second", lambda: fleet.Purger(server.admin)),
        Situation(f"{RELOADS} reloads a second", reloading),
        Situation(f"{STORES} stores and evictions a second", asking("/mixed/{m}/{n}", STORES)),
    ]


def first_in_line():
    """What makes a program the first on its core, where that is allowed."""
    by = ["chrt", "-f", "1"]
    allowed = shutil.which("chrt") and not subprocess.run(
        [*by, "true"], capture_output=True, check=False).returncode
    return by if allowed else []


def measure(bench):
    seconds = QUICK_SECONDS if bench.options.quick else SECONDS
    by = first_in_line()
    if not by:
        bench.note("stalls: the generator may not be first on its core, so it is late itself")
    with start(bench.starter) as server:
        bench.load.send(server, "/mixed/first/{n}" + QUERY, FILL, FILL, cold=True)
        bench.load.send(server, HIT, 20_000, cold=True)
        if stats(server)["store"]["l1_octets"] < (ROOM << 20) * 0.9:
            raise Failure("L1 is not full")

        def sample(situation):
            trouble = situation.trouble()
            if trouble:
                trouble.start()
                time.sleep(0.3)
            try:
                return bench.load.send(server, HIT, RATE * seconds, 1, RATE, cold=True, words=["rest"], by=by)
            finally:
                if trouble:
                    trouble.stop()

        told = bench.interleaved("stalls", situations(bench, server), sample)
    bench.samples["stalls"] = told


def table(told):
    rows, still = [], told["nothing"]
    for name, rounds in told.items():
        samples = [sample for sample in rounds if sample]
        if not samples:
            continue
        late = report.middle(samples, "late_p999")
        more = [(a["p999"] - b["p999"]) / 1000 for a, b in zip(rounds, still) if a and b]
        beside = median(more) if more else 0
        beside = [f"{beside:+.1f}", f"< {AIM}", "yes" if beside < AIM else "no"]
        if late > AIM * 1000:
            beside[2] = "the generator was late"
        rows.append([name, *(f"{report.middle(samples, key):.0f}" for key in ("p50", "p99", "p999", "max")),
                     f"{late:.0f}", *(["–"] * 3 if rounds is still else beside)])
    head = ["meanwhile", "p50 µs", "p99 µs", "p99.9 µs", "most µs", "sent late, p99.9 µs",
            "p99.9 more, ms", "aim", "met"]
    return report.table(head, rows)
