"""A client of gRPC that makes calls of each kind, and prints what comes of each.

    python client.py ADDRESS [AUTHORITY]

Calls that it gives up it gives up when a line comes by its standard input, and goes on at the next.
"""

import queue
import sys

import grpc

LIMIT = 20


def say(text):
    print(text, flush=True)


def failure(error):
    fields = {key: value for key, value in error.trailing_metadata() or () if key.startswith("x-")}
    return f"{error.code().name} {error.details()!r} {fields}"


def main():
    address = sys.argv[1]
    if len(sys.argv) == 3:
        authority = open(sys.argv[2], "rb").read()
        credentials = grpc.ssl_channel_credentials(authority)
        channel = grpc.secure_channel(address, credentials)
    else:
        channel = grpc.insecure_channel(address)
    unary = channel.unary_unary("/test.Talk/Unary")
    serving = channel.unary_stream("/test.Talk/Serving")
    sending = channel.stream_unary("/test.Talk/Sending")
    chatting = channel.stream_stream("/test.Talk/Chatting")
    nothing = channel.unary_unary("/test.Talk/Nothing")

    answer, call = unary.with_call(b"abc", timeout=LIMIT, metadata=(("x-name", "anna"),))
    begin, end = dict(call.initial_metadata()), dict(call.trailing_metadata())
    say(f"unary: {answer} {begin['x-begin']} {begin['cache-status']} {end['x-end-bin']}")
    large = bytes(range(256)) * 4096
    say(f"large: {unary(large, timeout=LIMIT) == large}")
    say(f"limit: {unary(b'remaining', timeout=LIMIT).decode()} {unary(b'remaining').decode()}")
    for name, method in [("fail", unary), ("nothing", nothing)]:
        try:
            method(b"fail", timeout=LIMIT)
        except grpc.RpcError as error:
            say(f"{name}: {failure(error)}")

    say(f"serving: {list(serving(b'a', timeout=LIMIT))}")
    came = []
    try:
        for message in serving(b"fail", timeout=LIMIT):
            came.append(message)
    except grpc.RpcError as error:
        say(f"serving and failing: {came} {failure(error)}")
    say(f"sending: {sending(iter([b'a', b'b', b'c']), timeout=LIMIT)}")

    # Each is sent once the one before is answered.
    to_send = queue.Queue()
    answers = chatting(iter(to_send.get, None), timeout=LIMIT)
    came = []
    for number in range(5):
        to_send.put(f"m{number}".encode())
        came.append(next(answers))
    to_send.put(None)
    say(f"chatting: {came} {list(answers)}")

    # Those that are given up, at once or when their time is over.
    try:
        unary(b"wait", timeout=3)
    except grpc.RpcError as error:
        say(f"late: {error.code().name}")
    sys.stdin.readline()
    sys.stdin.readline()
    waiting = unary.future(b"wait")
    sys.stdin.readline()
    waiting.cancel()
    sys.stdin.readline()
    answers = serving(b"wait")
    next(answers)
    sys.stdin.readline()
    answers.cancel()
    sys.stdin.readline()
    to_send.put(b"wait")
    answers = chatting(iter(to_send.get, None))
    next(answers)
    sys.stdin.readline()
    answers.cancel()
    say("done")


main()
