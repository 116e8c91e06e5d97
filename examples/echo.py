"""An echo server: text comes back as text, binary as binary. With --broadcast a message goes to everybody else instead.

    echo.py [--host HOST] [--port PORT] [--broadcast] [--compression [--context-takeover]] [--max-message BYTES]
            [--max-fragments N] [--origin any] [--tls-cert FILE --tls-key FILE [--tls-ca FILE]]

With a certificate and its key, in PEM, it speaks TLS; with --tls-ca clients must show a certificate of these issuers.
It pauses a peer that does not read its echoes, and ends in order on SIGINT and SIGTERM.
"""
import argparse
import signal

import wsx

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", default=9001, type=int)
parser.add_argument("--broadcast", action="store_true")
parser.add_argument("--compression", action="store_true")
parser.add_argument("--context-takeover", action="store_true")
parser.add_argument("--max-message", default=1 << 20, type=int)
parser.add_argument("--max-fragments", default=1024, type=int)
parser.add_argument("--origin", default="same-host", choices=["same-host", "any"])
parser.add_argument("--tls-cert")
parser.add_argument("--tls-key")
parser.add_argument("--tls-ca")
given = parser.parse_args()
if bool(given.tls_cert) != bool(given.tls_key) or given.tls_ca and not given.tls_cert:
    parser.error("--tls-cert and --tls-key belong together")

without = not given.context_takeover
compression = wsx.Deflate(server_no_context_takeover=without, client_no_context_takeover=without)
tls = None
if given.tls_cert:
    tls = wsx.TLS(cert=given.tls_cert, key=given.tls_key, ca=given.tls_ca,
                  client_auth="required" if given.tls_ca else "none")


def echo(connection, message):
    connection.send(message)


def broadcast(connection, message):
    loop.broadcast(message, exclude=connection)


with wsx.EventLoop() as loop:
    host = f"[{given.host}]" if ":" in given.host else given.host
    listener = loop.listen(f"{host}:{given.port}", on_message=broadcast if given.broadcast else echo,
                           max_message=given.max_message, max_fragments=given.max_fragments,
                           origins=given.origin, backlog_policy="pause",
                           compression=compression if given.compression else None, ssl=tls)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.shutdown(1))
    print(f"listening on {'wss' if tls else 'ws'}://{listener}", flush=True)
    loop.run()
