"""What is gained where an origin is slow: one that answers a hundred requests a second at most.

The clients of a gateway with one worker ask for a thousand responses, drawn by Zipf's law, as fast as they
are answered; others ask for new ones meanwhile, half as many as the origin can answer. All answers count.
"""

import threading

import report
from measure import QUERY
from servers import Failure

RESPONSES, QUICK_RESPONSES = 1000, 200
STEEPNESS = 0.9
# Of those who ask for what is stored: more would only wait for each other. And of the others.
CLIENTS, OTHERS = 8, 20
# New responses that are asked for in a second.
NEW = 50
# Requests a second, and their mean latency in milliseconds.
RATE, MEAN = 15_000, 0.8


class Others(threading.Thread):
    """Those who ask for new responses."""

    def __init__(self, load, server, seconds):
        super().__init__(daemon=True)
        self.load, self.server, self.count = load, server, int(NEW * seconds)
        self.seen = self.failure = None

    def run(self):
        try:
            self.seen = self.load.send(self.server, "/paced/new-{n}" + QUERY, self.count, self.count, NEW,
                                       cold=True, words=["rest"], connections=OTHERS)
        except Failure as failure:
            self.failure = failure


def measure(bench):
    load, quick = bench.load, bench.options.quick
    responses = QUICK_RESPONSES if quick else RESPONSES
    count = 60_000 if quick else 300_000
    bench.say("slow: the origin alone")
    alone = load.send(load.origin, "/paced/alone-{n}" + QUERY, 200, 200, cold=True, connections=CLIENTS)
    with bench.starter.start_larder("larder-slow", "256MiB") as server:
        bench.say(f"slow: {responses:,} responses that are stored")
        path = "/paced/{n}" + QUERY
        load.send(server, path, responses, responses, cold=True, connections=CLIENTS)
        bench.say("slow: asking")
        asked, cpu = load.asked(), server.cpu_seconds()
        # As long as the requests for what is stored would take at the rate that is aimed at.
        others = Others(load, server, count / RATE)
        others.start()
        hits = load.send(server, path, count, responses, cold=True,
                         words=[f"zipf={STEEPNESS}"], connections=CLIENTS)
        others.join()
        if others.failure:
            raise others.failure
        cpu = server.cpu_seconds() - cpu
        upstream = load.asked() - asked
    requests = count + others.seen["requests"]
    # Each over the time of its own: the others ask on schedule, whoever else is fast.
    rate = count / hits["seconds"] + others.seen["requests"] / others.seen["seconds"]
    share = others.seen["requests"] / others.seen["seconds"] / rate
    bench.samples["slow"] = {
        "responses": responses, "upstream": upstream, "requests": requests,
        "alone": alone["requests"] / alone["seconds"], "rate": rate,
        "mean": ((1 - share) * hits["mean"] + share * others.seen["mean"]) / 1000,
        "hits": hits, "others": others.seen, "cpu": cpu * 1e6 / requests,
    }


def table(it):
    rows = [
        ["the origin alone, requests/s", f"{it['alone']:,.0f}", "–", "–"],
        ["Larder before it, requests/s", f"{it['rate']:,.0f}", f"> {RATE:,}", yes(it["rate"] > RATE)],
        ["mean latency of all, ms", f"{it['mean']:.3f}", f"< {MEAN}", yes(it["mean"] < MEAN)],
        ["of what was stored, µs", f"mean {it['hits']['mean']:.0f}, p99 {it['hits']['p99']:.0f}", "–", "–"],
        ["of what was new, ms", f"mean {it['others']['mean'] / 1000:.1f}, p99 {it['others']['p99'] / 1000:.1f}",
         "–", "–"],
        ["processor time of one, µs", f"{it['cpu']:.1f}", "–", "–"],
        ["requests upstream", f"{it['upstream']:,} of {it['requests']:,}", "–", "–"],
    ]
    return report.table(["figure", "measured", "aim", "met"], rows)


def yes(met):
    return "yes" if met else "no"
