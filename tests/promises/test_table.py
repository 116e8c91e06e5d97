"""The table is whole: every option, error, kind of failure and HTTP status that the engine knows has its row."""
import re
from pathlib import Path

import pytest
import table
from steps import Run

CORE = Path(__file__).resolve().parents[2] / "core/src"
ROWS = table.load()
STEPS = "\n".join(step for row in ROWS for step in row.steps)


def words(camel):
    """`BacklogFull` as `backlog_full`."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", camel).lower()


def body(file, declaration):
    """What stands between the braces of a struct or an enum."""
    source = (CORE / file).read_text()
    return re.search(re.escape(declaration) + r" \{\n(.*?)\n\}", source, re.DOTALL)[1]


def options_of(struct, file="config.rs"):
    return re.findall(r"^    pub (\w+):", body(file, f"pub struct {struct}"), re.MULTILINE)


def variants_of(file, enum):
    return [words(name) for name in re.findall(r"^    ([A-Z]\w+)", body(file, f"pub enum {enum}"), re.MULTILINE)]


@pytest.mark.parametrize("name", options_of("Options"))
def test_every_option_of_a_connection_has_a_row(name):
    assert any(name in row.options for row in ROWS)


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, struct in (("compression", "Compression"), ("tls", "Tls"))
                                             for name in options_of(struct)])
def test_every_option_of_compression_and_of_tls_has_a_row(group, name):
    assert any(name in row.options.get(group, {}) for row in ROWS)


@pytest.mark.parametrize("name", options_of("Reconnect", "config/reconnect.rs"))
def test_every_option_of_reconnecting_has_a_row(name):
    assert any(name in row.options.get("reconnect", {}) for row in ROWS)


@pytest.mark.parametrize("name", variants_of("event/client.rs", "GiveUpKind"))
def test_every_reason_to_give_up_has_a_row(name):
    assert re.search(rf"^told gave_up \d+ kind={name}\b", STEPS, re.MULTILINE)


# Not of every door: Python and Node wait in their host's loop, on the one thread that it has. In C and Rust they have
# tests of their own: tests/c/test_siblings.c, core/tests/siblings.rs and busy_poll.rs.
OF_SOME_DOORS = {"threads", "busy_poll"}


@pytest.mark.parametrize("name", [name for name in options_of("LoopOptions") if name not in OF_SOME_DOORS])
def test_every_option_of_a_loop_has_a_row(name):
    assert any(name in row.loop for row in ROWS)


# What only a build without a feature answers, which no door is tested as here: core/tests/without_features.rs.
OF_OTHER_BUILDS = {"unsupported"}
# No row can cause it: none is known. core/src/engine/event_loop.rs has its test.
OF_NO_BUILD = {"defect"}


@pytest.mark.parametrize("name", [name for name in variants_of("error.rs", "Error") if name not in OF_OTHER_BUILDS | OF_NO_BUILD])
def test_every_error_of_a_call_has_a_row(name):
    code = {"invalid_argument": "invalid", "io": "system"}.get(name, name)
    assert re.search(rf"(! {code}\b|code={code}\b|refused={code}\b)", STEPS)


@pytest.mark.parametrize("name", variants_of("error.rs", "FailureKind"))
def test_every_kind_of_failure_has_a_row(name):
    assert re.search(rf"^fails \d+ \d+ \w+ \w+ {name}\b", STEPS, re.MULTILINE)


@pytest.mark.parametrize("name", variants_of("error.rs", "Stage"))
def test_every_stage_has_a_row(name):
    stage = name.replace("web_socket", "websocket")
    assert re.search(rf"^fails \d+ \d+ \w+ {stage}\b", STEPS, re.MULTILINE)


def limits_told():
    """The options whose limit or timeout a failure may name, as the engine's source names them there."""
    sources = [path.read_text() for path in sorted(CORE.rglob("*.rs")) if path.name != "tests.rs"]
    named = re.compile(r'(?:Limit::new\(|Failure::timeout\([^"]*?)\s*"(\w+)"')
    return sorted({name for source in sources for name in named.findall(source.split("#[cfg(test)]")[0])})


# A message of the TLS handshake that is too long takes a peer of its own: core/tests/tls_limits.rs.
# Calls are refused as full by two of them, which has rows as an error.
IN_RUST = {"max_commands", "max_command_bytes", "tls_handshake_message"}


@pytest.mark.parametrize("name", [name for name in limits_told() if name not in IN_RUST])
def test_every_limit_that_a_failure_names_has_a_row(name):
    assert re.search(rf"^fails .*\blimit[=~]{name}:", STEPS, re.MULTILINE)


@pytest.mark.parametrize("name", variants_of("config.rs", "BacklogPolicy"))
def test_every_backlog_policy_has_a_row(name):
    assert any(row.options.get("backlog_policy") == name for row in ROWS)


@pytest.mark.parametrize("name", [name for name in variants_of("config.rs", "ClientAuth") if name != "none"])
def test_every_way_to_ask_for_certificates_has_a_row(name):
    assert any(row.options.get("tls", {}).get("client_auth") == name for row in ROWS)


@pytest.mark.parametrize("name", re.findall(r"^    pub (\w+):", body("statistics.rs", "pub struct Statistics"), re.MULTILINE))
def test_every_figure_of_statistics_has_a_row(name):
    assert re.search(rf"^counts .*\b{name}(_\w+)?[=>]", STEPS, re.MULTILINE)


@pytest.mark.parametrize("name", variants_of("log.rs", "Topic"))
def test_every_topic_of_the_log_has_a_row(name):
    assert re.search(rf"^told log 0 .*\btopic={name}\b", STEPS, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in variants_of("log.rs", "Level") if name != "off"])
def test_every_level_of_the_log_has_a_row(name):
    assert re.search(rf"^told log 0 .*\blevel={name}\b", STEPS, re.MULTILINE)


@pytest.mark.parametrize("name", variants_of("statistics.rs", "Refusal"))
def test_every_cause_of_a_refusal_has_a_row(name):
    assert re.search(rf"^counts .*\brefused_{name}=", STEPS, re.MULTILINE)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 408, 426, 431, 500, 503])
def test_every_http_status_has_a_row(status):
    assert re.search(rf"hears {status}\b", STEPS)


def test_every_step_is_one_that_can_be_run():
    for step in STEPS.splitlines():
        assert hasattr(Run, f"step_{step.split()[0]}"), step


def test_a_row_that_leaves_a_door_out_says_why():
    for row in ROWS:
        assert (row.doors == table.DOORS) == (row.why == ""), row.id


ROOT = CORE.parents[1]
LIMITS = [[cell.strip() for cell in line.strip("| ").split(" | ")]
          for line in (ROOT / "docs/limits.md").read_text().splitlines() if line.startswith("| ")]

# What is no limit, but a choice: told where it is documented.
CHOICES = {"deliver_fragments", "subprotocols", "compression", "no_delay", "tls", "path", "reuse_port", "headers",
           "proxy", "proxy_from_environment", "receive_buffer", "busy_poll", "threads", "measure_callbacks"}


def camel(name):
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


@pytest.mark.parametrize("name", [*options_of("Options"), *options_of("LoopOptions")])
def test_every_limit_is_told_in_docs_with_its_name_in_each_door(name):
    if name in CHOICES:
        return
    rows = [row for row in LIMITS if len(row) == 7 and f"`{name}`" in row[3]]
    assert len(rows) == 1, f"{name} is in {len(rows)} rows of docs/limits.md"
    _, default, consequence, _, c, python, node = rows[0]
    assert default and consequence
    header = (ROOT / "include/libwsx.h").read_text()
    assert f"`{name}`" in c and f"wsx_options_set_{name}(" in header
    assert f"`{name}`" in python and f"    {name}: " in (ROOT / "bindings/python/python/wsx/options.py").read_text()
    if not node.startswith("none: "):
        types = "".join((ROOT / "bindings/node" / file).read_text() for file in ("index.d.ts", "lib/options.d.ts"))
        assert f"`{camel(name)}`" in node and f"  {camel(name)}?: " in types


@pytest.mark.parametrize("name", options_of("Reconnect", "config/reconnect.rs"))
def test_every_limit_of_reconnecting_is_told_in_docs_with_its_name_in_each_door(name):
    (row,) = [row for row in LIMITS if len(row) == 7 and row[3] == f"`{name}`"]
    assert row[4:] == [f"`reconnect_{name}`", f"`{name}`", f"`{camel(name)}`"]
    assert f"wsx_options_set_reconnect_{name}(" in (ROOT / "include/libwsx.h").read_text()
    assert f"    {name}: " in (ROOT / "bindings/python/python/wsx/options.py").read_text()
    assert f"  {camel(name)}?: " in (ROOT / "bindings/node/lib/reconnecting.d.ts").read_text()


def test_every_limit_of_docs_is_one_of_the_engine():
    known = {*options_of("Options"), *options_of("LoopOptions"), *options_of("Compression"),
             *options_of("Reconnect", "config/reconnect.rs"), "none"}
    for row in LIMITS:
        if len(row) == 7 and row[0] != "limit":
            assert re.findall(r"`(\w+)`", row[3])[:1] in ([], *([name] for name in known)), row
