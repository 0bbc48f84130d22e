"""A server of MongoDB's protocol, from the tests' tools, and what stands before it: gateways, and a proxy that
makes it as slow as a busy one far away."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from servers import HOST, Failure, Server, free_port

DOCUMENTS = 20_000


class Late(threading.Thread):
    """Passes connections on to a port. What comes back comes so many seconds later, however much it is."""

    def __init__(self, port, delay):
        super().__init__(daemon=True)
        self.to, self.delay = port, delay
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((HOST, self.to))
            for it in (client, server):
                it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.forth, args=(client, server), daemon=True).start()
            threading.Thread(target=self.back, args=(server, client), daemon=True).start()

    def forth(self, client, server):
        while came := receive(client):
            server.sendall(came)
        server.close()

    def back(self, server, client):
        waiting, more = [], threading.Condition()

        def deliver():
            while True:
                with more:
                    more.wait_for(lambda: waiting)
                    due, came = waiting.pop(0)
                time.sleep(max(0, due - time.monotonic()))
                if not came:
                    return client.close()
                try:
                    client.sendall(came)
                except OSError:
                    return None

        threading.Thread(target=deliver, daemon=True).start()
        came = True
        while came:
            came = receive(server)
            with more:
                waiting.append((time.monotonic() + self.delay, came))
                more.notify()


def receive(connection):
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def tools(root):
    """The tests' own installation, or where `tests/run` puts it."""
    program = root / "target/tools/mongodb/bin/secantusd-py"
    if not program.exists():
        raise Failure("no server of MongoDB's protocol: `tests/run` installs it")
    return program.parent


def start_mongodb(starter, root, name="mongodb"):
    port, folder = free_port(), starter.folder / name
    command = [tools(root) / "secantusd-py", "--host", HOST, "--port", port, "--storage-path", folder]
    server = Server(f"{name}-server", command, port, starter.load_core, starter.folder)
    try:
        written(root, server, "fill", DOCUMENTS)
    except BaseException:
        server.close()
        raise
    return server


def written(root, mongodb, *what):
    """What `writes.py` says when it has done this."""
    command = [tools(root) / "python", Path(__file__).with_name("writes.py"), mongodb.port, *what]
    # Nothing of a run stays in the source tree.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600,
                          check=False, env=environment)
    if done.returncode:
        raise Failure(f"{what[0]}: {done.stderr.strip().splitlines()[-1][:200]}")
    return json.loads(done.stdout)


def start_larder(starter, mongodb, name="documents", redis=None):
    """A gateway of the documents; with Redis, one of a fleet that is told of changes."""
    config = f"""
[mongodb.shop]
uri = "mongodb://{HOST}:{mongodb}/?directConnection=true"
[[routes]]
name     = "users"
path     = "/users/{{id}}"
document = {{ mongodb = "shop", database = "app", collection = "users", find = {{ _id = "{{id}}" }} }}
ttl      = "1h"
"""
    if redis:
        config += f"""
[cache.l2]
redis   = "redis://{HOST}:{redis.port}"
timeout = "1s"
[[changes]]
mongodb     = "shop"
database    = "app"
collections = ["users"]
"""
    return starter.start_with_admin(f"larder-{name}", config)
