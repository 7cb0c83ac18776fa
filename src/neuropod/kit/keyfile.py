"""The file with the installation's encryption key: base64 of 32 bytes, mode 0600, outside the data directory."""

import base64
import binascii
import os
from pathlib import Path

from neuropod.kit.secrets import SecretBox

_KEY_BYTES = 32


class KeyFileError(Exception):
    """The key file cannot be used; the sentence says what to do."""


def read_key(path: Path) -> bytes:
    """Return the key. Raises KeyFileError when it is missing, damaged or readable by others."""
    try:
        status = path.stat()
        text = path.read_text()
    except FileNotFoundError:
        raise KeyFileError(f"the key file {path} is missing; put it back from the backup") from None
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be read: {error.strerror}") from error
    if status.st_mode & 0o077:
        raise KeyFileError(f"the key file {path} can be read by others; run chmod 600 {path}")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyFileError(f"the key file {path} is damaged; put it back from the backup")
    return key


def read_or_make_key(path: Path) -> bytes:
    """Return the key, made at the first start; whole or not at all, and never over an existing file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(SecretBox.new_key()) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another start was first; its key counts
        finally:
            draft.unlink()
    return read_key(path)
