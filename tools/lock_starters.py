"""Lock the package lists of the shipped templates again: `.venv/bin/python tools/lock_starters.py`.

Each recipe's `roots` become its `packages`: the whole closure with exact versions, for the system's Python, wheels
only. Run it to bring new versions; it asks the package index. Then run the tests that build what it wrote.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path

STARTERS = Path(__file__).parents[1] / "src" / "neuropod" / "templates" / "starters"
UV = Path(__file__).parents[1] / ".venv" / "bin" / "uv"
INTERPRETER = "/usr/bin/python3"


def locked(roots: list[str]) -> list[str]:
    """Return the closure of `roots`, sorted by name."""
    options = ["--no-header", "--no-annotate", "--no-build", "--quiet", "--no-config", "--python", INTERPRETER]
    asked = "\n".join(roots)
    done = subprocess.run(
        [UV, "pip", "compile", *options, "-"], input=asked, capture_output=True, text=True, check=True
    )
    return sorted(done.stdout.split())


def main() -> None:
    """Rewrite each file's list and leave the rest of it as it is."""
    for file in sorted(STARTERS.glob("*.toml")):
        text = file.read_text()
        recipe = tomllib.loads(text).get("recipe")
        if recipe is None:
            continue
        packages = locked(recipe["roots"])
        lines = "".join(f"    {json.dumps(package)},\n" for package in packages)
        there = re.compile(r"^packages = \[\n.*?^\]$", re.MULTILINE | re.DOTALL)
        file.write_text(there.sub(f"packages = [\n{lines}]", text))
        print(f"{file.name}: {len(packages)} packages")


if __name__ == "__main__":
    main()
