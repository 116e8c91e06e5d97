"""libwsx for Python in its cheapest form: callbacks on the engine's own loop."""
import sys

import wsx


def echo(connection, message):
    connection.send(message)


def broadcast(connection, message):
    loop.broadcast(message, exclude=connection)


broadcasting = "--broadcast" in sys.argv
with wsx.EventLoop() as loop:
    listener = loop.listen("127.0.0.1:0", on_message=broadcast if broadcasting else echo, max_message=16 << 20,
                           backlog_policy="close" if broadcasting else "pause")
    print(f"listening on {listener}", flush=True)
    loop.run()
