"""`neuropod up`: runs a server in the foreground, and says what a person needs to know to use it."""

import asyncio
from collections.abc import Iterable

import click
import uvloop

from neuropod.client.profile import Profile, save_profile
from neuropod.db.migrate import NewerSchemaError
from neuropod.kit.clock import SystemClock
from neuropod.kit.keyfile import KeyFileError
from neuropod.kit.lockfile import LockedError
from neuropod.observability.logs import configure
from neuropod.runtimes.contract import Report
from neuropod.server.installation import WrongKeyFileError
from neuropod.server.listening import PlainHttpError, SocketPathError
from neuropod.server.serving import ServerFailedError, Started, serve
from neuropod.settings import Settings

_EXPECTED = (KeyFileError, WrongKeyFileError, NewerSchemaError, PlainHttpError, SocketPathError)


def run(settings: Settings) -> None:
    """Serve until Ctrl-C. Raises click.ClickException with a sentence for everything that an operator can mend."""
    configure(settings.log_format, settings.log_level)

    def ready(started: Started) -> None:
        _keep_profile(settings, started)
        click.echo(_welcome(settings, started))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            pods_run_on = runner.run(serve(settings, ready=ready, clock=SystemClock()))
    except LockedError as error:
        holder = f" (process {error.pid})" if error.pid is not None else ""
        raise click.ClickException(
            f"a server runs on {settings.data_dir} already{holder}: end it with Ctrl-C, or choose another "
            "NEUROPOD_DATA_DIR and NEUROPOD_PORT"
        ) from error
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    except ServerFailedError as error:
        raise click.ClickException(
            f"{error}; the log above says more. Pods run on; start it again with `make up`"
        ) from error
    except OSError as error:
        raise click.ClickException(_of_the_system(settings, error)) from error
    ended = "All workloads were ended; what should run starts again with `neuropod up`."
    running = "Pods run on: `neuropod up` takes them up again, `neuropod down` ends them."
    click.echo(f"Neuropod has stopped. {running if pods_run_on else ended}", err=True)


def _of_the_system(settings: Settings, error: OSError) -> str:
    if error.filename is None:
        return f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another with NEUROPOD_PORT"
    return f"{error.filename}: {error.strerror}"


def _keep_profile(settings: Settings, started: Started) -> None:
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    url = f"{'https' if settings.tls_cert_file else 'http'}://{host}:{started.port}"
    try:
        save_profile(Profile(url, started.cli_key))
    except OSError as error:
        click.echo(f"The command line's profile cannot be written: {error}", err=True)


def _welcome(settings: Settings, started: Started) -> str:
    lines = [
        "",
        f"Neuropod is ready at {started.addresses.console_origin}",
        "",
        f"  Sign in once, within {int(settings.accounts.sign_in_link_seconds // 60)} minutes:",
        f"    {started.sign_in_link}",
        "  (another one: ./neuropod admin sign-in-link)",
        "",
        *_isolation(started.reports.values()),
        "  In another terminal:",
        "    ./neuropod pod create lab --template jupyterlab --wait",
        "    ./neuropod pod open lab 8888",
        "",
        "  Ctrl-C stops the server and leaves pods running; ./neuropod down ends them.",
        "",
    ]
    return "\n".join(lines)


def _isolation(reports: Iterable[Report]) -> list[str]:
    lines = []
    for report in reports:
        yes = [guarantee.name for guarantee in report.guarantees if guarantee.holds]
        no = [guarantee for guarantee in report.guarantees if not guarantee.holds]
        lines.append(f"  Pods on this machine ({report.mode}) are kept apart in: {', '.join(yes) or 'nothing'}")
        lines += [f"    not in {guarantee.name}: {guarantee.message}" for guarantee in no]
        lines += [f"    {note}" for note in report.notes]
    if not lines:
        lines.append("  No runtime is open here: pods are kept, and none can run. `./neuropod doctor` says why.")
    return [*lines, ""]
