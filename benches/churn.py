"""What a day's worth of churn leaves of the memory: all that is asked for is new, of mixed sizes, and L1 has
been full since long.

A day of 1,000 stores a second is 86.4 million, through an L1 of 16 GiB. What memory makes of that depends on
how often L1 is filled anew, by which sizes, so both are divided by 64: 1.35 million stores, through 256 MiB.
`--quick` does a tenth of a day.
"""

from statistics import median

import report
from fleet import stats
from measure import QUERY, settled
from servers import route, to_origin

DAY, SCALE = 86_400 * 1000, 64
ROOM = 16_384 // SCALE
# Memory is looked at so often.
STEPS = 20


def start(starter):
    l1 = f'[cache.l1]\ncapacity = "{ROOM}MiB"\nttl = "1h"\n'
    return starter.start_with_admin("churn", l1 + to_origin(starter.origin.port, route()))


def measure(bench):
    stores = DAY // SCALE // (10 if bench.options.quick else 1)
    with start(bench.starter) as server:
        # Connections and their buffers, which are as long as what has come through them.
        bench.load.send(server, "/no-store/64k" + QUERY, 20_000, cold=True)
        before = settled(server)
        bench.say(f"churn: storing {stores:,} responses")
        steps = []
        for step in range(STEPS):
            count = stores // STEPS
            # Which part of the path a number is in tells no size: each step has the same sizes anew.
            bench.load.send(server, f"/mixed/{step}/{{n}}{QUERY}", count, count, cold=True)
            store = stats(server)["store"]
            steps.append({"resident": server.resident(), "octets": store["l1_octets"],
                          "entries": store["l1_entries"]})
    bench.samples["churn"] = {"stores": stores, "before": before, "steps": steps}


def table(it):
    quarter = STEPS // 4
    spans = {"the second": it["steps"][quarter:2 * quarter], "the last": it["steps"][-quarter:]}
    rows = []
    for when, steps in spans.items():
        resident, octets = (median(step[key] for step in steps) for key in ("resident", "octets"))
        rows.append([f"{when} quarter", f"{octets / 2**20:.1f}", f"{resident / 2**20:.1f}",
                     f"{(resident - it['before']) / octets:.2f}"])
    head = ["in", "L1 says, MiB", "resident, MiB", "growth since the start, to what L1 says"]
    second, last = (median(step["resident"] for step in steps) for steps in spans.values())
    about = (f"{it['stores']:,} stores of 64 octets to 64 KiB, {it['steps'][-1]['entries']:,} of which L1 has at the "
             f"end. Resident memory was {it['before'] / 2**20:.1f} MiB before the first, and is "
             f"{last / second - 1:+.1%} in the last quarter against the second.")
    return about + "\n\n" + report.table(head, rows)
