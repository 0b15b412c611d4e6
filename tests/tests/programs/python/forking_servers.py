"""socketserver with forks and threads, and a socket connected by a child of the one that made it."""

import os
import socket
import socketserver
import threading


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"%s in another process: %s" % (
                line.strip(), str(os.getpid() != MAIN).encode()) + b"\n")


class DatagramHandler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)


MAIN = os.getpid()


def streams(kind):
    with kind(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for number in range(20):
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"line %d\n" % number)
                client.shutdown(socket.SHUT_WR)
                print(client.makefile().read().strip())
        server.shutdown()
        thread.join()


def datagrams(kind):
    with kind(("127.0.0.1", 0), DatagramHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(20)
            for number in range(20):
                client.sendto(b"datagram %d" % number, server.server_address)
                print(client.recv(100).decode())
        server.shutdown()
        thread.join()


def connected_by_a_child():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.socket()
    if (pid := os.fork()) == 0:
        client.connect(listener.getsockname())
        os._exit(0)
    server, _ = listener.accept()
    os.waitpid(pid, 0)
    # It is one socket: what the child connected is connected here, too.
    print(client.getpeername() == listener.getsockname())
    server.sendall(b"to both")
    print(client.recv(100))
    for sock in (listener, client, server):
        sock.close()


for kind in (socketserver.ForkingTCPServer, socketserver.ThreadingTCPServer):
    streams(kind)
for kind in (socketserver.ForkingUDPServer, socketserver.ThreadingUDPServer):
    datagrams(kind)
connected_by_a_child()
print("forking servers done")
