"""What a hit costs beside peers: each work by as many requests as a server answers (`works.py`)."""

import contextlib

import report
import works
from servers import Failure


NEEDS = {"wrk", "h2load"}


def measure(bench):
    """Each round has servers of its own: where the memory of one happens to lie, it stays, and can make it some
    percent quicker or slower for as long as it runs."""
    rounds, seconds = bench.turns = bench.options.compared["hits"]
    chosen = works.chosen(bench.options)
    samples = bench.samples["hits"] = {work.name: {name: [] for name in bench.names} for work in chosen}
    for number in report.turns(rounds, lambda: not chosen):
        with contextlib.ExitStack() as stack:
            bench.say(f"hits: round {number}")
            servers = bench.start_servers(stack)
            for work in chosen:
                found = bench.in_turn(f"hits: {work.name}", ready(bench, servers, work),
                                      lambda server: bench.load.work(server, work, seconds), 1)
                for name, rounds_of in samples[work.name].items():
                    rounds_of += found.get(name, [None])
        if number >= rounds:
            settled = [work for work in chosen if report.is_settled(samples[work.name], "nginx")]
            bench.note_rounds("; ".join(work.name for work in settled), number, rounds)
            chosen = [work for work in chosen if work not in settled]
    bench.note_rounds("; ".join(work.name for work in chosen), number, rounds)
    for work, by_server in samples.items():
        samples[work] = {name: found for name, found in by_server.items() if any(found)}


def ready(bench, servers, work):
    """Those that do the work, and have what it asks for."""
    found = []
    for server in works.able(servers, work, bench.note_once):
        try:
            works.check(bench.load, server, work)
            found.append(server)
        except Failure as failure:
            bench.fail(f"{work.name}, {server.name}", failure)
    return found


def table(samples):
    return "\n\n".join(f"**{name}**\n\n{_one(by_server)}" for name, by_server in samples.items())


def _one(by_server):
    """`by_server`: a list of samples per server, one a round, `None` for one that failed."""
    rows = []
    for name, rounds in by_server.items():
        samples = [sample for sample in rounds if sample]
        if not samples:
            continue
        rows.append([
            name,
            f"{report.middle(samples, 'cpu'):.1f}",
            report.ratio(rounds, by_server.get("nginx", [])),
            report.ratio(rounds, by_server.get("constant", [])),
            f"{report.middle(samples, 'rate'):,.0f}",
            f"{report.middle(samples, 'busy'):.0%}",
        ])
    head = ["server", "µs/request", "to nginx", "to constant", "requests/s", "core busy"]
    return report.table(head, rows)
