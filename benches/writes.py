"""Writes documents, and looks at gateways meanwhile. `database.py` runs it with the Python that has
MongoDB's driver, and reads the JSON that it prints.

    writes.py MONGODB fill COUNT
    writes.py MONGODB fresh COUNT PORT…
    writes.py MONGODB pace RATE COUNT
"""

import json
import sys
import time

import pymongo

from fleet import Wire
from servers import HOST, Failure

# Documents that are written together.
TOGETHER = 250


def fill(users, count):
    """Documents of some 800 octets."""
    for start in range(0, int(count), 1000):
        users.insert_many([{
            "_id": str(number), "name": f"user {number}", "email": f"user-{number}@shop.example",
            "roles": ["reader", "writer"], "address": {"city": "Ulm", "street": "a" * 60},
            "notes": ["b" * 100] * 5,
        } for number in range(start, start + 1000)])


def fresh(users, count, *ports):
    """Milliseconds from a write that the server has confirmed to the first read through each gateway
    that shows it. One gateway after the other, each with a write of its own."""
    spans = []
    for port in map(int, ports):
        wire, found = Wire(port), []
        for number in range(int(count)):
            target, name = f"/users/{number}", f"{port}-{time.time()}"
            for _ in range(1000):
                if "larder; hit" in wire.ask("GET", target)[0]:
                    break
            else:
                raise Failure("a document is never a hit")
            users.update_one({"_id": str(number)}, {"$set": {"name": name}})
            begun = time.perf_counter()
            while name.encode() not in wire.ask("GET", target)[1]:
                if time.perf_counter() - begun > 10:
                    raise Failure("a write is never seen")
            found.append((time.perf_counter() - begun) * 1e3)
        wire.close()
        spans.append(found)
    return spans


def pace(users, rate, count):
    """New documents on schedule, or as fast as the server takes them if that is slower. Answers when
    how many were there."""
    rate, count, begun, done = int(rate), int(count), time.time(), [(time.time(), 0)]
    for start in range(0, count, TOGETHER):
        time.sleep(max(0, begun + start / rate - time.time()))
        new = [{"_id": f"{begun}-{number}"} for number in range(start, start + TOGETHER)]
        users.insert_many(new, ordered=False)
        done.append((time.time(), start + TOGETHER))
    return done


def main():
    port, what, *given = sys.argv[1:]
    server = pymongo.MongoClient(f"mongodb://{HOST}:{port}/?directConnection=true")
    told = {"fill": fill, "fresh": fresh, "pace": pace}[what](server.app.users, *given)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
