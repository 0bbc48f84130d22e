"""How the cost of a hit grows with routes, with policies and with stored responses: it should not.

In each family the servers differ in one number. They are measured in turn, and each is compared with the
smallest of its family within a round. What is asked for is the same however many there are (`few`), or
drawn from all there is (`all`): of routes and policies, that is compared with as many responses on a
single route. Where all is asked for, a hit finds little of its own in the processor's caches, and what that
costs is told in reads from as much memory as the server has, which `full walk` times.
"""

import contextlib
import subprocess
from statistics import median

import report
from fleet import cpu_seconds
from measure import QUERY
from servers import Failure, Server, free_port, head, route, to_origin

FAMILIES = {
    "routes": (1, 100, 10_000),
    "policies": (1, 100, 1000),
    "stored": (10, 1000, 100_000, 1_000_000, 10_000_000),
}
# With `--quick` there are no more than these.
QUICK = {"routes": 10_000, "policies": 100, "stored": 100_000}
# In a measurement.
HITS, QUICK_HITS = 20_000, 5000
# So many stored responses are the same ones.
FEW = 10
# A hit costs so many times what it costs with the smallest number; where all are asked for, so many reads
# from memory may come to that: for some thirty cache lines of a response and its places in L1, and what
# the kernel and the client's connection lose by it.
AIM, READS = 1.1, 50
# What a small stored response takes, and what else must be left.
EACH, SPARE = 1000, 2 << 30


class Case:
    """What is asked of a server; `name` is what the samples have it by, and `beside` what they compare it with."""

    def __init__(self, name, beside, server, path, distinct):
        self.name, self.beside = name, beside
        self.server, self.path, self.distinct = server, path, distinct


def measure(bench):
    told = {"hits": {}, "beside": {}, "walk": {}}
    for family, numbers in FAMILIES.items():
        if bench.options.quick:
            numbers = [number for number in numbers if number <= QUICK[family]]
        if family == "stored":
            numbers = with_memory(bench, numbers)
        with contextlib.ExitStack() as stack:
            servers = {}
            for number in numbers:
                bench.say(f"growth: {number:,} {family}")
                servers[number] = stack.enter_context(START[family](bench.starter, number))
            cases = cases_of(family, servers)
            for case in cases:
                # All is stored, and asked for once more than that.
                if family != "stored":
                    bench.load.send(case.server, case.path, 2 * case.distinct, case.distinct, cold=True)
            told["beside"][family] = {case.name: case.beside for case in cases}
            told["hits"][family] = bench.interleaved(f"growth: {family}", cases, lambda case: hits(bench, case))
            sizes = {case.name: case.server.resident() for case in cases if case.name.endswith("all")}
        told["walk"][family] = {name: (octets, walk(bench, octets)) for name, octets in sizes.items()}
    bench.samples["growth"] = told


def with_memory(bench, numbers):
    """Those that fit, all of them together."""
    left = available() - SPARE
    fit = [number for number in numbers if sum(it for it in numbers if it <= number) * EACH < left]
    if len(fit) < len(numbers):
        bench.note(f"growth: too little memory for {numbers[-1]:,} stored responses")
    return fit


def available():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def cases_of(family, servers):
    least, cases = min(servers), []
    few, path = (FEW, "/small/{n}") if family == "stored" else (1, "/fill/r{n}/1")
    for number, server in servers.items():
        same = path if family == "stored" else path.replace("{n}", str(number // 2))
        cases.append(Case(f"{number} few", f"{least} few", server, same + QUERY, few))
        if number == least:
            continue
        beside = f"{least} few"
        if family != "stored":
            beside = f"{least} as {number}"
            cases.append(Case(beside, beside, servers[least], "/fill/r0/{n}" + QUERY, number))
        cases.append(Case(f"{number} all", beside, server, path + QUERY, number))
    return cases


def hits(bench, case):
    """Processor time of one, in µs."""
    count = QUICK_HITS if bench.options.quick else HITS
    before = cpu_seconds(case.server)
    # Drawn, each as often as another: who asks in turn may find the next one beside the last.
    seen = bench.load.send(case.server, case.path, count, case.distinct, words=["zipf=0"])
    cpu = cpu_seconds(case.server) - before
    return {"cpu": cpu * 1e6 / count, "rate": count / seen["seconds"], "busy": cpu / seen["seconds"]}


def walk(bench, octets):
    """Nanoseconds for a read from so much memory."""
    command = ["taskset", "-c", bench.starter.server_core, bench.binaries / "examples/full", "walk", octets]
    try:
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True,
                              timeout=300)
    except subprocess.CalledProcessError as error:
        raise Failure(f"full: {error.stderr.strip()}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"full: {error}") from error
    return float(done.stdout)


def routes(starter, number):
    return started(starter, f"growth-routes-{number}", "".join(
        numbered(place) for place in range(number)))


def policies(starter, number):
    """As many routes, each with a policy of its own."""
    text = "".join(f"""
[policies.p{place}]
plugin = "bundled:normalise-query"
config = {{ drop = ["utm_*", "p{place}"] }}
""" + numbered(place, f'key = "p{place}"') for place in range(number))
    return started(starter, f"growth-policies-{number}", text)


def numbered(place, more=""):
    return route(f"r{place}", f"/fill/r{place}", more)


def started(starter, name, text):
    port = free_port()
    config = configuration(starter, port, "256MiB") + text
    return starter.start_by(config, name, port)


def configuration(starter, port, capacity):
    text = head(port, more='watch = false\ncompiled_cache = "growth-compiled"')
    return text + f'[cache.l1]\ncapacity = "{capacity}"\nttl = "1h"\n' + to_origin(starter.origin.port)


def stored(starter, number):
    """So many are there from the start: to fetch them would take much of an hour."""
    port, name = free_port(), f"growth-stored-{number}"
    file = starter.folder / f"{name}.toml"
    file.write_text(configuration(starter, port, f"{64 + number * 2 // 1024}MiB") + route())
    command = [starter.binaries / "examples/full", file, number]
    return Server(name, command, port, starter.server_core, starter.folder, patience=600)


START = {"routes": routes, "policies": policies, "stored": stored}


def beside(told, family, name):
    """Round by round, what a hit costs in a case, and in the one that it is compared with."""
    by_case = told["hits"][family]
    return [(a["cpu"], b["cpu"]) for a, b in zip(by_case[name], by_case[told["beside"][family][name]]) if a and b]


def worst(told, family):
    """The largest number of a family, and the worst ratio of all its numbers where the same is asked for; `None`
    where nothing is to be compared."""
    compared = {name: beside(told, family, name) for name, other in told["beside"].get(family, {}).items()
                if name.endswith(" few") and name != other}
    ratios = {int(name.split()[0]): median(a / b for a, b in pairs) for name, pairs in compared.items() if pairs}
    return (max(ratios), max(ratios.values())) if ratios else None


def table(told):
    """Each number beside the smallest of its family."""
    rows = []
    for family, by_case in told["hits"].items():
        for name, rounds in by_case.items():
            samples, pairs = [sample for sample in rounds if sample], beside(told, family, name)
            if not pairs:
                continue
            number, kind, *others = name.split()
            ratio = median(a / b for a, b in pairs)
            reads, aim, met = "–", f"< {AIM:.2f}", ratio < AIM
            if kind == "all":
                octets, nanoseconds = told["walk"][family][name]
                count = median(a - b for a, b in pairs) * 1000 / nanoseconds
                reads = f"{count:.0f} of {nanoseconds:.0f} ns from {octets / 2**20:,.0f} MiB"
                aim, met = f"{aim}, or {READS} reads", met or count < READS
            if told["beside"][family][name] == name:
                aim, met = "–", None
            what = {"few": "the same asked for", "all": "all of them asked for",
                    "as": f"{int((others or [0])[0]):,} responses asked for"}[kind]
            rows.append([f"{int(number):,} {NOUNS[family][number != '1']}, {what}",
                         f"{report.middle(samples, 'cpu'):.1f}", f"{ratio:.2f}", reads, aim,
                         {True: "yes", False: "no", None: "–"}[met]])
    head = ["hits with", "µs/request", "ratio", "more, in reads from memory", "aim", "met"]
    return report.table(head, rows)


NOUNS = {"routes": ("route", "routes"), "policies": ("policy", "policies"),
         "stored": ("stored response", "stored responses")}
