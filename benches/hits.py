"""What a hit costs beside peers: each work by as many requests as a server answers (`works.py`)."""

import contextlib

import report
import works
from servers import Failure


def measure(bench):
    samples = bench.samples["hits"] = {}
    with contextlib.ExitStack() as stack:
        servers = bench.start_servers(stack)
        for work in works.chosen(bench.options):
            rounds, seconds = bench.options.compared
            samples[work.name] = bench.in_turn(
                f"hits: {work.name}", ready(bench, servers, work),
                lambda server: bench.load.work(server, work, seconds), rounds)


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
    return "\n\n".join(f"**{name}**\n\n{report.hits(by_server)}" for name, by_server in samples.items())
