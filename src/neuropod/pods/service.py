"""The use-cases of pods: what a person would say, in verbs. Called by api, and by loops with the system's actor.

Each takes the session of one transaction and never commits; wish, event and audit row are written together.
"""

from collections.abc import Mapping

from neuropod.accounts.access import Actor
from neuropod.db.engine import ReadSession, Session
from neuropod.ids import InstallationId, PodId, RuntimeId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.paging import Page
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.pods.launch import EditRequest, LaunchRequest, PortRequest
from neuropod.pods.views import PodFilters, PodView, PortLink
from neuropod.runtimes.contract import Runtime, Workload, WorkloadId
from neuropod.settings import Settings
from neuropod.words import Access, Reason


class Pods:
    """All use-cases of pods; made once by server.py."""

    def __init__(
        self,
        settings: Settings,
        box: SecretBox,
        clock: Clock,
        runtimes: Mapping[RuntimeId, Runtime],
        installation_id: InstallationId,
    ) -> None:
        self._settings = settings
        self._box = box
        self._clock = clock
        self._runtimes = runtimes
        self._installation_id = installation_id

    # What is asked

    async def launch_pod(
        self, session: Session, request: LaunchRequest, *, actor: Actor, owner_id: UserId | None = None
    ) -> PodView:
        raise NotImplementedError

    async def start_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def stop_pod(self, session: Session, pod: str, *, actor: Actor, reason: Reason = Reason.REQUESTED) -> PodView:
        raise NotImplementedError

    async def restart_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def delete_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def edit_pod(self, session: Session, pod: str, request: EditRequest, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def add_port(self, session: Session, pod: str, request: PortRequest, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def change_port(
        self,
        session: Session,
        pod: str,
        port: int,
        *,
        actor: Actor,
        name: str | None = None,
        access: Access | None = None,
    ) -> PodView:
        raise NotImplementedError

    async def remove_port(self, session: Session, pod: str, port: int, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def rotate_jupyter_token(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        raise NotImplementedError

    # What is shown; `pod` is an id, or the name of a pod of the actor's own

    async def list_pods(
        self, session: ReadSession, *, actor: Actor, filters: PodFilters, cursor: str | None = None, limit: int = 50
    ) -> Page[PodView]:
        raise NotImplementedError

    async def show_pod(self, session: ReadSession, pod: str, *, actor: Actor) -> PodView:
        raise NotImplementedError

    async def port_link(self, session: ReadSession, pod: str, port: int, *, actor: Actor) -> PortLink:
        raise NotImplementedError

    async def log_source(
        self, session: ReadSession, pod: str, *, actor: Actor, incarnation: int | None = None
    ) -> tuple[Runtime, WorkloadId] | None:
        """Return where the log of an incarnation (the newest by default) is read; None when the pod never ran."""
        raise NotImplementedError

    # For the loops and the gateway's feed

    async def workload(self, session: ReadSession, pod_id: PodId, incarnation: int) -> Workload:
        """Return what the runtime is asked to run for an incarnation, secrets included."""
        raise NotImplementedError

    async def keep_log_token(self, session: Session, pod_id: PodId, incarnation: int, token: Secret) -> None:
        """Keep the Jupyter token that the incarnation's own log told."""
        raise NotImplementedError

    async def views_for_routes(self, session: ReadSession, pod_ids: list[PodId] | None = None) -> list[PodView]:
        """Return all pods that are not closed (or those of the ids that are not): what the gateway's feed follows."""
        raise NotImplementedError
