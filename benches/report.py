"""The numbers of `run` as Markdown tables: medians over the rounds, and ratios within a round."""

import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median


def middle(samples, key):
    return median(sample[key] for sample in samples)


def ratio(samples, others):
    """How many times the processor time of `others`, compared round by round."""
    pairs = [(a, b) for a, b in zip(samples, others) if a and b]
    if not pairs:
        return "–"
    return f"{median(a['cpu'] / b['cpu'] for a, b in pairs):.2f}"


def table(head, rows):
    """Markdown with aligned columns: the first to the left, numbers to the right."""
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths))) + " |" for row in rows]
    rule = "|" + "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":"
        for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def hits(by_server):
    """`by_server`: a list of samples per server, one a round, `None` for one that failed."""
    rows = []
    for name, rounds in by_server.items():
        samples = [sample for sample in rounds if sample]
        if not samples:
            continue
        rows.append([
            name,
            f"{middle(samples, 'cpu'):.1f}",
            ratio(rounds, by_server.get("nginx", [])),
            ratio(rounds, by_server.get("constant", [])),
            f"{middle(samples, 'rate'):,.0f}",
            f"{middle(samples, 'busy'):.0%}",
        ])
    head = ["server", "µs/request", "to nginx", "to constant", "requests/s", "core busy"]
    return table(head, rows)


def forward(samples):
    """Requests beside nginx, and memory, each beside its aim."""
    rows = []
    for what, by_server in samples["requests"].items():
        for name, rounds in by_server.items():
            found = [sample for sample in rounds if sample]
            if found:
                rows.append([
                    what, name, f"{middle(found, 'cpu'):.1f}",
                    ratio(rounds, by_server.get("nginx-proxy", [])),
                    f"{middle(found, 'rate'):,.0f}", f"{middle(found, 'busy'):.0%}"])
    head = ["request and its answer", "server", "µs/request", "to nginx (aim: 1.20)", "requests/s",
            "core busy"]
    requests = table(head, rows)
    lengths = [f"{length >> 20:,} MiB" for length in samples["lengths"]]
    rows = []
    for what, peaks in samples["streams"].items():
        most = [it["peak"] for it in peaks]
        rows.append([what, *(f"{peak / 2**20:.1f}" for peak in most), f"{most[-1] / most[0]:.2f}",
                     f"{peaks[-1]['seconds']:.1f}"])
    head = ["what streams", *(f"most memory at {length}, MiB" for length in lengths), "ratio",
            f"seconds for {lengths[-1]}"]
    streams = table(head, rows)
    rows = [[what, f"{octets / 1024:.1f}"] for what, octets in samples["idle"].items()]
    idle = table([f"{samples['count']:,} idle connections", "KiB each (aim: < 20)"], rows)
    return "\n\n".join([requests, streams, idle])


def decide(spans):
    look_up = spans["look-up"]
    rows = [[name, f"{span:.0f}", f"{span / look_up:.2f}"]
            for name, span in sorted(spans.items(), key=lambda item: item[1])]
    return table(["request", "ns", "to the look-up"], rows)


def policies(samples):
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
    if all(middle([it for it in rounds if it] or [{"busy": 0}], "busy") > 0.9
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
    return table(["cost", "measured", "aim", "worst to aim"], rows)


def fleet(samples):
    """Each cost beside its aim; the last column compares the worst of a row with it."""
    ways = samples["look-ups"]
    rows = []

    def row(what, found, aim, digits=2, worst=max, least=False):
        shown = ", ".join(f"{name} {value:.{digits}f}".strip() for name, value in found.items())
        bound = worst(found.values())
        beside = aim / bound if least else bound / aim
        rows.append([what, shown, f"{'>' if least else '<'} {aim}", f"{beside:.2f}"])

    def to_get(crowd, cost):
        pairs = zip(ways[crowd]["look-up"], ways[crowd]["get"])
        return median(cost(a) / cost(b) for a, b in pairs)

    row("a look-up in L2, to a bare `GET`: time", {
        "by one": to_get("one", lambda it: it[0]), "by 64": to_get("many", lambda it: it[0])}, 1.3)
    row("the same: processor time, Redis' included", {
        "by one": to_get("one", lambda it: it[1] + it[2]),
        "by 64": to_get("many", lambda it: it[1] + it[2])}, 1.3)
    spread = samples["spread"]
    row("from a purge to another gateway's L1, ms", {
        "median": median(spread["reached"]),
        "p99": sorted(spread["reached"])[len(spread["reached"]) * 99 // 100]}, 5,
        worst=lambda spans: next(iter(spans)))
    one, every = samples["purges"]["one"], samples["purges"]["all"]
    row(f"a purge of {samples['all']['responses']:,} responses, to one of 1", {
        name: median(a[key] / b[key] for a, b in zip(every, one))
        for name, key in (("time", "time"), ("processor time", "cpu"))}, 1.1)
    hits = samples["hits"]
    found = {}
    for name, rounds in hits.items():
        pairs = [(a, b) for a, b in zip(rounds, hits["none"]) if a and b]
        if name != "none" and pairs:
            # Of a second: what all took, less what as many hits take without purges.
            found[f"by the {name}"] = median(
                1 - (a["cpu"] - b["cpu"]) * a["rate"] / 1e6 for a, b in pairs)
    if found:
        row("hits of a busy core that are left by 1,000 purges a second", found, 0.9, worst=min,
            least=True)
    return table(["cost", "measured", "aim", "worst to aim"], rows)


def mongodb(samples):
    """Each figure beside its aim."""
    collection, l1 = (median(samples[name]) for name in ("collection", "l1"))
    share = samples["served"] / samples["reads"]
    rows = [
        ["a document from the collection, ms", f"{collection * 1e3:.0f}", "–"],
        ["the same from L1, ms", f"{l1 * 1e3:.2f}", "–"],
        ["so many times faster from L1", f"{collection / l1:.0f}", "> 150"],
        [f"reads that reach MongoDB, of {samples['reads']:,}", f"{share:.1%}", "< 20 %"],
    ]
    for name, spans in samples.get("fresh", {}).items():
        rows.append([f"from a committed write to a read that shows it, through {name}, ms",
                     f"median {median(spans):.1f}, p99 {sorted(spans)[len(spans) * 99 // 100]:.1f}",
                     "median < 20"])
    for kind, what in (("written", "writes"), ("scripted", "changes")):
        for it in samples.get(kind, []):
            rows += [
                [f"{it['due']:,} {what} a second for {it['spell']} s: changes that the log took, a second",
                 f"{it['rate']:,.0f}", "all"],
                ["the same: how far the log is behind, ms",
                 f"at first {it['first']:.1f}, at the end {it['last']:.1f}, at most {it['worst']:.0f}",
                 "does not grow"],
                ["the same: the gateway's share of a core", f"{it['cpu'] * it['rate'] / 1e6:.0%}", "–"],
            ]
            if "writes" in it:
                rows[-3][1] += f" of {it['writes']:,.0f}, which the server took"
    return table(["cost", "measured", "aim"], rows)


def disk(it):
    """What each cache answers of the same requests."""
    rows = [[name, f"{share:.1%}"] for name, share in it["found"].items()]
    about = (f"{it['requests']:,} requests for {it['responses']:,} responses of 1 KiB, which take "
             f"{it['octets']:,.0f} octets each; the disk has room for {it['room']:,} of them.")
    return about + "\n\n" + table(["cache", "answered"], rows)


def viewers(found):
    """What those who watch cost."""
    rows = [[f"{count}", f"{it['share']:.2%}", f"{it['octets']:,.0f}"] for count, it in found.items()]
    return table(["viewers", "of a core", "octets a second to each"], rows)


def simulated(found, aim):
    """Lines a second of a core, of each form of a log."""
    rows = [[name, f"{it['rate']:,.0f}", f"{aim:,}", f"{it['elapsed']:,.0f}", f"{it['hit_rate']:.1%}"]
            for name, it in found.items()]
    return table(["log", "lines/s of a core", "aim", "lines/s elapsed", "hit rate"], rows)


def kept(stored, purges):
    """What Redis keeps of many responses, and what purges of them took."""
    receipts = [name for name in stored["others"] if ":receipt:" in name]
    others = [f"`{name}` ({kind})" for name, kind in sorted(stored["others"].items())
              if name not in receipts]
    if receipts:
        others.append(f"{len(receipts):,} receipts of the last hour's purges")
    missing = stored["asked"] - stored["responses"]
    missing = f" ({missing:,} more were not written in time)" if missing else ""
    return (f"{stored['responses']:,} stored responses of 16 octets{missing} take "
            f"{stored['octets']:,.0f} octets of Redis each, of its {stored['all']:,} keys. The others are "
            f"{', '.join(others)}. The first purge of all that is stored took "
            f"{purges[0]['first']:.2f} ms, the median of all {middle(purges, 'time'):.2f} ms, with "
            f"{middle(purges, 'cpu'):.0f} µs of processor time, Redis' included.")


def latency(by_server):
    rows = []
    for name, rounds in by_server.items():
        samples = [sample for sample in rounds if sample]
        if not samples:
            continue
        rows.append([name, f"{middle(samples, 'rate'):,.0f}"] + [
            f"{middle(samples, key):.0f}" for key in ("p50", "p99", "p999", "late_p99")])
    head = ["server", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "sent late, p99 µs"]
    return table(head, rows)


def machine(cores):
    """Of this machine: processor, cores, kernel; and which core did what."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", info)
    return {
        "processor": model.group(1).strip() if model else platform.machine(),
        "cores": info.count("processor\t:"),
        "kernel": platform.release(),
        # Of the minute before: much above 0, and others were using the machine too.
        "load": os.getloadavg()[0],
        "roles": cores,
    }


def version(command, pattern):
    """What a program says about its version, or none if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return None
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "unknown"


def versions(root):
    """Of Larder, by its commit, and of everything it is compared with."""
    asked = {
        "larder": (["git", "-C", root, "describe", "--always", "--dirty"], r"^(v?[0-9a-f.]+\S*)\n"),
        "nginx": (["nginx", "-v"], r"nginx/(\S+)"),
        "varnish": (["varnishd", "-V"], r"varnish-([\d.]+)"),
        "haproxy": (["haproxy", "-v"], r"version (\d[\d.]+)"),
        "trafficserver": (["traffic_server", "-V"], r"Traffic Server ([\d.]+)"),
        "redis": (["redis-server", "--version"], r"v=(\S+)"),
        "wrk": (["wrk", "-v"], r"wrk (\S+)"),
        "h2load": (["h2load", "--version"], r"nghttp2/(\S+)"),
        "rustc": (["rustc", "--version"], r"rustc (\S+)"),
    }
    return {name: found for name, how in asked.items() if (found := version(*how))}
