"""An API over a collection of users, before Larder: a `find_one` for each request.

    python api.py PORT
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pymongo import MongoClient

users = MongoClient(os.environ["MONGODB_URI"]).app.users


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        user = users.find_one({"_id": self.path.removeprefix("/users/")})
        content = json.dumps(user).encode()
        self.send_response(200 if user else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()
