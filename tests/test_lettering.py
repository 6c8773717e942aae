"""Names in drawings: fonts that have their characters, else escapes and one sentence."""

from __future__ import annotations

import warnings

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from tlkit import lettering

ANSWERS = ("grün", "Кот", "قطة", "a", "$x^2", "❤\ufe0f")


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine that has matplotlib's own font alone."""
    monkeypatch.setattr(lettering, "_files", dict)
    lettering._fonts.cache_clear()
    yield
    lettering._fonts.cache_clear()


def drawn(names, path) -> list[str]:
    """Draw names as titles; return what was drawn; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with lettering.lettering(names) as shown:
            figure = Figure()
            axes = figure.subplots(1, len(names), squeeze=False)[0]
            for axis, name in zip(axes, names, strict=True):
                axis.set_title(shown(name))
            figure.savefig(path, format="png")
    return [axis.get_title() for axis in axes]


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_usual_font_has_is_drawn_as_it_is(name, no_fonts, tmp_path):
    assert drawn([name], tmp_path / "a.png") == [name.replace("\ufe0f", "")]
    assert lettering.missing_note([name], "a.png") == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("日本", r"\u65e5\u672c"),
        ("ไทย", r"\u0e44\u0e17\u0e22"),
        ("한국 1", r"\ud55c\uad6d 1"),
        ("cat \U0001fae0", r"cat \U0001fae0"),
        ("grün 日", r"grün \u65e5"),
    ],
)
def test_what_no_font_has_is_written_as_escapes_and_said(name, shown, no_fonts, tmp_path):
    assert drawn(["a", name], tmp_path / "a.png") == ["a", shown]
    note = lettering.missing_note(["a", name, name], "confusion.png")
    assert note == (
        f"no font on this machine has the characters of {name} and 1 more; in confusion.png they "
        f"are written as {shown}"
    )


def test_a_font_that_has_them_is_taken(monkeypatch, tmp_path):
    usual = lettering._glyphs(font_manager.findfont("DejaVu Sans"))
    file = font_manager.findfont("STIXGeneral")  # matplotlib brings it as well
    own = next(chr(c) for c in sorted(lettering._glyphs(file) - usual) if chr(c).isprintable())
    monkeypatch.setattr(lettering, "_files", lambda: {"Lost": "absent.ttf", "STIXGeneral": file})
    lettering._fonts.cache_clear()
    with lettering.lettering([own, "a"]) as shown:
        assert matplotlib.rcParams["font.family"][-1] == "STIXGeneral"
        assert shown(own) == own
    assert "STIXGeneral" not in matplotlib.rcParams["font.family"]
    assert drawn([own], tmp_path / "a.png") == [own]
    assert lettering.missing_note([own], "a.png") == ""
    assert lettering.one_font([own])[0] == file
    lettering._fonts.cache_clear()


def test_pillow_gets_one_font_and_legible_names(no_fonts):
    file, shown = lettering.one_font(["grün", "日本"])
    assert file.endswith("DejaVuSans.ttf")
    assert shown("grün 日本") == r"grün \u65e5\u672c"
