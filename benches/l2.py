"""Hits that come from Redis: L1 is off, and the responses are many, so that equal requests do not share one
look-up."""

import contextlib

import report
from measure import QUERY, redis_hits
from servers import Failure

NEEDS = {"redis-server"}
PATH, DISTINCT = "/fill/{n}" + QUERY, 1000


def measure(bench):
    load, seconds = bench.load, bench.options.seconds
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(bench.starter.start_redis())
        server = stack.enter_context(bench.starter.start_larder("larder-l2", "0", redis))
        # Twice, as a response may reach Redis after its client.
        for _ in range(2):
            load.send(server, PATH, 5 * DISTINCT, DISTINCT, cold=True)
        count = 10_000 * seconds
        found = redis_hits(redis)
        before = server.cpu_seconds(), redis.cpu_seconds()
        full = load.send(server, PATH, count, DISTINCT)
        after = server.cpu_seconds(), redis.cpu_seconds()
        found = redis_hits(redis) - found
        if found < count:
            raise Failure(f"Redis was asked for {found} of {count} responses")
        rate = full["requests"] / full["seconds"]
        latencies = bench.interleaved("l2", [server], lambda server: paced(load, server, rate / 2, seconds), seconds)
    bench.samples["l2"] = {
        "rate": rate,
        "larder": (after[0] - before[0]) * 1e6 / count,
        "redis": (after[1] - before[1]) * 1e6 / count,
        "latency": latencies,
    }


def paced(load, server, rate, seconds):
    count = int(rate * seconds)
    seen = load.send(server, PATH, count, DISTINCT, rate)
    return {"rate": count / seen["seconds"], **seen}


def table(it):
    return (f"{report.latency(it['latency'])}\n\nA hit in L2 at {it['rate']:,.0f} requests/s takes "
            f"{it['larder']:.1f} µs of Larder and {it['redis']:.1f} µs of Redis.")
