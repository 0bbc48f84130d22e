"""From a write to the first read that shows it, and changes at a rate.

Two gateways share a Redis, and so the log; one of them watches. `mongodb.py` makes the table.
"""

import contextlib
import json
import subprocess
import threading
import time
from pathlib import Path
from statistics import median

from database import start_larder, start_mongodb, tools, written
from fleet import Wire, cpu_seconds, stats
from servers import Failure

# So many writes are looked for at each gateway.
WRITES = 300
# Changes a second, and for how many seconds: from the script, and by writing documents.
SUSTAINED, BURST = (5000, 20), (10_000, 10)


class Script:
    """`stream.py`: changes on schedule, from no collection at all."""

    def __init__(self, starter, root):
        command = ["taskset", "-c", str(starter.load_core), tools(root) / "python", "-B",
                   Path(__file__).with_name("stream.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.port = int(self.process.stdout.readline() or 0)
        if not self.port:
            raise Failure("the scripted server does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def go(self, rate, count):
        """When the first is due."""
        self.process.stdin.write(f"{rate} {count}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


class Watch(threading.Thread):
    """Looks how many changes a gateway has put into the log, fifty times a second."""

    def __init__(self, larder):
        super().__init__(daemon=True)
        self.larder, self.looks, self.over = larder, [], threading.Event()
        self.before, self.cpu = of_changes(larder), cpu_seconds(larder)
        self.start()

    def run(self):
        wire = Wire(self.larder.admin)
        while not self.over.wait(0.02):
            told = json.loads(wire.ask("GET", "/stats")[1])["changes"]["shop.app.users"]
            # It was so a little before.
            self.looks.append((time.time(), told["events"] - self.before["events"]))
        wire.close()

    def end(self, count, due):
        """When all of them are in the log: how it went. `due` tells of each change when it was."""
        until(f"{count:,} changes in the log", lambda: self.looks and self.looks[-1][1] >= count, 120)
        self.over.set()
        self.join()
        after, begun = of_changes(self.larder), due(0)
        if after["lost"]:
            raise Failure("changes were lost")
        end = next(now for now, applied in self.looks if applied >= count)
        # How long the oldest change had been due that was not in the log; nothing, if none was missing.
        lags = [max(0, now - due(applied)) * 1e3 if applied < count else 0
                for now, applied in self.looks if begun <= now <= end]
        some = max(1, len(lags) // 4)
        return {
            "first": median(lags[:some]), "last": median(lags[-some:]), "worst": max(lags),
            "seconds": end - begun, "rate": count / (end - begun),
            "records": (after["invalidations"] - self.before["invalidations"]) / count,
            "cpu": (cpu_seconds(self.larder) - self.cpu) * 1e6 / count,
        }


def of_changes(larder):
    return stats(larder)["changes"]["shop.app.users"]


def until(what, holds, seconds=30):
    for _ in range(20 * seconds):
        if holds():
            return
        time.sleep(0.05)
    raise Failure(f"never: {what}")


@contextlib.contextmanager
def fleet_of_two(starter, mongodb):
    """The gateway that watches, and another one."""
    with starter.start_redis(name="redis-changes") as redis, \
            start_larder(starter, mongodb, "watching", redis) as watching:
        until("changes are watched", lambda: of_changes(watching)["watching"])
        with start_larder(starter, mongodb, "other", redis) as other:
            until("in step", lambda: stats(other)["store"]["l2"]["log_in_step"]
                  and of_changes(other)["position_age_seconds"] is not None)
            if of_changes(other)["watching"]:
                raise Failure("both gateways watch")
            yield watching, other


def changes(starter, root, quick):
    found = {}
    with start_mongodb(starter, root, "changing") as mongodb, \
            fleet_of_two(starter, mongodb.port) as gateways:
        spans = written(root, mongodb, "fresh", WRITES // 10 if quick else WRITES,
                        *(gateway.port for gateway in gateways))
        found["fresh"] = dict(zip(("the gateway that watches", "another gateway"), spans))
        found["written"] = [write(root, mongodb, gateways[0], rate, seconds // 10 if quick else seconds)
                            for rate, seconds in (SUSTAINED, BURST)]
    with Script(starter, root) as script, fleet_of_two(starter, script.port) as gateways:
        found["scripted"] = [play(script, gateways[0], rate, seconds // 10 if quick else seconds)
                             for rate, seconds in (SUSTAINED, BURST)]
    return found


def play(script, larder, rate, seconds):
    """Changes on schedule."""
    watch = Watch(larder)
    begun = script.go(rate, rate * seconds)
    told = watch.end(rate * seconds, lambda number: begun + number / rate)
    return {"due": rate, "spell": seconds, **told}


def write(root, mongodb, larder, rate, seconds):
    """New documents at a rate, or as fast as their server takes them."""
    count, watch = rate * seconds, Watch(larder)
    done = written(root, mongodb, "pace", rate, count)
    told = watch.end(count, lambda number: next(when for when, so_many in done if so_many > number))
    return {"due": rate, "spell": seconds, "writes": count / (done[-1][0] - done[0][0]), **told}
