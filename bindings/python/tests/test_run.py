"""`run`: Ctrl-C at once, other threads meanwhile, no wake-ups while idle, and an orderly end of the interpreter."""
import signal
import threading
import time

import pytest
from conftest import DEADLINE, Program, wake_ups

import wsx

# Who was started with SIGINT ignored, as a shell starts what runs in the background, is not given Python's handler.
SERVER = """
import signal, sys, threading, wsx
signal.signal(signal.SIGINT, signal.default_int_handler)
loop = wsx.EventLoop()
listener = loop.listen("127.0.0.1:0", on_message=lambda connection, message: connection.send(message))
"""


def test_ctrl_c_ends_run_at_once():
    with Program("-c", SERVER + "try: print('ready', flush=True); loop.run()\nexcept KeyboardInterrupt: print('bye')") as program:
        assert program.line() == "ready"
        began = time.monotonic()
        assert program.end(signal.SIGINT) == (0, "bye\n", "")
        assert time.monotonic() - began < 2


def test_ctrl_c_is_never_missed_however_it_falls():
    """Signals at every moment of a turn, on any thread: the one just before the sleep is the one that could be lost."""
    program = SERVER + """
import os, time
def other():
    while not done:
        os.kill(os.getpid(), signal.SIGUSR1)
        asked.wait()
        asked.clear()
def hear(*_):
    global heard
    heard += 1
    asked.set()
    if heard == 20000: loop.stop()
heard, done, asked = 0, False, threading.Event()
signal.signal(signal.SIGUSR1, hear)
threading.Thread(target=other, daemon=True).start()
loop.run()
done = True
print(heard)
"""
    with Program("-c", program) as running:
        assert running.end() == (0, "20000\n", "")


def test_who_else_is_told_of_signals_is_told_afterwards():
    program = SERVER + """
import socket
reader, writer = socket.socketpair()
writer.setblocking(False)
signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
signal.set_wakeup_fd(writer.fileno())
print('ready', flush=True)
loop.run()
print(reader.recv(10) == bytes([signal.SIGUSR1]), signal.set_wakeup_fd(-1) == writer.fileno())
"""
    with Program("-c", program) as running:
        assert running.line() == "ready"
        assert running.end(signal.SIGUSR1) == (0, "True True\n", "")


def test_a_turn_that_waits_hears_ctrl_c():
    program = SERVER + "try: print('ready', flush=True); loop.turn(60)\nexcept KeyboardInterrupt: print('bye')"
    with Program("-c", program) as running:
        assert running.line() == "ready"
        assert running.end(signal.SIGINT) == (0, "bye\n", "")


def test_a_signal_handler_may_end_the_loop_in_order():
    program = SERVER + """
signal.signal(signal.SIGTERM, lambda *_: loop.shutdown(1))
client = loop.connect(f"ws://{listener}/", on_open=lambda *_: print('ready', flush=True),
                      on_close=lambda _, close: print(close.code))
loop.run()
print('end')
"""
    with Program("-c", program) as running:
        assert running.line() == "ready"
        assert running.end(signal.SIGTERM) == (0, "1001\nend\n", "")


def test_a_signal_handler_may_close_the_loop():
    program = SERVER + "signal.signal(signal.SIGTERM, lambda *_: loop.close())\n" \
        "loop.post(lambda: print('ready', flush=True))\nloop.run()\nprint('end')"
    with Program("-c", program) as running:
        assert running.line() == "ready"
        assert running.end(signal.SIGTERM) == (0, "end\n", "")


def test_other_threads_run_while_it_waits(turns):
    counted = []

    def count():
        for number in range(100_000):
            counted.append(number)
        turns.loop.stop()

    thread = threading.Thread(target=count)
    thread.start()
    turns.loop.run()
    thread.join()
    assert len(counted) == 100_000


def test_other_threads_run_while_it_is_busy(turns):
    """Callbacks that are not written in Python never let go of the interpreter's lock by themselves."""
    server, client = turns.pair(server={"on_message": wsx.Connection.send}, client={"on_message": wsx.Connection.send})
    client.send("back and forth")
    threading.Timer(0.05, turns.loop.stop).start()
    turns.loop.run()


def test_calls_from_other_threads_arrive(turns):
    server, client = turns.pair(client={"on_message": lambda _, message: turns.say("came", message)})
    errors = []

    def call(name):
        try:
            for number in range(200):
                server.send(f"{name} {number}")
            with pytest.raises(RuntimeError, match="use post"):
                server.buffered_amount
            with pytest.raises(RuntimeError, match="use post"):
                turns.loop.turn(0)
            with pytest.raises(RuntimeError, match="use post"):
                turns.loop.close()
            assert "another thread" in repr(server)
            turns.loop.post(lambda: turns.say("posted", name, threading.get_ident()))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    turns.until(lambda: errors or len(turns.heard) == 4 * 200 + 4)
    for thread in threads:
        thread.join()
    assert not errors
    here = threading.get_ident()
    assert all(("posted", name, here) in turns.heard for name in range(4))
    for name in range(4):
        mine = [event[1] for event in turns.heard if event[0] == "came" and event[1].startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(200)]


def test_a_loop_runs_on_a_thread_of_its_own_and_is_shut_down_from_another():
    loop = wsx.EventLoop()
    heard, opened = [], threading.Event()
    listener = loop.listen("127.0.0.1:0", on_open=lambda *_: opened.set(), on_close=lambda _, close: heard.append(close.code))
    loop.connect(f"ws://{listener}/")

    def run():
        loop.run()
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert opened.wait(DEADLINE)
    loop.shutdown(1)
    thread.join(DEADLINE)
    assert not thread.is_alive() and heard == [1001] and loop.is_closed


def test_many_loops_on_many_threads():
    """Each with its own connections, and each sending on the connections of the next."""
    count, rounds = 4, 500
    servers, done, failed = {}, threading.Barrier(count), []

    def run(index):
        try:
            with wsx.EventLoop() as loop:
                came = []
                listener = loop.listen("127.0.0.1:0", on_open=lambda connection, _: servers.setdefault(index, connection))
                loop.connect(f"ws://{listener}/", on_message=lambda _, message: came.append(message))
                while index not in servers:
                    loop.turn(1)
                done.wait(DEADLINE)
                for number in range(rounds):
                    servers[(index + 1) % count].send(str(number))
                while len(came) < rounds:
                    loop.turn(1)
                assert came == list(map(str, range(rounds)))
                done.wait(DEADLINE)
        except BaseException as error:
            failed.append(error)
            done.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not failed


def test_an_idle_loop_does_not_wake():
    program = SERVER + """
loop.connect(f"ws://{listener}/", on_open=lambda *_: print('open', flush=True))
loop.run()
"""
    with Program("-c", program) as running:
        assert running.line() == "open"
        before = -1
        while before != (before := wake_ups(running.process.pid)):
            time.sleep(0.2)   # until the opening is over
        time.sleep(1)
        assert wake_ups(running.process.pid) == before


ENDS = {
    "a loop that nobody closed": "",
    "a loop with connections": """
loop.connect(f"ws://{listener}/", on_close=lambda *_: print("not heard"))
while not loop.connection_count: loop.turn()
""",
    "a loop in a cycle with its handler": """
class Server(wsx.Handler):
    def on_close(self, connection, close): self.loop, print("not heard")
server = Server(); server.loop = loop
loop.connect(f"ws://{listener}/", server)
while not loop.connection_count: loop.turn()
""",
    "a daemon thread inside run": """
threading.Thread(target=loop.run, daemon=True).start()
while True:
    try: loop.connection_count
    except RuntimeError: break
""",
    "a daemon thread busy inside run": """
opened = threading.Event()
def on_open(connection, _):
    opened.set()
    connection.send("x")
loop.connect(f"ws://{listener}/", on_open=on_open, on_message=wsx.Connection.send)
threading.Thread(target=loop.run, daemon=True).start()
opened.wait()
""",
    "a thread that has turned it and ended": """
loop.connect(f"ws://{listener}/", on_message=print)
def turn():
    for _ in range(5): loop.turn(0)
thread = threading.Thread(target=turn); thread.start(); thread.join()
""",
    "posted functions that never ran": "loop.post(print, 'not heard')\nloop.call_later(60, print, 'not heard')\n",
    "an exception": "loop.post(sys.exit, 0)\nloop.run()\n",
}


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS.keys())
def test_the_interpreter_ends_in_order_with(program):
    with Program("-c", SERVER + program + "\nprint('end')" * ("sys.exit" not in program)) as running:
        status, output, errors = running.end()
        assert (status, errors) == (0, "")
        assert output == ("" if "sys.exit" in program else "end\n")
