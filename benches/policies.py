"""What policies cost: calls and loading by themselves, hits of routes with them, and memory.

Each figure stands beside its aim. The names that the measurements have here are those in the table.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import subprocess
from statistics import median

import report
from measure import FIELDS, QUERY, SIZES, settled
from reload import PLUGINS, ROUTES
from servers import Failure, Server, body, free_port, head, route, to_origin

NEEDS = {"wrk"}
SECRET = "0123456789abcdef0123456789abcdef"
# The compared servers: what the only route of each says. All are sent the same requests.
HITS = {
    "none": "",
    "key": 'key = "no-tracking"',
    "keyed": 'key = "no-tracking"\nforward = "keyed"',
    "shadow": 'key = "no-tracking"\nshadow = "unsorted"',
    "jwt": 'key = "by-tenant"\njwt = "staff"',
}
POLICIES = """
[jwt.staff]
secret     = "{secret}"
algorithms = ["HS256"]
from       = "field:x-token"

[policies.no-tracking]
plugin = "bundled:normalise-query"
config = {{ drop = ["utm_*", "fbclid"] }}

[policies.unsorted]
plugin = "bundled:normalise-query"
config = {{ drop = ["utm_*", "fbclid"], sort = false }}

[policies.by-tenant]
plugin = "bundled:tenant"
config = {{ claim = "tenant", drop = ["utm_*", "fbclid"] }}
"""
# The plugins of the gateway whose memory is measured: the role, the bundled plugin, its settings.
SHARED = [
    ("key", "normalise-query", ""),
    ("key", "normalise-query", "keep = ['page', 'sort']"),
    ("key", "variants", "languages = ['en', 'de', 'fr']"),
    ("key", "variants", "cookie = 'currency'"),
    ("key", "tenant", "field = 'accept-language'"),
    ("key", "tenant", "field = 'accept'"),
    ("storing", "content-tags", "static = ['a']"),
    ("storing", "content-tags", "static = ['b']"),
    ("invalidation", "rest-writes", ""),
    ("invalidation", "graphql", ""),
]


def measure(bench):
    load, folder, seconds = bench.load, bench.starter.folder / "code", bench.options.seconds
    folder.mkdir(mode=0o700)
    bench.say("policies: calls and loading")
    rounds, core = 2 * bench.options.rounds + 1, bench.options.cores[0]
    found = calls(bench.binaries, bench.root, folder, core, rounds)
    sent, path = fields(), bench.path("1k")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(start(bench.starter, name)) for name in HITS]
        for server in servers:
            load.check_hit(server, path, SIZES["1k"], sent)
            load.saturate(server, path, 1, sent)  # Warm up.
        hits = bench.interleaved(
            "policies-hits", servers, lambda server: load.saturate(server, path, seconds, sent), seconds)
    bench.say("policies: memory")
    bench.samples["policies"] = {"calls": found, "hits": hits, "memory": memory(bench.starter)}


def calls(binaries, root, folder, core, rounds):
    """Medians by cost and plugin."""
    command = [binaries / "examples/policies", rounds, folder, *languages(binaries, root)]
    try:
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True,
                              text=True, timeout=1200,
                              preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    except subprocess.CalledProcessError as error:
        raise Failure(f"policies: {error.stderr.strip()}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"policies: {error}") from error
    return json.loads(done.stdout)


def languages(binaries, root):
    """The examples in other languages, as far as they are built."""
    for name, folder in (("C", "c"), ("JavaScript", "javascript")):
        built = (root / f"plugins/examples/{folder}/by-tenant.wasm",
                 binaries.parent / f"tools/plugins/by-tenant-{folder}.wasm")
        for file in built:
            if file.exists():
                yield f"{name}={file}"
                break


def token():
    """Of a tenant, for the century."""
    encode = lambda octets: base64.urlsafe_b64encode(octets).rstrip(b"=")
    first = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    claims = {"sub": "ada", "tenant": "acme", "iat": 1700000000, "exp": 4102444800}
    signed = first + b"." + encode(json.dumps(claims).encode())
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + encode(mac)).decode()


def fields():
    """Those of every measurement, and the token."""
    return {**FIELDS, "X-Token": token()}


def start(starter, name):
    """One of the servers of `HITS`."""
    return started(starter, name, POLICIES.format(secret=SECRET) + route(more=HITS[name]))


def started(starter, name, text, compiled="off"):
    port = free_port()
    file = starter.folder / f"policies-{len(list(starter.folder.glob('*.toml')))}.toml"
    more = f'watch = false\ncompiled_cache = "{compiled}"'
    file.write_text(head(port, more=more) + '[cache.l1]\nttl = "1h"\n' + to_origin(starter.origin.port) + text)
    command = [starter.binaries / "larder", "run", "--config", file]
    return Server(name, command, port, starter.server_core, starter.folder)


def memory(starter):
    """Octets: of the routes without policies, with them compiled at this start, and with compiled code
    from the start before. Each has answered ten different requests of each route, twice."""
    folder = starter.folder / "compiled"
    folder.mkdir(mode=0o700)
    found = {}
    for name in ("without", "compiled anew", "compiled before"):
        text = routes(name != "without")
        with started(starter, f"memory-{name.replace(' ', '-')}", text, folder) as server:
            for number in range(ROUTES):
                for turn in range(2):
                    ask(server, number)
            found[name] = settled(server)
    return found


def ask(server, number):
    """Some of a route's paths, as two sorts of clients."""
    for page in range(5):
        for language in ("en", "de"):
            path = f"/fill/r{number}/{page}{QUERY}"
            sent = {**FIELDS, "Accept-Language": language, "Cookie": "currency=EUR"}
            status, content = server.get(path, sent)
            if status != 200 or content != body(1 << 10):
                raise Failure(f"wrong answer: {status}, {len(content)} octets")


def routes(with_policies):
    text = ""
    for number, (_, plugin, config) in enumerate(SHARED if with_policies else []):
        text += f"\n[policies.p{number}]\nplugin = \"bundled:{plugin}\"\nconfig = {{ {config} }}\n"
    for number in range(ROUTES):
        place = number % PLUGINS
        policy = f'{SHARED[place][0]} = "p{place}"' if with_policies else ""
        text += route(f"r{number}", f"/fill/r{number}", policy)
    return text


def table(samples):
    """Each cost beside its aim; the last column compares the worst of the row with it."""
    calls, memory = samples["calls"], samples["memory"]
    # What is written in other languages has a size of its own.
    ours, others = ({cost: {plugin: span for plugin, span in found.items()
                            if (plugin in ("C", "JavaScript")) == is_other}
                     for cost, found in calls.items()} for is_other in (False, True))
    more = {how: memory[how] - memory["without"] for how in ("compiled anew", "compiled before")}
    bounds = [
        ("a remembered key, ns", calls["remembered"], 1, 200),
        ("a remembered key, one of 5,000 in turn, ns", calls["remembered, many"], 1, 200),
        ("`key` in a fresh instance, µs", ours["key"], 1000, 8),
        ("the same in other languages, µs", others["key"], 1000, 8),
        ("`storing`, 4 KiB of JSON, µs", calls["storing"], 1000, None),
        ("`invalidation`, µs", calls["invalidation"], 1000, None),
        ("loading, compiled before, ms", ours["loaded"], 1, 5),
        ("loading, compiled anew, ms", ours["compiled"], 1, None),
        ("loading other languages, compiled before, ms", others["loaded"], 1, None),
        ("100 routes with 10 policies, MiB more than without", more, 2**20, 64),
    ]
    rows = []
    for what, found, unit, aim in bounds:
        if found:
            shown = ", ".join(f"{name} {span / unit:.{0 if what.endswith('ns') else 1}f}"
                              for name, span in found.items())
            worst = f"{max(found.values()) / unit / aim:.2f}" if aim else "–"
            rows.append([what, shown, f"< {aim}" if aim else "–", worst])
    hits = samples["hits"]
    served = [("hits per second of processor time, to those without", lambda a, b: b["cpu"] / a["cpu"])]
    # Where the core was not busy, something else was the limit.
    if all(report.middle([it for it in rounds if it] or [{"busy": 0}], "busy") > 0.9
           for rounds in hits.values()):
        served.append(("hits per second, to those without", lambda a, b: a["rate"] / b["rate"]))
    for what, ratio_of in served:
        found = {}
        for name, rounds in hits.items():
            pairs = [(a, b) for a, b in zip(rounds, hits["none"]) if a and b]
            if name != "none" and pairs:
                found[name] = median(ratio_of(a, b) for a, b in pairs)
        if found:
            shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
            rows.append([what, shown, "> 0.95", f"{0.95 / min(found.values()):.2f}"])
    return report.table(["cost", "measured", "aim", "worst to aim"], rows)
