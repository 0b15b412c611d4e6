"""ssl: blocking and non-blocking handshakes, large transfers, closure."""

import asyncio
import socket
import ssl
import threading

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain("cert.pem", "key.pem")
client_context = ssl.create_default_context(cafile="cert.pem")


def blocking():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        sock, _ = listener.accept()
        with server_context.wrap_socket(sock, server_side=True) as tls:
            content = b""
            while len(content) < 3_000_000:
                content += tls.recv(65536)
            tls.sendall(content[::-1])
            tls.unwrap().close()

    thread = threading.Thread(target=serve)
    thread.start()
    sock = socket.create_connection(listener.getsockname())
    with client_context.wrap_socket(sock, server_hostname="localhost") as tls:
        content = bytes(range(250)) * 12000
        tls.sendall(content)
        received = b""
        while data := tls.recv(65536):
            received += data
        print(received == content[::-1], tls.version())
        tls.unwrap().close()
    thread.join()
    listener.close()


async def in_asyncio():
    async def echo(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "localhost", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]

    async def ask(number):
        reader, writer = await asyncio.open_connection(
            "localhost", port, ssl=client_context, family=server.sockets[0].family)
        writer.write(b"line %d\n" % number)
        answer = await reader.readline()
        writer.close()
        return answer

    print(await asyncio.gather(*map(ask, range(10))))
    server.close()


def untrusted():
    listener = socket.create_server(("127.0.0.1", 0))
    told = []
    thread = threading.Thread(target=lambda: told.append(reject(listener)))
    thread.start()
    with socket.create_connection(listener.getsockname()) as sock:
        try:
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        except ssl.SSLCertVerificationError as error:
            print(error.verify_message)
    thread.join()
    print(told)
    listener.close()


def reject(listener):
    sock, _ = listener.accept()
    with sock:
        try:
            server_context.wrap_socket(sock, server_side=True).recv(1)
        except ssl.SSLError as error:
            return error.reason


blocking()
asyncio.run(in_asyncio())
untrusted()
print("tls done")
