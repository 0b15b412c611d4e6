"""An HTTP server that greets: greet.py HOST PORT GREETING."""

import http.server
import sys

host, port, greeting = sys.argv[1:]


class Greet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(greeting.encode() + b"\n")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((host, int(port)), Greet).serve_forever()
