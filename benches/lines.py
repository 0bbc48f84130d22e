"""What the access log costs: the same hits, as many a second, with a line for each and without.

The same rate for both, half of what the slower one can do: who answers faster finds the load awake more often, and to
wake it is a large part of what a hit costs.
"""

import contextlib

import report

NEEDS = {"wrk"}
AIM = 1.05
SERVERS = ["larder", "larder-log"]
PATH = "/1k"


def measure(bench):
    seconds = bench.options.seconds
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(bench.starter.start(name)) for name in SERVERS]
        highest = {server.name: bench.load.highest(server, "GET", PATH, 0, 2) for server in servers}
        rate = min(highest.values()) / 2
        bench.samples["lines"] = {"highest": highest, "requests": bench.interleaved(
            "lines", servers, lambda server: bench.load.cost(server, "GET", PATH, 0, rate, seconds), seconds)}


def table(samples):
    by_server, highest = samples["requests"], samples["highest"]
    rows = []
    for name, rounds in by_server.items():
        found = [sample for sample in rounds if sample]
        if found:
            rows.append([name, f"{report.middle(found, 'cpu'):.1f}", report.ratio(rounds, by_server["larder"]),
                         f"{report.middle(found, 'rate'):,.0f}", f"{highest[name]:,.0f}"])
    head = ["server", f"µs/request (aim: {AIM} times)", "to larder", "requests/s", "requests/s at most"]
    return report.table(head, rows)
