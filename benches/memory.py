"""What a stored response takes of memory: body, head, key, index, and what the allocator wastes."""

from measure import QUERY, settled

LENGTH = 1 << 10
# Octets beyond its content.
AIM = 512


def measure(bench):
    count = bench.options.fill
    bench.say(f"memory: storing {count:,} responses")
    # Twice what a response can be expected to take, so that none has to leave.
    capacity = f"{max(64, count * 8 // 1024)}MiB"
    with bench.starter.start_larder("larder-full", capacity) as server:
        bench.samples["memory"] = fill(bench.load, server, count)


def fill(load, server, count):
    """Stores `count` distinct 1 KiB responses; answers the octets of memory that each has taken."""
    spare = 1000
    # What comes with the first requests, like connections and buffers, is no part of the price.
    load.send(server, "/fill/first-{n}" + QUERY, 20_000, spare, cold=True)
    before = settled(server)
    load.send(server, "/fill/{n}" + QUERY, count, count, cold=True)
    after = settled(server)
    # The last ones and the first ones alike must still be there: the same numbers in a row again.
    asked = load.asked()
    load.send(server, "/fill/{n}" + QUERY, count, count, cold=True)
    kept = 1 - (load.asked() - asked) / count
    return {"count": count, "octets": (after - before) / count, "kept": kept}


def table(it):
    return (f"{it['count']:,} stored responses of 1 KiB take {it['octets']:,.0f} octets each, "
            f"{it['octets'] - LENGTH:,.0f} beyond their content (aim: {AIM} at most); "
            f"{it['kept']:.1%} of them were there at the end.")
