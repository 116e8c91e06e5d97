"""Exceptions in callbacks: that connection is closed with 1011, it is logged, and nobody else is hurt."""
import logging

import pytest

import wsx

CALLBACKS = ["on_open", "on_message", "on_ping", "on_pong", "on_drain"]


def failing(*_):
    raise ZeroDivisionError("on purpose")


def provoke(turns, name):
    """A server with one callback that fails, made to call it; and what its client hears of the end."""
    closed = {"on_close": lambda _, close: turns.say("server closed", close.code, close.failure and close.failure.kind),
              "on_error": lambda _, failure: turns.say("server failed", failure.message)}
    listener = turns.loop.listen("127.0.0.1:0", **{**closed, name: failing},
                                 backlog_policy="refuse", backlog_limit=100_000)
    opened = []
    client = turns.loop.connect(f"ws://{listener}/", on_open=lambda connection, _: opened.append(connection),
                                on_close=lambda _, close: turns.say("client closed", close.code))
    turns.until(lambda: opened)
    match name:
        case "on_message":
            client.send("x")
        case "on_ping":
            client.ping()
        case "on_pong":
            client.pong()
        case "on_drain":
            turns.until(lambda: listener.connections)
            client.pause()
            with pytest.raises(wsx.BacklogFull):
                while True:
                    listener.connections[0].send(b"x" * 90_000)
            client.resume()
        case _:
            pass


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_that_raises_closes_its_connection_with_1011(turns, logged, name):
    other_server, other_client = turns.pair(
        server={"on_message": lambda connection, message: connection.send(message)},
        client={"on_message": lambda _, message: turns.say("other", message)})
    provoke(turns, name)
    turns.until_heard("client closed", 1011)
    turns.until_heard("server closed", 1011, "callback")
    assert any("ZeroDivisionError: on purpose" in event[1] for event in turns.heard if event[0] == "server failed")
    assert {record.getMessage() for record in logged} == {f"exception in {name}"}
    assert logged[0].levelno == logging.ERROR
    kind, _, traceback = logged[0].exc_info
    assert kind is ZeroDivisionError and traceback.tb_frame.f_code.co_name == "failing"
    other_client.send("still here")
    turns.until_heard("other", "still here")


@pytest.mark.parametrize("name", ["on_close", "on_error"])
def test_a_last_callback_that_raises_is_logged(turns, logged, name):
    server, client = turns.pair(server={name: failing}, client={"on_close": lambda *_: turns.say("closed")})
    client.terminate()
    turns.until(lambda: [record.getMessage() for record in logged] == [f"exception in {name}"])
    assert turns.loop.connection_count == 0


def test_a_posted_function_or_timer_that_raises_is_logged(turns, logged):
    turns.loop.post(failing)
    turns.loop.call_later(0.001, failing)
    turns.until(lambda: len(logged) == 2)
    assert {record.exc_info[0] for record in logged} == {ZeroDivisionError}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException], ids=lambda kind: kind.__name__)
def test_what_is_no_exception_of_the_program_leaves_run_and_hurts_no_connection(turns, logged, kind):
    def on_message(connection, message):
        if message == "end":
            raise kind("out of here")
        connection.send(message)

    server, client = turns.pair(server={"on_message": on_message},
                                client={"on_message": lambda _, message: turns.say("came", message)})
    client.send("end")
    client.send("still here")
    with pytest.raises(kind, match="out of here"):
        turns.loop.run()
    turns.until_heard("came", "still here")
    assert not logged and server.ready_state is wsx.State.OPEN


def test_a_million_bytes_of_exception_text_do_no_harm(turns, logged):
    def on_message(connection, message):
        raise ValueError("ü" * 1_000_000)

    _, client = turns.pair(server={"on_message": on_message},
                           client={"on_close": lambda _, close: turns.say("closed", close.code)})
    client.send("x")
    turns.until_heard("closed", 1011)
