"""asyncio datagrams, Unix sockets, sock_* calls, sendfile and child processes."""

import asyncio
import os
import socket
import tempfile


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[::-1], address)


class Collect(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()

    def datagram_received(self, data, address):
        self.received.put_nowait(data)

    def error_received(self, error):
        self.received.put_nowait(type(error).__name__)


async def datagrams(loop):
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, collect = await loop.create_datagram_endpoint(Collect, remote_addr=address)
    for number in range(100):
        client.sendto(b"datagram %d" % number)
        print((await asyncio.wait_for(collect.received.get(), 20)).decode())
    server.close()
    await asyncio.sleep(0)
    while server.get_extra_info("socket").fileno() >= 0:
        await asyncio.sleep(0.001)
    client.sendto(b"to nobody")
    print(await asyncio.wait_for(collect.received.get(), 20))
    client.close()


async def unix(loop):
    path = os.path.join(tempfile.mkdtemp(), "socket")

    async def upper(reader, writer):
        async for line in reader:
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_unix_server(upper, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"one\ntwo\n")
    writer.write_eof()
    print(await reader.read())
    writer.close()
    server.close()


async def raw_calls(loop):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    client = socket.socket()
    client.setblocking(False)
    accepting = asyncio.ensure_future(loop.sock_accept(listener))
    await loop.sock_connect(client, listener.getsockname())
    server, _ = await accepting
    server.setblocking(False)
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(100) * 10000)
        file.seek(0)
        sending = asyncio.ensure_future(loop.sock_sendfile(client, file))
        received = b""
        while len(received) < 1_000_000:
            received += await loop.sock_recv(server, 1 << 20)
        print(await sending, received[:100] * 10000 == received)
    for sock in (listener, client, server):
        sock.close()


async def children():
    child = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    print(await child.communicate(b"through a cat"))
    print(child.returncode)


async def main():
    loop = asyncio.get_running_loop()
    await datagrams(loop)
    await unix(loop)
    await raw_calls(loop)
    await children()
    print("datagrams and unix done")


asyncio.run(main())
