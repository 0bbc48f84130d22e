"""What the comparison with peers came to: beside its aims, and written to `docs/benchmarks` and the README."""

import json
import shlex
import sys
from datetime import datetime, timezone
from statistics import median

import hits
import latency
import misses
import plot
import report

OURS = "larder-policy"
SMALL, LARGE = "1 KiB, 64 connections, HTTP/1.1", "256 KiB, 64 connections, HTTP/1.1"
# Between these lines the README has the last results.
BEGIN, END = "<!-- what benches/run --write has written: begin -->", "<!-- end -->"
COST = "Processor time of a request, µs (the shorter the better)"


def aims(samples):
    """Each aim of the comparison, where it was measured: a Markdown table, or nothing."""
    costs, times, missed = (samples.get(part, {}) for part in ("hits", "latency", "misses"))
    rows = []

    def beside(what, by_server, name, peer, key, most):
        pairs = [(a, b) for a, b in zip(by_server.get(name, []), by_server.get(peer, [])) if a and b]
        if pairs:
            row(f"{what}, to {peer}", median(a[key] / b[key] for a, b in pairs), most, 2)

    def row(what, found, most, digits, unit=""):
        shown = round(found, digits)
        rows.append([what, f"{shown:.{digits}f}{unit}", f"≤ {most:g}{unit}", "met" if shown <= most else "not met"])

    for peer, most in (("nginx", 0.5), ("varnish", 0.5), ("haproxy", 0.85), ("constant", 1.1)):
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
    return report.table(["Larder with `normalise-query`; misses without", "measured", "aim", ""], rows) if rows else ""


def overview(works):
    """Processor time alone: a row for each work, a column for each server."""
    names = list(dict.fromkeys(name for by_server in works.values() for name in by_server))
    rows = []
    for work, by_server in works.items():
        cells = [[it for it in by_server.get(name, []) if it] for name in names]
        rows.append([work, *(f"{report.middle(found, 'cpu'):.1f}" if found else "–" for found in cells)])
    return report.table(["µs/request", *names], rows)


def ratios(samples):
    """Of processor time to nginx's, by work and server."""
    found = {}
    works = {**samples.get("hits", {}), "a miss": samples.get("misses", {}).get("requests", {})}
    for work, by_server in works.items():
        base = by_server.get("nginx") or by_server.get("nginx-proxy") or []
        for name, rounds in by_server.items():
            pairs = [it["cpu"] / other["cpu"] for it, other in zip(rounds, base) if it and other]
            if pairs and rounds is not base:
                found[f"{work}, {name}"] = median(pairs)
    return found


def repeated(before, samples):
    """How far the ratios are from those of the run before, in a sentence; nothing where there is none."""
    now, then = ratios(samples), ratios(before.get("samples", {}))
    moved = sorted(((abs(now[name] / then[name] - 1), name) for name in now if name in then), reverse=True)
    if not moved:
        return ""
    near = sum(share <= 0.1 for share, _ in moved)
    most = "; ".join(f"{name}: {share:.0%}" for share, name in moved[:3])
    return (f"Of {len(moved)} ratios of processor time to nginx's, {near} are within 10 % of those of the run before "
            f"({before.get('when', 'of unknown date')}). They moved most for: {most}.")


def write(root, bench):
    """Tables, plot and samples into the tree."""
    samples, folder = bench.samples, root / "docs/benchmarks"
    works = dict(samples.get("hits", {}))
    if samples.get("misses", {}).get("requests"):
        works["a miss, 1 KiB, 64 connections, HTTP/1.1"] = {
            name.removesuffix("-proxy"): found for name, found in samples["misses"]["requests"].items()}
    works = {name: by_server for name, by_server in works.items()
             if any(it for rounds in by_server.values() for it in rounds)}
    if not works:
        bench.say("nothing written: no part of the comparison was measured")
        return
    folder.mkdir(exist_ok=True)
    # Of the works, those that differ in more than the number of connections.
    shown = {name.replace(", 64 connections", ""): found for name, found in works.items() if ", 64 conn" in name}
    (folder / "cost.svg").write_text(plot.bars(COST, shown or works))
    file, when = folder / "samples.json", datetime.now(timezone.utc)
    again = repeated(json.loads(file.read_text()) if file.exists() else {}, samples)
    everything = {"when": f"{when:%Y-%m-%d %H:%M}", **bench.about, "notes": bench.notes, "samples": samples}
    file.write_text(json.dumps(everything, indent=1, default=str) + "\n")
    if again:
        bench.say(again)
    where, picture = _where(bench, when), f"![{COST}, by server and kind of request]"
    parts = ["# Results", where, f"{picture}(cost.svg)"]
    for heading, text in (
            ("Aims", aims(samples)), ("Processor time", overview(works)),
            ("Hits", hits.table(samples.get("hits", {}))),
            ("Latency of hits, at half of each one's highest rate", latency.table(samples.get("latency", {}))),
            ("Misses", misses.table(samples["misses"]) if samples.get("misses", {}).get("requests") else ""),
            ("Notes", "\n".join(f"- {note}" for note in [*bench.notes, *filter(None, [again])]))):
        if text:
            parts += [f"## {heading}", text]
    (folder / "results.md").write_text("\n\n".join(parts) + "\n")
    readme = root / "README.md"
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        bench.say(f"README.md is left as it is: it lacks the line `{BEGIN}` or `{END}`")
        return
    parts = [where, f"{picture}(docs/benchmarks/cost.svg)", overview(works), aims(samples)]
    text = "\n\n".join(part for part in parts if part)
    readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    bench.say(f"written: README.md and {folder.relative_to(root)}")


def _where(bench, when):
    """When, by which command, on what."""
    machine, (rounds, seconds) = bench.about["machine"], bench.options.compared
    programs = ", ".join(f"{name} {found}" for name, found in bench.about["versions"].items())
    command = shlex.join(["benches/run", *(it for it in sys.argv[1:] if it not in ("--skip-build", "--no-install"))])
    return (f"`{command}`, {when:%-d %B %Y}: {machine['processor']}, {machine['cores']} cores, "
            f"Linux {machine['kernel']}; {machine['roles']}; load average before {machine['load']:.1f}. {programs}. "
            f"Medians of {rounds} rounds of {seconds} s.")
