"""The use-cases of pods: what a person would say, in verbs. Called by api, and by loops with the system's actor.

Each takes the session of one transaction and never commits. Wish, audit row and event are written together; the loop is
woken by `due_at` and a nudge, and does the rest: no use-case touches a runtime or a fact.

Order of locks: the owner's account (for what admission decides), the pod's row, then others; the event comes last,
since on PostgreSQL its lock is held by one transaction at a time until the end.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from neuropod.accounts.access import Actor, require_scope, require_sight
from neuropod.accounts.records import UserRow
from neuropod.catalogue.service import gpu_type_on_offer
from neuropod.db.engine import ReadSession, Session, Topic
from neuropod.ids import InstallationId, PodId, RuntimeId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.errors import ConflictError, ForbiddenError, NotFoundError, taken
from neuropod.kit.identifiers import new_id
from neuropod.kit.paging import MAX_LIMIT, Page, encode_cursor
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.ledger.store import lock_account
from neuropod.pods import rules, store
from neuropod.pods.acts import Act, tell, tell_of_exec
from neuropod.pods.admission import admit, obstacles
from neuropod.pods.drafts import Draft, draft_edit, draft_launch, refusal
from neuropod.pods.entering import Entrance, entrance_of
from neuropod.pods.hosts import pod_host
from neuropod.pods.jupyter import signed_in_path
from neuropod.pods.launch import EditRequest, LaunchRequest, PortRequest
from neuropod.pods.lifecycle import Policy
from neuropod.pods.limits.idleness import thresholds_of
from neuropod.pods.owners.named import future_owner
from neuropod.pods.placing import World, may_have_type, require_allowed_image, require_isolation
from neuropod.pods.presence import Presence
from neuropod.pods.quoting import Quote, quote_pod
from neuropod.pods.records import PodRow, PortRow
from neuropod.pods.sealing import Sealing
from neuropod.pods.showing import Lens, Parts, view_of, views_of
from neuropod.pods.status import WHY_STOPPED
from neuropod.pods.views import PodFilters, PodView, PortLink
from neuropod.pods.wishes import accept, apply_edit, apply_limits, changed_fields, changed_limits, new_row, wish
from neuropod.pods.workloads import Workloads
from neuropod.runtimes.contract import Capacity, Runtime, WorkloadId
from neuropod.runtimes.opened import Runtimes
from neuropod.settings import Settings
from neuropod.templates.snapshot import TemplateSnapshot
from neuropod.volumes.records import VolumeRow
from neuropod.volumes.service import attach_volume
from neuropod.words import Access, JupyterMode, Reason, Scope, Want

_MOST_LOOKS = 10  # pages that one request looks through for pods of a status


class Pods:
    """All use-cases of pods; made once by server. `pod` is an id, or the name of a pod of the actor's own."""

    def __init__(
        self,
        settings: Settings,
        box: SecretBox,
        clock: Clock,
        runtimes: Runtimes,
        installation_id: InstallationId,
    ) -> None:
        self._settings = settings
        self._box = box
        self._sealing = Sealing(box)
        self._clock = clock
        self._runtimes = runtimes
        self.presence = Presence(runtimes.keys())
        self._installation_id = installation_id
        self._world = World(settings, runtimes)
        self._addresses = settings.addresses(settings.port)
        self.policy = Policy.of(settings.reconcile)
        self.workloads = Workloads(installation_id, box, runtimes, stop_grace_seconds=self.policy.stop_grace_seconds)
        self._thresholds = thresholds_of(settings.limits, look_seconds=settings.reconcile.look_seconds)

    # What is asked for

    async def launch_pod(
        self,
        session: Session,
        request: LaunchRequest,
        *,
        actor: Actor,
        owner_id: UserId | None = None,
        capacities: Mapping[RuntimeId, Capacity] | None = None,
    ) -> PodView:
        """Make a pod that shall run, for the actor or (administrators) for another owner.

        `capacities`, as the runtimes told them, choose among several: without, it is the first where the pod may run.
        """
        require_scope(actor, Scope.WRITE)
        wanted = await future_owner(session, request, self._world, owner_id=owner_id, actor=actor)
        await lock_account(session, wanted)
        has = await store.belongings(session, wanted, request.name)
        if has is None or has.owner.deleted_at is not None:
            raise NotFoundError("no such user")
        owner = has.owner
        draft = await draft_launch(session, request, self._world, owner=owner, actor=actor, capacities=capacities)
        for error in obstacles(has, draft, self._world, request.name):
            raise error
        volume = await self._attach(session, draft, owner)
        pod = new_row(
            draft,
            self._sealing,
            pod_id=new_id("pod"),
            name=request.name,
            owner=owner,
            actor=actor,
            now=self._clock.now(),
        )
        pod.volume_id = None if volume is None else volume.id
        ports = [
            PortRow(id=new_id("prt"), pod_id=pod.id, port=port.port, name=port.name, access=port.access)
            for port in sorted(draft.ports, key=lambda port: port.port)
        ]
        act = Act("launch_pod", "pod.launched", f"Pod {pod.name} is launched.")
        facts = {"template": draft.snapshot.name, "gpu_type": pod.gpu_type, "gpu_count": pod.gpu_count}
        await self._tell(session, pod, act, actor=actor, made=(pod, *ports), **facts)
        maker = None if pod.created_by == owner.id else await session.get(UserRow, pod.created_by)
        return view_of(pod, owner, Parts(ports=ports, volume=volume, maker=maker), self._lens(), self._clock.now())

    async def quote_pod(
        self, session: ReadSession, request: LaunchRequest, *, capacities: Mapping[RuntimeId, Capacity], actor: Actor
    ) -> Quote:
        """Tell what this launch would meet now; `capacities` as the runtimes told them."""
        return await quote_pod(session, request, self._world, capacities=capacities, actor=actor)

    async def start_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        """Let the pod run; one that runs, or is about to, stays as it is. Accepts the catalogue's price of now."""
        row, owner = await self._pod_to_run(session, pod, actor=actor)
        if not await self._is_on_its_way(session, row):
            await self._wish_a_run(session, row)
            act = Act("start_pod", "pod.started", f"Pod {row.name} shall run.")
            await self._tell(session, row, act, actor=actor)
        return await self._view(session, row, owner)

    async def restart_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        """Let the pod run anew: what runs is stopped first. Price and type stay as accepted while it runs."""
        row, owner = await self._pod_to_run(session, pod, actor=actor)
        newest = await store.incarnation(session, row.id)
        if newest is not None and newest.ended_at is None and row.want == Want.RUNNING:
            wish(row, Want.RUNNING, Reason.REQUESTED, now=self._clock.now(), anew=True)
        else:
            await self._wish_a_run(session, row)
        act = Act("restart_pod", "pod.restarted", f"Pod {row.name} shall run anew.")
        await self._tell(session, row, act, actor=actor)
        return await self._view(session, row, owner)

    async def stop_pod(self, session: Session, pod: str, *, actor: Actor, reason: Reason = Reason.REQUESTED) -> PodView:
        """Let the pod end; volume, ports and row stay. Loops give their reason (deadline, idle, balance, suspended)."""
        row, owner = await self._pod_to_change(session, pod, actor=actor)
        if row.want == Want.RUNNING:
            wish(row, Want.STOPPED, reason, now=self._clock.now())
            why = f": {WHY_STOPPED[reason]}" if reason in WHY_STOPPED else ""
            act = Act("stop_pod", "pod.stopped", f"Pod {row.name} shall be stopped{why}.")
            await self._tell(session, row, act, actor=actor, reason=reason)
        return await self._view(session, row, owner)

    async def delete_pod(self, session: Session, pod: str, *, actor: Actor) -> PodView:
        """Let the pod end and be forgotten; its volume stays. May be repeated until it is gone."""
        row, owner = await self._pod_to_change(session, pod, actor=actor, also_gone=True)
        if row.want != Want.GONE:
            wish(row, Want.GONE, Reason.REQUESTED, now=self._clock.now())
            act = Act("delete_pod", "pod.deleted", f"Pod {row.name} shall be deleted.")
            await self._tell(session, row, act, actor=actor)
        return await self._view(session, row, owner)

    async def edit_pod(self, session: Session, pod: str, request: EditRequest, *, actor: Actor) -> PodView:
        """Change what the pod runs on, or its limits of time.

        A running one needs `restart` (409 `restart_required`) for all but the limits; a stopped one stays.
        """
        row, owner = await self._pod_to_run(session, pod, actor=actor, isolated=False)
        draft = await draft_edit(session, row, request, self._world, owner=owner, actor=actor)
        newest = await store.incarnation(session, row.id)
        running = row.want == Want.RUNNING or (newest is not None and newest.ended_at is None)
        changed = changed_fields(row, request, draft, self._sealing.open_env(row))
        if changed and running and not request.restart:
            sentence = "this needs a new run, which loses what was written outside the volume: send restart: true"
            raise ConflictError(sentence, code="restart_required")
        if changed:
            volume = await self._attach(session, draft, owner)
            apply_edit(row, request, draft, self._sealing, volume=volume)
            wish(row, Want(row.want), Reason(row.want_reason), now=self._clock.now(), anew=True)
        if limits := changed_limits(row, draft):
            apply_limits(row, draft)
            session.nudge(Topic.LIMITS)
        if changed := changed + limits:
            act = Act("edit_pod", "pod.changed", f"Pod {row.name} has changed: {', '.join(changed)}.")
            await self._tell(session, row, act, actor=actor, fields=changed)
        return await self._view(session, row, owner)

    async def rotate_jupyter_token(self, session: Session, pod: str, *, actor: Actor, restart: bool = False) -> PodView:
        """Make a new Jupyter token; a running pod takes it with its next run, so it needs `restart`. Old links end."""
        row, owner = await self._pod_to_run(session, pod, actor=actor, isolated=False)
        if row.jupyter != JupyterMode.PLATFORM:
            raise ConflictError("this pod's Jupyter token is not made by Neuropod", code="no_platform_token")
        newest = await store.incarnation(session, row.id)
        if row.want == Want.RUNNING and newest is not None and newest.ended_at is None and not restart:
            raise ConflictError("a new token needs a new run: send restart: true", code="restart_required")
        row.jupyter_token_sealed = self._sealing.new_token(row.id, JupyterMode.PLATFORM)
        wish(row, Want(row.want), Reason(row.want_reason), now=self._clock.now(), anew=True)
        message = f"Pod {row.name} has a new Jupyter token; links made before no longer work."
        await self._tell(session, row, Act("rotate_jupyter_token", "pod.token_rotated", message), actor=actor)
        return await self._view(session, row, owner)

    # Ports: the gateway follows them at once, nothing restarts

    async def add_port(self, session: Session, pod: str, request: PortRequest, *, actor: Actor) -> PodView:
        """Expose a port."""
        row, owner = await self._pod_to_change(session, pod, actor=actor)
        ports = (await store.ports_of(session, [row.id])).get(PodId(row.id), [])
        wrong = list(rules.wrong_port(request))
        limit = self._settings.limits.ports_per_pod
        if wrong:
            raise refusal(wrong)
        if any(port.port == request.port for port in ports):
            raise taken("port", str(request.port))
        if len(ports) >= limit:
            raise ConflictError(f"a pod exposes at most {limit} ports; remove one first", code="too_many_ports")
        snapshot = TemplateSnapshot.from_json(row.template)
        names = {port.name for port in ports}
        port = rules.port_with_defaults(request, snapshot.ports, JupyterMode(row.jupyter), names)
        session.add(PortRow(id=new_id("prt"), pod_id=row.id, port=port.port, name=port.name, access=port.access))
        act = Act("add_port", "pod.port_added", f"Port {port.port} of pod {row.name} has an address.")
        await self._tell_of_port(session, row, act, actor=actor, port=port.port)
        return await self._view(session, row, owner)

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
        """Rename a port, or change who may pass its gate; what is None stays."""
        row, owner = await self._pod_to_change(session, pod, actor=actor)
        exposed = await self._port(session, row, port)
        if name is not None and (wrong := rules.wrong_port_name(name)):
            raise refusal(wrong)
        before = (exposed.name, exposed.access)
        exposed.name = exposed.name if name is None else name
        exposed.access = exposed.access if access is None else access
        if (exposed.name, exposed.access) != before:
            message = f"Port {port} of pod {row.name} is now {exposed.name}, {exposed.access}."
            act = Act("change_port", "pod.port_changed", message)
            await self._tell_of_port(session, row, act, actor=actor, port=port, access=exposed.access)
        return await self._view(session, row, owner)

    async def remove_port(self, session: Session, pod: str, port: int, *, actor: Actor) -> PodView:
        """Expose a port no longer."""
        row, owner = await self._pod_to_change(session, pod, actor=actor)
        await session.delete(await self._port(session, row, port))
        act = Act("remove_port", "pod.port_removed", f"Port {port} of pod {row.name} has no address any more.")
        await self._tell_of_port(session, row, act, actor=actor, port=port)
        return await self._view(session, row, owner)

    # What is shown

    async def list_pods(
        self, session: ReadSession, *, actor: Actor, filters: PodFilters, cursor: str | None = None, limit: int = 50
    ) -> Page[PodView]:
        """Return the actor's own pods, newest first; administrators see another owner's or everybody's on request.

        A status is made, not stored, so pods are looked through for it: a page may come with fewer than `limit`.
        """
        require_scope(actor, Scope.READ)
        if filters.everybody and not actor.is_admin:
            raise ForbiddenError("only administrators see everybody's pods", code="admin_needed")
        owner_id = filters.owner_id or (None if filters.everybody else actor.user_id)
        if owner_id is not None:
            require_sight(actor, owner_id, "user")
        limit = max(1, min(limit, MAX_LIMIT))
        found: list[PodView] = []
        for _ in range(1 if filters.status is None else _MOST_LOOKS):
            page = await store.pods_page(
                session,
                actor=actor,
                owner_id=owner_id,
                name=filters.name,
                gpu_type=filters.gpu_type,
                cursor=cursor,
                limit=limit,
            )
            views = await views_of(session, page.items, self._lens(), self._clock.now())
            for index, view in enumerate(views):
                if filters.status is None or view.shown.status is filters.status:
                    found.append(view)
                if len(found) == limit and index + 1 < len(views):
                    return Page(found, encode_cursor(view.id))
            cursor = page.next_cursor
            if cursor is None or len(found) == limit:
                break
        return Page(found, cursor)

    async def show_pod(self, session: ReadSession, pod: str, *, actor: Actor) -> PodView:
        """Return a pod."""
        require_scope(actor, Scope.READ)
        row, owner = await self._in_sight(session, pod, actor=actor)
        return await self._view(session, row, owner)

    async def port_link(self, session: ReadSession, pod: str, port: int, *, actor: Actor) -> PortLink:
        """Return the parts of a link to a port. Jupyter's opens signed in, for the pod's owner alone (SECURITY 25).

        Needs the scope `write`: who has the token can do all that the pod can.
        """
        require_scope(actor, Scope.WRITE)
        row, owner = await self._in_sight(session, pod, actor=actor)
        await self._port(session, row, port)
        host = pod_host(row.name, owner.hash, port, self._pods_domain(RuntimeId(row.runtime_id)))
        if port != rules.JUPYTER_PORT or row.jupyter == JupyterMode.OFF or actor.user_id != row.owner_id:
            return PortLink(host, "/")
        return PortLink(host, signed_in_path(await self._jupyter_token(session, row)))

    async def entrance(self, session: ReadSession, pod: str, *, actor: Actor) -> Entrance:
        """Return where commands come into the pod; asked again and again while a terminal is open (SECURITY 24).

        Needs the scope `write`. Raises ConflictError (`not_running`, `no_server`), UnsupportedError.
        """
        require_scope(actor, Scope.WRITE)
        row, owner = await self._in_sight(session, pod, actor=actor)
        return entrance_of(await self._view(session, row, owner), self._runtimes, self._installation_id)

    async def exec_pod(self, session: Session, pod: str, *, actor: Actor, terminal: bool) -> Entrance:
        """Let a command run in the pod, and write down who lets it: the command's words may hold secrets and are not.

        Where that is not the owner, it is an event too.
        """
        require_scope(actor, Scope.WRITE)
        row, owner = await self._in_sight(session, pod, actor=actor)
        entrance = entrance_of(await self._view(session, row, owner), self._runtimes, self._installation_id)
        await tell_of_exec(session, row, actor=actor, now=self._clock.now(), terminal=terminal)
        return entrance

    async def log_source(
        self, session: ReadSession, pod: str, *, actor: Actor, incarnation: int | None = None
    ) -> tuple[Runtime, WorkloadId] | None:
        """Return where the log of an incarnation (the newest by default) is read; None when there is none yet.

        Raises NotFoundError for an incarnation that never was, ConflictError where no server serves the runtime.
        """
        require_scope(actor, Scope.READ)
        row, _ = await self._in_sight(session, pod, actor=actor)
        found = await store.incarnation(session, row.id, incarnation)
        if found is None:
            if incarnation is not None:
                raise NotFoundError(f"pod {row.name} has no run number {incarnation}")
            return None
        runtime = self._runtimes.get(RuntimeId(row.runtime_id))
        if runtime is None:
            raise ConflictError("no server is connected to this pod's machine or cluster now", code="no_server")
        return runtime, self.workloads.id_of(PodId(row.id), found.number)

    # For the loops and the gateway's feed

    async def jupyter_tokens(self, session: ReadSession, pod_ids: Collection[PodId]) -> dict[PodId, Secret]:
        """Return the Jupyter token of those of the pods that have one now, for the loop that asks after kernels."""
        newest = await store.newest_incarnations(session, pod_ids)
        tokens = {}
        for row in await store.pods_of_ids(session, pod_ids):
            pod_id = PodId(row.id)
            if row.jupyter == JupyterMode.PLATFORM:
                token = self._sealing.platform_token(row)
            else:
                token = self._sealing.log_token(newest[pod_id]) if pod_id in newest else None
            if token is not None:
                tokens[pod_id] = token
        return tokens

    async def keep_log_token(self, session: Session, pod_id: PodId, incarnation: int, token: Secret) -> None:
        """Keep the Jupyter token that the incarnation's own log told; the first one stays."""
        row = await store.incarnation(session, pod_id, incarnation)
        if row is not None:
            await store.keep_sealed_token(session, row.id, self._sealing.seal_log_token(row.id, token))

    async def views_for_routes(self, session: ReadSession, pod_ids: Sequence[PodId] | None = None) -> list[PodView]:
        """Return all pods that are not closed (or those of the ids that are not): what the gateway's feed follows."""
        await self.presence.refresh(session)
        rows = await store.pods_not_closed(session, pod_ids)
        return await views_of(session, rows, self._lens(), self._clock.now())

    # Pieces

    def _pods_domain(self, runtime_id: RuntimeId) -> str:
        return self._addresses.pods_address(self._runtimes.name_of(runtime_id)).domain

    def _lens(self) -> Lens:
        return Lens(self.policy, self.presence.served(self._clock.now()), self._pods_domain, self._thresholds)

    async def _view(self, session: ReadSession, row: PodRow, owner: UserRow) -> PodView:
        (view,) = await views_of(session, [(row, owner)], self._lens(), self._clock.now())
        return view

    async def _in_sight(self, session: ReadSession, pod: str, *, actor: Actor) -> tuple[PodRow, UserRow]:
        found = await store.pod_in_sight(session, pod, actor=actor)
        if found is None:
            raise NotFoundError(f"no such pod: {pod}")
        return found

    async def _pod_to_change(
        self, session: Session, pod: str, *, actor: Actor, also_gone: bool = False
    ) -> tuple[PodRow, UserRow]:
        require_scope(actor, Scope.WRITE)
        found, owner = await self._in_sight(session, pod, actor=actor)
        row = await store.lock_pod(session, found.id)
        if row.closed_at is not None:
            raise NotFoundError(f"no such pod: {pod}")
        if row.want == Want.GONE and not also_gone:
            raise ConflictError(f"pod {row.name} is being deleted", code="pod_deleting")
        return row, owner

    async def _pod_to_run(
        self, session: Session, pod: str, *, actor: Actor, isolated: bool = True
    ) -> tuple[PodRow, UserRow]:
        """Return a pod that its owner may run, with the account locked before the row."""
        require_scope(actor, Scope.WRITE)
        _, owner = await self._in_sight(session, pod, actor=actor)
        await lock_account(session, UserId(owner.id))
        has = await store.belongings(session, UserId(owner.id))
        row, owner = await self._pod_to_change(session, pod, actor=actor)
        admit(owner, None if has is None else has.account, self._settings.limits)
        runtime = self._runtimes.get(RuntimeId(row.runtime_id))
        if isolated and runtime is not None:
            require_isolation(self._world, runtime, owner)
            require_allowed_image(self._world, row, owner)
        return row, owner

    async def _is_on_its_way(self, session: ReadSession, row: PodRow) -> bool:
        """Tell whether the pod runs, or will without anybody's doing: it is open, waits, or was just asked for."""
        if row.want != Want.RUNNING:
            return False
        newest = await store.incarnation(session, row.id)
        waits = row.waiting_reason is not None
        return waits or newest is None or newest.ended_at is None or newest.run_revision < row.run_revision

    async def _wish_a_run(self, session: ReadSession, row: PodRow) -> None:
        """Wish for a new run at what the catalogue says now."""
        gpu_type = await gpu_type_on_offer(session, row.gpu_type)
        if gpu_type is None:
            sentence = f"GPU type {row.gpu_type!r} is not on offer any more; change the pod's gpu_type, then start it"
            raise ConflictError(sentence, code="gpu_type_unavailable")
        if not may_have_type(self._world, row, gpu_type):
            sentence = f"GPU type {row.gpu_type!r} is not offered any more where this pod is; change the pod's gpu_type"
            raise ConflictError(sentence, code="gpu_type_unavailable")
        accept(row, gpu_type, row.gpu_count, self._settings.prices.disk_micros_per_gb_hour)
        wish(row, Want.RUNNING, Reason.REQUESTED, now=self._clock.now(), anew=True)

    async def _attach(self, session: Session, draft: Draft, owner: UserRow) -> VolumeRow | None:
        if draft.volume is None:
            return None
        return await attach_volume(
            session,
            draft.volume,
            owner_id=UserId(owner.id),
            runtime_id=draft.runtime_id,
            limit=self._settings.limits.volumes_per_user,
            now=self._clock.now(),
        )

    async def _port(self, session: ReadSession, row: PodRow, number: int) -> PortRow:
        found = await store.port_of(session, row.id, number)
        if found is None:
            raise NotFoundError(f"pod {row.name} exposes no port {number}")
        return found

    async def _jupyter_token(self, session: ReadSession, row: PodRow) -> Secret:
        token = None
        if row.jupyter == JupyterMode.PLATFORM:
            token = self._sealing.platform_token(row)
        else:
            newest = await store.incarnation(session, row.id)
            if newest is not None and newest.ended_at is None:
                token = self._sealing.log_token(newest)
        if token is None:
            raise ConflictError("Jupyter has not told its token yet; try again when it is running", code="no_token_yet")
        return token

    async def _tell(self, session: Session, row: PodRow, act: Act, *, actor: Actor, **data: Any) -> None:
        await tell(session, row, act, actor=actor, now=self._clock.now(), **data)

    async def _tell_of_port(self, session: Session, row: PodRow, act: Act, *, actor: Actor, **data: Any) -> None:
        row.generation += 1
        await self._tell(session, row, act, actor=actor, **data)
