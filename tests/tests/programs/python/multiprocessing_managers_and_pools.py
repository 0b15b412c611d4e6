"""multiprocessing: managers and listeners over TCP, pools, queues, all three start methods."""

import multiprocessing
from multiprocessing.connection import Client, Listener
from multiprocessing.managers import BaseManager


def square(number):
    return number * number


def answer(address):
    with Client(address, authkey=b"key") as connection:
        connection.send({"list": list(range(10))})
        connection.send_bytes(b"x" * 1_000_000)
        connection.send(connection.recv() + 1)


class Remote(BaseManager):
    pass


shared = {}


def remote():
    return shared


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(3) as pool:
            print(method, sum(pool.map(square, range(1000))))
        with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
            child = context.Process(target=answer, args=(listener.address,))
            child.start()
            with listener.accept() as connection:
                print(connection.recv(), len(connection.recv_bytes()))
                connection.send(41)
                print(connection.recv())
            child.join()
            print(child.exitcode)
    with multiprocessing.Manager() as manager:
        values = manager.dict()
        children = [
            multiprocessing.Process(target=values.__setitem__, args=(number, number * 2))
            for number in range(5)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print(sorted(values.items()))
    Remote.register("shared", callable=remote, exposed=["get", "update"])
    server = Remote(("127.0.0.1", 0), b"key")
    server.start()
    client = Remote(server.address, b"key")
    client.connect()
    client.shared().update({"set": "from afar"})
    print(server.shared().get("set"))
    server.shutdown()
    print("multiprocessing done")


if __name__ == "__main__":
    main()
