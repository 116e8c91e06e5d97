"""Every row of the table at every door."""
import pytest
from conftest import command_of
from program import Program
from steps import Run
from table import option_tokens


@pytest.fixture(scope="module")
def start():
    """Starts the actor of a door; one more of each is kept waiting, for a language takes its time to begin."""
    waiting = {}

    def started(door, row):
        if row.loop or row.environment:
            return Program(command_of(door), option_tokens(row.loop, str), row.environment)
        ready = waiting.pop(door, None) or Program(command_of(door))
        waiting[door] = Program(command_of(door))
        return ready

    yield started
    for program in waiting.values():
        program.kill()


def test_the_doors_that_are_named_are_built(pytestconfig):
    missing = {door: why for door, why in pytestconfig.missing_doors.items() if door in pytestconfig.named_doors}
    assert not missing, f"named and not built: {missing}"
    assert pytestconfig.doors, f"no door is built: {pytestconfig.missing_doors}"


def test_promise(start, door, row, tmp_path):
    program = start(door, row)
    run = Run(door, row, program, tmp_path)
    try:
        run.start()
        run.run()
        run.close()
        program.end()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{program.told()}") from None
    finally:
        run.close()
        program.kill()
