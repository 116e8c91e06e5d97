"""The report: what was measured, as Markdown."""
import statistics

from figures import (FIGURE, Figures, cpu_of, digits, duration, in_bytes, latency_of, memory_of, size, spread, table,
                     time_unit, times)
from rows import CPU, DOOR_ROWS, DOORS, FAN_OUT, GROUPS, LATENCY, MEMORY, RAW_THERE, THREADS

RAW, OURS, RIVAL = "raw", "wsx-c", "uwebsockets"
THREAD, THREADS_64 = "wsx-c", "wsx-c-64"


def emphasised(figures, server):
    ours = figures.servers[server]["kind"] == "ours"
    return f"**{figures.name(server)}**" if ours else figures.name(server)


def cpu_alone(figures, row, server):
    return spread(figures.all(row, server), duration, lambda middle: time_unit(middle)[1])


def cpu_cell(figures, row, server):
    cell = cpu_alone(figures, row, server)
    ratio = figures.ratio(row, server, RAW) if server != RAW else None
    return f"{cell}, {digits(ratio[0])} × raw" if ratio else cell


def memory_cell(figures, row, server):
    return spread(figures.all(row, server, memory_of), in_bytes, lambda _: 1)


def latency_cells(figures, row, server):
    median = spread(figures.all(row, server, latency_of), duration, lambda middle: time_unit(middle)[1])
    ratio = figures.ratio(row, server, RAW, latency_of) if server != RAW else None
    yield median + (f", {ratio[0]:.2f} × raw" if ratio else "")
    for quantile in ("p90", "p99", "p999"):
        yield duration(1000 * figures.median(row, server, lambda result: result["latency_us"][quantile]))
    yield duration(figures.median(row, server))


def shares(result):
    """How the CPU time is spread over the threads; those that only wait for signals and the like are left out."""
    found = [100 * share for share in result["cpu_share_per_thread"] if share >= 0.001]
    if len(found) <= 4:
        return " / ".join(f"{share:.0f} %" for share in found)
    return f"{len(found)} threads: {found[0]:.1f} %, the others {found[-1]:.1f} to {found[1]:.1f} %"


def usual(figures, row, server):
    """The run whose busiest thread is the median one."""
    runs = sorted(figures.results(row, server), key=lambda result: result["cpu_share_per_thread"][:1])
    return runs[len(runs) // 2]


def thread_cells(figures, row, server):
    yield spread(figures.all(row, server), duration, lambda middle: time_unit(middle)[1])
    ratio = figures.ratio(row, server, THREAD) if server != THREAD else None
    yield times(ratio) if ratio else ""
    yield shares(usual(figures, row, server))


def told(slow):
    """What became of the subscribers that never read."""
    if not slow:
        return ""
    closes = ", ".join(f"{count} × Close {code}" for code, count in slow["codes"].items())
    cut = slow["closed"] - sum(slow["codes"].values())
    parts = [closes] if closes else []
    if cut:
        parts.append(f"{cut} × cut")
    if slow["connections"] > slow["closed"]:
        parts.append(f"{slow['connections'] - slow['closed']} × nothing")
    return ", ".join(parts)


def fan_out_cells(figures, row, server):
    result = figures.results(row, server)[-1]
    yield duration(1000 * result["latency_us"]["p50"])
    yield duration(1000 * result["latency_us"]["p99"])
    yield duration(result["cpu_ns_per_unit"])
    yield size(result["server_rss_peak"])
    if row.options.get("slow"):
        yield told(result.get("slow"))


def wide(group, figures, head, cells):
    """A row of the report for each server, with several cells out of one scenario."""
    for row in (row for row in figures.rows if row.group == group):
        if sum(other.group == group for other in figures.rows) > 1:
            yield f"**{row.title}**"
            yield ""
        columns = [*head, "what those were told"] if row.options.get("slow") else head
        lines = []
        for server in figures.servers:
            if figures.results(row, server):
                lines.append([emphasised(figures, server), *cells(figures, row, server)])
            elif figures.failures(row, server):
                lines.append([emphasised(figures, server), "failed", *[""] * (len(columns) - 2)])
        yield from table(columns, lines)
    yield from reasons(group, figures)


def narrow(group, figures, cell):
    """A row for each server, a column for each scenario."""
    rows = [row for row in figures.rows if row.group == group]
    lines = []
    for server in figures.servers:
        cells = []
        if not any(figures.took_part(row, server) for row in rows):
            continue
        for row in rows:
            failed = "failed" if figures.failures(row, server) else ""
            cells.append(cell(figures, row, server) if figures.results(row, server) else failed)
        lines.append([emphasised(figures, server), *cells])
    yield from table(["server", *(row.title for row in rows)], lines)
    yield from reasons(group, figures)


def paired(group, figures):
    """A row for each server; for each scenario without and with what the group is about."""
    rows = [row for row in figures.rows if row.group == group and row.beside]
    head, lines = ["server"], []
    for row in rows:
        head += [f"{row.title}, plain", "over TLS" if row.tls else "compressed"]
    for server in figures.servers:
        if any(figures.took_part(row, server) for row in rows):
            cells = []
            for row in rows:
                for side, cell in ((figures.beside(row), cpu_alone), (row, cpu_beside)):
                    failed = "failed" if figures.failures(side, server) else ""
                    cells.append(cell(figures, side, server) if figures.results(side, server) else failed)
            lines.append([emphasised(figures, server), *cells])
    yield from table(head, lines)
    yield from reasons(group, figures)


def cpu_beside(figures, row, server):
    """How many times its own figure without TLS or compression, and what compression has left of a message."""
    plain = figures.median(figures.beside(row), server)
    cell = cpu_alone(figures, row, server)
    if plain:
        cell += f", {digits(figures.median(row, server) / plain)} × plain"
    if row.compression:
        cell += f", {in_bytes(figures.median(row, server, lambda result: result['wire_bytes']))}"
    return cell


def reasons(group, figures):
    """What failed, and why; also where only some of the rounds did."""
    lines = []
    for row in (row for row in figures.rows if row.group == group):
        for server in figures.servers:
            failures = figures.failures(row, server)
            if failures:
                runs = len(failures) + len(figures.results(row, server))
                lines.append(f"- {figures.name(server)}, {row.title}: {len(failures)} of {runs} runs failed:"
                             f" {failures[-1]}")
    if lines:
        yield from [*lines, ""]


def best_other_peer(figures, row, of):
    found = [(figures.median(row, server, of), server) for server, about in figures.servers.items()
             if about["kind"] == "peer" and server != RIVAL and figures.results(row, server)]
    return min(found)[1] if found else None


def verdict(reached, goal):
    """Compared as they are shown, with two digits behind the point."""
    over = round(reached, 2) / goal - 1
    return "reached" if over <= 0 else f"missed by {max(100 * over, 1):.0f} %"


def summary_line(figures, row):
    of, ours = FIGURE[row.figure], row.goal_for
    if not figures.ratio(row, ours, RAW, of):
        return None
    if row.figure == MEMORY:        # bytes, for the raw loop keeps next to nothing
        def cell(server):
            return in_bytes(figures.median(row, server, of))
        reached, goal = figures.median(row, ours, of), in_bytes(row.goal)
    else:
        def cell(server):
            ratio = figures.ratio(row, server, RAW, of)
            return times(ratio) if ratio else "—"
        reached, goal = figures.ratio(row, ours, RAW, of)[0], f"{row.goal:.2f}"
    title = row.title if row.group in ("handshake", "memory") else f"{GROUPS[row.group][0].lower()}: {row.title}"
    if row.figure == LATENCY:
        title += ", median; " + figures.name(ours)
    raw = spread(figures.all(row, RAW, of), in_bytes if row.figure == MEMORY else duration,
                 lambda middle: 1 if row.figure == MEMORY else time_unit(middle)[1])
    other = best_other_peer(figures, row, of)
    return [title, raw, f"**{cell(ours)}**", f"{goal}, {verdict(reached, row.goal)}",
            cell(RIVAL) if figures.results(row, RIVAL) else "—",
            f"{figures.name(other)} {cell(other)}" if other else "—"]


def summary(figures):
    """Each scenario that has a goal, as multiples of the raw loop."""
    lines = [line for row in figures.rows if row.goal and (line := summary_line(figures, row))]
    if lines:
        yield "## Beside the limit, the goals and the peers"
        yield ""
        yield ("The raw loop receives and sends and knows no protocol: what no server can do without. The others are"
               " told as how many times that they take, and so are the goals of libwsx: each run beside the raw loop's"
               " in the same part of a round, of these ratios the median, the lowest and the highest. (The ratio of two"
               " medians, which it need not equal, moves more from run to run, as a slow minute meets both of a pair.)"
               " Below 1.00 is noise, or a server that saves what the raw loop spends, as sleep and wake-up with a busy"
               " poll.")
        yield ""
        head = ["", "raw TCP loop", "libwsx × raw", "goal", "uWebSockets × raw", "best other peer × raw"]
        yield from table(head, lines)


def doors(figures):
    """What the doors take for a message, with their goals and their peers."""
    tables = []
    for row in (row for row in figures.rows if row.key in DOOR_ROWS):
        lines = [door_line(figures, row, server, of) for of in DOORS for server in (*of.goals, *of.peers)
                 if figures.took_part(row, server)]
        if lines:
            head = ["server", "CPU", "of it in user space", "goal", "the goal × raw", "the goal × its peer"]
            limit = [figures.name(RAW), *cpu_and_user(figures, row, RAW), "", "", ""]
            lines = [limit, *lines] if figures.results(row, RAW) else lines
            tables += [f"**{GROUPS[row.group][0].split(', ')[1].capitalize()}**", "", *table(head, lines)]
    if tables:
        there = [("the raw loop", RAW_THERE), *((figures.servers[of.peers[0]]["label"], of.peer_there)
                                                for of in DOORS if of.peers[0] in figures.servers)]
        yield "## The doors for Python and Node"
        yield ""
        yield ("A message of 64 B, echoed by a program in that language, on 100 connections. The goals are times of"
               " another machine, where with one and 32 in flight "
               + ", ".join(f"{name} took {one:g} and {many:g} µs" for name, (one, many) in there)
               + ". Times of another machine do not carry over; ratios rather do. So each goal is told three times: as a"
               " time, and as what it was there as a multiple of the raw loop, and of its peer, with what was measured"
               " here. In user space is what the server is itself, engine, door, interpreter and program; all else is"
               " the kernel's TCP, which is the same for all of them: where that alone takes as long as a goal, no"
               " server reaches it.")
        yield ""
        yield from tables


def user_of(result):
    """Nanoseconds of a unit in user space; none where the clock has not ticked."""
    return cpu_of(result) * result["user_share"] if "user_share" in result else None


def mean_of_user(figures, row, server):
    """The mean, as that of a single run is rough."""
    found = [figure for figure in figures.all(row, server, user_of) if figure is not None]
    return statistics.mean(found) if found else None


def cpu_and_user(figures, row, server):
    user = mean_of_user(figures, row, server)
    return [cpu_alone(figures, row, server), "—" if user is None else duration(user)]


def door_line(figures, row, server, of):
    if not (found := figures.all(row, server)):
        return [figures.name(server), "failed", "", "", "", ""]
    cells = [emphasised(figures, server), *cpu_and_user(figures, row, server)]
    if server not in of.goals:
        return [*cells, "", "", ""]
    place, peer, reached = DOOR_ROWS.index(row.key), of.peers[0], statistics.median(found)
    goal = of.goals[server][place]
    told = f"{goal:g} µs, {verdict(reached / 1000, goal)}"
    user = mean_of_user(figures, row, server)
    if reached / 1000 > goal and user is not None:
        told += f"; the kernel's part is {duration(reached - user)}"
    return [*cells, told, beside(figures, row, server, RAW, goal / RAW_THERE[place]),
            beside(figures, row, server, peer, goal / of.peer_there[place])]


def beside(figures, row, server, other, goal):
    """A goal as a multiple of another server, and what was reached."""
    ratio, goal = figures.ratio(row, server, other), round(goal, 2)
    return f"{goal:.2f}; {times(ratio)}, {verdict(ratio[0], goal)}" if ratio else "—"


def many_cores(figures):
    """What follows for more cores than there are here."""
    yield "**On 64 cores**, by how it works, for it was not measured there:"
    yield ""
    yield ("- *Echo* should grow with the cores. A loop has its own sockets, connections, timers and buffers; a message"
           " takes no lock and writes nothing that another loop reads. Loops meet where a connection opens or closes"
           " (one counter for a listener), and where something is published.")
    yield ("- *Balance* is the kernel's: it spreads connections over the loops by a hash of their addresses"
           " (SO_REUSEPORT), and they stay. Of n connections each of 64 loops has n/64, give or take √(n/64): of 64,000"
           " each 1,000 ± 32 and the fullest some 8 % more than the mean; of 1,000 each 16 ± 4 and the fullest some"
           " 60 % more. Few busy connections are not balanced.")
    yield ("- *Broadcast*: the publishing loop encodes a message once and hands what it has gathered in a turn to each"
           " other loop: 63 times a push to its queue (a lock that is held for a few instructions), and one write to"
           " its eventfd where it has not been woken already. The bytes are shared, not copied. Each loop then sends to"
           " its own subscribers, all of them at the same time." + what_a_loop_costs(figures))
    yield ("- What does not scale is *many loops that publish at once*: 64 of them make 64 × 63 pushes in a round of"
           " turns, and queue up at each other's locks. Programs that publish much should do so from few loops.")
    yield ""


def what_a_loop_costs(figures):
    """What handing over to one loop more costs the one that publishes, which two cores can show."""
    costs = {}
    for row in (row for row in figures.rows if row.group == "threads" and row.scenario == "broadcast"):
        if figures.results(row, THREAD) and figures.results(row, THREADS_64):
            turn = row.options["connections"] * row.options["depth"]        # deliveries
            alone, together = (turn * figures.median(row, server) for server in (THREAD, THREADS_64))
            busiest, next_one, *_ = usual(figures, row, THREADS_64)["cpu_share_per_thread"]
            if busiest > 2 * next_one:      # the thread that publishes; a part of it is its own deliveries
                costs[row.options["depth"]] = (together * busiest - alone / 64) / 63
    if costs.keys() != {1, 16}:
        return ""
    return (f" In this run that took the publishing thread {duration(costs[1])} for each other loop with one message in"
            f" a turn and {duration(costs[16])} with 16, or {duration(costs[16] / 16)} for each message: the push, the"
            " system call that wakes a thread, and what it costs to be interrupted by it, which on a core of its own it"
            f" would not be. For 63 loops that is {duration(63 * costs[1])} in which the last one waits, whether a turn"
            " publishes one message or hundreds; it pays where a turn has more deliveries than that time is worth.")


def heading(results):
    machine = results["machine"]
    yield "# Results"
    yield ""
    rounds = f"{results['rounds']} round{'s' * (results['rounds'] > 1)} of {results['seconds']:g} s"
    if results.get("parts", 1) > 1:
        rounds += f", {results['parts']} runs in each round of the servers that lie close together"
    yield (f"{results['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB,"
           f" {machine['kernel']}. `{results['command']}`: {rounds}, seed {results['seed']}.")
    yield ""
    yield ("CPU time of the server's process for one unit, kernel included: the median of the runs, the lowest and"
           " highest beside it, and how many times the raw loop at that time. Server and load on a core each, over"
           " loopback, without TLS and compression where no table says so; interleaved, a fresh process for every"
           " figure. [README.md](README.md) says how, and what the figures cannot tell.")
    yield ""


README_ROWS = {
    "echo-64": "64 B echo, one in flight", "pipelined-64": "64 B echo, 32 in flight",
    "broadcast-16": "64 B to each of 1,000, 16 in flight", "idle": "an idle connection",
}


def readme(results):
    """The figures for README.md, or None where one of them is missing."""
    figures, lines = Figures(results), []
    for key, title in README_ROWS.items():
        row = next((row for row in figures.rows if row.key == key), None)
        if not row or not all(figures.results(row, server) for server in (RAW, OURS, RIVAL)):
            return None
        show = in_bytes if row.figure == MEMORY else duration
        ours, rival, raw = (show(figures.median(row, server, FIGURE[row.figure])) for server in (OURS, RIVAL, RAW))
        lines.append([title, f"**{ours}**", rival, raw])
    machine = results["machine"]
    head = ["server's CPU time, or memory", "libwsx", f"uWebSockets {results['servers'][RIVAL]['version'].split()[0]}",
            "raw TCP loop"]
    return "\n".join(["", "![Server CPU for one message of an echo, 32 in flight](bench/charts/pipelined.svg)", "",
                      *table(head, lines),
                      f"{results['date'].split()[0]}, {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}."
                      " [bench/RESULTS.md](bench/RESULTS.md) has the other peers, the doors, and the spread.", "", ""])


CELLS = {CPU: cpu_cell, MEMORY: memory_cell}
WIDE = {
    LATENCY: (["server", "median", "90 %", "99 %", "99.9 %", "CPU"], latency_cells),
    THREADS: (["server", "CPU", "× one thread", "of each thread"], thread_cells),
    FAN_OUT: (["server", "median", "99 %", "CPU for a delivery", "peak memory"], fan_out_cells),
}


def render(results):
    figures = Figures(results)
    lines = [*heading(results), *summary(figures), *doors(figures)]
    for group, (title, words) in GROUPS.items():
        rows = [row for row in figures.rows if row.group == group]
        if not rows:
            continue
        lines += [f"## {title}", "", words, ""]
        if group in ("echo", "pipelined", "broadcast", "memory"):
            lines += [f"![{title}](charts/{group}.svg)", ""]
        kind = rows[0].figure
        if any(row.beside for row in rows):
            lines += paired(group, figures)
        else:
            lines += wide(group, figures, *WIDE[kind]) if kind in WIDE else narrow(group, figures, CELLS[kind])
        if group == "threads":
            lines += many_cores(figures)
    lines += ["## What was measured", ""]
    ran = [key for key in figures.servers if any(figures.took_part(row, key) for row in figures.rows)]
    versions = [[figures.name(key), figures.servers[key]["version"] or "—"] for key in ran]
    lines += table(["server", "version"], versions, "---")
    if results["left_out"]:
        lines += ["Left out:", ""]
        lines += [f"- {name}: {reason.splitlines()[0]}" for name, reason in results["left_out"].items()] + [""]
    return "\n".join(lines).rstrip() + "\n"
