"""A server of WebSocket, by the library `websockets`. It prints its port.

/echo      sends back what comes
/flood     sends 2000 short messages
/close     closes with 4001 and a reason
/closes    sends the codes and reasons with which clients have closed
/refuse    answers the handshake with 403 and a text, /page with 200
"""

import asyncio
import json
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

closes = []


async def handle(connection):
    path = connection.request.path
    if path == "/close":
        await connection.close(4001, "enough")
    elif path == "/closes":
        await connection.send(json.dumps(closes))
    elif path == "/flood":
        for number in range(2000):
            await connection.send(str(number))
    else:
        try:
            while True:
                await connection.send(await connection.recv())
        except ConnectionClosed:
            pass
        closes.append([connection.close_code, connection.close_reason])


def answer(connection, request):
    if request.path == "/refuse":
        return connection.respond(403, "no entry\n")
    if request.path == "/page":
        return connection.respond(200, "a page\n")
    return None


def choose(connection, offered):
    return "chat.v2" if "chat.v2" in offered else None


async def main():
    options = {"select_subprotocol": choose, "process_request": answer, "max_size": 4 << 20}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
