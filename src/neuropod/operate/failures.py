"""What keeps an installation from being opened or a server from running, as sentences that say what to do."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from sqlalchemy.exc import DBAPIError

from neuropod.db.migrate import NewerSchemaError
from neuropod.gateway.gate import DoorkeeperUnavailableError
from neuropod.kit.keyfile import KeyFileError
from neuropod.kit.lockfile import LockedError
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.reconcile.presence import ServedElsewhereError
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.server.installation import WrongKeyFileError
from neuropod.server.listening import PlainHttpError, SocketPathError
from neuropod.server.serving import ServerFailedError
from neuropod.settings import Settings

_SAY_ALL = (KeyFileError, WrongKeyFileError, NewerSchemaError, PlainHttpError, SocketPathError, ServerFailedError)


@contextmanager
def clear_failures(settings: Settings) -> Iterator[None]:
    """Turn a known failure into a CommandError; what is not known is a defect and keeps its traceback."""
    try:
        yield
    except _SAY_ALL as error:
        raise CommandError(str(error)) from error
    except ServedElsewhereError as error:
        raise CommandError(str(error), exit_code=Exit.CONFLICT) from error
    except LockedError as error:
        raise _locked(error, settings) from error
    except RuntimeUnavailableError as error:
        raise CommandError(str(error), exit_code=Exit.UNREACHABLE) from error
    except DoorkeeperUnavailableError as error:
        raise CommandError(
            f"no server answers for {settings.data_dir.absolute()}",
            exit_code=Exit.UNREACHABLE,
            hints=("start it with: neuropod up", "a gateway needs the data directory of its server"),
        ) from error
    except DBAPIError as error:
        raise CommandError(f"the database does not answer as it should: {error.orig}") from error
    except OSError as error:
        raise _of_system(error, settings) from error


_UNREACHABLE = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


def _is_unreachable(error: OSError) -> bool:
    """Tell whether it is a server of the network that gives no answer: of all that is dialled, the database alone."""
    no_socket = error.errno == errno.ENOENT and error.filename is None
    return no_socket or isinstance(error, socket.gaierror | TimeoutError) or error.errno in _UNREACHABLE


def _of_database(error: OSError, settings: Settings) -> CommandError:
    parts = urlsplit(settings.effective_database_url)
    return CommandError(
        f"PostgreSQL on {parts.hostname or 'this machine'} port {parts.port or 5432} does not answer: {error}",
        exit_code=Exit.UNREACHABLE,
        hints=("does it run, and does it listen there? NEUROPOD_DATABASE_URL says where it is looked for",),
    )


def _locked(error: LockedError, settings: Settings) -> CommandError:
    process = "another process" if error.pid is None else f"process {error.pid}"
    return CommandError(
        f"a Neuropod runs already on {settings.data_dir.absolute()}: {process}",
        exit_code=Exit.CONFLICT,
        hints=(
            "stop it with Ctrl-C where it runs; pods go on",
            "or end it and its workloads: neuropod down",
            "or start another one: NEUROPOD_DATA_DIR=… NEUROPOD_PORT=… neuropod up",
        ),
    )


def _of_system(error: OSError, settings: Settings) -> CommandError:
    if settings.database_url is not None and _is_unreachable(error):
        return _of_database(error, settings)
    match error.errno:
        case errno.EADDRINUSE:
            return CommandError(
                f"port {settings.port} of {settings.host} is in use by another program",
                exit_code=Exit.CONFLICT,
                hints=(
                    "choose another one: NEUROPOD_PORT=8090 neuropod up",
                    f"or see whose it is: ss -ltnp 'sport = :{settings.port}'",
                ),
            )
        case errno.EADDRNOTAVAIL:
            return CommandError(
                f"this machine has no address {settings.host}",
                hints=("NEUROPOD_HOST takes one of its own addresses, or 0.0.0.0 for all",),
            )
        case errno.EACCES | errno.EPERM if error.filename is not None:
            return CommandError(
                f"{error.filename} cannot be opened as this user",
                exit_code=Exit.NOT_ALLOWED,
                hints=("run the command as the user that runs the server",),
            )
        case errno.EACCES | errno.EPERM:
            return CommandError(
                f"this user may not listen on port {settings.port}",
                exit_code=Exit.NOT_ALLOWED,
                hints=("choose a port above 1023: NEUROPOD_PORT=8080 neuropod up",),
            )
        case errno.ENOSPC:
            return CommandError(f"the disk of {settings.data_dir.absolute()} is full", hints=("free some of it first",))
        case _:
            raise error
