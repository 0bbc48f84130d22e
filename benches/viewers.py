"""What it costs that operators watch: the feed of the dashboard, to nobody and to a hundred at once."""

import selectors
import socket
import time

import report
from servers import HOST, Failure, route, to_origin

VIEWERS = (0, 1, 100)


def measure(bench):
    bench.say("viewers: of the dashboard")
    bench.samples["viewers"] = costs(bench.starter, bench.options.quick)


def start(starter):
    routes = (route(f"r{number}", f"/r{number}") for number in range(10))
    return starter.start_with_admin("viewers", to_origin(starter.origin.port, *routes))


def costs(starter, quick):
    """By number of viewers: the share of a core that the gateway takes, and the octets a second that each
    viewer gets."""
    seconds = 10 if quick else 60
    found = {}
    with start(starter) as server:
        for count in VIEWERS:
            viewers = [watch(server.admin) for _ in range(count)]
            try:
                # What each gets first is bigger than what follows.
                read(viewers, 3)
                before = server.cpu_seconds()
                octets = read(viewers, seconds)
                share = (server.cpu_seconds() - before) / seconds
            finally:
                for viewer in viewers:
                    viewer.close()
            if count and not octets:
                raise Failure("the feed brings nothing")
            found[count] = {"share": share, "octets": octets / seconds / max(1, count)}
    return found


def watch(port):
    viewer = socket.create_connection((HOST, port), 10)
    viewer.sendall(f"GET /live HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
    return viewer


def read(viewers, seconds):
    """Takes what comes for so long. How much it was."""
    octets, end = 0, time.monotonic() + seconds
    if not viewers:
        time.sleep(seconds)
        return 0
    with selectors.DefaultSelector() as selector:
        for viewer in viewers:
            selector.register(viewer, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                octets += len(key.fileobj.recv(1 << 20))
    return octets


def table(found):
    """What those who watch cost."""
    rows = [[f"{count}", f"{it['share']:.2%}", f"{it['octets']:,.0f}"] for count, it in found.items()]
    return report.table(["viewers", "of a core", "octets a second to each"], rows)
