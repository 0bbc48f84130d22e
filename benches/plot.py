"""A plot of what requests cost, as SVG: for each work a bar per server, the median, and a line from the least to the
most of its rounds. Readable on light and dark ground."""

from html import escape
from statistics import median

WIDTH, COLUMNS, GAP = 880, 2, 28
BAR, TITLE, LABEL, VALUE = 19, 30, 104, 52
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 }
  .quiet { fill: #57606a }
  .peer { fill: #9aa7b4 }
  .ours { fill: #d9730d }
  .range { stroke: #24292f; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .peer { fill: #57626e }
    .ours { fill: #f0883e }
    .range { stroke: #e6edf3 }
  }
"""


def bars(heading, works):
    """`works`: the samples by server of each, by what it is called."""
    panel = (WIDTH - (COLUMNS - 1) * GAP) / COLUMNS
    parts, y, rows = [], 44, [list(works.items())[i:i + COLUMNS] for i in range(0, len(works), COLUMNS)]
    for row in rows:
        for column, (name, by_server) in enumerate(row):
            parts += _panel(column * (panel + GAP), y, panel, name, by_server)
        y += TITLE + BAR * max(len(by_server) for _, by_server in row) + 16
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">',
        f"<title>{escape(heading)}</title>", f"<style>{STYLE}</style>",
        f'<text x="0" y="18" class="title">{escape(heading)}</text>', *parts, "</svg>", ""])


def _panel(x, y, width, name, by_server):
    costs = {server: [it["cpu"] for it in rounds if it] for server, rounds in by_server.items()}
    costs = {server: found for server, found in costs.items() if found}
    # The longest bar is as long as there is room; one panel is not compared with another.
    scale = (width - LABEL - VALUE) / max(max(found) for found in costs.values())
    parts = [f'<text x="{x:.0f}" y="{y + 16}" class="title">{escape(name)}</text>']
    for place, (server, found) in enumerate(costs.items()):
        top = y + TITLE + place * BAR
        middle, left = top + BAR / 2 - 1, x + LABEL
        length, least, most = (scale * it for it in (median(found), min(found), max(found)))
        kind = "ours" if server.startswith("larder") else "peer"
        parts += [
            f'<text x="{left - 8:.0f}" y="{middle + 4:.1f}" text-anchor="end">{escape(server)}</text>',
            f'<rect x="{left:.0f}" y="{top}" width="{length:.1f}" height="{BAR - 5}" class="{kind}"/>',
            f'<line x1="{left + least:.1f}" x2="{left + most:.1f}" y1="{middle - 1.5}" y2="{middle - 1.5}" class="range"/>',
            f'<text x="{left + most + 7:.1f}" y="{middle + 4:.1f}" class="quiet">{median(found):.1f}</text>',
        ]
    return parts
