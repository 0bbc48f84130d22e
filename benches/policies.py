"""What policies cost: calls and loading by themselves, hits of routes with them, and memory.

Each figure stands beside its aim; `report.policies` makes the table. The names that the measurements
have here are those in it.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess

import measure
from reload import PLUGINS, ROUTES
from servers import Failure, Server, body, free_port, head, route, to_origin

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
    return {**measure.FIELDS, "X-Token": token()}


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
            found[name] = measure.settled(server)
    return found


def ask(server, number):
    """Some of a route's paths, as two sorts of clients."""
    for page in range(5):
        for language in ("en", "de"):
            path = f"/fill/r{number}/{page}{measure.QUERY}"
            sent = {**measure.FIELDS, "Accept-Language": language, "Cookie": "currency=EUR"}
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
