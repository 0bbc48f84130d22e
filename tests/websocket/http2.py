"""A client of WebSocket in HTTP/2 (RFC 8441), by the libraries `h2` and `websockets`, that asserts what it gets.

http2.py AUTHORITY PORT [CA]
"""

import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

LARGE = 1 << 20


def is_equal(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


class Connection:
    def __init__(self, authority, port, certificates=None):
        self.authority = authority
        self.scheme = "https" if certificates else "http"
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
        # What is short and goes out at once is not to wait for what went before it.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if certificates:
            context = ssl.create_default_context(cafile=certificates)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=authority)
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.events = {}
        self.settings = {}
        self.flush()
        while not self.settings:
            self.read()
        is_equal(self.settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL), 1)

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def read(self):
        octets = self.socket.recv(1 << 16)
        assert octets, "the connection was closed"
        for event in self.http.receive_data(octets):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                self.settings |= {code: it.new_value for code, it in event.changed_settings.items()}
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                # For each piece at once, however short: nobody may take that for a flood.
                self.http.increment_flow_control_window(event.flow_controlled_length)
                if not event.stream_ended:
                    length = event.flow_controlled_length
                    self.http.increment_flow_control_window(length, event.stream_id)
            assert not isinstance(event, h2.events.ConnectionTerminated), event
            if getattr(event, "stream_id", 0):
                self.events.setdefault(event.stream_id, []).append(event)
        self.flush()

    def request(self, method, path, *fields, protocol=None, ends=False):
        stream = self.http.get_next_available_stream_id()
        own = [(":method", method)]
        if protocol:
            own.append((":protocol", protocol))
        if path:
            own += [(":scheme", self.scheme), (":path", path)]
        own.append((":authority", self.authority))
        self.http.send_headers(stream, own + list(fields), end_stream=ends)
        self.flush()
        return stream

    def next(self, stream):
        while not self.events.get(stream):
            self.read()
        return self.events[stream].pop(0)

    def answer(self, stream):
        while True:
            event = self.next(stream)
            if isinstance(event, h2.events.ResponseReceived):
                return dict(event.headers)
            assert not isinstance(event, h2.events.StreamReset), event

    def content(self, stream):
        """Up to the end, and whether that is one."""
        content = b""
        while True:
            event = self.next(stream)
            if isinstance(event, h2.events.DataReceived):
                content += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return content

    def ask(self, path, *fields, protocol="websocket"):
        fields = [("sec-websocket-version", "13"), *fields]
        return self.request("CONNECT", path, *fields, protocol=protocol)

    def websocket(self, path):
        stream = self.ask(path, ("sec-websocket-protocol", "chat.v1, chat.v2"))
        answer = self.answer(stream)
        is_equal((answer[":status"], answer["sec-websocket-protocol"]), ("200", "chat.v2"))
        # They are of HTTP/1.1 (RFC 8441 §5).
        for name in ["sec-websocket-accept", "connection", "upgrade", "content-length"]:
            assert name not in answer, answer
        return WebSocket(self, stream)


class WebSocket:
    def __init__(self, connection, stream):
        self.connection, self.stream = connection, stream
        self.protocol = Protocol(CLIENT, max_size=4 << 20)
        self.frames = []

    def send(self):
        http = self.connection.http
        for octets in self.protocol.data_to_send():
            while octets:
                room = min(http.local_flow_control_window(self.stream), http.max_outbound_frame_size)
                if not room:
                    self.connection.read()
                    continue
                http.send_data(self.stream, octets[:room])
                self.connection.flush()
                octets = octets[room:]

    def next(self):
        """The next frame that is no ping."""
        while True:
            self.frames += self.protocol.events_received()
            while self.frames:
                frame = self.frames.pop(0)
                if frame.opcode != Opcode.PING:
                    return frame
            event = self.connection.next(self.stream)
            if isinstance(event, h2.events.DataReceived):
                self.protocol.receive_data(event.data)
                self.send()
            assert not isinstance(event, h2.events.StreamReset), event

    def echo(self, octets):
        self.protocol.send_text(octets)
        self.send()
        got = b""
        while True:
            frame = self.next()
            got += bytes(frame.data)
            if frame.fin:
                break
        is_equal(got, octets)

    def close(self):
        self.protocol.send_close(4003, "bye")
        self.send()
        is_equal(self.next().opcode, Opcode.CLOSE)
        self.connection.http.end_stream(self.stream)
        self.connection.flush()
        self.connection.content(self.stream)


def main():
    connection = Connection(*sys.argv[1:])

    one, other = connection.websocket("/echo"), connection.websocket("/echo")
    for number in range(1500):
        one.echo(b"%d" % number)
        other.echo(b"%d" % -number)
    # A request beside them.
    stream = connection.request("GET", "/refuse", ends=True)
    is_equal(connection.answer(stream)[":status"], "403")
    one.echo(b"x" * LARGE)
    one.close()
    other.echo(b"still there")
    other.close()

    flood = connection.websocket("/flood")
    for number in range(2000):
        frame = flood.next()
        is_equal((frame.opcode, bytes(frame.data)), (Opcode.TEXT, b"%d" % number))
    is_equal(flood.next().opcode, Opcode.CLOSE)

    closed = connection.websocket("/close").next()
    is_equal((closed.opcode, closed.data[:2]), (Opcode.CLOSE, (4001).to_bytes(2, "big")))

    stream = connection.ask("/refuse")
    answer = connection.answer(stream)
    is_equal((answer[":status"], connection.content(stream)), ("403", b"no entry\n"))
    # It would say that WebSocket begins.
    is_equal(connection.answer(connection.ask("/page"))[":status"], "502")
    # Neither another protocol, nor a tunnel to somewhere, nor where no route allows it.
    for stream in [
        connection.ask("/echo", protocol="connect-udp"),
        connection.ask("/plain/echo"),
        connection.request("CONNECT", None),
    ]:
        is_equal(connection.answer(stream)[":status"], "501")
    connection.websocket("/echo").close()


main()
