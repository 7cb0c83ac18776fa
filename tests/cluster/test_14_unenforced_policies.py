"""SECURITY 14. Where nothing enforces NetworkPolicies, clients run no pods, unless a setting accepts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.servers import ROOT
from support.who_may_launch import who_may_launch


@pytest.mark.timeout(600)
def test_where_policies_are_enforced_clients_launch(tmp_path: Path, account_kubeconfig: Path):
    told = who_may_launch(tmp_path, account_kubeconfig)

    assert (told["holds"], told["client"], told["administrator"]) == (True, "launched", "launched"), told


@pytest.mark.timeout(900)
def test_where_they_are_not_clients_are_refused(tmp_path: Path):
    """In a cluster of its own, whose network stores policies and does not look at them."""
    answer = tmp_path / "told.json"
    environment = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "NEUROPOD_CLUSTER"}}
    tool = [str(ROOT / "tools/cluster/cluster"), "--name", f"bare-{os.getpid()}", "run", "--without-policies"]

    program = ["env", f"PYTHONPATH={ROOT / 'tests'}", sys.executable, "-m", "support.who_may_launch"]

    subprocess.run([*tool, "--", *program, str(tmp_path), str(answer)], env=environment, check=True)

    refused, accepted = json.loads(answer.read_text())
    assert (refused["holds"], refused["client"], refused["administrator"]) == (False, "no_isolation", "launched")
    assert "does not enforce NetworkPolicies" in refused["message"]
    assert (accepted["holds"], accepted["client"]) == (False, "launched")
