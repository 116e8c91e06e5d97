"""An echo server: text comes back as text, binary as binary. With --broadcast a message goes to everybody else instead.

    echo.py [--host HOST] [--port PORT] [--broadcast] [--max-message BYTES] [--max-fragments N] [--origin any]

It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.
"""
import argparse
import signal

import wsx

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", default=9001, type=int)
parser.add_argument("--broadcast", action="store_true")
parser.add_argument("--max-message", default=1 << 20, type=int)
parser.add_argument("--max-fragments", default=1024, type=int)
parser.add_argument("--origin", default="same-host", choices=["same-host", "any"])
given = parser.parse_args()


def echo(connection, message):
    connection.send(message)


def broadcast(connection, message):
    loop.broadcast(message, exclude=connection)


with wsx.EventLoop() as loop:
    host = f"[{given.host}]" if ":" in given.host else given.host
    listener = loop.listen(f"{host}:{given.port}", on_message=broadcast if given.broadcast else echo,
                           max_message=given.max_message, max_fragments=given.max_fragments,
                           origins=given.origin, backlog_policy="pause")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.shutdown(1))
    print(f"listening on ws://{listener}", flush=True)
    loop.run()
