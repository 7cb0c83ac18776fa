"""The cluster's errors as the contract's: whoever asks for a runtime knows nothing of an API server."""

from collections.abc import Iterator
from contextlib import contextmanager

from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.runtimes.contract import RuntimeUnavailableError


@contextmanager
def asking() -> Iterator[None]:
    """Turn what the client raises into RuntimeUnavailableError; what is meant otherwise is caught within."""
    try:
        yield
    except KubeUnavailableError as error:
        raise RuntimeUnavailableError(str(error)) from error
    except KubeError as error:
        raise RuntimeUnavailableError(f"the cluster refuses: {error}") from error
