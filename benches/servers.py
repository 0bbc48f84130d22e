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
import tempfile
import time
from pathlib import Path

HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
# What the constant server's bodies are made of.
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
# What Varnish notes of every request.
VARNISH_RECORDS = [
    "Begin", "End", "Timestamp", "VCL_call", "VCL_return", "VCL_use", "SessOpen", "SessClose", "Link", "Hit", "HitMiss",
    "HitPass", "ReqStart", "ReqMethod", "ReqURL", "ReqProtocol", "ReqHeader", "ReqUnset", "ReqAcct", "RespProtocol",
    "RespStatus", "RespReason", "RespHeader", "RespUnset", "BereqMethod", "BereqURL", "BereqProtocol", "BereqHeader",
    "BereqUnset", "BereqAcct", "BerespProtocol", "BerespStatus", "BerespReason", "BerespHeader", "BerespUnset",
    "BackendOpen", "BackendClose", "Backend", "BackendStart", "Fetch_Body", "Storage", "Length", "TTL", "Filters",
]


class Failure(Exception):
    """A server or a measurement that did not do what it should; the text is for the reader."""


def free_port():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return taken.getsockname()[1]


def body(length):
    return (ALPHABET * (length // len(ALPHABET) + 1))[:length]


def head(port, admin=None, more=""):
    """How a `gateway.toml` begins: one worker, and who listens where. `more` are lines of `[server]`."""
    text = f'[server]\nlisten = "{HOST}:{port}"\nworkers = 1\n{more}\n'
    return text + (f'[admin]\nlisten = "{HOST}:{admin}"\n' if admin else "")


def to_origin(port, *routes):
    """The upstream `origin`, which listens there, and these routes to it."""
    return f'[upstreams.origin]\nservers = ["http://{HOST}:{port}"]\n' + "".join(routes)


def route(name="everything", path="", more=""):
    """A route to `origin`: all there is below a path. `more` are further lines."""
    return f'[[routes]]\nname = "{name}"\npath = "{path}/{{*rest}}"\nupstream = "origin"\n{more}\n'


class Server:
    """A running child on `core`. `close` ends it; so does leaving the `with`.

    `second` is the port where it speaks HTTP/2 without TLS, if that is another one.
    """

    def __init__(self, name, command, port, core, folder, patience=30, second=None):
        self.name, self.port, self.second = name, port, second or port
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
        """Status and body of one request on a connection of its own, in HTTP/1.1."""
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

    def forget_most(self):
        """From here on the most that its processes have is counted anew."""
        for pid in members(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def most_of_all(self):
        """The sum of the most octets of memory that each of its processes has had in use."""
        return sum(most(pid) for pid in members(self.process.pid))

    def most_resident(self):
        """The most octets of memory that its process has had in use."""
        return most(self.process.pid)


def most(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) << 10


def family(parent):
    """A process and its descendants: of each, the fields of /proc/PID/stat from the third on."""
    return list(members(parent).values())


def members(parent):
    """The same by the numbers of the processes."""
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
    return {pid: stats[pid] for pid in found if pid in stats}


class Starter:
    """Starts servers by name: programs, temporary folder, origin and cores are the same for all."""

    def __init__(self, binaries, folder, server_core, load_core, redis_core):
        self.binaries, self.folder = binaries, folder
        self.server_core, self.load_core, self.redis_core = server_core, load_core, redis_core
        self.origin = None

    def start(self, name):
        """One of the compared servers, on the servers' core."""
        port = free_port()
        # These two speak one version of HTTP on a port, the others find out.
        second = free_port() if name.startswith(("nginx", "haproxy")) else None
        command = {
            "constant": self._constant,
            "nginx": lambda port: self._nginx(port, second),
            "nginx-sendfile": lambda port: self._nginx(port, second, name="nginx-sendfile", sendfile=True),
            "nginx-proxy": lambda port: self._nginx(port, second, name="nginx-proxy", caches=False),
            "varnish": self._varnish,
            "haproxy": lambda port: self._haproxy(port, second),
            "trafficserver": self._trafficserver,
            "larder": self._larder,
            "larder-policy": lambda port: self._larder(port, policy=True),
            "larder-log": lambda port: self._larder(port, name="larder-log", log=True),
        }[name](port)
        return Server(name, command, port, self.server_core, self.folder, second=second)

    def _own_folder(self, name):
        """Another one for each start."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

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

    def start_with_admin(self, name, text, more="", core=None):
        """The same with an admin listener, whose port is its `admin`; `text` comes behind the `head`."""
        port, admin = free_port(), free_port()
        server = self.start_by(head(port, admin, more) + text, name, port, core)
        server.admin = admin
        return server

    def _constant(self, port):
        # Larder limits the time for a request head by default; the baseline pays for that too.
        return [self.binaries / "examples/constant", f"{HOST}:{port}", 10_000]

    def _larder(self, port, policy=False, name=None, capacity="1GiB", redis=None, log=False):
        config = head(port, more='compiled_cache = "off"') + f"""
[cache.l1]
capacity = "{capacity}"
ttl      = "1h"

[policies.no-tracking]
plugin = "bundled:normalise-query"
config = {{ drop = ["utm_*", "fbclid"] }}
"""
        config += to_origin(self.origin.port, route(more='key = "no-tracking"' if policy else ""))
        if redis:
            # A slow moment of the machine must not turn a hit into a miss.
            config += f'\n[cache.l2]\nredis   = "redis://{HOST}:{redis.port}"\ntimeout = "1s"\n'
        if log:
            # What a disk takes is not the gateway's time, and it would be full before long.
            config += '\n[access_log]\nfile = "/dev/null"\n'
        file = self.folder / f"{name or ('larder-policy' if policy else 'larder')}.toml"
        file.write_text(config)
        return [self.binaries / "larder", "run", "--config", file]

    def _nginx(self, port, second, name="nginx", sendfile=False, caches=True):
        folder = self._own_folder(name)
        temporary = "\n".join(
            f"  {kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = folder / "nginx.conf"
        # A range of what is stored has to be allowed, as the origin does not say `Accept-Ranges`.
        # Measured: `sendfile` costs small bodies 40 % and saves large ones 30 %; with `tcp_nopush`
        # large ones wait 40 ms for a delayed acknowledgement. As root, a worker of another user
        # could not enter the temporary folder.
        cache = f"""
  proxy_cache bench;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  proxy_force_ranges on;
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
    listen {HOST}:{second} http2;
    location / {{ sendfile {"on" if sendfile else "off"}; proxy_pass http://origin; }}
    location ~ (64|256)k$ {{ sendfile on; proxy_pass http://origin; }}
  }}
}}
""")
        return ["nginx", "-c", file, "-e", "stderr"]

    def _varnish(self, port):
        # No jail: it would change to a user who cannot enter the temporary folder. No other server writes a log
        # here, so it leaves out what it would log of a request: measured, 12 % of a hit of 1 KiB.
        return ["varnishd", "-F", "-j", "none", "-T", "none", "-n", self._own_folder("varnish"),
                "-a", f"{HOST}:{port}", "-b", f"{HOST}:{self.origin.port}",
                "-s", "malloc,1g", "-p", "thread_pools=1", "-p", "feature=+http2",
                "-p", "vsl_mask=" + ",".join(f"-{record}" for record in VARNISH_RECORDS)]

    def _haproxy(self, port, second):
        file = self.folder / "haproxy.cfg"
        # Its cache holds nothing larger than it is told, and by default a buffer less what may be added to
        # a head, which is less than 16 KiB. `process-vary`: what varies is not stored without. Measured: a larger
        # `tune.bufsize` makes no difference, for small contents or large ones.
        file.write_text(f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-request 10s
  timeout http-keep-alive 1h
cache bench
  total-max-size 1024
  max-object-size {1 << 20}
  max-age 3600
  process-vary on
frontend all
  bind {HOST}:{port}
  bind {HOST}:{second} proto h2
  http-request cache-use bench
  http-response cache-store bench
  default_backend origin
backend origin
  http-reuse always
  server origin {HOST}:{self.origin.port}
""")
        return ["haproxy", "-db", "-f", file]

    def _trafficserver(self, port):
        folder = self._own_folder("trafficserver")
        for name in ("conf", "log", "run", "cache"):
            (folder / name).mkdir()
        places = {
            **dict.fromkeys(("prefix", "exec_prefix"), "/usr"), "bindir": "/usr/bin", "sbindir": "/usr/sbin",
            "includedir": "/usr/include", "datadir": "/usr/share/trafficserver",
            "libdir": "/usr/lib/trafficserver", "libexecdir": "/usr/lib/trafficserver/modules",
            "sysconfdir": folder / "conf", "logdir": folder / "log", "cachedir": folder / "cache",
            **dict.fromkeys(("localstatedir", "runtimedir"), folder / "run"),
        }
        text = "".join(f"{name}: {place}\n" for name, place in places.items())
        (folder / "runroot.yaml").write_text(text)
        # One thread for connections, which accepts them too; one for files, as all hits lie in the RAM cache; no
        # log, and no field that the others do not add. It keeps five variants of a response by default. The user
        # stays who it is: another one could not enter the temporary folder. Measured: neither the other way of its
        # RAM cache to make room, nor leaving out the fields that it adds, makes a difference.
        settings = {
            "http.server_ports": f"STRING {port}:ip-in={HOST}",
            "exec_thread.autoconfig": "INT 0",
            "exec_thread.limit": "INT 1",
            "exec_thread.affinity": "INT 0",
            "accept_threads": "INT 0",
            "task_threads": "INT 1",
            "cache.threads_per_disk": "INT 1",
            "cache.ram_cache.size": "INT 512M",
            "cache.limits.http.max_alts": "INT 16",
            "log.logging_enabled": "INT 0",
            "http.insert_request_via_str": "INT 0",
            "http.insert_response_via_str": "INT 0",
            "http.keep_alive_no_activity_timeout_in": "INT 3600",
            "crash_log_helper": "STRING NULL",
            "admin.user_id": "STRING #-1",
        }
        (folder / "conf/records.config").write_text(
            "".join(f"CONFIG proxy.config.{name} {value}\n" for name, value in settings.items()))
        (folder / "conf/remap.config").write_text(f"map / http://{HOST}:{self.origin.port}/\n")
        (folder / "conf/storage.config").write_text(f"{folder}/cache 256M\n")
        (folder / "conf/ip_allow.yaml").write_text(
            "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n")
        for name in ("cache", "hosting", "parent", "plugin", "socks", "splitdns", "ssl_multicert", "volume"):
            (folder / f"conf/{name}.config").touch()
        return ["env", f"TS_RUNROOT={folder}/runroot.yaml", "traffic_server", "--run-root"]
