#!/usr/bin/env python3
"""Draws docs/demo.svg, the end of the demo, from what the demo prints.

    cargo run --release -- demo | docs/picture.py
"""
import sys
from html import escape
from pathlib import Path

FIRST, LAST = "A simulated company", "The rows lie in"
LINE, WIDTH, MARGIN = 18, 8.4, 16  # pixels: a line, a character, the edge


def shown(output):
    """The lines from the first streams to the account of all records."""
    lines = output.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith(FIRST)]
    ends = [at for at, line in enumerate(lines) if line.startswith(LAST)]
    if not starts or not ends:
        sys.exit(f"docs/picture.py: no lines from `{FIRST}` to `{LAST}`: pipe what the demo prints into it")
    return ["$ sentinel-connector demo", *lines[starts[0] : ends[0]]]


def drawn(lines):
    lines = [line.rstrip() for line in lines]
    while not lines[-1]:
        lines.pop()
    width = 2 * MARGIN + max(map(len, lines)) * WIDTH
    height = 2 * MARGIN + len(lines) * LINE
    # Each line has its exact length: boxes stay closed in whatever font the reader has.
    texts = (
        f'<text x="{MARGIN}" y="{MARGIN + LINE * at + 13}" textLength="{len(line) * WIDTH:.1f}" '
        f'xml:space="preserve">{escape(line)}</text>'
        for at, line in enumerate(lines)
        if line
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            "<title>The end of the demo: each stream, and the account of all records</title>",
            '<rect width="100%" height="100%" rx="8" fill="#0d1117"/>',
            '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3">',
            *texts,
            "</g>",
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    picture = drawn(shown(sys.stdin.read()))
    (Path(__file__).parent / "demo.svg").write_text(picture)
