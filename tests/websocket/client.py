"""A client of WebSocket, by the library `websockets`, that asserts what it gets.

client.py URL PORT [CA]        goes through everything
client.py --stay URL PORT      says that it is connected, and then how that ended
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

LARGE = 1 << 20


def is_equal(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


class Client:
    def __init__(self, url, port, authority=None):
        self.url = url
        self.options = {"host": "127.0.0.1", "port": int(port), "max_size": 4 << 20}
        if authority:
            self.options["ssl"] = ssl.create_default_context(cafile=authority)

    def to(self, path, **options):
        return connect(self.url + path, **self.options, **options)

    async def messages(self):
        async with self.to("/echo") as connection:
            assert connection.protocol.extensions, "no extension was agreed on"
            for message in ["", "text", "Grüße, 世界", b"", bytes(range(256)), "x" * LARGE, b"y" * LARGE]:
                await connection.send(message)
                is_equal(await connection.recv(), message)
            # In fragments.
            await connection.send(["one ", "two ", "three"])
            is_equal(await connection.recv(), "one two three")
            for _ in range(3):
                await (await connection.ping())
        # Incompressible, and so as large on its way.
        async with self.to("/echo", compression=None) as connection:
            message = bytes(number * 31 % 251 for number in range(LARGE))
            for _ in range(4):
                await connection.send(message)
                is_equal(await connection.recv(), message)

    async def closes(self):
        async with self.to("/close") as connection:
            try:
                await connection.recv()
                raise AssertionError("it was not closed")
            except ConnectionClosed as closed:
                is_equal((closed.rcvd.code, closed.rcvd.reason), (4001, "enough"))
        connection = await self.to("/echo")
        await connection.close(4002, "bye")
        is_equal(connection.close_code, 4002)
        async with self.to("/closes") as connection:
            assert [4002, "bye"] in json.loads(await connection.recv())

    async def subprotocols(self):
        async with self.to("/echo", subprotocols=["chat.v1", "chat.v2"]) as connection:
            is_equal(connection.subprotocol, "chat.v2")

    async def refusals(self):
        for path, status, text in [("/refuse", 403, b"no entry\n"), ("/page", 200, b"a page\n")]:
            try:
                async with self.to(path):
                    raise AssertionError("it was not refused")
            except InvalidStatus as refused:
                is_equal((refused.response.status_code, refused.response.body), (status, text))

    async def many(self):
        async def one(number):
            async with self.to("/echo") as connection:
                for turn in range(20):
                    await connection.send(f"{number} {turn}")
                    is_equal(await connection.recv(), f"{number} {turn}")

        await asyncio.gather(*(one(number) for number in range(50)))

    async def flood(self):
        async with self.to("/flood") as connection:
            is_equal([int(message) async for message in connection], list(range(2000)))

    async def all(self):
        await self.messages()
        await self.closes()
        await self.subprotocols()
        await self.refusals()
        await self.many()
        await self.flood()

    async def stay(self):
        async with self.to("/echo") as connection:
            print("connected", flush=True)
            try:
                await connection.recv()
            except ConnectionClosed:
                print("closed", connection.close_code, flush=True)


if sys.argv[1] == "--stay":
    asyncio.run(Client(*sys.argv[2:]).stay())
else:
    asyncio.run(Client(*sys.argv[1:]).all())
