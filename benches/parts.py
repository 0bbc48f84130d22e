"""The parts of `run`, in the order in which they are measured and shown: each a heading, and a module with

- `measure(bench)`, which leaves what it has found in `bench.samples`, by the part's name,
- `table(samples)`, which makes Markdown of that,
- where it needs any, `NEEDS`: the programs of Debian's that it is measured with.
"""

import churn
import decide
import disk
import fleet
import forward
import growth
import hits
import l2
import latency
import lines
import memory
import misses
import mongodb
import policies
import reload
import simulate
import slow
import stalls
import start
import viewers
import zipf

MODULES = {
    "hits": ("Hits", hits),
    "latency": ("Latency of hits, at half of each one's highest rate", latency),
    "misses": ("Misses", misses),
    "growth": ("How costs grow", growth),
    "zipf": ("Requests by Zipf's law", zipf),
    "churn": ("Churn", churn),
    "memory": ("Memory", memory),
    "start": ("Start", start),
    "slow": ("A slow origin", slow),
    "stalls": ("What a hit waits for", stalls),
    "l2": ("Latency of hits in L2, at half of its highest rate", l2),
    "forward": ("Forwarding", forward),
    "lines": ("The access log", lines),
    "simulate": ("Simulating", simulate),
    "decide": ("Deciding on a hit", decide),
    "reload": ("Reload", reload),
    "policies": ("Policies", policies),
    "fleet": ("A fleet", fleet),
    "mongodb": ("MongoDB", mongodb),
    "disk": ("Disk", disk),
    "viewers": ("Viewers", viewers),
}
# Those that compare Larder with its peers, and can do so without it: by default in so many rounds of so many seconds.
# A ratio is taken within a round, and what the machine does meanwhile differs less over a shorter one; no round can be
# shorter than wrk's second. But of latencies the stalls count, and these may be further apart.
COMPARED = {"hits": (6, 1), "latency": (3, 2), "misses": (6, 1)}


def needs(part):
    return getattr(MODULES[part][1], "NEEDS", set())
