"""The endurance of reloads: many of them, of many routes with plugins, while requests run.

Each reload finds another version of one of the plugins and other lines for one of the routes. What
counts is that no request fails, and that memory stays as it was after the first reloads.
"""

import http.client
import json
import threading
import time
from statistics import median

from servers import HOST, Failure, Server, body, free_port, head, route, to_origin

ROUTES = 100
PLUGINS = 10
CLIENTS = 2
# Answers a client takes one after the other before it rests: light load, not none.
BREATH = 0.002


class Client(threading.Thread):
    """Asks route after route over one connection, until told to stop."""

    def __init__(self, port, number):
        super().__init__(daemon=True)
        self.port, self.number = port, number
        self.stopping = threading.Event()
        self.asked, self.failures = 0, []

    def run(self):
        wanted = body(1 << 10)
        connection = None
        while not self.stopping.is_set():
            route = (self.asked * 7 + self.number) % ROUTES
            self.asked += 1
            try:
                connection = connection or http.client.HTTPConnection(HOST, self.port, timeout=30)
                connection.request("GET", f"/fill/r{route}/{self.asked % 50}")
                response = connection.getresponse()
                content = response.read()
                if response.status != 200 or content != wanted:
                    self.failures.append(f"{response.status}, {len(content)} octets")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection = None
            time.sleep(BREATH)


def measure(bench):
    bench.say(f"reload: {bench.options.reloads:,} reloads under load")
    plugin = bench.root / "plugins/bundled/normalise-query.wasm"
    bench.samples["reload"] = endure(bench.starter, plugin, bench.options.reloads)


def endure(starter, plugin, count):
    """So many reloads. `plugin` is the module that all plugins are versions of."""
    folder = starter.folder / "reload"
    folder.mkdir()
    module = plugin.read_bytes()
    for number in range(PLUGINS):
        write(folder, number, module, 0)
    port, admin = free_port(), free_port()
    file = folder / "gateway.toml"
    file.write_text(configuration(port, admin, starter.origin.port, 0))
    command = [starter.binaries / "larder", "run", "--config", file]
    with Server("larder-reload", command, port, starter.server_core, starter.folder) as server:
        clients = [Client(port, number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        memory, seconds = [], []
        for round in range(1, count + 1):
            write(folder, round % PLUGINS, module, round)
            file.write_text(configuration(port, admin, starter.origin.port, round))
            told = reload(admin)
            if len(told["policies_loaded"]) != 1 or len(told["routes"]["changed"]) != 2:
                raise Failure(f"reload {round} changed something else: {told}")
            seconds.append(told["seconds"])
            memory.append(server.resident())
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(60)
    failures = [failure for client in clients for failure in client.failures]
    if failures:
        raise Failure(f"{len(failures)} requests failed; the first: {failures[0]}")
    return {
        "count": count,
        "requests": sum(client.asked for client in clients),
        "seconds": median(seconds),
        "longest": max(seconds),
        # It moves by some MiB from one reload to the next: what counts is where it is in the long run.
        "before": median(memory[count // 10:count // 5]),
        "after": median(memory[-(count // 10):]),
    }


def write(folder, number, module, version):
    """The plugin with a custom section of its own, renamed into place as a deployment does."""
    text = f"version {version}".encode()
    section = bytes([len(b"v")]) + b"v" + text
    temporary = folder / "new.wasm"
    temporary.write_bytes(module + b"\0" + bytes([len(section)]) + section)
    temporary.rename(folder / f"p{number}.wasm")


def configuration(port, admin, origin, round):
    """One route has other lines than in the round before, and that one's are as they were.

    L1 is full soon: what routes stored before they became cold takes room there for a while.
    """
    text = head(port, admin, 'watch = false\ncompiled_cache = "compiled"') + '[cache.l1]\ncapacity = "4MiB"\n'
    for number in range(PLUGINS):
        text += f'[policies.p{number}]\nplugin = "p{number}.wasm"\ntime = "5s"\n'
    return text + to_origin(origin, *in_turn(round, lambda number: f'key = "p{number % PLUGINS}"'))


def in_turn(round, more=lambda number: ""):
    """A hundred routes, of which one has another line in each round."""
    for number in range(ROUTES):
        ttl = '\nttl = "1m"' if number == round % ROUTES else ""
        yield route(f"r{number}", f"/fill/r{number}", more(number) + ttl)


def reload(admin):
    connection = http.client.HTTPConnection(HOST, admin, timeout=60)
    try:
        connection.request("POST", "/reload")
        response = connection.getresponse()
        told = response.read()
        if response.status != 200:
            raise Failure(f"not reloaded: {told.decode(errors='replace')}")
        return json.loads(told)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"not reloaded: {error}") from error
    finally:
        connection.close()


def table(it):
    return (f"{it['count']:,} reloads of {ROUTES} routes with {PLUGINS} plugins, one of which was another each time: "
            f"{it['seconds'] * 1000:.0f} ms in the median, {it['longest'] * 1000:.0f} ms at most. "
            f"None of {it['requests']:,} requests failed. Memory was {it['before'] / 2**20:.1f} MiB in the second "
            f"tenth of them and {it['after'] / 2**20:.1f} MiB in the last ({it['after'] / it['before'] - 1:+.1%}).")
