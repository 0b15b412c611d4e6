"""Does what it reads from its standard input, a line each, and answers with a line each.

    connect HOST PORT    a TCP connection, kept open: its descriptor and local port, or the error
    datagram HOST PORT   the same for a connected UDP socket
    listen HOST PORT     a listener: its descriptor and port
    close                closes all
    option NAME          an option of the newest socket
"""

import errno
import socket
import sys

OPTIONS = {
    "nodelay": (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    "congestion": (socket.IPPROTO_TCP, socket.TCP_CONGESTION),
    "tos": (socket.IPPROTO_IP, socket.IP_TOS),
    "mark": (socket.SOL_SOCKET, socket.SO_MARK),
    "priority": (socket.SOL_SOCKET, socket.SO_PRIORITY),
    "busy_poll": (socket.SOL_SOCKET, 46),
    "send_buffer": (socket.SOL_SOCKET, socket.SO_SNDBUF),
    "receive_buffer": (socket.SOL_SOCKET, socket.SO_RCVBUF),
    "device": (socket.SOL_SOCKET, socket.SO_BINDTODEVICE),
    "user_timeout": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
}
sockets = []


def opened(host, kind):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets.append(socket.socket(family, kind))
    return sockets[-1]


def answer(words):
    command, *arguments = words
    if command == "close":
        for sock in sockets:
            sock.close()
        sockets.clear()
        return "closed"
    if command == "option":
        level, name = OPTIONS[arguments[0]]
        if arguments[0] in ("congestion", "device"):
            return sockets[-1].getsockopt(level, name, 16).split(b"\0")[0].decode() or "none"
        return sockets[-1].getsockopt(level, name)
    host, port = arguments[0], int(arguments[1])
    kind = socket.SOCK_DGRAM if command == "datagram" else socket.SOCK_STREAM
    sock = opened(host, kind)
    if command == "listen":
        sock.bind((host, port))
        sock.listen()
    else:
        sock.settimeout(20)
        sock.connect((host, port))
    return f"{sock.fileno()} {sock.getsockname()[1]}"


for line in sys.stdin:
    try:
        print(answer(line.split()), flush=True)
    except OSError as error:
        print("error", errno.errorcode.get(error.errno, error), flush=True)
