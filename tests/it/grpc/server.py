"""A server of gRPC with one method of each kind. It prints its port, and what it is told in calls.

    python server.py [CERTIFICATE KEY]
"""

import sys
import threading
from concurrent import futures

import grpc


def say(text):
    print(text, flush=True)


def held(name, context):
    """Says when a call comes, and when its client gives it up; waits until then."""
    ended = threading.Event()
    context.add_callback(ended.set)
    say(f"{name} begins")
    ended.wait()
    say(f"{name} is given up" if not context.is_active() else f"{name} goes on")


def unary(message, context):
    fields = dict(context.invocation_metadata())
    if message == b"fail":
        context.set_trailing_metadata((("x-why", "asked"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "50 % of it: ünder way")
    if message == b"wait":
        held("unary", context)
        return b""
    if message == b"remaining":
        return b"limited" if context.time_remaining() < 3600 else b"unlimited"
    context.send_initial_metadata((("x-begin", fields.get("x-name", "")),))
    context.set_trailing_metadata((("x-end-bin", b"\x00\xff"),))
    return message


def serving(message, context):
    for number in range(3):
        yield message + str(number).encode()
    if message == b"wait":
        held("serving", context)
    if message == b"fail":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


def sending(messages, context):
    return b",".join(messages)


def chatting(messages, context):
    for message in messages:
        yield message.upper()
        if message == b"wait":
            held("chatting", context)


def main():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Serving": grpc.unary_stream_rpc_method_handler(serving),
        "Sending": grpc.stream_unary_rpc_method_handler(sending),
        "Chatting": grpc.stream_stream_rpc_method_handler(chatting),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    service = grpc.method_handlers_generic_handler("test.Talk", handlers)
    server.add_generic_rpc_handlers((service,))
    if len(sys.argv) == 3:
        certificate, key = (open(path, "rb").read() for path in sys.argv[1:])
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    server.wait_for_termination()


main()
