"""House rules of DESIGN §2 and §9 that no linter knows."""

import ast
import re
from collections.abc import Iterator

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


def test_a_module_stays_within_its_budget():
    for path in SOURCES:
        assert len(text(path).splitlines()) <= MAX_LINES, path


def test_a_function_stays_within_its_budget():
    for path in SOURCES:
        for function in _functions(parsed(path)):
            statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
            arguments = function.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            parameters = [name for name in names if name not in {"self", "cls"}]

            assert statements <= MAX_STATEMENTS, f"{path}:{function.lineno} {function.name}"
            assert len(parameters) <= MAX_PARAMETERS, f"{path}:{function.lineno} {function.name}"


def test_a_module_opens_with_what_it_is_for():
    for path in SOURCES:
        docstring = ast.get_docstring(parsed(path))

        assert docstring, f"{path}: a module says what it is for, who calls it, what it leaves to whom"


def test_no_catch_all_names():
    for path in SOURCES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts

        assert not {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"} & set(parts), path


def test_only_loops_and_request_dependencies_write():
    for path in SOURCES:
        if inside(path, *WRITERS):
            continue

        writes = [
            line
            for name, line in _calls(parsed(path))
            if name.endswith((".commit", "database.write", "_database.write"))
        ]

        assert writes == [], path


def test_only_the_clock_reads_the_time():
    for path in SOURCES:
        wall = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
        forbidden = (set() if inside(path, *WALL_CLOCKS) else wall) | (
            set() if inside(path, *STOPWATCHES) else {"time.monotonic", "time.perf_counter"}
        )

        reads = [(name, line) for name, line in _calls(parsed(path)) if name.removeprefix("datetime.") in forbidden]

        assert reads == [], path


def test_no_float_in_money():
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
                target = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
                if "micros" in target:
                    assert "float" not in ast.unparse(node.annotation), f"{path}:{node.lineno}"
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                assert "micros" not in ast.unparse(node).lower(), f"{path}:{node.lineno} divides money into a float"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"float", "round"}:
                assert "micros" not in ast.unparse(node).lower(), f"{path}:{node.lineno}"


def test_nothing_is_kept_in_module_globals():
    for path in SOURCES:
        assert [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Global)] == [], path


def test_nothing_is_left_to_do():
    for path in SOURCES:
        assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", text(path)) == [], path


def test_a_use_case_takes_its_actor_by_keyword():
    for path in [path for path in SOURCES if path.name == "service.py"]:
        for function in _functions(parsed(path)):
            if function.name.startswith("_"):
                continue
            positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]

            assert "actor" not in positional, f"{path}:{function.lineno} {function.name}"


def test_sql_of_a_noun_stands_in_its_store():
    for path in SOURCES:
        if not inside(path, "accounts", "catalogue", "templates", "volumes", "ledger", "pods") or path.name in {
            "store.py",
            "records.py",
        }:
            continue

        queries = [
            (name, line) for name, line in _calls(parsed(path)) if name in {"select", "update", "delete", "insert"}
        ]

        assert queries == [], path
