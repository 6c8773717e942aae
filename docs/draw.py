"""Draw the images of the guide: `python docs/draw.py` writes them to docs/images/."""

from __future__ import annotations

from pathlib import Path

from tlkit.planning.rules import FINETUNED_SHARE, LARGE_EXAMPLES, SMALL_EXAMPLES

FROZEN, TRAINED, SOLVED, LINE = "#9fb8c8", "#e5904c", "#f2c14e", "#5b6770"
BLOCKS, WIDTH, STEP, ROW = 16, 22, 26, 58
LEFT, TOP = 250, 46


def regimes() -> str:
    """Return an SVG of which part of a network each regime trains."""
    kept = round(BLOCKS * (1 - FINETUNED_SHARE))
    rows = (
        ("small", f"below {SMALL_EXAMPLES:,} images", BLOCKS, SOLVED),
        ("medium", f"{SMALL_EXAMPLES:,} to {LARGE_EXAMPLES:,}", kept, TRAINED),
        ("large", f"{LARGE_EXAMPLES:,} images or more", 0, TRAINED),
    )
    head = LEFT + BLOCKS * STEP + 8
    width, height = head + 96, TOP + len(rows) * ROW + 40
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="14">',
        "<title>Which blocks of the network each regime freezes and trains</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 26, "blocks of the pretrained network, from the image on"),
        _text(head, 26, "head"),
    ]
    for row, (name, images, frozen, colour) in enumerate(rows):
        y = TOP + row * ROW
        found += [_text(16, y + 20, name, "bold"), _text(16, y + 38, images)]
        found += [
            _box(LEFT + i * STEP, y, WIDTH, FROZEN if i < frozen else TRAINED)
            for i in range(BLOCKS)
        ]
        found.append(_box(head, y, 60, colour))
    y = TOP + len(rows) * ROW + 6
    legend = (
        (FROZEN, "frozen: computed once, kept", 16),
        (SOLVED, "solved", 262),
        (TRAINED, "solved first, then trained with the blocks", 356),
    )
    for colour, text, x in legend:
        found += [_box(x, y, 18, colour, 16), _text(x + 26, y + 13, text)]
    return "\n".join([*found, "</svg>", ""])


def _box(x: int, y: int, width: int, colour: str, height: int = 42) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" '
        f'fill="{colour}" stroke="{LINE}" stroke-width="0.6"/>'
    )


def _text(x: int, y: int, text: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" fill="#1f2a30" font-weight="{weight}">{text}</text>'


if __name__ == "__main__":
    folder = Path(__file__).with_name("images")
    folder.mkdir(exist_ok=True)
    (folder / "regimes.svg").write_text(regimes(), "utf-8")
