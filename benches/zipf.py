"""Requests as they come in life, a few responses asked for often and most of them seldom, to a gateway
whose L1 has room for a tenth of them and Redis for all.

Which response a request is for is drawn by Zipf's law: the n-th is asked for n^-S times as often as the
first. The generator's draws have a seed, so that they are the same in each run.
"""

import fleet
import measure as measuring
import report
from fleet import stats
from measure import QUERY
from servers import HOST, route, to_origin

NEEDS = {"redis-server"}
RESPONSES, QUICK_RESPONSES = 1_000_000, 50_000
STEEPNESS = 0.9
# The share of the responses that L1 has room for.
SHARE = 0.1
# Requests for each ten responses: before any count, and those that do.
WARM, COUNTED = 2, 4
# So many tell how much room one takes in L1.
PROBE = 1000
PATH = "/fill/{n}"


def start(starter, redis, octets):
    return starter.start_with_admin("zipf", f"""
[cache.l1]
capacity = "{octets // 1024}KiB"
ttl      = "1h"
[cache.l2]
redis   = "redis://{HOST}:{redis.port}"
timeout = "1s"
""" + to_origin(starter.origin.port, route()))


def measure(bench):
    load, starter = bench.load, bench.starter
    responses = QUICK_RESPONSES if bench.options.quick else RESPONSES
    path = PATH + QUERY
    with starter.start_redis(name="redis-zipf-probe") as redis, \
            start(starter, redis, 64 << 20) as server:
        load.send(server, path, PROBE, PROBE, cold=True)
        l1 = stats(server)["store"]
        each = l1["l1_octets"] / l1["l1_entries"]
    with starter.start_redis(name="redis-zipf") as redis, \
            start(starter, redis, int(each * responses * SHARE)) as server:
        bench.say(f"zipf: storing {responses:,} responses")
        load.send(server, path, responses, responses, cold=True)
        fleet.settled(server)
        stored = fleet.Keys(redis).ask("DBSIZE")
        bench.say("zipf: asking")
        drawn = f"zipf={STEEPNESS}"
        load.send(server, path, responses * WARM // 10, responses, cold=True, words=[drawn, "seed=1"])
        count = responses * COUNTED // 10
        asked, found = load.asked(), measuring.redis_hits(redis)
        cpu = fleet.cpu_seconds(server), fleet.cpu_seconds(redis)
        seen = load.send(server, path, count, responses, cold=True, words=[drawn, "seed=2"])
        cpu = [(now - before) * 1e6 / count
               for now, before in zip((fleet.cpu_seconds(server), fleet.cpu_seconds(redis)), cpu)]
        upstream = load.asked() - asked
        in_l2 = measuring.redis_hits(redis) - found
        after = stats(server)["store"]
    bench.samples["zipf"] = {
        "responses": responses, "requests": count, "stored": stored,
        "room": after["l1_octets"] / each, "upstream": upstream,
        "l1": 1 - (in_l2 + upstream) / count, "l2": in_l2 / count,
        "rate": count / seen["seconds"], "larder": cpu[0], "redis": cpu[1],
    }


def share_of_most(responses, part):
    """Of all requests, those for the most wanted: what a cache that knew them would answer."""
    weights = [n ** -STEEPNESS for n in range(1, responses + 1)]
    return sum(weights[:int(responses * part)]) / sum(weights)


def table(it):
    best = share_of_most(it["responses"], SHARE)
    rows = [
        ["hits", f"{1 - it['upstream'] / it['requests']:.2%}"],
        ["hits in L1", f"{it['l1']:.1%}, of {best:.1%} that are for the tenth asked for most"],
        ["hits in Redis", f"{it['l2']:.1%}"],
        ["requests upstream", f"{it['upstream']:,} of {it['requests']:,}"],
        ["requests/s", f"{it['rate']:,.0f}"],
        ["µs of Larder for one, and of Redis", f"{it['larder']:.1f}, {it['redis']:.1f}"],
    ]
    about = (f"{it['requests']:,} requests for {it['responses']:,} responses of 1 KiB, drawn by Zipf's law with "
             f"the exponent {STEEPNESS}; L1 has {it['room']:,.0f} of them at the end, Redis had "
             f"{it['stored']:,} keys at first.")
    return about + "\n\n" + report.table(["figure", "measured"], rows)
