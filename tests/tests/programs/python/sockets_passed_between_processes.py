"""Sockets handed over by SCM_RIGHTS: listening, connected and not yet bound ones."""

import array
import multiprocessing
import os
import socket


def worker(connection):
    """Accepts on a listener that it was sent, and serves a connection that it was sent."""
    listener = connection.recv()
    accepted, _ = listener.accept()
    accepted.sendall(b"accepted by a worker")
    accepted.close()
    listener.close()
    handed = connection.recv()
    handed.sendall(handed.recv(100).upper())
    handed.close()
    connection.close()


def by_reduction(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=worker, args=(theirs,))
    child.start()
    theirs.close()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    ours.send(listener)
    with socket.create_connection(address) as client:
        print(method, client.recv(100))
    second = socket.create_connection(address)
    ours.send(listener.accept()[0])
    second.sendall(b"handed over")
    print(second.recv(100), second.recv(100))
    second.close()
    listener.close()
    child.join()
    print(child.exitcode)


def unbound_socket_by_hand():
    """A child binds, listens on and accepts from a socket that its parent made."""
    parent, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fresh = socket.socket()
    pid = os.fork()
    if pid == 0:
        parent.close()
        _, ancillary, _, _ = child.recvmsg(10, socket.CMSG_SPACE(4))
        descriptor = array.array("i")
        descriptor.frombytes(ancillary[0][2][:4])
        received = socket.socket(fileno=descriptor[0])
        received.bind(("127.0.0.1", 0))
        received.listen()
        child.send(str(received.getsockname()[1]).encode())
        server, _ = received.accept()
        server.sendall(b"served on a socket that came by mail")
        os._exit(0)
    child.close()
    parent.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fresh.fileno()]))])
    port = int(parent.recv(10))
    # The parent's own descriptor of it is the same socket.
    print(fresh.getsockname()[1] == port)
    with socket.create_connection(("127.0.0.1", port)) as client:
        print(client.recv(100))
    os.waitpid(pid, 0)
    fresh.close()
    parent.close()


def main():
    for method in ("fork", "spawn"):
        by_reduction(method)
    unbound_socket_by_hand()
    print("passing done")


if __name__ == "__main__":
    main()
