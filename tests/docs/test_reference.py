"""The pages of docs/reference are what the program says of itself, and leave nothing out."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    sys.modules.pop(name, None)
    return import_module(name)


@pytest.mark.parametrize("name", ["cli", "settings", "errors", "api"])
def test_a_page_is_up_to_date_run_make_reference(name: str, monkeypatch: pytest.MonkeyPatch):
    tool = _tool(f"{name}_reference", monkeypatch)

    assert tool.PAGE.read_text() == tool.page()


def test_every_error_that_is_raised_has_its_meaning_and_none_has_gone(monkeypatch: pytest.MonkeyPatch):
    tool = _tool("errors_reference", monkeypatch)

    assert tool.codes_in_source() == set(tool.CODES)
    assert tool.field_codes_in_source() == set(tool.FIELD_CODES)


def test_every_reason_says_what_it_means(monkeypatch: pytest.MonkeyPatch):
    told = _tool("errors_reference", monkeypatch).reasons_told()

    assert [reason for reason, meaning in told.items() if not meaning] == []


def test_every_operation_is_in_the_reference(monkeypatch: pytest.MonkeyPatch):
    tool = _tool("api_reference", monkeypatch)
    page = tool.PAGE.read_text()

    for path, operations in tool.document()["paths"].items():
        for method in operations:
            assert f"### {method.upper()} {path}\n" in page
