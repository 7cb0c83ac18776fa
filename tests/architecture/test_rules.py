"""House rules of DESIGN §2 and §9 that no linter knows."""

import ast
import re
from collections.abc import Iterator

import pytest

from architecture.source import PACKAGE, SOURCES, inside, parsed, text

MAX_LINES = 600
MAX_STATEMENTS = 60
MAX_PARAMETERS = 7

# Who may open a transaction that writes; everybody else is handed a session.
WRITERS = ("db", "api/deps.py", "reconcile", "server", "operate")

Function = ast.FunctionDef | ast.AsyncFunctionDef

# The programs beside a pod import nothing heavy, so they read the wall time in a place of their own. They are not
# asynchronous and have no virtual time, so they may measure with time.monotonic; neither are commands.
WALL_CLOCKS = ("kit/clock.py", "kit/identifiers.py", "runtimes/local/linux.py")  # an id holds its time of making
STOPWATCHES = ("kit/clock.py", "runtimes/local", "cli", "client", "operate")


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_module_stays_within_its_budget(path):
    assert len(text(path).splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_function_stays_within_its_budget(path):
    for function in _functions(parsed(path)):
        statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        parameters = [name for name in names if name not in {"self", "cls"}]

        assert statements <= MAX_STATEMENTS, f"{path}:{function.lineno} {function.name}"
        assert len(parameters) <= MAX_PARAMETERS, f"{path}:{function.lineno} {function.name}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_module_opens_with_what_it_is_for(path):
    docstring = ast.get_docstring(parsed(path))

    assert docstring, "a module says what it is for, who calls it, what it leaves to whom"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_catch_all_names(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts

    assert not {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"} & set(parts)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_only_loops_and_request_dependencies_write(path):
    if inside(path, *WRITERS):
        return

    writes = [
        line for name, line in _calls(parsed(path)) if name.endswith((".commit", "database.write", "_database.write"))
    ]

    assert writes == []


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_only_the_clock_reads_the_time(path):
    wall = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
    forbidden = (set() if inside(path, *WALL_CLOCKS) else wall) | (
        set() if inside(path, *STOPWATCHES) else {"time.monotonic", "time.perf_counter"}
    )

    reads = [(name, line) for name, line in _calls(parsed(path)) if name.removeprefix("datetime.") in forbidden]

    assert reads == []


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_float_in_money(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            target = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            if "micros" in target:
                assert "float" not in ast.unparse(node.annotation), f"{path}:{node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            assert "micros" not in ast.unparse(node).lower(), f"{path}:{node.lineno} divides money into a float"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"float", "round"}:
            assert "micros" not in ast.unparse(node).lower(), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_kept_in_module_globals(path):
    assert [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Global)] == []


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_left_to_do(path):
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", text(path)) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "service.py"], ids=str)
def test_a_use_case_takes_its_actor_by_keyword(path):
    for function in _functions(parsed(path)):
        if function.name.startswith("_"):
            continue
        positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]

        assert "actor" not in positional, f"{path}:{function.lineno} {function.name}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_sql_of_a_noun_stands_in_its_store(path):
    if not inside(path, "accounts", "catalogue", "templates", "volumes", "ledger", "pods") or path.name in {
        "store.py",
        "records.py",
    }:
        return

    queries = [(name, line) for name, line in _calls(parsed(path)) if name in {"select", "update", "delete", "insert"}]

    assert queries == []
