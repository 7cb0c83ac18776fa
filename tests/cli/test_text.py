"""What reaches a terminal is clean and fits (SECURITY 33)."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.kit.terminal.screen import Screen
from neuropod.kit.terminal.tables import GAP, Column, table
from neuropod.kit.terminal.text import clean, clean_line, shortened, span, width
from support.commands import Terminal

PAYLOADS = {
    "a window title": "\x1b]0;owned\x07safe",
    "a title ended by ST": "\x1b]2;owned\x1b\\safe",
    "a colour": "\x1b[31msafe\x1b[0m",
    "a cursor move": "\x1b[2Jsafe\x1b[1;1H",
    "an 8-bit CSI": "\x9b31msafe",
    "an 8-bit OSC": "\x9d0;owned\x9csafe",
    "a device control string": "\x1bPowned\x1b\\safe",
    "a link": "\x1b]8;;http://evil\x1b\\safe\x1b]8;;\x1b\\",
    "the clipboard": "\x1b]52;c;b3duZWQ=\x07safe",
    "a carriage return": "\rsafe",
    "a backspace": "sa\x08fe",
    "text that runs backwards": "\u202esafe\u2066",
    "nothing to see": "sa\u200bfe\ufeff",
    "an escape alone at the end": "safe\x1b",
    "a reset": "\x1bcsafe",
    "a charset": "\x1b(0safe",
    "a lone surrogate": "sa\ud800fe",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_control_characters_and_sequences_are_taken_out(payload):
    assert clean(payload) == "safe"


def test_line_ends_and_tabs_stay_in_text_and_not_in_a_line():
    assert clean("one\n\ttwo") == "one\n\ttwo"
    assert clean_line(" one\n\ttwo ") == "one two"


@given(st.text())
def test_whatever_comes_nothing_but_tab_and_newline_controls_a_terminal(text):
    assert not [
        letter for letter in clean(text) if (letter < " " or "\x7f" <= letter <= "\x9f") and letter not in "\t\n"
    ]


@given(st.text(), st.integers(0, 30))
def test_a_shortened_text_fits(text, columns):
    assert width(shortened(clean_line(text), columns)) <= columns


def test_a_table_is_cut_where_it_may_be_and_fits_the_terminal():
    columns = [Column("NAME"), Column("WHY", shrinks=True), Column("ADDRESS")]

    rows = table(columns, [["lab", "a long story that nobody reads to its end", "http://a/"]], 40)

    lines = [GAP.join(row) for row in rows]
    assert lines == ["NAME  WHY                      ADDRESS", "lab   a long story that nobo…  http://a/"]


def test_what_is_piped_is_not_cut():
    rows = table([Column("WHY", shrinks=True)], [["x" * 500]], None)

    assert rows[1] == ["x" * 500]


def test_wide_letters_count_twice_so_that_columns_line_up():
    rows = table([Column("NAME"), Column("TYPE")], [["実験", "cpu"], ["lab", "cpu"]], None)

    assert {width(row[0]) for row in rows} == {4}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d"), (-5, "0 s")]
)
def test_a_span_is_told_in_its_largest_unit(seconds, shown):
    assert span(seconds) == shown


def test_every_way_to_speak_cleans():
    out, err = Terminal(), Terminal()
    screen = Screen(out, err, {"TERM": "dumb"})

    screen.say("a\x1b[2Jb")
    screen.line("c\x1b]0;x\x07\rd")
    screen.note("e\x9b2Jf")
    screen.error("g\x1bch", hints=["i\x07j"])
    screen.fields([("Name", "k\x1b[2Jl")])
    screen.table([Column("X")], [["m\x1b[2Jn"]])

    assert "\x1b" not in out.getvalue() + err.getvalue()
    assert out.getvalue().split() == ["ab", "cd", "Name", "kl", "X", "mn"]


def test_json_escapes_every_control_character_and_keeps_the_text():
    out = io.StringIO()
    hostile = "".join(map(chr, range(0xA0)))

    Screen(out, io.StringIO()).data({"text": hostile})

    assert not [letter for letter in out.getvalue() if letter != "\n" and not " " <= letter <= "~"]
    assert json.loads(out.getvalue())["text"] == hostile


def test_colours_are_for_terminals_of_people_who_want_them():
    def painted(stream, environ):
        return Screen(stream, io.StringIO(), environ).painted("x", "red")

    assert painted(Terminal(), {"TERM": "xterm"}) == "\x1b[31mx\x1b[0m"
    assert painted(Terminal(), {"TERM": "xterm", "NO_COLOR": ""}) == "x"
    assert painted(Terminal(), {"TERM": "dumb"}) == "x"
    assert painted(io.StringIO(), {"TERM": "xterm"}) == "x"
