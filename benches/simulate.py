"""How fast `larder simulate` plays a log: lines a second of one core, with a key policy that remembers."""

import json
import os
import random
import resource
import subprocess
import time

import report
from servers import Failure

LINES, QUICK_LINES = 1_000_000, 200_000
AIM = 200_000
CONFIG = """
[upstreams.api]
servers = ["http://127.0.0.1:1"]
[policies.no-tracking]
plugin = "bundled:normalise-query"
config = { drop = ["utm_*"] }
[[routes]]
name     = "books"
path     = "/books/{id}"
upstream = "api"
key      = "no-tracking"
ttl      = "1m"
[[routes]]
name     = "rest"
path     = "/{*rest}"
upstream = "api"
ttl      = "30s"
"""


def measure(bench):
    lines = QUICK_LINES if bench.options.quick else LINES
    bench.say(f"simulate: playing {lines:,} lines")
    bench.samples["simulate"] = play(bench.binaries, bench.starter.folder, bench.options.cores[0], lines)


def play(binaries, folder, core, lines):
    """The same log in each form."""
    (folder / "simulated.toml").write_text(CONFIG)
    # Lines that the policy has not seen are rare in a long log: in this one, one in a thousand.
    log = {"combined": folder / "combined.log", "JSON": folder / "lines.json"}
    write(log, lines)
    found = {}
    for name, file in log.items():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [binaries / "larder", "simulate", "--json", "--config", folder / "simulated.toml", file]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=600,
                              preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        seconds = time.monotonic() - begun
        if done.returncode:
            raise Failure(f"simulate: {done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = json.loads(done.stdout)
        if told["logs"]["exchanges"] != lines:
            raise Failure(f"simulate: {told['logs']['exchanges']} of {lines} lines were read")
        found[name] = {"rate": lines / cpu, "elapsed": lines / seconds,
                       "hit_rate": told["configurations"][0]["all"]["hit_rate"]}
    return found


def write(log, lines):
    draw = random.Random(1)
    second = 1_700_000_000.0
    with log["combined"].open("w") as combined, log["JSON"].open("w") as rows:
        for _ in range(lines):
            second += draw.expovariate(50)
            number = int(draw.paretovariate(0.7)) % 2000
            kind = draw.random()
            method, status = "GET", 200
            if kind < 0.75:
                query = draw.choice(["", "", f"?utm_source=s{number % 7}", f"?page={number % 4}"])
                target = f"/books/{number}{query}"
            elif kind < 0.97:
                target = f"/search?q=w{int(draw.paretovariate(0.6)) % 100_000}"
            else:
                method, status, target = "PUT", 204, f"/books/{number}"
            octets = 0 if status == 204 else 500 + number
            when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
            agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
            combined.write(f'192.0.2.7 - - [{when}] "{method} {target} HTTP/1.1" {status} {octets} '
                           f'"https://shop.example/" "{agent}"\n')
            rows.write(f'{{"time":{second:.3f},"method":"{method}","uri":"{target}","host":"shop.example",'
                       f'"status":{status},"bytes":{octets},"user_agent":"{agent}"}}\n')


def table(found):
    """Lines a second of a core, of each form of a log."""
    rows = [[name, f"{it['rate']:,.0f}", f"{AIM:,}", f"{it['elapsed']:,.0f}", f"{it['hit_rate']:.1%}"]
            for name, it in found.items()]
    return report.table(["log", "lines/s of a core", "aim", "lines/s elapsed", "hit rate"], rows)
