"""Compares a running gateway's admin listener with what it says of itself: check.py URL TOKEN CLIENTS

The document is OpenAPI by a validator that nobody here wrote. Each call is made with the examples in the
document, and with a bounded number of things that are wrong; each answer has to be one that the document
names, with content of its schema: no member that is not there, and none there that never comes, but for those
of `ELSEWHERE`. CLIENTS is where the gateway answers clients. Prints what is not so; nothing is good.
"""

import json
import random
import sys
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

BASE, TOKEN, CLIENTS = sys.argv[1:]
SECRET = {"authorization": f"Bearer {TOKEN}"}
METHODS = ["get", "put", "post", "delete", "patch"]

# Objects whose members are told elsewhere: the configuration has a schema of its own.
OPAQUE = {"GET /config: .config", "GET /openapi.json: "}
# What comes where there is Redis, MongoDB, a policy that fails or differs, a faulty configuration, or a flag.
ELSEWHERE = {
    "Config.sources[].flag",
    "Explanation.last_refusal",
    "Health.failing_policies[]",
    "Health.log",
    "Health.reload_error",
    "Routes.routes[].document",
    "Shadows[].disagreements[]",
}


def call(method, target, fields, content=None):
    request = Request(BASE + target, data=content, method=method.upper(), headers=fields)
    try:
        answer = urlopen(request, timeout=20)
    except HTTPError as error:
        answer = error
    with answer:
        kind = answer.headers.get("content-type", "").split(";")[0]
        # A stream has no end.
        return answer.status, kind, b"" if kind == "text/event-stream" else answer.read()


def once(members):
    """The members of an object, each of which stands there once: of two a reader takes the last."""
    names = [name for name, _ in members]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"twice in the document: {twice}"
    return dict(members)


document = json.loads(call("get", "/openapi.json", SECRET)[2], object_pairs_hook=once)
validate(document)


def resolved(part):
    if "$ref" in part:
        found = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found
    return part


def wrong_with(schema, content):
    whole = {**schema, "components": document["components"]}
    errors = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(content)
    return [f"{error.json_path}: {error.message[:120]}" for error in errors]


# The members of schemas that have come.
seen = set()


def parts(schema):
    """A schema, and those that it is made of."""
    schema = resolved(schema)
    yield schema
    for those in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(those, []):
            yield from parts(part)


def untold(schema, content, place):
    """What of some content the schema does not tell, and notes what it does."""
    schemas = list(parts(schema))
    if isinstance(content, list):
        items = [part["items"] for part in schemas if "items" in part]
        return [it for item in items for element in content for it in untold(item, element, place + "[]")]
    if not isinstance(content, dict):
        return []
    members = {name: part for it in schemas for name, part in it.get("properties", {}).items()}
    rest = [it["additionalProperties"] for it in schemas if isinstance(it.get("additionalProperties"), dict)]
    if not members and not rest:
        return [] if place in OPAQUE or not content else [f"{place} is an object of which nothing is told"]
    found = []
    for name, value in content.items():
        if name in members:
            seen.add(id(members[name]))
            found += untold(members[name], value, f"{place}.{name}")
        elif rest:
            found += untold(rest[0], value, f"{place}.*")
        else:
            found.append(f"{place}.{name} is not told")
    return found


def absent(schema, place):
    """The members of a schema that never came."""
    found = []
    for name, part in schema.get("properties", {}).items():
        if id(part) in seen:
            found += absent(part, f"{place}.{name}")
        else:
            found.append(f"{place}.{name}")
    for those in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(those, []):
            found += absent(part, place)
    for that in ("items", "additionalProperties"):
        if isinstance(schema.get(that), dict):
            found += absent(schema[that], place + "[]")
    return found


def judge(method, path, what, answer, named_only=True):
    """What is wrong with an answer to a call of this path."""
    status, kind, content = answer
    name = f"{method.upper()} {path} ({what}): {status}"
    if status >= 500 and status != 503:
        return [f"{name} is nobody's fault but the gateway's: {content[:200]}"]
    operation = document["paths"].get(path, {}).get(method)
    if status >= 400 and path != "/health" and not path.startswith("/health/"):
        problem = {"$ref": "#/components/schemas/Problem"}
        if kind != "application/problem+json":
            return [f"{name} is no problem, but {kind}"]
        told = json.loads(content)
        found = [f"{name}: {it}" for it in wrong_with(problem, told)]
        if told["status"] != status:
            found.append(f"{name} tells {told['status']}")
        if found or not named_only:
            return found
    if operation is None:
        return [] if not named_only else [f"{name}: there is no such operation"]
    if str(status) not in operation["responses"]:
        return [f"{name} is not documented: {content[:200]}"]
    response = resolved(operation["responses"][str(status)])
    kinds = response.get("content", {})
    if kind not in kinds:
        return [f"{name} is {kind}, not one of {list(kinds)}"]
    if not kind.endswith("json"):
        return []
    schema, told = kinds[kind]["schema"], json.loads(content)
    found = [f"{name}: {it}" for it in wrong_with(schema, told)]
    return found + untold(schema, told, f"{method.upper()} {path}: ")


def target(path, operation, parameters=None):
    query = []
    for parameter in operation.get("parameters", []):
        example = str(parameter.get("example", "")).replace("['", "").replace("']", "")
        example = example.lower() if example in ("True", "False") else example
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(example))
        elif parameters is None:
            query.append(f"{parameter['name']}={quote(example)}")
    query += parameters or []
    return path + ("?" + "&".join(query) if query else "")


def body(operation):
    if "requestBody" not in operation:
        return None, {}
    ((kind, media),) = operation["requestBody"]["content"].items()
    return json.dumps(media["example"]).encode(), {"content-type": kind}


found = []
chance = random.Random(9457)
NONSENSE = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"tags": 5}', b'{"tegs": []}', b'{"tags": ["' + b"a" * 2000 + b'"]}',
    b'{"all": "yes"}', b'{"urls": ["not a URL"]}', b"[" * 10000, b'{"patterns": ' + json.dumps(["a"] * 200).encode() + b"}",
    b'{"a":' * 200, b'{"tags": [], "tags": []}', json.dumps({"tags": ["a"] * 2000}).encode(),
]
QUERIES = [
    "wait=banana", "wait=99999999999999999999s", "wait=-1s", "soft=maybe", "soft=true&soft=true", "x=1",
    "needs=luck", "format=yaml", "%ff=%00", "wait", "=", "&&&", "a" * 3000,
]


def looked(path, asked):
    """The answer to a `GET` of this path, which has to be as documented, and what is wrong with it."""
    answer = call("get", asked, SECRET)
    return json.loads(answer[2]), judge("get", path, asked, answer)


# Something is stored, hit, found no route for, asked in another way by a shadow, and invalidated.
SHOP = {"host": "shop.example", "accept-language": "de"}
for _ in range(3):
    urlopen(Request(CLIENTS + "/books/42?utm_source=a", headers=SHOP), timeout=20).read()
try:
    urlopen(CLIENTS + "/none", timeout=20)
except HTTPError as error:
    assert error.code == 404
told, wrong = looked("/stored", "/stored")
found += wrong
found += looked("/stored/{id}", f"/stored/{told['responses'][0]['id']}")[1]
explain = "/explain?url=http://shop.example/books/42&field=Accept-Language:de"
for asked in [explain, "/explain?url=http://shop.example/books/43", "/explain?url=http://shop.example/none"]:
    found += looked("/explain", asked)[1]
call("delete", "/tag/x", SECRET)
found += looked("/explain", explain)[1]
for path, operations in document["paths"].items():
    for method, operation in operations.items():
        content, fields = body(operation)
        is_open = {} in operation.get("security", [])
        for parameters in (None, []):
            asked = target(path, operation, parameters)
            answer = call(method, asked, {**SECRET, **fields}, content)
            found += judge(method, path, "as documented", answer)
        for token in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic d3Jvbmc="}):
            answer = call(method, target(path, operation, []), {**token, **fields}, content)
            if not is_open and answer[0] != 401:
                found.append(f"{method.upper()} {path} without the token: {answer[0]}")
            found += judge(method, path, "without the token", answer)
        for query in QUERIES:
            answer = call(method, target(path, operation, [query]), {**SECRET, **fields}, content)
            found += judge(method, path, f"?{query[:40]}", answer)
        if content is not None:
            for nonsense in NONSENSE + [bytes(chance.randbytes(chance.randrange(200))) for _ in range(20)]:
                answer = call(method, path, {**SECRET, **fields}, nonsense)
                found += judge(method, path, f"{nonsense[:40]!r}", answer)
            answer = call(method, path, {**SECRET, "content-type": "text/plain"}, content)
            found += judge(method, path, "as text", answer)
            answer = call(method, path, {**SECRET, **fields}, b" " * (1 << 20) + content)
            found += judge(method, path, "too long", answer)
    for method in METHODS:
        if method not in operations:
            answer = call(method, target(path, next(iter(operations.values())), []), SECRET)
            if answer[0] != 405:
                found.append(f"{method.upper()} {path} is answered {answer[0]}, and not documented")
            found += judge(method, path, "another method", answer, named_only=False)
    if "{" in path:
        asked = path[: path.index("{")] + "%ff"
        for method in operations:
            found += judge(method, path, "not UTF-8", call(method, asked, SECRET))
for unknown in ["/", "/statz", "/purge/%ff", "/purge/", "/purge/1-1/x", "/stats/", "/tag", "/%00", "//stats"]:
    if unknown in document["paths"]:
        continue
    answer = call("get", unknown, SECRET)
    if answer[0] < 400:
        found.append(f"GET {unknown} is answered {answer[0]}")
    found += judge("get", unknown, "unknown", answer, named_only=False)
for name, schema in document["components"]["schemas"].items():
    # Those that are sent, not answered.
    if name not in ("Question", "Wanted"):
        never = [it for it in absent(schema, name) if not any(it.startswith(known) for known in ELSEWHERE)]
        found += [f"{it} is in the document, and never comes" for it in never]
print("\n".join(dict.fromkeys(found)), end="")
