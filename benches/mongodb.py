"""What MongoDB behind the cache costs, what it saves, and how soon changes are seen (`changes.py`)."""

import random
import threading
import time
from statistics import median

import changes
import report
from database import DOCUMENTS, Late, start_larder, start_mongodb
from fleet import Wire, stats
from servers import Failure

NEEDS = {"redis-server"}
# The collection answers so late.
DELAY = 0.12
READS = 100_000
CLIENTS = 32
# Documents are asked for as in a Pareto distribution of shape 1.16: a fifth of them gets 80 % of the reads.
STEEPNESS = 1 / (1 - 1 / 1.16)
# So many hits and misses tell what one costs.
LOOKS = 200


def measure(bench):
    bench.say("mongodb: documents")
    found = documents(bench.starter, bench.root, bench.options.quick)
    bench.samples["mongodb"] = found
    bench.say("mongodb: changes")
    found.update(changes.changes(bench.starter, bench.root, bench.options.quick))


def documents(starter, root, quick):
    """One document from L1 and from the collection, and a run of reads."""
    found = {}
    with start_mongodb(starter, root) as mongodb:
        late = Late(mongodb.port, DELAY)
        late.start()
        with start_larder(starter, late.port) as larder:
            wire = Wire(larder.port)
            # Connected, and warm.
            wire.ask("GET", "/users/0")
            looks = range(1, LOOKS // 10 if quick else LOOKS + 1)
            found["collection"] = [timed(wire, number, "uri-miss") for number in looks]
            found["l1"] = [timed(wire, number, "hit") for number in looks]
            wire.close()
            found.update(reads(larder, READS // 50 if quick else READS))
        late.listener.close()
    return found


def timed(wire, number, how):
    begun = time.perf_counter()
    head, _ = wire.ask("GET", f"/users/{number}")
    span = time.perf_counter() - begun
    if how not in head:
        raise Failure(f"document {number} is no {how}: {head}")
    return span


def reads(larder, count):
    """As clients read, several at once: few documents often, most of them seldom. Answers how many of
    the reads MongoDB served."""
    chance = random.Random(1)
    asked = [int(DOCUMENTS * chance.random() ** STEEPNESS) for _ in range(count)]
    before, failures = served(larder), []

    def client(numbers):
        wire = Wire(larder.port)
        try:
            for number in numbers:
                wire.ask("GET", f"/users/{number}")
        except (Failure, OSError) as failure:
            failures.append(failure)
        finally:
            wire.close()

    clients = [threading.Thread(target=client, args=(asked[start::CLIENTS],))
               for start in range(CLIENTS)]
    begun = time.monotonic()
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    if failures:
        raise Failure(f"{len(failures)} clients failed: {failures[0]}")
    return {"reads": count, "served": served(larder) - before, "seconds": time.monotonic() - begun}


def served(larder):
    """How many requests went on to MongoDB so far."""
    return stats(larder)["upstream_requests"]


def table(samples):
    """Each figure beside its aim."""
    collection, l1 = (median(samples[name]) for name in ("collection", "l1"))
    share = samples["served"] / samples["reads"]
    rows = [
        ["a document from the collection, ms", f"{collection * 1e3:.0f}", "–"],
        ["the same from L1, ms", f"{l1 * 1e3:.2f}", "–"],
        ["so many times faster from L1", f"{collection / l1:.0f}", "> 150"],
        [f"reads that reach MongoDB, of {samples['reads']:,}", f"{share:.1%}", "< 20 %"],
    ]
    for name, spans in samples.get("fresh", {}).items():
        rows.append([f"from a committed write to a read that shows it, through {name}, ms",
                     f"median {median(spans):.1f}, p99 {sorted(spans)[len(spans) * 99 // 100]:.1f}",
                     "median < 20"])
    for kind, what in (("written", "writes"), ("scripted", "changes")):
        for it in samples.get(kind, []):
            rows += [
                [f"{it['due']:,} {what} a second for {it['spell']} s: changes that the log took, a second",
                 f"{it['rate']:,.0f}", "all"],
                ["the same: how far the log is behind, ms",
                 f"at first {it['first']:.1f}, at the end {it['last']:.1f}, at most {it['worst']:.0f}",
                 "does not grow"],
                ["the same: the gateway's share of a core", f"{it['cpu'] * it['rate'] / 1e6:.0%}", "–"],
            ]
            if "writes" in it:
                rows[-3][1] += f" of {it['writes']:,.0f}, which the server took"
    return report.table(["cost", "measured", "aim"], rows)
