"""An HTTP server on 127.0.0.1: PUT and POST give back the body, GET /echo/... the path."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(self.path.encode() + b"\n")

    def do_PUT(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    do_POST = do_PUT

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mirror).serve_forever()
