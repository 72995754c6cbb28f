#!/usr/bin/env python3
"""Draws the pictures of screens in docs/ from what the program prints on a terminal.

    cargo build --release && docs/picture.py          draws them anew
    docs/picture.py --check --program PATH            says which no longer show what is printed

Figures and times differ from run to run, and are left out of that comparison.
"""
import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from html import escape, unescape
from pathlib import Path

HERE = Path(__file__).resolve().parent
LINE, WIDTH, MARGIN = 18, 8.4, 16  # pixels: a line, a character, the edge
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341"}
SGR = re.compile(r"\x1b\[([0-9;]*)m")


def printed(program, folder, arguments, columns, settings=None):
    """What a command prints on a terminal of so many columns; behind it, what it says on stderr."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {"TERM": "xterm", "PATH": os.environ["PATH"], **(settings or {})}
    process = subprocess.Popen(
        [program, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.PIPE,
    )
    os.close(slave)
    read = b""
    while True:
        try:
            some = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        read += some
    errors = process.stderr.read()
    process.wait()
    os.close(master)
    text = (read + errors).decode().replace("\r\n", "\n")
    return text.replace(str(folder), ".").rstrip().split("\n")


def demo(program, folder):
    """The lines from the first streams to the account of all records."""
    lines = printed(program, folder, ["demo"], 140)
    first = next(at for at, line in enumerate(lines) if line.startswith("A simulated company"))
    last = next(at for at, line in enumerate(lines) if line.startswith("The rows lie in"))
    return "$ sentinel-connector demo", lines[first:last]


# Settings with two mistakes. Nobody is asked: offline.
WRONG = {
    "ESET_REGION": "eu",
    "ESET_LOGIN": "api-user@example.com",
    "ESET_PASSWORD": "not shown",
    "ESET_STREAMS": "detections,incident",
    "LOGS_INGESTION_ENDPONT": "https://example.com",
}


def check(program, folder):
    lines = printed(program, folder, ["check", "--offline"], 110, WRONG)
    return "$ sentinel-connector check --offline", lines


def streams(program, folder):
    lines = printed(program, folder, ["cursor", "show"], 110)
    return "$ sentinel-connector cursor show", lines[:12]


# In this order: a later one shows what an earlier one left in the folder.
SCREENS = [
    ("demo", "The end of the demo: each stream, and the account of all records", demo),
    ("streams", "Where each stream stands", streams),
    ("check", "A check: what is wrong first, and how to mend it", check),
]


def pieces(line):
    """Parts of a line, each with its colour."""
    colour, parts, at = None, [], 0
    for code in SGR.finditer(line):
        parts.append((colour, line[at : code.start()]))
        at = code.end()
        words = code[1].split(";")
        colour = next((COLOURS[word] for word in words if word in COLOURS), None if "0" in words or not code[1] else colour)
    parts.append((colour, line[at:]))
    return [(colour, text) for colour, text in parts if text]


def drawn(title, command, lines):
    lines = [command, *(line.rstrip() for line in lines)]
    while not lines[-1]:
        lines.pop()
    bare = [SGR.sub("", line) for line in lines]
    width = 2 * MARGIN + max(map(len, bare)) * WIDTH
    height = 2 * MARGIN + len(lines) * LINE

    # Each line has its exact length: boxes stay closed in whatever font the reader has.
    def text(at, line):
        spans = "".join(
            f'<tspan fill="{colour}">{escape(part)}</tspan>' if colour else escape(part)
            for colour, part in pieces(line)
        )
        return (
            f'<text x="{MARGIN}" y="{MARGIN + LINE * at + 13}" textLength="{len(bare[at]) * WIDTH:.1f}" '
            f'xml:space="preserve">{spans}</text>'
        )

    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" rx="8" fill="#0d1117"/>',
            '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3">',
            *(text(at, line) for at, line in enumerate(lines) if bare[at]),
            "</g>",
            "</svg>\n",
        ]
    )


def timeless(picture):
    """The words of a picture, in no order: without figures, units, times and the room that they take."""
    words = set()
    for line in re.findall(r"<text[^>]*>(.*?)</text>", picture):
        line = unescape(re.sub(r"<[^>]*>", "", line))
        line = re.sub(r"\d+(ms|us|ns|days?|d|h|m|s)\b( \d+(ms|us|ns|days?|d|h|m|s)\b)*", "0", line)
        line = re.sub(r"\d[\d,.:-]*", "0", line)
        line = re.sub(r"\b0 ([KMG]i)?B\b", "0", line)
        line = re.sub(r"\b(page|row|duplicate|record)s\b", r"\1", line)
        words.add(re.sub(r"[\s─╌═]+", " ", line).strip())
    return words


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="draw nothing, and fail where a picture is stale")
    arguments.add_argument("--program", default=HERE.parent / "target/release/sentinel-connector", type=Path)
    chosen = arguments.parse_args()
    program = chosen.program.resolve()
    if not program.exists():
        sys.exit(f"docs/picture.py: there is no {program}: build it first")
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for name, title, shown in SCREENS:
            picture = drawn(title, *shown(program, folder))
            file = HERE / f"{name}.svg"
            if not chosen.check:
                file.write_text(picture)
                continue
            there = timeless(file.read_text()) if file.exists() else set()
            if there != timeless(picture):
                differing = sorted(there ^ timeless(picture))
                stale.append("\n  ".join([f"docs/{name}.svg is stale:", *differing]))
    if stale:
        sys.exit("\n".join([*stale, "`docs/picture.py` draws them anew"]))


if __name__ == "__main__":
    main()
