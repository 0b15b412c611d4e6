"""makefile, timeouts, urgent data, ancillary data, scatter and gather, and signals in calls."""

import errno
import os
import signal
import socket
import struct
import time


def pair(family=socket.AF_INET, host="127.0.0.1"):
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        return client, listener.accept()[0]


def files():
    client, server = pair()
    with server.makefile("rw", encoding="utf-8") as text, client.makefile("rwb") as raw:
        text.write("häßlich\nzweite Zeile\n")
        text.flush()
        print(raw.readline(), raw.readline())
        raw.write(b"eins\nzwei")
        raw.flush()
        client.shutdown(socket.SHUT_WR)
        print(text.readlines())
    client.close()
    server.close()


def timeouts():
    client, server = pair(socket.AF_INET6, "::1")
    client.settimeout(0.05)
    begun = time.monotonic()
    try:
        client.recv(1)
    except TimeoutError:
        print("timed out", time.monotonic() - begun >= 0.05)
    client.setblocking(False)
    try:
        client.recv(1)
    except BlockingIOError as error:
        print(errno.errorcode[error.errno])
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    try:
        server.recv(1)
    except BlockingIOError as error:
        print(errno.errorcode[error.errno])
    client.close()
    server.close()


def urgent_and_vectors():
    client, server = pair()
    print(client.sendmsg([b"scattered ", b"over ", b"buffers"]))
    parts = [bytearray(5), bytearray(100)]
    length, _, _, address = server.recvmsg_into(parts)
    print(length, bytes(parts[0]), bytes(parts[1][:length - 5]), address)
    client.send(b"ab!", socket.MSG_OOB)
    print(server.recv(2, socket.MSG_WAITALL), server.recv(1, socket.MSG_OOB))
    client.sendall(b"peeked")
    print(server.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL), server.recv(10))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    try:
        client.recv(1)
    except ConnectionResetError:
        print("reset")
    client.close()


def datagrams():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one, \
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two:
        one.bind(("::1", 0))
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        one.settimeout(20)
        two.sendto(b"with its address", one.getsockname())
        data, ancillary, _, _ = one.recvmsg(100, 100)
        print(data, [(level, kind, content[:16].hex()) for level, kind, content in ancillary])
        two.sendto(b"longer than asked for", one.getsockname())
        data, _, flags, _ = one.recvmsg(6)
        print(data, flags == socket.MSG_TRUNC)


def signals():
    client, server = pair()
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: (seen.append("alarm"), server.send(b"by a signal")))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    print(client.recv(100), seen)
    # A handler that raises ends the call.
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        client.recv(100)
    except ZeroDivisionError:
        print("interrupted")
    server.close()
    print(client.recv(1))
    signal.signal(signal.SIGPIPE, lambda *_: seen.append("pipe"))
    try:
        for _ in range(100):
            client.send(b"to nobody")
            time.sleep(0.001)
    except (BrokenPipeError, ConnectionResetError):
        print("broken", "pipe" in seen or "no signal, a reset first")
    client.close()


files()
timeouts()
urgent_and_vectors()
datagrams()
signals()
os.kill(os.getpid(), 0)
print("files done")
