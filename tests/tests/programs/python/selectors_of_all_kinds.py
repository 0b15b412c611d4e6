"""select, poll and epoll on the same sockets, registered before they are connected."""

import os
import select
import selectors
import socket

KINDS = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]


def exchange(kind):
    selector = kind()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    client = socket.socket()
    client.setblocking(False)
    pipe_out, pipe_in = os.pipe()
    selector.register(listener, selectors.EVENT_READ, "listener")
    selector.register(client, selectors.EVENT_WRITE, "client")
    selector.register(pipe_out, selectors.EVENT_READ, "pipe")
    client.connect_ex(listener.getsockname())

    seen = set()
    while seen != {"listener", "client"}:
        for key, _ in selector.select(20):
            seen.add(key.data)
            if key.data == "listener":
                server, _ = listener.accept()
                selector.unregister(listener)
            elif key.data == "client":
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                selector.modify(client, selectors.EVENT_READ, "client")
    print(kind.__name__, sorted(seen))

    server.sendall(b"readable")
    os.write(pipe_in, b"x")
    ready = set()
    while ready != {"client", "pipe"}:
        ready |= {key.data for key, _ in selector.select(20)}
    print(sorted(ready), client.recv(100), os.read(pipe_out, 1))
    print(selector.select(0.01))
    server.close()
    print([(key.data, events) for key, events in selector.select(20)], client.recv(1))
    selector.close()
    for end in (pipe_in, pipe_out):
        os.close(end)
    client.close()
    listener.close()


def edge_triggered():
    """An edge is reported once, and again when more comes; ONESHOT is silent until rearmed."""
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    client = socket.create_connection(listener.getsockname()[:2])
    server, _ = listener.accept()
    inner = select.epoll()
    inner.register(server, select.EPOLLIN | select.EPOLLET)
    outer = select.epoll()
    outer.register(inner, select.EPOLLIN)
    client.send(b"a")
    print("nested", [events for _, events in outer.poll(20)])
    print([events for _, events in inner.poll(20)], inner.poll(0.01))
    client.send(b"b")
    print([events for _, events in inner.poll(20)], inner.poll(0.01))
    inner.modify(server, select.EPOLLIN | select.EPOLLONESHOT)
    print([events for _, events in inner.poll(20)], inner.poll(0.01))
    inner.modify(server, select.EPOLLIN | select.EPOLLRDHUP)
    client.shutdown(socket.SHUT_WR)
    print([events for _, events in inner.poll(20)], server.recv(10), server.recv(10))
    for thing in (inner, outer, client, server, listener):
        thing.close()


for kind in KINDS:
    exchange(kind)
edge_triggered()
print("selectors done")
