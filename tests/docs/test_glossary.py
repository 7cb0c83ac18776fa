"""The glossary knows every word that crosses rings."""

from enum import StrEnum
from pathlib import Path

import pytest

from neuropod import words
from neuropod.runtimes.contract import Phase

GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
ENUMS = [
    kind
    for kind in vars(words).values()
    if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
]


@pytest.mark.parametrize("word", [word for kind in [*ENUMS, Phase] for word in kind], ids=str)
def test_a_word_that_crosses_rings_is_in_the_glossary(word):
    assert f"`{word}`" in GLOSSARY
