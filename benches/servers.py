"""The servers that `run` compares: how each is configured, started, watched and ended.

Every server is a child process in a temporary folder, bound to 127.0.0.1 and to one core, and is
ended by its own process id. What is measured about them is left to `run`.
"""

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
# What the constant server's bodies are made of.
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


class Failure(Exception):
    """A server or a measurement that did not do what it should; the text is for the reader."""


def free_port():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return taken.getsockname()[1]


def body(length):
    return (ALPHABET * (length // len(ALPHABET) + 1))[:length]


class Server:
    """A running child on `core`. `close` ends it; so does leaving the `with`."""

    def __init__(self, name, command, port, core, folder, patience=30):
        self.name, self.port = name, port
        self.output = folder / f"{name}.log"
        with open(self.output, "wb") as output:
            # A session of its own: Ctrl-C reaches `run` alone, which then ends its children.
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                # Larder and its peers alike say only what goes wrong.
                env={**os.environ, "RUST_LOG": "warn"},
            )
        try:
            self._await_listener(patience)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Asks the process to end, waits, and kills what is left of its session.

        A second Ctrl-C breaks off the waiting only.
        """
        try:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def _await_listener(self, patience):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"{self.name} did not start: {self.last_words()}")

    def last_words(self):
        words = self.output.read_text(errors="replace").strip().splitlines()
        return " / ".join(words[-3:]) or "it said nothing"

    def get(self, path, fields=None):
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", path, headers=fields or {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.name} did not answer: {error}") from error
        finally:
            connection.close()

    def cpu_seconds(self):
        """Processor time of all its processes so far, ended threads and ended children included.

        nginx has a child that reads its cache's files and ends after a minute.
        """
        return sum(int(t) for fields in family(self.process.pid) for t in fields[11:15]) / TICKS

    def resident(self):
        """Octets of memory in use by all its processes."""
        pages = sum(int(fields[21]) for fields in family(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE")

    def most_resident(self):
        """The most octets of memory that its process has had in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) << 10


def family(parent):
    """A process and its descendants: of each, the fields of /proc/PID/stat from the third on."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The second field, a name in brackets, may hold spaces.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended meanwhile.
            stats[int(entry.name)] = fields
    found = [parent]
    for pid in found:
        found += [child for child, fields in stats.items() if int(fields[1]) == pid]
    return [stats[pid] for pid in found if pid in stats]


class Starter:
    """Starts servers by name: programs, temporary folder, origin and cores are the same for all."""

    def __init__(self, binaries, folder, server_core, load_core, redis_core):
        self.binaries, self.folder = binaries, folder
        self.server_core, self.load_core, self.redis_core = server_core, load_core, redis_core
        self.origin = None

    def start(self, name):
        """One of the compared servers, on the servers' core."""
        port = free_port()
        command = {
            "constant": self._constant,
            "nginx": self._nginx,
            "nginx-sendfile": lambda port: self._nginx(port, name="nginx-sendfile", sendfile=True),
            "nginx-proxy": lambda port: self._nginx(port, name="nginx-proxy", caches=False),
            "varnish": self._varnish,
            "larder": self._larder,
            "larder-policy": lambda port: self._larder(port, policy=True),
            "larder-log": lambda port: self._larder(port, name="larder-log", log=True),
        }[name](port)
        return Server(name, command, port, self.server_core, self.folder)

    def start_origin(self):
        """The constant server behind the caches. It idles during hits, so the load's core does."""
        port = free_port()
        self.origin = Server("origin", self._constant(port), port, self.load_core, self.folder)
        return self.origin

    def start_redis(self, core=None, name="redis"):
        port = free_port()
        command = ["redis-server", "--bind", HOST, "--port", port, "--save", "", "--appendonly",
                   "no", "--dir", self.folder]
        core = self.redis_core if core is None else core
        return Server(name, command, port, core, self.folder)

    def start_larder(self, name, capacity, redis=None):
        """A Larder with an L1 of its own size, and an L2 if there is a Redis."""
        port = free_port()
        command = self._larder(port, policy=True, name=name, capacity=capacity, redis=redis)
        return Server(name, command, port, self.server_core, self.folder)

    def start_by(self, config, name, port, core=None):
        """A Larder by this text of a `gateway.toml`, which has it listen there."""
        file = self.folder / f"{name}.toml"
        file.write_text(config)
        command = [self.binaries / "larder", "run", "--config", file]
        return Server(name, command, port, self.server_core if core is None else core, self.folder)

    def _constant(self, port):
        # Larder limits the time for a request head by default; the baseline pays for that too.
        return [self.binaries / "examples/constant", f"{HOST}:{port}", 10_000]

    def _larder(self, port, policy=False, name=None, capacity="1GiB", redis=None, log=False):
        config = f"""
[server]
listen  = "{HOST}:{port}"
workers = 1
compiled_cache = "off"

[cache.l1]
capacity = "{capacity}"
ttl      = "1h"

[upstreams.origin]
servers = ["http://{HOST}:{self.origin.port}"]

[policies.no-tracking]
plugin = "bundled:normalise-query"
config = {{ drop = ["utm_*", "fbclid"] }}

[[routes]]
name     = "everything"
path     = "/{{*rest}}"
upstream = "origin"
"""
        if policy:
            config += 'key      = "no-tracking"\n'
        if redis:
            # A slow moment of the machine must not turn a hit into a miss.
            config += f'\n[cache.l2]\nredis   = "redis://{HOST}:{redis.port}"\ntimeout = "1s"\n'
        if log:
            # What a disk takes is not the gateway's time, and it would be full before long.
            config += '\n[access_log]\nfile = "/dev/null"\n'
        file = self.folder / f"{name or ('larder-policy' if policy else 'larder')}.toml"
        file.write_text(config)
        return [self.binaries / "larder", "run", "--config", file]

    def _nginx(self, port, name="nginx", sendfile=False, caches=True):
        folder = self.folder / name
        folder.mkdir()
        temporary = "\n".join(
            f"  {kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = folder / "nginx.conf"
        # Measured: `sendfile` costs small bodies 40 % and saves large ones 30 %; with `tcp_nopush`
        # large ones wait 40 ms for a delayed acknowledgement. As root, a worker of another user
        # could not enter the temporary folder.
        cache = f"""
  proxy_cache bench;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m max_size=1g inactive=1h
                   use_temp_path=off;
""" if caches else ""
        file.write_text(f"""
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
{temporary}
  access_log off;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
{cache}
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream origin {{
    server {HOST}:{self.origin.port};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {HOST}:{port};
    location / {{ sendfile {"on" if sendfile else "off"}; proxy_pass http://origin; }}
    location /64k {{ sendfile on; proxy_pass http://origin; }}
    location /vary/64k {{ sendfile on; proxy_pass http://origin; }}
  }}
}}
""")
        return ["nginx", "-c", file, "-e", "stderr"]

    def _varnish(self, port):
        # No jail: it would change to a user who cannot enter the temporary folder.
        return ["varnishd", "-F", "-j", "none", "-T", "none", "-n", self.folder / "varnish",
                "-a", f"{HOST}:{port}", "-b", f"{HOST}:{self.origin.port}",
                "-s", "malloc,1g", "-p", "thread_pools=1"]
