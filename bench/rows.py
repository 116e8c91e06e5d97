"""What is measured: one row for each scenario, with the words of the report and what libwsx is to reach."""
from dataclasses import dataclass

CPU, LATENCY, MEMORY, FAN_OUT, THREADS = "cpu", "latency", "memory", "fan-out", "threads"


@dataclass
class Row:
    key: str                  # what --rows selects by
    title: str
    group: str                # the table it stands in
    scenario: str             # of wsx-load
    options: dict
    figure: str = CPU
    goal: float | None = None  # how many times the raw loop libwsx may take; of MEMORY, bytes
    goal_for: str = "wsx-c"   # the server that is to reach it
    variants: tuple = ()      # servers that take part here, and not in every row
    only: tuple = ()          # the only servers that take part
    tls: bool = False
    compression: tuple = ()   # options of both sides: WITHOUT_TAKEOVER, WITH_TAKEOVER
    beside: str = ""          # the row without TLS or compression that this one is compared with, and that is run too
    pinned: bool = True       # server and load have a core each; else both have both
    rounds: int | None = None  # at most so many, where a round is long and its figure steady
    timed: bool = True        # takes --seconds and --warmup
    long: bool = False        # left out by --quick
    smoke: bool = False       # in --smoke
    cost: float = 0           # seconds besides, roughly: for the first estimate of the time left

    def takes(self, server):
        """Whether a server takes part."""
        if self.only:
            return server.key in self.only
        return not server.variant or server.key in self.variants

    def is_close(self, server):
        """Whether its figure lies so close to another's that few runs do not tell which of them is the lower one."""
        if not self.goal or self.rounds:
            return False
        of_doors = self.key in DOOR_ROWS and any(server.key in (*doors.goals, doors.peers[0]) for doors in DOORS)
        return server.close or server.key == self.goal_for or of_doors

    def arguments(self, seconds, warmup):
        options = dict(self.options)
        if self.timed:
            options |= {"seconds": seconds, "warmup": warmup}
        flags = [f"--{name}" for name, value in options.items() if value is True]
        pairs = [(f"--{name}", str(value)) for name, value in options.items() if value is not True]
        return [self.scenario, *(part for pair in pairs for part in pair), *flags, *self.compression]


WITHOUT_TAKEOVER = ("--compression",)
WITH_TAKEOVER = ("--compression", "--context-takeover")


def echo(size, depth=1, connections=100):
    return {"connections": connections, "depth": depth, "size": size}


KIB, MIB = 1024, 1024 * 1024
JSON = {"json": True}
# Those that know --tls-cert and --tls-key, --compression and --context-takeover.
ABLE = {"only": ("wsx-c", "libwebsockets", "ws", "websockets")}
KEPT = {"connections": 1000, "size": 4 * KIB} | JSON
IDLE = {"figure": MEMORY, "rounds": 1, "timed": False, "long": True, "cost": 1.5} | ABLE
LOOPS = {"figure": THREADS, "only": ("wsx-c", "wsx-c-2", "wsx-c-64"), "pinned": False, "cost": 0.5}

ROWS = [
    Row("echo-64", "64 B", "echo", "echo", echo(64), goal=1.00, smoke=True),
    Row("echo-1k", "1 KiB", "echo", "echo", echo(KIB), goal=1.00),
    Row("echo-64k", "64 KiB", "echo", "echo", echo(64 * KIB), goal=1.06),
    Row("echo-1m", "1 MiB, one connection", "echo", "echo", echo(MIB, connections=1), goal=1.6),
    Row("pipelined-64", "64 B", "pipelined", "echo", echo(64, 32), goal=1.20),
    Row("pipelined-1k", "1 KiB", "pipelined", "echo", echo(KIB, 32), goal=1.12),
    Row("broadcast-1", "one in flight", "broadcast", "broadcast", echo(64, 1, 1000), goal=1.00, cost=0.5, smoke=True),
    Row("broadcast-16", "16 in flight", "broadcast", "broadcast", echo(64, 16, 1000), goal=1.05, cost=0.5),
    Row("handshake", "connect, handshake, close", "handshake", "handshake", {"concurrent": 32}, goal=1.00),
    Row("latency", "64 B, one connection", "latency", "latency", {"size": 64, "messages": 10_000}, LATENCY,
        goal=0.50, goal_for="wsx-c-busy", variants=("wsx-c-busy",), timed=False, cost=0.8, smoke=True),
    Row("idle", "10,000 idle connections", "memory", "idle", {"connections": 10_000}, MEMORY, goal=250,
        rounds=1, timed=False, cost=3),
    Row("tls-echo-64", "64 B", "tls", "echo", echo(64), tls=True, beside="echo-64", smoke=True, **ABLE),
    Row("tls-echo-64k", "64 KiB", "tls", "echo", echo(64 * KIB), tls=True, beside="echo-64k", **ABLE),
    Row("tls-handshake", "connect, handshake, close", "tls", "handshake", {"concurrent": 32}, tls=True,
        beside="handshake", **ABLE),
    Row("json-echo-4k", "4 KiB", "compression", "echo", echo(4 * KIB) | JSON, **ABLE),
    Row("compressed-echo-4k", "4 KiB", "compression", "echo", echo(4 * KIB) | JSON, compression=WITHOUT_TAKEOVER,
        beside="json-echo-4k", smoke=True, **ABLE),
    Row("json-echo-64k", "64 KiB", "compression", "echo", echo(64 * KIB) | JSON, **ABLE),
    Row("compressed-echo-64k", "64 KiB", "compression", "echo", echo(64 * KIB) | JSON, compression=WITHOUT_TAKEOVER,
        beside="json-echo-64k", **ABLE),
    Row("json-broadcast", "4 KiB to each of 1,000", "compression", "broadcast", echo(4 * KIB, 1, 1000) | JSON,
        cost=0.5, **ABLE),
    Row("compressed-broadcast", "4 KiB to each of 1,000", "compression", "broadcast", echo(4 * KIB, 1, 1000) | JSON,
        compression=WITHOUT_TAKEOVER, beside="json-broadcast", cost=0.5, **ABLE),
    Row("memory-plain", "plain", "combinations", "idle", KEPT, **IDLE),
    Row("memory-tls", "TLS", "combinations", "idle", KEPT, tls=True, **IDLE),
    Row("memory-compressed", "compressed", "combinations", "idle", KEPT, compression=WITHOUT_TAKEOVER, **IDLE),
    Row("memory-takeover", "compressed, with context takeover", "combinations", "idle", KEPT,
        compression=WITH_TAKEOVER, **IDLE),
    Row("memory-tls-compressed", "TLS, compressed", "combinations", "idle", KEPT, tls=True,
        compression=WITHOUT_TAKEOVER, **IDLE),
    Row("threads-echo", "64 B echo, 1,000 connections, one in flight", "threads", "echo", echo(64, 1, 1000),
        smoke=True, **LOOPS),
    Row("threads-pipelined", "64 B echo, 1,000 connections, 32 in flight", "threads", "echo", echo(64, 32, 1000),
        **LOOPS),
    Row("threads-broadcast-1", "broadcast of 64 B to 1,000, one in flight", "threads", "broadcast", echo(64, 1, 1000),
        **LOOPS),
    Row("threads-broadcast-16", "broadcast of 64 B to 1,000, 16 in flight", "threads", "broadcast",
        echo(64, 16, 1000), **LOOPS),
    Row("fan-out", "1 KiB to 10,000", "fan-out", "broadcast", echo(KIB, 1, 10_000), FAN_OUT,
        rounds=1, long=True, cost=4),
    Row("fan-out-slow", "1 KiB to 10,000, 1 % of whom never read", "fan-out", "broadcast",
        echo(KIB, 1, 10_000) | {"slow": 1}, FAN_OUT, rounds=1, long=True, cost=4),
    # Large enough for a slow reader's share to fill the kernel's buffers and then whatever limit the server has.
    Row("slow-readers", "64 KiB to 1,000, 1 % of whom never read", "fan-out", "broadcast",
        echo(64 * KIB, 1, 1000) | {"slow": 1, "seconds": 3, "warmup": 0.25}, FAN_OUT, rounds=1, timed=False, cost=4),
]

GROUPS = {
    "echo": ("Echo, one message in flight", "100 connections, each with one message on its way."),
    "pipelined": ("Echo, 32 messages in flight", "100 connections, each with 32 messages on their way."),
    "broadcast": ("Broadcast to 1,000 subscribers",
                  "One publisher, messages of 64 B; for each delivery to a subscriber."),
    "handshake": ("Connections", "TCP, opening handshake, closing handshake. The raw loop answers the same request with"
                                 " a constant, echoes the Close and ends the connection."),
    "latency": ("Latency", "From sending a message to having its echo, on one connection. With a busy poll the loop"
                           " asks again and again for 100 µs before it sleeps: its core is busy while messages come,"
                           " and nobody has to be woken up."),
    "memory": ("Memory", "Resident, for each idle connection."),
    "tls": ("TLS",
            "TLS 1.3 with TLS_AES_128_GCM_SHA256 and X25519, which is all that the load generator offers, and a"
            " certificate on the curve P-256, so that each server does the same; a full handshake on each connection."
            " Echo with 100 connections and one message in flight. Beside it the same without TLS, and how many times"
            " that it takes: the raw loop has no TLS, so nothing here is a multiple of it."),
    "compression": ("Compression",
                    "permessage-deflate at level 6, each message for itself: no context is taken over on either side."
                    " Messages are JSON and no two alike; echo with 100 connections and one message in flight, and one"
                    " publisher with one in flight, for each delivery to a subscriber. Beside it the same messages"
                    " uncompressed, how many times that it takes, and to how many bytes the server has compressed a"
                    " message. libwsx compresses a broadcast once; the others do it for each subscriber, which is the"
                    " difference between their last two columns. The libraries that compress differ as well: zlib-rs in"
                    " libwsx, Chromium's zlib in Node, the system's for the others."),
    "combinations": ("Memory with TLS and compression",
                     "Written and held, for each of 1,000 idle connections over which one message of 4 KiB, JSON, went"
                     " to and fro. With context takeover a server keeps the windows of both directions."),
    "threads": ("Several threads",
                "One process whose loops serve as one. Two cores leave none for the load, so server and load share"
                " both: these figures compare with each other, not with the tables above, and say nothing about"
                " throughput. CPU is that of all threads for one message or delivery; the last column is how it is"
                " spread over them, as the connections are. 64 loops on two cores show what a loop more costs: each"
                " has less to do when it wakes up, so that wake-ups, which a busy loop shares among many messages, are"
                " paid for a few."),
    "fan-out": ("Large fan-out", "One publisher, one message in flight; latency from publishing to each delivery."),
}


@dataclass
class Doors:
    """The programs of a language: what they are to take for a message of 64 B, in µs, in each of DOOR_ROWS."""
    goals: dict
    peers: tuple              # in the same language; the goals are told as multiples of the first
    peer_there: tuple         # what that one took on the machine that the goals come from


RAW_THERE = 3.83, 0.129       # µs that the raw loop took there
DOOR_ROWS = ("echo-64", "pipelined-64")
DOORS = [
    Doors({"wsx-python-callbacks": (5.0, 0.8), "wsx-python-async": (8, 3)}, ("picows", "websockets"), (5.7, 5.5)),
    Doors({"wsx-node-handlers": (5.0, 0.8), "wsx-node-events": (5.5, 1.2)}, ("ws",), (7.9, 6.8)),
]
