"""What the tables of `run` have in common: medians over the rounds, and ratios within a round; and what was measured by
which versions on which machine."""

import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median, quantiles

# How many times the usual rounds there are at most, and the relative error of a ratio that asks for no more of them.
MOST, SURE = 4, 0.03


def middle(samples, key):
    return median(sample[key] for sample in samples)


def ratios(samples, others):
    """How many times the processor time of `others`, round by round."""
    return [a["cpu"] / b["cpu"] for a, b in zip(samples, others) if a and b]


def ratio(samples, others):
    found = ratios(samples, others)
    return f"{median(found):.2f}" if found else "–"


def turns(rounds, is_settled):
    """The numbers of the rounds: those asked for, and then as many more as it takes, up to `MOST` times as many."""
    for number in range(1, MOST * rounds + 1):
        if number > rounds and is_settled():
            return
        yield number


def is_settled(by_server, base):
    """Whether the medians of the ratios to `base` are known to `SURE`. What was measured less than three times tells
    nothing of that, and is left as it is."""
    every = [ratios(rounds, by_server.get(base, [])) for rounds in by_server.values()]
    return all(error(found) <= SURE * median(found) for found in every if len(found) > 2)


def error(samples):
    """The standard error of their median, by the distance of the quartiles, which a stray one does not widen: it is
    1.25/√n times their standard deviation, and that is 0.74 of the distance (of a normal distribution)."""
    lower, _, upper = quantiles(samples, n=4, method="inclusive")
    return 1.25 * 0.74 * (upper - lower) / len(samples) ** 0.5


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
