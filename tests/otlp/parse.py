"""Reads what a collector was told by OpenTelemetry's own definition of it: parse.py FILE…

Each file is the content of one request, as OTLP has it in JSON. A member that the definition does not have,
or a value of another type, is an error. Prints a line for each span: its name, kind, status, and trace, span
and parent in base 16; then its attributes.
"""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

# OTLP writes these in base 16, where JSON of protocol buffers has base 64 otherwise.
IDS = {"traceId": (16,), "spanId": (8,), "parentSpanId": (0, 8)}

for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        told = json.load(file)
    for resource in told["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for member, lengths in IDS.items():
                    octets = bytes.fromhex(span[member])
                    if len(octets) not in lengths:
                        sys.exit(f"{member} has {len(octets)} octets")
                    span[member] = base64.b64encode(octets).decode()
    request = json_format.ParseDict(told, ExportTraceServiceRequest(), ignore_unknown_fields=False)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano:
                    sys.exit(f"{span.name} ends before it begins")
                ids = [octets.hex() or "-" for octets in (span.trace_id, span.span_id, span.parent_span_id)]
                kind = Span.SpanKind.Name(span.kind)
                status = Status.StatusCode.Name(span.status.code)
                attributes = [
                    f"{it.key}={getattr(it.value, it.value.WhichOneof('value'))}" for it in span.attributes
                ]
                print("|".join([span.name, kind, status, *ids, *sorted(attributes)]))
