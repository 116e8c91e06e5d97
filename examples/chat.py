"""A chat room: the page at /, its WebSocket at /chat, on one port.

    chat.py [--host HOST] [--port PORT] [--page FILE]

Every message is a JSON object of four strings: type ("enter", "leave" or "message"), sender, text and time. The first
one of a connection enters with a name. The server hands each to everybody in the room, the sender included, and adds
"people", the number of those in the room. Who vanishes without leaving is said to leave. Whatever else is sent ends the
connection with 1008 and the reason.
"""
import argparse
import datetime
import json
import pathlib
import signal

import wsx

ROOM, MAX_NAME, MAX_TEXT, MAX_MESSAGE = "room", 40, 4000, 32 * 1024


class Chat(wsx.Handler):
    def __init__(self, loop, page):
        self.loop, self.page = loop, page

    def on_request(self, request):
        if request.path == "/chat" and request.is_upgrade:
            return wsx.Response.accept()
        if request.path == "/" and not request.is_upgrade:
            return wsx.Response.page(self.page)
        return wsx.Response.reject(404, "The page is at /, its WebSocket at /chat.\n")

    def on_message(self, connection, message):
        try:
            kind, sender, text, time = (json.loads(message)[key] for key in ("type", "sender", "text", "time"))
        except (ValueError, TypeError, KeyError):
            kind = None
        if kind is None or not all(isinstance(value, str) for value in (message, kind, sender, text, time)):
            connection.close(1008, "a message is a JSON object of the strings type, sender, text and time")
        elif not 1 <= len(sender) <= MAX_NAME or len(text) > MAX_TEXT or len(time) > MAX_NAME:
            connection.close(1008, "a name has 1 to 40 characters, a text at most 4000")
        elif connection.data != (sender if kind in ("message", "leave") else None):
            connection.close(1008, "enter first, once, and keep your name")
        elif kind == "enter":
            connection.data = sender
            connection.subscribe(ROOM)
            self.tell_everybody(kind, sender, text, time, self.loop.subscriber_count(ROOM))
        elif kind == "leave":
            connection.data = None
            self.tell_everybody(kind, sender, text, time, self.loop.subscriber_count(ROOM) - 1)
            connection.unsubscribe(ROOM)
        elif kind == "message":
            self.tell_everybody(kind, sender, text, time, self.loop.subscriber_count(ROOM))
        else:
            connection.close(1008, "the type is enter, leave or message")

    def on_close(self, connection, close):
        if connection.data is not None:
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
            self.tell_everybody("leave", connection.data, "", now, self.loop.subscriber_count(ROOM))

    def tell_everybody(self, kind, sender, text, time, people):
        message = {"type": kind, "sender": sender, "text": text, "time": time, "people": people}
        self.loop.publish(ROOM, json.dumps(message))


parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", default=8080, type=int)
parser.add_argument("--page", default="examples/chat.html", type=pathlib.Path)
given = parser.parse_args()

with wsx.EventLoop() as loop:
    host = f"[{given.host}]" if ":" in given.host else given.host
    listener = loop.listen(f"{host}:{given.port}", Chat(loop, given.page.read_bytes()), max_message=MAX_MESSAGE)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.shutdown(1))
    print(f"listening on http://{listener}", flush=True)
    loop.run()
