"""kubectl as the administrator of the cluster that KUBECONFIG names: for what an operator does by hand."""

import subprocess


def kubectl(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout
