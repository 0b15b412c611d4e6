"""asyncio streams: many clients at once over IPv4 and IPv6, half-closes, resets, cancellation."""

import asyncio
import hashlib


async def serve(reader, writer):
    digest = hashlib.sha256()
    while data := await reader.read(65536):
        digest.update(data)
    writer.write(digest.digest())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def client(host, port, number):
    reader, writer = await asyncio.open_connection(host, port)
    content = bytes([number % 256]) * (1000 * number + 1)
    writer.write(content)
    writer.write_eof()
    await writer.drain()
    digest = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert digest == hashlib.sha256(content).digest()


async def main():
    servers = [await asyncio.start_server(serve, host, 0) for host in ("127.0.0.1", "::1")]
    places = [server.sockets[0].getsockname()[:2] for server in servers]
    results = await asyncio.gather(
        *(client(*places[number % 2], number) for number in range(50)), return_exceptions=True
    )
    errors = [result for result in results if result is not None]
    # A reader that waits is cancelled, and the connection still works.
    reader, writer = await asyncio.open_connection(*places[0])
    try:
        await asyncio.wait_for(reader.read(1), 0.05)
    except asyncio.TimeoutError:
        print("timed out")
    writer.write_eof()
    print(len(await reader.read()))
    writer.close()
    # Nobody listens on the port of a server that has closed.
    servers[0].close()
    await servers[0].wait_closed()
    try:
        await asyncio.open_connection(*places[0])
    except ConnectionRefusedError:
        print("refused")
    servers[1].close()
    for error in errors:
        print(repr(error))
    print(f"{len(results)} clients, {len(errors)} errors")


asyncio.run(main())
