"""http.server and http.client: keep-alive, chunks, large bodies, XML-RPC, and many threads."""

import hashlib
import http.client
import os
import threading
import urllib.request
import xmlrpc.client
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from xmlrpc.server import SimpleXMLRPCServer


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        digest = hashlib.sha256()
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            digest.update(self.rfile.read(int(self.headers["Content-Length"])))
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def requests(port):
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    for size in (0, 1, 5_000_000):
        content = b"x" * size
        connection.request("POST", "/", content)
        print(size, connection.getresponse().read().decode() == hashlib.sha256(content).hexdigest())
    chunks = [b"chunk %d" % number for number in range(1000)]
    connection.request("POST", "/", iter(chunks), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    print("chunked", connection.getresponse().read().decode() == digest)
    connection.close()


def downloads(port, content, failures):
    for _ in range(10):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/download", timeout=60) as answer:
            if answer.read() != content:
                failures.append("different")


def main():
    content = os.urandom(300_000)
    with open("download", "wb") as file:
        file.write(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        port = server.server_address[1]
        requests(port)
        failures = []
        threads = [
            threading.Thread(target=downloads, args=(port, content, failures)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("failures", failures)
        server.shutdown()
        serving.join()
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_function(pow)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
            print([proxy.pow(2, power) for power in range(20)])
        server.shutdown()
        serving.join()
    print("http done")


main()
