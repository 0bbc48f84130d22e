"""What `run` measures: a server's processor time under wrk, latency on a schedule, memory.

Each function loads one server for a bounded time and answers plain numbers; the table is made
elsewhere. Times are microseconds unless their names say otherwise.
"""

import json
import re
import socket
import subprocess
import time

from servers import HOST, Failure, body

CONNECTIONS = 64
# Requests under way on a connection of HTTP/2 that is kept busy: a page asks for a few at a time.
STREAMS = 4
# As a browser sends them; with `Host` they are seven. No cookie: Varnish would not look it up.
FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example/catalogue?page=2",
    "Sec-Fetch-Mode": "cors",
}
QUERY = "?page=2&sort=price&utm_source=newsletter"
SIZES = {"1k": 1 << 10, "16k": 16 << 10, "64k": 64 << 10, "256k": 256 << 10}
# wrk's numbers for a program; without a `request` function wrk sends the same request each time.
REPORT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "us": %d, "octets": %.0f, "errors": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
# For several requests in turn, which differ in a field's value.
IN_TURN = """
local texts, turn = {}, 0
init = function()
  for n = 0, %d - 1 do
%s
    texts[n] = wrk.format()
  end
end
request = function()
  turn = (turn + 1) %% %d
  return texts[turn]
end
"""


class Load:
    """The side that asks. It has a core of its own."""

    def __init__(self, generator, folder, core, origin):
        self.generator, self.core, self.origin = generator, core, origin
        self.script = folder / "report.lua"
        self.script.write_text(REPORT)

    def _run(self, command, seconds, text=None):
        """Runs a generator and answers its last line, which is JSON."""
        return json.loads(self._output(command, seconds, text).strip().splitlines()[-1])

    def _output(self, command, seconds, text=None):
        try:
            done = subprocess.run(
                ["taskset", "-c", str(self.core), *map(str, command)], input=text, text=True,
                capture_output=True, timeout=seconds + 60, check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"{command[0]} did not end in time") from None
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or f"exit code {done.returncode}")
        return done.stdout

    def asked(self):
        """How many requests the origin has answered."""
        return int(self.origin.get("/count")[1])

    def calm(self):
        """Waits until the origin has answered what others broke off."""
        before = None
        while (now := self.asked()) != before:
            before = now
            time.sleep(0.2)

    def check_hit(self, server, path, length, fields=FIELDS):
        """Asks until the server answers by itself, with the right octets."""
        for _ in range(50):
            before = self.asked()
            for _ in range(3):
                status, content = server.get(path + QUERY, fields)
                if status != 200 or content != body(length):
                    raise Failure(f"wrong answer: {status}, {len(content)} octets")
            if self.asked() == before:
                return
            time.sleep(0.1)
        raise Failure(f"`{path}` is no hit: every request reaches the origin")

    def saturate(self, server, path, seconds, fields=FIELDS):
        """As many hits as the server can: requests/s, processor time of each, wrk's latency."""
        asked = self.asked()
        sample = self._wrk(server, path, seconds, fields, self.script)
        self._check_untouched(asked)
        return sample

    def work(self, server, work, seconds):
        """As many of a work's requests as the server can answer by itself: requests/s, processor time of each."""
        asked, cpu = self.asked(), server.cpu_seconds()
        # wrk waits for the content that a 304 does not have where it tells the length of one.
        with_wrk = not work.is_second and work.status != 304
        requests, taken = (self._by_wrk if with_wrk else self._by_h2load)(server, work, seconds)
        cpu = server.cpu_seconds() - cpu
        self._check_untouched(asked)
        return {"cpu": cpu * 1e6 / requests, "rate": requests / taken, "busy": cpu / taken}

    def _by_wrk(self, server, work, seconds):
        script = self.script.with_name("work.lua")
        in_turn = ""
        if work.variants > 1:
            lines = [f"    wrk.headers['{name}'] = ('{value}'):gsub('{{n}}', n)"
                     for name, value in work.more.items()]
            in_turn = IN_TURN % (work.variants, "\n".join(lines), work.variants)
        script.write_text(REPORT + in_turn)
        command = ["wrk", "-t1", f"-c{work.connections}", "-s", script, "--timeout", "10s", f"-d{seconds}s",
                   *headers(work.fields()), f"http://{HOST}:{server.port}{work.path}{QUERY}"]
        seen = self._run(command, seconds)
        if seen["errors"] or not seen["requests"]:
            raise Failure(f"{seen['errors']} errors in {seen['requests']} requests")
        each = seen["octets"] / seen["requests"]
        # The head, and less than one answer of each connection that came in part.
        spare = 2048 + work.length * work.connections / seen["requests"]
        if not work.length <= each <= work.length + spare:
            raise Failure(f"{each:.0f} octets each instead of {work.length} and a head")
        return seen["requests"], seen["us"] / 1e6

    def _by_h2load(self, server, work, seconds):
        port = server.second if work.is_second else server.port
        command = ["h2load", "-t1", f"-c{work.connections}", f"-m{STREAMS if work.is_second else 1}", f"-D{seconds}",
                   *([] if work.is_second else ["--h1"]), *headers(work.fields()),
                   f"http://{HOST}:{port}{work.path}{QUERY}"]
        said = self._output(command, seconds)
        found = re.search(
            rf"(\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored.*?(\d+) {work.status // 100}xx.*?"
            r"\((\d+)\) data", said, re.DOTALL)
        if not found:
            raise Failure(f"h2load said: {said.strip()[-200:]}")
        done, failed, errors, of_class, octets = map(int, found.groups())
        if failed or errors or not done or of_class < done:
            raise Failure(f"{failed + errors} errors in {done} requests, {of_class} answers are {work.status}")
        each = octets / done
        # Answers that came in part are not counted as done.
        spare = work.length * work.connections * STREAMS / done
        if not work.length <= each <= work.length + spare:
            raise Failure(f"{each:.0f} octets of content each instead of {work.length}")
        return done, seconds

    def first(self, server, work):
        """A few of a work's requests, which may reach the origin, and some more, which may not."""
        self._paced(server, work, 1000, 0.02)
        asked = self.asked()
        self._paced(server, work, 1000, 0.02)
        self._check_untouched(asked)

    def paced(self, server, work, rate, seconds):
        """Latencies of a work's requests, so many a second, each from when it was due."""
        asked = self.asked()
        seen = self._paced(server, work, rate, seconds)
        self._check_untouched(asked)
        return {"rate": seen["requests"] / seen["seconds"], **seen}

    def _paced(self, server, work, rate, seconds):
        port = server.second if work.is_second else server.port
        lines = [f"GET {work.path}{QUERY} HTTP/{'2' if work.is_second else '1.1'}", f"Host: {HOST}:{port}"]
        lines += [f"{name}: {value}" for name, value in work.fields().items()]
        count = max(int(rate * seconds), 1)
        command = [self.generator, f"{HOST}:{port}", work.connections, count, work.variants, f"{rate:.1f}"]
        return self._run(command, 10 * seconds, "\r\n".join([*lines, "", ""]))

    def highest(self, server, method, path, length, seconds):
        """How many requests a second it passes on at most, with content of this length."""
        script = self.script.with_name("forward.lua")
        content = f"wrk.body = string.rep('x', {length})\n" if length else ""
        script.write_text(f"wrk.method = '{method}'\n{content}{REPORT}")
        return self._wrk(server, path, seconds, FIELDS, script)["rate"]

    def forward(self, server, method, path, length, rate, seconds):
        """Processor time of requests that all reach the origin, so many a second."""
        asked = self.asked()
        found = self.cost(server, method, path, length, rate, seconds)
        if self.asked() - asked != found["count"]:
            raise Failure(f"{found['count'] - self.asked() + asked} requests were not forwarded")
        return found

    def cost(self, server, method, path, length, rate, seconds):
        """Processor time of requests, so many a second."""
        lines = [f"{method} {path}{QUERY} HTTP/1.1", f"Host: {HOST}:{server.port}"]
        lines += [f"{name}: {value}" for name, value in FIELDS.items()]
        lines += [f"Content-Length: {length}"] if length else []
        count = int(rate * seconds)
        command = [self.generator, f"{HOST}:{server.port}", CONNECTIONS, count, 1, f"{rate:.1f}", "rest"]
        cpu = server.cpu_seconds()
        seen = self._run(command, 10 * seconds, "\r\n".join([*lines, "", "x" * length]))
        cpu = server.cpu_seconds() - cpu
        return {"count": count, "cpu": cpu * 1e6 / count, "rate": count / seen["seconds"],
                "busy": cpu / seen["seconds"]}

    def _wrk(self, server, path, seconds, fields, script):
        lines = [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]
        url = f"http://{HOST}:{server.port}{path}{QUERY}"
        wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", "-s", script, "--timeout", "10s", *lines]
        cpu = server.cpu_seconds()
        seen = self._run([*wrk, f"-d{seconds}s", url], seconds)
        cpu = server.cpu_seconds() - cpu
        if seen["errors"] or not seen["requests"]:
            raise Failure(f"{seen['errors']} errors in {seen['requests']} requests")
        return {
            "cpu": cpu * 1e6 / seen["requests"],
            "rate": seen["requests"] * 1e6 / seen["us"],
            "busy": cpu * 1e6 / seen["us"],
            "p50": seen["p50"],
            "p99": seen["p99"],
        }

    def send(self, server, path, count, distinct=1, rate=None, cold=False, words=(),
             connections=CONNECTIONS, by=()):
        """`count` requests, due at `rate` a second if given; `{n}` in `path` numbers them.

        `cold` requests may reach the origin. `words` are the generator's own; `by` is what starts it.
        """
        lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{server.port}"]
        lines += [f"{name}: {value}" for name, value in FIELDS.items()]
        command = [*by, self.generator, f"{HOST}:{server.port}", connections, count, distinct]
        command += [f"{rate:.1f}" if rate else "-", *words]
        # A server may be ten times slower than planned, or than 1000 requests/s.
        limit = 10 * count / (rate or 10_000)
        asked = self.asked()
        seen = self._run(command, limit, "\r\n".join([*lines, "", ""]))
        if not cold:
            self._check_untouched(asked)
        return seen

    def _check_untouched(self, asked):
        missed = self.asked() - asked
        if missed:
            raise Failure(f"{missed} requests were no hits")


def headers(fields):
    """As wrk and h2load take them."""
    return [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]


def redis_hits(redis):
    """How many look-ups of a key have found it."""
    with socket.create_connection((HOST, redis.port), 10) as connection:
        connection.sendall(b"INFO stats\r\nQUIT\r\n")
        with connection.makefile("rb") as answer:
            found = re.search(rb"keyspace_hits:(\d+)", answer.read())
    if not found:
        raise Failure("Redis tells no `keyspace_hits`")
    return int(found.group(1))


def settled(server):
    """Its memory, once it has stopped changing."""
    last = server.resident()
    for _ in range(20):
        time.sleep(0.5)
        now = server.resident()
        if abs(now - last) < 1 << 20:
            break
        last = now
    return now
