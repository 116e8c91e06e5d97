"""The table of promises: reads `table/*.toml`, one row per promise, and spells out what stands for several rows."""
import itertools
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from secure import file_of, pair_of

HERE = Path(__file__).resolve().parent
DOORS = ["c", "rust", "python", "node"]
WAYS = {"asyncio": "python"}    # another way to drive a door
ROLES = ["server", "client"]
KEYS = {"name", "role", "options", "loop", "does", "each", "steps", "starts", "doors", "why", "narrow", "secure", "server",
        "environment"}
TEXT_OPTIONS = {"path", "proxy", "body", "content_type", "accept", "show", "show_cookie", "show_parameter", "subprotocol", "origin", "tls_server_name", "tls_alpn"}
LISTS = {"subprotocols": "subprotocol", "origins": "origin", "tls_certificates": "tls_certificate", "tls_alpn": "tls_alpn"}
HEADERS = {"headers": "header", "answer_headers": "answer_header"}
NESTED = {"compression", "tls", "reconnect"}
SECURE = {"server": {"certificates": ["server"]}, "client": {"ca": "ca"}}   # what `secure` means in each role
DIALECT = tomllib.loads((HERE / "dialect.toml").read_text())


@dataclass
class Row:
    chapter: str
    name: str
    role: str
    steps: list
    options: dict = field(default_factory=dict)     # of config.rs: of the listener or the client
    does: dict = field(default_factory=dict)        # what the program does in its callbacks
    loop: dict = field(default_factory=dict)        # of config.rs: of the loop
    doors: list = field(default_factory=lambda: DOORS)
    why: str = ""                                   # where not all doors: why by design
    starts: bool = True                             # whether the server listens before the first step
    narrow: bool = False                            # client: the raw server has a small receive buffer
    server: dict = field(default_factory=dict)      # client: how the raw server speaks TLS
    environment: dict = field(default_factory=dict) # of the program

    @property
    def is_secure(self):
        """Whether its raw peers speak TLS."""
        return "tls" in self.options

    @property
    def id(self):
        return f"{self.chapter}: {self.name} [{self.role}]"

    def is_for(self, door):
        """Whether a door makes this promise. The loop inside asyncio is asyncio's own to make and to end."""
        if door in WAYS and (re.search(r"^do (thread )?(stop|shutdown|free)", "\n".join(self.steps), re.M)
                             or "shutdown" in self.does.get("on_message", "")):
            return False
        return WAYS.get(door, door) in self.doors


def fill(value, item):
    """Puts the figures of an `each` into texts, and into options that are nothing but such a figure."""
    if isinstance(value, dict):
        return {fill(key, item): fill(entry, item) for key, entry in value.items()}
    if isinstance(value, list):
        return [fill(entry, item) for entry in value]
    if not isinstance(value, str):
        return value
    if whole := re.fullmatch(r"\{(\w+)\}", value):
        return item[whole[1]] if whole[1] in item else value
    for key, entry in item.items():
        value = value.replace("{" + key + "}", str(entry))
    return value


def rows_of(chapter, promise):
    unknown = set(promise) - KEYS
    assert not unknown, f"{chapter}: {promise.get('name')}: unknown {unknown}"
    assert set(promise.get("doors", DOORS)) <= set(DOORS)
    assert ("doors" in promise) == ("why" in promise), f"{promise['name']}: doors that are left out need a why"
    role = promise.get("role", "both")
    for item, one in itertools.product(promise.get("each", [{}]), ROLES if role == "both" else [role]):
        filled = fill({key: value for key, value in promise.items() if key != "each"}, item)
        steps = [line.strip() for line in filled.pop("steps").splitlines()]
        if filled.pop("secure", False):
            filled["options"] = {"tls": SECURE[one], **filled.get("options", {})}
        yield Row(chapter, **{**filled, "role": one, "steps": [line for line in steps if line and line[0] != "#"]})


def load():
    rows = []
    for path in sorted((HERE / "table").glob("*.toml")):
        with path.open("rb") as file:
            chapter = tomllib.load(file)
        for promise in chapter["promise"]:
            rows.extend(rows_of(path.stem, promise))
    names = [row.id for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two rows of one name: {twice}"
    return rows


def flat(options):
    """Options within options, as those of compression, by both their names."""
    for key, value in options.items():
        if key not in NESTED:
            yield key, value
            continue
        if key != "tls":
            yield key, True
        yield from ((f"{key}_{inner}", entry) for inner, entry in value.items())


def option_tokens(options, to_hex):
    """Options as the actor reads them: KEY=VALUE, lists as one token for each entry, texts and the names of files in hex.
    A certificate goes by its name in build/certificates."""
    for key, value in flat(options):
        if key in HEADERS:
            for name, text in value.items():
                yield f"{HEADERS[key]}={to_hex(name)}:{to_hex(text)}"
        elif key in LISTS and isinstance(value, list):
            for entry in value:
                yield from option_tokens({LISTS[key]: entry}, to_hex)
        elif key == "tls_certificate":
            yield f"{key}={':'.join(to_hex(str(file)) for file in pair_of(value))}"
        elif key == "tls_ca":
            yield f"{key}={to_hex(str(file_of(value)))}"
        elif key in TEXT_OPTIONS:
            yield f"{key}={to_hex(value)}"
        elif isinstance(value, bool):
            yield f"{key}={int(value)}"
        else:
            yield f"{key}={value}"
