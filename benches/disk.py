"""How many requests a tier on a disk answers, which makes room by end of life and not by use.

The same requests are played to caches that are computed: the least recently used leaves first (LRU), or
the oldest (FIFO), of as many responses as the disk has room for.
"""

import random
from collections import OrderedDict
from itertools import accumulate

import report
from fleet import Wire, stats
from servers import Failure, route, to_origin

# Different responses, and requests for them.
RESPONSES, REQUESTS = 80_000, 200_000
# The n-th of them is asked for so often, to the first one: n to the power of minus this.
STEEPNESS = 0.9
# The disk has room for such a share of them; L1 for a part of that, or for nothing.
SHARE = 0.1
PARTS = (0, 0.1)
# Told at first what one takes, with so many.
PROBE = 500


def measure(bench):
    bench.say("disk: more responses than it has room for")
    bench.samples["disk"] = rates(bench.starter, bench.options.quick)


def trace(count):
    """Which response each request is for."""
    weights = list(accumulate(n ** -STEEPNESS for n in range(1, RESPONSES + 1)))
    return random.Random(1).choices(range(RESPONSES), cum_weights=weights, k=count)


def start(starter, name, capacity, l1):
    return starter.start_with_admin(name, f"""
[cache.l1]
capacity = "{l1}KiB"
ttl      = "1h"
[cache.l2]
disk     = "{starter.folder / name}"
capacity = "{capacity}KiB"
timeout  = "1s"
""" + to_origin(starter.origin.port, route()))


def play(server, numbers):
    """How many of the requests the cache answered."""
    wire, hits = Wire(server.port), 0
    for number in numbers:
        hits += "larder; hit" in wire.ask("GET", f"/fill/{number}")[0]
    wire.close()
    return hits


def computed(numbers, room, by_use):
    kept, hits = OrderedDict(), 0
    for number in numbers:
        if number in kept:
            hits += 1
            if by_use:
                kept.move_to_end(number)
        else:
            kept[number] = None
            if len(kept) > room:
                kept.popitem(last=False)
    return hits


def rates(starter, quick):
    """The shares of requests that were answered without the origin."""
    with start(starter, "disk-probe", 1 << 20, 0) as server:
        play(server, range(PROBE))
        while stats(server)["store"]["l2"]["writing"]:
            pass
        one = stats(server)["store"]["l2"]["octets"] / PROBE
    numbers = trace(REQUESTS // 2 if quick else REQUESTS)
    room = int(RESPONSES * SHARE)
    told = {"responses": RESPONSES, "requests": len(numbers), "room": room, "octets": one, "found": {}}
    for part in PARTS:
        # One in L1 takes some 1.9 KiB.
        l1 = int(room * part * 1.9)
        with start(starter, f"disk-{part}", int(room * one / 1024), l1) as server:
            hits = play(server, numbers)
            after = stats(server)["store"]["l2"]
            if after["dropped_writes"] or not after["evicted"]:
                raise Failure(f"the disk did not take all, or had room for all: {after}")
        name = f"the disk, and L1 of {part:.0%} of its room" if part else "the disk alone"
        told["found"][name] = hits / len(numbers)
    for name, by_use in (("computed: LRU", True), ("computed: FIFO", False)):
        told["found"][name] = computed(numbers, room, by_use) / len(numbers)
    return told


def table(it):
    """What each cache answers of the same requests."""
    rows = [[name, f"{share:.1%}"] for name, share in it["found"].items()]
    about = (f"{it['requests']:,} requests for {it['responses']:,} responses of 1 KiB, which take "
             f"{it['octets']:,.0f} octets each; the disk has room for {it['room']:,} of them.")
    return about + "\n\n" + report.table(["cache", "answered"], rows)
