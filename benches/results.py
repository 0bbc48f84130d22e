"""What measurements came to: beside their aims, and written to `docs/benchmarks` and the README.

`docs/benchmarks/samples.json` has the last run of each part, and when, how and on what it was made. Tables and plot are
of all that is there, so that a run which measures some parts leaves the others as they are.
"""

import json
from datetime import datetime
from statistics import median

import growth
import memory
import misses
import plot
import report
import slow
from parts import MODULES

OURS = "larder-policy"
SMALL, LARGE = "1 KiB, 64 connections, HTTP/1.1", "256 KiB, 64 connections, HTTP/1.1"
# Between these lines the README has the last results.
BEGIN, END = "<!-- what benches/run --write has written: begin -->", "<!-- end -->"
COST = "Processor time of a request, µs (the shorter the better)"


def aims(samples):
    """Each aim, where it was measured: a Markdown table, or nothing."""
    costs, times, missed = (samples.get(part, {}) for part in ("hits", "latency", "misses"))
    rows = []

    def beside(what, by_server, name, peer, key, most):
        pairs = [(a, b) for a, b in zip(by_server.get(name, []), by_server.get(peer, [])) if a and b]
        if pairs:
            row(f"{what}, to {peer}", median(a[key] / b[key] for a, b in pairs), most, 2)

    def row(what, found, aim, digits, unit="", is_least=False):
        shown = round(found, digits)
        met = shown >= aim if is_least else shown <= aim
        rows.append([what, f"{shown:,.{digits}f}{unit}", f"{'≥' if is_least else '≤'} {aim:,g}{unit}",
                     "met" if met else "not met"])

    for peer, most in (("nginx", 0.5), ("varnish", 0.5), ("haproxy", 0.85), ("constant", 1.1), ("larder", 1.05)):
        beside("a hit of 1 KiB, processor time", costs.get(SMALL, {}), OURS, peer, "cpu", most)
    beside("a hit of 256 KiB, processor time", costs.get(LARGE, {}), OURS, "nginx", "cpu", 1.0)
    beside("a hit of 1 KiB at half load, p99.9", times.get(SMALL, {}), OURS, "nginx", "p999", 1.0)
    beside("a miss of 1 KiB, processor time", missed.get("requests", {}), "larder", "nginx-proxy", "cpu", 1.2)
    if missed.get("first-large", {}).get("larder"):
        later = misses.later(missed["first-large"]["larder"], missed["first-large"]["origin"])
        if later is not None:
            row("first octet of 10 MiB, after the origin's own", later * 1e3, 1, 2, " ms")
    found = [it["more"] for it in missed.get("memory", {}).get("larder", []) if it]
    if found:
        # Flat: less for all the streams than a single one is long.
        row(f"memory for {misses.STREAMS} streams of 10 MiB", median(found) / 2**20, 10, 1, " MiB")
    for family, what in (("stored", "stored responses"), ("routes", "routes")):
        if found := growth.worst(samples.get("growth", {"beside": {}}), family):
            row(f"a hit beside up to {found[0]:,} {what}, processor time, to the fewest", found[1], growth.AIM, 2)
    if found := samples.get("memory"):
        row("memory of a stored response beyond its body", found["octets"] - memory.LENGTH, memory.AIM, 0, " octets")
    if found := samples.get("slow"):
        row("before a slow origin, requests/s", found["rate"], slow.RATE, 0, is_least=True)
        row("the same, mean latency", found["mean"], slow.MEAN, 2, " ms")
    head = ["Larder with `normalise-query`; misses and growth without", "measured", "aim", ""]
    return report.table(head, rows) if rows else ""


def overview(works):
    """Processor time alone: a row for each work, a column for each server."""
    names = list(dict.fromkeys(name for by_server in works.values() for name in by_server))
    rows = []
    for work, by_server in works.items():
        cells = [[it for it in by_server.get(name, []) if it] for name in names]
        rows.append([work, *(f"{report.middle(found, 'cpu'):.1f}" if found else "–" for found in cells)])
    return report.table(["µs/request", *names], rows)


def works(samples):
    """What is compared by processor time: samples by work and server, where there are any."""
    found = dict(samples.get("hits", {}))
    if samples.get("misses", {}).get("requests"):
        found["a miss, 1 KiB, 64 connections, HTTP/1.1"] = {
            name.removesuffix("-proxy"): rounds for name, rounds in samples["misses"]["requests"].items()}
    return {name: by_server for name, by_server in found.items() if measured(by_server)}


def measured(samples):
    """Whether there is any figure in them: those of a round that failed are `None`."""
    if isinstance(samples, dict):
        samples = list(samples.values())
    return any(map(measured, samples)) if isinstance(samples, (list, tuple)) else samples is not None


def ratios(runs):
    """Of processor time to nginx's, by work and server."""
    found = {}
    for work, by_server in works(samples_of(runs)).items():
        base = by_server.get("nginx", [])
        for name, rounds in by_server.items():
            pairs = report.ratios(rounds, base)
            if pairs and rounds is not base:
                found[f"{work}, {name}"] = median(pairs)
    return found


def repeated(before, runs):
    """How far the ratios are from those of the run before, in a sentence; nothing where there is none."""
    now, then = ratios(runs), ratios(before)
    moved = sorted(((abs(now[name] / then[name] - 1), name) for name in now if name in then), reverse=True)
    if not moved:
        return ""
    near = sum(share <= 0.1 for share, _ in moved)
    most = "; ".join(f"{name}: {share:.0%}" for share, name in moved[:3])
    when = ", ".join(sorted({before[part]["when"] for part in ("hits", "misses") if part in runs and part in before}))
    return (f"Of {len(moved)} ratios of processor time to nginx's, {near} are within 10 % of those of the run before "
            f"({when}). They moved most for: {most}.")


def samples_of(runs):
    return {part: run["samples"] for part, run in runs.items()}


def write(bench):
    """What was measured, in the place of what there was of these parts; then tables and plot of all parts."""
    runs = {part: run for part, run in bench.runs.items() if measured(run["samples"])}
    if not runs:
        bench.say("nothing written: nothing was measured")
        return
    file = bench.root / "docs/benchmarks/samples.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    if again := repeated(before, runs):
        bench.say(again)
        first = next(part for part in runs if part in ("hits", "misses"))
        runs[first]["notes"] = [*runs[first]["notes"], again]
    known = {**before, **runs}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({part: known[part] for part in MODULES if part in known}, indent=1, default=str) + "\n")
    if not show(bench.root, json.loads(file.read_text())):
        bench.say(f"README.md is left as it is: it lacks the line `{BEGIN}` or `{END}`")
    bench.say(f"written, with {', '.join(runs)} anew: README.md and {file.parent.relative_to(bench.root)}")


def show(root, runs):
    """Tables and plot of all these. Answers whether the README has a place for its own."""
    folder, samples, head = root / "docs/benchmarks", samples_of(runs), next(iter(runs.values()))
    cost, compared, reached = "", works(samples), aims(samples)
    if compared:
        # Of the works, those that differ in more than the number of connections.
        shown = {name.replace(", 64 connections", ""): by_server
                 for name, by_server in compared.items() if ", 64 conn" in name}
        (folder / "cost.svg").write_text(plot.bars(COST, shown or compared))
        cost = f"![{COST}, by server and kind of request](cost.svg)\n\n{overview(compared)}"
    notes = dict.fromkeys(note for run in runs.values() for note in run["notes"])
    texts = {
        "Aims": reached, "Processor time": cost,
        **{MODULES[part][0]: f"{where(run, head)}.\n\n{MODULES[part][1].table(run['samples'])}"
           for part, run in runs.items()},
        "Notes": "\n".join(f"- {note}" for note in notes),
    }
    parts = ["# Results", f"{on(head)}.", *(f"## {heading}\n\n{text}" for heading, text in texts.items() if text)]
    (folder / "results.md").write_text("\n\n".join(parts) + "\n")
    # Those of one run together.
    made = {}
    for part, run in runs.items():
        made.setdefault(origin(run, head), []).append(part)
    made = "\n".join(f"- {', '.join(parts)}: {it}" for it, parts in made.items())
    cost = cost.replace("(cost.svg)", "(docs/benchmarks/cost.svg)")
    return tell(root / "README.md", [f"{on(head)}.", made, cost, reached])


def tell(readme, parts):
    """Puts these between the lines that are for them. Answers whether they are there."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        text = "\n\n".join(part for part in parts if part)
        readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    return begin and end


def where(run, head):
    """Where it is from, and in which rounds."""
    found = origin(run, head)
    if run["rounds"]:
        found += ", one round" if run["rounds"] == 1 else f", medians of {run['rounds']} rounds"
        found += f" of {run['seconds']} s" if run["seconds"] else ""
    return found


def origin(run, head):
    """By which command, when, of which Larder; and on what, if not on that of `head`."""
    when = datetime.strptime(run["when"], "%Y-%m-%d %H:%M")
    found = (f"`{run['command']}`, {when:%-d %B %Y}, larder {run['versions'].get('larder', 'unknown')}, "
             f"load average before {run['machine']['load']:.1f}")
    return found if on(run) == on(head) else f"{found}, on {on(run)}"


def on(run):
    """The machine and the programs, but for Larder."""
    machine = run["machine"]
    programs = ", ".join(f"{name} {found}" for name, found in run["versions"].items() if name != "larder")
    return (f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; {machine['roles']}; "
            f"{programs}")
