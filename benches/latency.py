"""How long a hit takes beside peers, at half of each one's highest rate (`works.py`)."""

import contextlib

import hits
import report
import works
from servers import Failure


NEEDS = {"wrk", "h2load"}


def wanted(work):
    """Other numbers of connections tell of queues at the load as much as of servers, and the other sizes
    of HTTP/2 of its framing, which the processor time says better."""
    return work.connections == 64 and not (work.is_second and work.kind != "1 KiB")


def measure(bench):
    samples = bench.samples["latency"] = {}
    rounds, seconds = bench.options.compared["latency"]
    with contextlib.ExitStack() as stack:
        servers = bench.start_servers(stack)
        for work in filter(wanted, works.chosen(bench.options)):
            known = bench.samples.get("hits", {}).get(work.name, {})
            rates = {}
            for server in hits.ready(bench, servers, work):
                try:
                    seen = [it for it in known.get(server.name, []) if it]
                    seen = seen or [bench.load.work(server, work, seconds)]
                    rates[server.name] = report.middle(seen, "rate") / 2
                except Failure as failure:
                    bench.fail(f"latency: {work.name}, {server.name}", failure)
            samples[work.name] = bench.in_turn(
                f"latency: {work.name}", [server for server in servers if server.name in rates],
                lambda server: bench.load.paced(server, work, rates[server.name], seconds), rounds, seconds)


def table(samples):
    return "\n\n".join(f"**{name}**\n\n{report.latency(by_server)}" for name, by_server in samples.items())
