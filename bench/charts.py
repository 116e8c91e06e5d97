"""The charts: horizontal bars as small SVG files, for light and dark pages alike.

A bar ends where its scale does: at twenty times the shortest one. A longer one is cut, with a gap to show it, and like
all of them tells its figure.
"""
from xml.sax.saxutils import escape

from figures import Figures, cpu_of, duration, in_bytes, memory_of
from rows import CPU

WIDTH = 760
LEFT = 232            # where bars begin
RIGHT = 108           # kept free for the figures
BAR, STEP, GAP = 14, 22, 8
CUT = 20

STYLE = """
.page{fill:#fff}.title{font:600 17px F;fill:#1c2330}.words,.note{font:12.5px F;fill:#667085}
.panel{font:600 13px F;fill:#1c2330}.name,.figure{font:12.5px F;fill:#475067}.figure{font-variant-numeric:tabular-nums}
.ours .name,.ours .figure{font-weight:650;fill:#0b5cd6}
.bar{fill:#c3cad6}.ours .bar{fill:#1f78ff}.limit .bar{fill:none;stroke:#98a2b3;stroke-dasharray:3 2}
.gap{stroke:#fff;stroke-width:3}.base{stroke:#d7dce4}
@media(prefers-color-scheme:dark){
.page{fill:#0f141b}.title,.panel{fill:#e8ecf2}.words,.note{fill:#8f9bad}.name,.figure{fill:#b3bccb}
.ours .name,.ours .figure{fill:#76b0ff}.bar{fill:#3d4757}.ours .bar{fill:#3d8bff}.limit .bar{stroke:#6b778a}
.gap{stroke:#0f141b}.base{stroke:#2c3542}}
""".replace("\n", "").replace("F;", "system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;")

CHARTS = {
    "echo": (["echo-64", "echo-64k"], "Echo, one message in flight", "Server CPU for one message; less is better"),
    "pipelined": (["pipelined-64", "pipelined-1k"], "Echo, 32 messages in flight",
                  "Server CPU for one message; less is better"),
    "broadcast": (["broadcast-1", "broadcast-16"], "Broadcast to 1,000 subscribers",
                  "Server CPU for one delivery of 64 B; less is better"),
    "memory": (["idle"], "Memory of an idle connection", "Resident bytes, at 10,000 connections; less is better"),
}


def number(value):
    return f"{value:.1f}".rstrip("0").rstrip(".")


def text(x, y, words, style, anchor=None):
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{style}" x="{number(x)}" y="{number(y)}"{anchor}>{escape(words)}</text>'


def block(figures, server):
    """Servers stand together by the language that they are used from."""
    return {"Node": 1, "Python": 2}.get(figures.servers[server]["language"], 0)


def panel(figures, row, y):
    """The bars of one scenario, from `y` downwards: the elements, and where they end."""
    show, of = (duration, cpu_of) if row.figure == CPU else (in_bytes, memory_of)
    found = {server: figures.median(row, server, of) for server in figures.servers}
    bars = sorted((block(figures, server), value, server) for server, value in found.items() if value is not None)
    failed = [server for server in found if found[server] is None and figures.failures(row, server)]
    values = [value for _, value, _ in bars]
    room, longest = WIDTH - LEFT - RIGHT, min(max(values), CUT * min(values))
    top, parts, before = y, [], bars[0][0]
    for place, value, server in bars:
        y += GAP if place != before else 0
        before = place
        kind = figures.servers[server]["kind"]
        cut = value > longest
        length = max(room * min(value, longest) / longest, 1.5)
        inset = 0.5 if kind == "limit" else 0       # its stroke is as wide as the others' bars
        drawn = (f'<rect class="bar" x="{LEFT}" y="{number(y + inset)}" width="{number(length)}"'
                 f' height="{BAR - 2 * inset:g}" rx="2"/>')
        if cut:
            at = LEFT + length - 22
            drawn += f'<path class="gap" d="M{number(at)} {y + BAR + 2}l6-{BAR + 4}m6 0l-6 {BAR + 4}"/>'
        parts.append(f'<g class="{kind}">' + text(LEFT - 10, y + 11.5, figures.name(server), "name", "end") + drawn
                     + text(LEFT + length + 8, y + 11.5, show(value), "figure") + "</g>")
        y += STEP
    for server in failed:
        parts.append(text(LEFT - 10, y + 11.5, figures.name(server), "name", "end")
                     + text(LEFT + 8, y + 11.5, "failed", "figure"))
        y += STEP
    parts.insert(0, f'<path class="base" d="M{LEFT - 0.5} {top - 4}V{y - STEP + BAR + 4}"/>')
    return parts, y - STEP + BAR, longest < max(values)


def chart(figures, rows, title, words):
    parts, y, any_cut = [], 92, False
    for row in rows:
        if len(rows) > 1:
            caption = row.title[0].upper() + row.title[1:]
            parts.append(text(LEFT, y, caption, "panel"))
            y += 18
        bars, y, cut = panel(figures, row, y)
        parts += bars
        any_cut |= cut
        y += 46
    y -= 46
    if any_cut:
        y += 34
        parts.append(text(LEFT, y, f"Bars with a gap are cut at {CUT} times the shortest.", "note"))
    height = number(y + 28)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            f' role="img"><title>{escape(title)}</title><desc>{escape(words)}. The table has the same figures.'
            f'</desc><style>{STYLE}</style><rect class="page" width="{WIDTH}" height="{height}" rx="10"/>'
            + text(28, 38, title, "title") + text(28, 59, words, "words") + "\n" + "\n".join(parts) + "\n</svg>\n")


def render(results):
    """The SVG of every chart that there are figures for, by name."""
    figures = Figures(results)
    pictures = {}
    for name, (keys, title, words) in CHARTS.items():
        rows = [row for row in figures.rows
                if row.key in keys and any(figures.results(row, server) for server in figures.servers)]
        if rows:
            pictures[name] = chart(figures, rows, title, words)
    return pictures
