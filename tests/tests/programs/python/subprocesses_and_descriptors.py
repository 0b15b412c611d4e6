"""Sockets in child programs: inherited, as standard streams, closed on exec, after fork and dup."""

import fcntl
import os
import resource
import socket
import subprocess
import sys


def pair():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    return client, server


def child(code, *args, **options):
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], check=True, **options)


def inherited_by_number():
    client, server = pair()
    child("import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); "
          "s.sendall(s.recv(100).upper() + repr(s.getpeername()[0]).encode()); s.close()",
          server.fileno(), pass_fds=[server.fileno()]) if client.send(b"inherited") else None
    server.close()
    print(client.recv(100), client.recv(100))
    client.close()


def standard_streams():
    client, server = pair()
    client.sendall(b"some\nlines\n")
    client.shutdown(socket.SHUT_WR)
    subprocess.run(["tr", "a-z", "A-Z"], stdin=server, stdout=server, check=True)
    server.close()
    print(client.makefile().read())
    client.close()


def unconnected_listener():
    """A child program listens on a socket that was made and bound here."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running = subprocess.Popen(
        [sys.executable, "-c", "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); "
         "s.listen(); print('listening', flush=True); c, _ = s.accept(); c.sendall(b'from a child'); "
         "c.close(); s.close()", str(listener.fileno())],
        pass_fds=[listener.fileno()], stdout=subprocess.PIPE, text=True)
    print(running.stdout.readline().strip())
    with socket.create_connection(listener.getsockname()) as client:
        print(client.recv(100))
    print(running.wait())
    running.stdout.close()
    listener.close()


def close_on_exec():
    client, server = pair()
    number = server.fileno()
    print(bool(fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC))
    code = "import os, sys\ntry: os.fstat(int(sys.argv[1]))\nexcept OSError as e: print(e.strerror)"
    print(child(code, number, close_fds=False, stdout=subprocess.PIPE).stdout)
    client.close()
    server.close()


def duplicates():
    client, server = pair()
    copy = socket.socket(fileno=os.dup(server.fileno()))
    moved = os.open("/dev/null", os.O_RDONLY)
    os.dup2(server.fileno(), moved)
    server.close()
    copy.sendall(b"by the copy ")
    os.write(moved, b"by the moved one")
    copy.close()
    os.close(moved)
    print(client.makefile().read())
    client.close()


def high_numbers():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    high = min(most, 1 << 19) - 1
    client, server = pair()
    os.dup2(server.fileno(), high, inheritable=False)
    server.close()
    os.write(high, b"from up there")
    print(client.recv(100))
    os.close(high)
    print(client.recv(100))
    client.close()


def numbers_are_the_lowest_free():
    base = os.dup(0)
    os.close(base)
    with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        print(one.fileno() - base, two.fileno() - base)
    client, server = pair()
    print(sorted({client.fileno() - base, server.fileno() - base}))
    client.close()
    server.close()
    with open("/dev/null") as file:
        print(file.fileno() - base)


inherited_by_number()
standard_streams()
unconnected_listener()
close_on_exec()
duplicates()
high_numbers()
numbers_are_the_lowest_free()
print("subprocesses done")
