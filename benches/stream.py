"""A server of MongoDB's protocol that has nothing but changes, as many a second as it is told.

`changes.py` starts it with the Python that knows BSON. It prints its port. A line with a rate and a
number of changes makes it print when the first is due, by the system's clock; the others follow on
schedule, whether or not anybody reads them. It answers as a mongod does: a reader gets at once what
has come since its last answer, and waits where that is nothing.
"""

import socket
import struct
import sys
import threading
import time
from datetime import datetime, timezone

import bson
from bson.raw_bson import RawBSONDocument

HOST = "127.0.0.1"
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
# One answer has no more of them; with 16 MiB a mongod's would have some 50,000.
MOST = 10_000
DOCUMENTS = 20_000


class Changes:
    """The schedule, and who waits for it."""

    def __init__(self):
        self.more = threading.Condition()
        self.rate, self.begun, self.first, self.end = 1, 0, 0, 0

    def go(self, rate, count):
        with self.more:
            self.rate, self.begun, self.first = rate, time.time() + 0.01, self.end
            self.end += count
            self.more.notify_all()
            return self.begun

    def due(self, number):
        return self.begun + (number - self.first) / self.rate

    def wait(self, place, patience):
        """Where changes end that are due, once there is one after a place, or patience is over."""
        over = time.time() + patience
        with self.more:
            while True:
                now = time.time()
                passed = int((now - self.begun) * self.rate) + 1 if now >= self.begun else 0
                end = min(self.first + passed, self.end, place + MOST)
                if end > place or now >= over:
                    return max(end, place)
                due = self.due(place) if place < self.end else over
                self.more.wait(max(0, min(due, over) - now))

    def event(self, number):
        due = self.due(number)
        return RawBSONDocument(bson.encode({
            "_id": token(number + 1), "operationType": "update", "ns": {"db": "app", "coll": "users"},
            "documentKey": {"_id": str(number * 7919 % DOCUMENTS)},
            "clusterTime": bson.Timestamp(int(due), number % 1_000_000 + 1),
            "wallTime": datetime.fromtimestamp(due, timezone.utc),
        }))


def token(place):
    return {"_data": f"{place:016x}"}


class Reader(threading.Thread):
    """One connection."""

    def __init__(self, connection, changes):
        super().__init__(daemon=True)
        self.connection, self.changes = connection, changes

    def run(self):
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                length, number, _, kind = struct.unpack("<iiii", self.exactly(16))
                octets = self.exactly(length - 16)
                if kind == OP_QUERY:
                    command = bson.decode(octets[octets.index(0, 4) + 9:])
                    head = struct.pack("<iqii", 0, 0, 0, 1)
                    self.answer(number, OP_REPLY, head + bson.encode(self.says(command)))
                else:
                    # One section with the command; none of those that matter has another.
                    size = struct.unpack_from("<i", octets, 5)[0]
                    says = self.says(bson.decode(octets[5:5 + size]))
                    self.answer(number, OP_MSG, bytes(5) + bson.encode(says))
        except OSError:
            self.connection.close()

    def exactly(self, length):
        octets = b""
        while len(octets) < length:
            came = self.connection.recv(length - len(octets))
            if not came:
                raise OSError("closed")
            octets += came
        return octets

    def answer(self, number, kind, octets):
        self.connection.sendall(struct.pack("<iiii", 16 + len(octets), 0, number, kind) + octets)

    def says(self, command):
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            own = f"{HOST}:{self.connection.getsockname()[1]}"
            return {
                "ok": 1, "helloOk": True, "isWritablePrimary": True, "ismaster": True,
                "setName": "scripted", "setVersion": 1, "hosts": [own], "me": own, "primary": own,
                "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
                "localTime": datetime.now(timezone.utc), "logicalSessionTimeoutMinutes": 30,
                "minWireVersion": 0, "maxWireVersion": 21, "readOnly": False,
            }
        if name == "aggregate":
            stage = command["pipeline"][0].get("$changeStream", {})
            after = stage.get("startAfter") or stage.get("resumeAfter")
            # A cursor's number is the place that it has read to; 0 would be none.
            place = int(after["_data"], 16) if after else self.changes.end
            return self.cursor("firstBatch", place, [])
        if name == "getMore":
            place = command["getMore"] - 1
            end = self.changes.wait(place, command.get("maxTimeMS", 1000) / 1000)
            return self.cursor("nextBatch", end, [self.changes.event(it) for it in range(place, end)])
        if name == "find":
            return {"ok": 1, "cursor": {"id": 0, "ns": "app.users", "firstBatch": []}}
        return {"ok": 1}

    def cursor(self, batch, place, events):
        return {"ok": 1, "operationTime": bson.Timestamp(int(time.time()), 1), "cursor": {
            "id": bson.Int64(place + 1), "ns": "app.users", batch: events, "postBatchResumeToken": token(place)}}


def main():
    changes = Changes()
    listener = socket.create_server((HOST, 0))
    print(listener.getsockname()[1], flush=True)

    def listen():
        while True:
            Reader(listener.accept()[0], changes).start()

    threading.Thread(target=listen, daemon=True).start()
    for line in sys.stdin:
        rate, count = line.split()
        print(changes.go(int(rate), int(count)), flush=True)


if __name__ == "__main__":
    main()
