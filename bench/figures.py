"""What was measured, by row and server, and how figures are written."""
import statistics
from collections import defaultdict

from rows import CPU, LATENCY, MEMORY, ROWS


def cpu_of(result):
    return result["cpu_ns_per_unit"]


def memory_of(result):
    return result["bytes_per_connection"]


def latency_of(result):
    return 1000 * result["latency_us"]["p50"]


# What a row is about, by its figure.
FIGURE = {CPU: cpu_of, MEMORY: memory_of, LATENCY: latency_of}


class Figures:
    """The samples of a run by row and server."""

    def __init__(self, results):
        self.servers = results["servers"]
        self._results, self._failures, self._parts = defaultdict(list), defaultdict(list), {}
        for sample in results["samples"]:
            place = sample["row"], sample["server"]
            if "failed" in sample:
                self._failures[place].append(sample["failed"])
            else:
                self._results[place].append(sample["result"])
                self._parts[*place, (sample["round"], sample.get("part", 0))] = sample["result"]
        run = {sample["row"] for sample in results["samples"]}
        self.rows = [row for row in ROWS if row.key in run]

    def failures(self, row, server):
        """Why runs have no figure."""
        return self._failures[row.key, server]

    def results(self, row, server):
        return self._results[row.key, server]

    def all(self, row, server, of=cpu_of):
        return [of(result) for result in self.results(row, server)]

    def median(self, row, server, of=cpu_of):
        figures = self.all(row, server, of)
        return statistics.median(figures) if figures else None

    def ratio(self, row, server, to, of=cpu_of):
        """How many times another server, in the same part of a round: the median, the lowest and the highest."""
        pairs = [(result, self._parts.get((row.key, to, place)))
                 for (key, name, place), result in self._parts.items() if (key, name) == (row.key, server)]
        ratios = [of(result) / of(other) for result, other in pairs if other]
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    @staticmethod
    def beside(row):
        """The row that another one is compared with."""
        return next(other for other in ROWS if other.key == row.beside)

    def took_part(self, row, server):
        return bool(self.results(row, server) or self.failures(row, server))

    def name(self, server):
        about = self.servers[server]
        return f"{about['label']} ({about['language']})" if about["language"] in ("Node", "Python") else about["label"]


def digits(number):
    """Three digits that mean something."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def time_unit(nanoseconds):
    return next(((unit, size) for unit, size in (("ms", 1e6), ("µs", 1e3)) if nanoseconds >= size), ("ns", 1))


def duration(nanoseconds):
    unit, size = time_unit(nanoseconds)
    return f"{digits(nanoseconds / size)} {unit}"


def size(count):
    return f"{digits(count / 2**30)} GiB" if count >= 2**30 else f"{digits(count / 2**20)} MiB"


def spread(figures, show, scale):
    """`median (lowest–highest)`, in the unit of the median."""
    middle = statistics.median(figures)
    text = show(middle)
    if len(figures) == 1:
        return text
    return f"{text} ({digits(min(figures) / scale(middle))}–{digits(max(figures) / scale(middle))})"


def table(head, lines, align="---:"):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + f"|{align}" * (len(head) - 1) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def in_bytes(number):
    return f"{number:,.0f} B"


def times(ratio):
    """A multiple with its spread."""
    middle, lowest, highest = ratio
    return f"{middle:.2f}" + (f" ({lowest:.2f}–{highest:.2f})" if lowest != highest else "")
