"""The import contracts of pyproject.toml hold, and no import hides from them."""

import ast

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from architecture.source import ROOT, SOURCES, parsed


def test_the_import_contracts_hold():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def _is_first_party(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").partition(".")[0] == "neuropod"
    return isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == "neuropod" for alias in node.names)


def test_no_first_party_import_hides_in_a_function_or_a_condition():
    for path in SOURCES:
        tree = parsed(path)

        nested = [node.lineno for node in ast.walk(tree) if _is_first_party(node) and node not in tree.body]

        assert nested == [], path


def test_no_import_is_for_type_checking_alone():
    for path in SOURCES:
        names = [
            node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"
        ]

        assert names == [], path
