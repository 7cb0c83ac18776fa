"""The source files and their syntax trees, read once."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("src/neuropod")
SOURCES = sorted(
    path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*.py") if "migrations/versions" not in path.as_posix()
)


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(text(path))


def inside(path: Path, *places: str) -> bool:
    """Whether the file is one of the places or below one (`db`, `api/deps.py`)."""
    relative = path.relative_to(PACKAGE).as_posix()
    return any(relative == place or relative.startswith(place + "/") for place in places)
