"""A client of gRPC that prints what one call fails with.

    python absent.py ADDRESS
"""

import sys

import grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    try:
        channel.unary_unary("/test.Talk/Unary")(b"", timeout=20)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
