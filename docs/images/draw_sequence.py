#!/usr/bin/env python3
"""draw_sequence.py [OUT.svg]: docs/images/sequence.svg, how two ranks share the product over positions of a gMLP.

Plain Python; the colours follow the reader's light or dark theme."""

import sys
from pathlib import Path

CHUNKS = 4  # of a sequence that two ranks share
OWNER = [0, 1, 1, 0]  # head-tail
STYLE = """
svg { --ink: #1f2328; --soft: #59636e; --line: #8c959f; --paper: #ffffff; --zero: #1f5fbf; --one: #d1640f; --empty: #eaeef2; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --soft: #9aa4ae; --line: #6e7781; --paper: #0d1117; --zero: #5e9bf0; --one: #f0944a; --empty: #21262d; }
}
text { font: 14px system-ui, sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 12.5px; }
.title { font-weight: 600; font-size: 16px; }
.on { fill: var(--paper); font-size: 12.5px; }
.small { font-size: 12.5px; }
.r0 { fill: var(--zero); } .r1 { fill: var(--one); }
.cell { stroke: var(--paper); stroke-width: 1.5; }
.not { fill: var(--empty); }
.arrow { stroke: var(--line); stroke-width: 2; fill: none; marker-end: url(#head); }
.frame { fill: none; stroke: var(--line); stroke-dasharray: 3 3; }
"""


class Drawing:
    def __init__(self, width, height):
        self.size = (width, height)
        self.parts = []

    def text(self, x, y, words, style="", anchor="start"):
        self.parts.append(f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{words}</text>')

    def box(self, x, y, width, height, style):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" class="cell {style}"/>')

    def frame(self, x, y, width, height):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="frame"/>')

    def arrow(self, x, y, x2, y2):
        self.parts.append(f'<path d="M{x} {y} L{x2} {y2}" class="arrow"/>')

    def save(self, file):
        width, height = self.size
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
                'aria-label="How two ranks share the product over positions: who holds which rows, and what travels">')
        marker = ('<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                  'orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill: var(--line)"/></marker></defs>')
        paper = f'<rect width="{width}" height="{height}" style="fill: var(--paper)"/>'
        file.write_text("\n".join([head, f"<style>{STYLE}</style>", marker, paper, *self.parts, "</svg>", ""]))


def rows(drawing, x, y, width, held, size=22, columns=(0, 1), whole=(0, 1)):
    """The chunks of v or y that `held` names, one under the other, of some of `whole`'s parts of the channels."""
    part = width / len(whole)
    for chunk in range(CHUNKS):
        for column in whole:
            there = chunk in held and column in columns
            drawing.box(x + column * part, y + chunk * size, part, size, f"r{OWNER[chunk]}" if there else "not")


def triangle(drawing, x, y, size, held, rank=None):
    """W, rows of chunks of outputs by columns of chunks of inputs, in the colour of who multiplies them: `rank`, or each
    row's owner. What stands above the diagonal is never used."""
    for row in range(CHUNKS):
        for column in range(CHUNKS):
            used = column <= row and row in held
            drawing.box(x + column * size, y + row * size, size, size,
                        f"r{OWNER[row] if rank is None else rank}" if used else "not")


HELD = [[chunk for chunk in range(CHUNKS) if OWNER[chunk] == rank] for rank in (0, 1)]
ALL = list(range(CHUNKS))


def who_holds_what(d):
    d.text(24, 34, "Who holds which rows", "title")
    d.text(24, 56, "Two ranks, one causal sequence in four chunks, dealt head-tail: rank 0 the first and the last, rank 1 "
           "those between.", "soft")
    top, size = 92, 38
    d.text(24 + 2 * size, top - 8, "W, n x n", "", "middle")
    triangle(d, 24, top, size, ALL)
    d.text(220, top + 2 * size + 5, "x", "", "middle")
    for name, x in (("v", 244), ("y", 352)):
        d.text(x + 32, top - 8, f"{name}, n x c", "", "middle")
        rows(d, x, top, 64, ALL, size, (0,), (0,))
    d.text(330, top + 2 * size + 5, "=", "", "middle")
    for chunk in range(CHUNKS):
        d.text(244 + 32, top + chunk * size + 24, f"chunk {chunk}", "on", "middle")
    for x, rank in ((452, 0), (452, 1)):
        d.box(x, top + 8 + 62 * rank, 16, 16, f"r{rank}")
    d.text(478, top + 21, "rank 0: chunks 0 and 3, rows of W with 1 + 4 blocks to multiply")
    d.text(478, top + 83, "rank 1: chunks 1 and 2, rows of W with 2 + 3 blocks: as many")
    d.text(478, top + 42, "embeds, normalises, projects and predicts these positions alone", "soft")
    d.text(478, top + 104, "likewise: only W v + b, the product over positions, needs what the other has", "soft")
    d.text(478, top + 140, "Grey is not there, or above the diagonal: neither sent nor multiplied.", "soft")


def mode(d, x, name, says):
    d.frame(x, 272, 304, 420)
    d.text(x + 14, 298, name, "title")
    for line, words in enumerate(says):
        d.text(x + 14, 320 + 18 * line, words, "soft")


def gathered(d, x, columns_of, draw_triangle):
    """One rank above the other: the rows held, what comes of v, and the part of W that multiplies it."""
    for rank, y in ((0, 378), (1, 508)):
        d.text(x + 14, y - 8, f"rank {rank}")
        rows(d, x + 14, y, 56, HELD[rank])
        d.arrow(x + 76, y + 44, x + 102, y + 44)
        rows(d, x + 106, y, 56, ALL, columns=columns_of(rank))
        d.text(x + 174, y + 48, "x", "", "middle")
        draw_triangle(rank, y)


def all_to_all(d, x):
    mode(d, x, "alltoall", ["Each gets all positions of half the channels,", "multiplies all of W, gives the result back."])
    gathered(d, x, lambda rank: (rank,), lambda rank, y: triangle(d, x + 186, y, 22, ALL, rank))
    costs(d, x, ["sent: 2 &#183; (sp-1)/sp &#183; B t c forward, 3 backward", "multiplied: n&#178;/2 pairs by c/sp channels",
                 "W, its gradient's sum, its moments: whole"])


def row_shard(d, x):
    mode(d, x, "rowshard", ["Each gets all rows of v, and multiplies", "the rows of W of its own positions."])
    gathered(d, x, lambda rank: (0, 1), lambda rank, y: triangle(d, x + 186, y, 22, HELD[rank]))
    costs(d, x, ["sent: (sp-1) &#183; B t c forward, 2 backward", "multiplied: n&#178;/2/sp pairs by c channels",
                 "W, its gradient, its moments: 1/sp of each"])


def ring(d, x):
    mode(d, x, "ring", ["Blocks of v travel round while the one before", "is multiplied; causal: only those needed."])
    for rank, y in ((0, 378), (1, 508)):
        d.text(x + 14, y - 8, f"rank {rank}")
        d.text(x + 112, y - 8, "own block", "soft")
        d.text(x + 224, y - 8, "the other's", "soft")
        rows(d, x + 14, y, 56, HELD[rank])
        steps(d, x + 112, y, rank, HELD[rank])
        d.arrow(x + 190, y + 44, x + 218, y + 44)
        steps(d, x + 224, y, rank, HELD[1 - rank])
    costs(d, x, ["sent: as rowshard, less what nobody needs", "multiplied: as rowshard, block by block",
                 "W, its gradient, its moments: 1/sp of each"])


def steps(d, x, y, rank, block):
    """The blocks of W that meet `block` of v in the rows of `rank`."""
    size = 18
    for row in range(CHUNKS):
        for column in range(CHUNKS):
            used = row in HELD[rank] and column in block and column <= row
            d.box(x + column * size, y + row * 22, size, 22, f"r{rank}" if used else "not")


def costs(d, x, lines):
    for line, words in enumerate(lines):
        d.text(x + 14, 638 + 20 * line, words, "small")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sequence.svg")
    drawing = Drawing(1000, 712)
    who_holds_what(drawing)
    all_to_all(drawing, 24)
    row_shard(drawing, 348)
    ring(drawing, 672)
    drawing.save(out)


if __name__ == "__main__":
    main()
