"""All settings, one frozen tree. Read by server, operate and cli; passed down by value, never imported as an instance.

Each value comes from, first wins: the environment (`NEUROPOD_<NAME>`, and `NEUROPOD_<GROUP>__<NAME>` for a group),
then `neuropod.toml` in the working directory (or the file that NEUROPOD_CONFIG names), then the default. The docstring
under a field is its documentation: meaning, unit, default, why. docs/reference/settings.md is made from it.
"""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from neuropod.kit.money import Micros, price_of_text
from neuropod.settings.addresses import Addresses, PodsAddress, conflicting
from neuropod.settings.clusters import ClusterSettings
from neuropod.settings.group import Group, Seconds

__all__ = ["Addresses", "ClusterSettings", "Group", "PodsAddress", "Settings"]

LimitSeconds = Annotated[int, Field(ge=60, le=366 * 24 * 3600)]  # of pods' lives: what the API takes too


class LocalSettings(Group):
    """The `local` runtime: pods as sandboxed processes on this machine."""

    enabled: bool | None = None
    """Whether this server runs pods on its own machine. Default: it does where no cluster is given, the embedded
    default; a server that is connected to a cluster often is a container without rights of its own."""

    mode: Literal["auto", "root", "user", "none"] = "auto"
    """How pods are isolated: `root` (needs uid 0), `user` (unprivileged user namespaces), `none`. Default `auto`, which
    takes the strongest that the machine allows; naming one makes the start fail where it cannot be had."""

    machine_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """What this machine is called in the rows of its pods and volumes. Default: its own id (/etc/machine-id). Name one
    to run two servers of one installation on one machine, or to go on with a restored backup on another machine, under
    the id of the old one."""

    accept_no_isolation: bool = False
    """Let clients launch pods although this machine cannot keep them apart. Default false: then only administrators
    may (SECURITY 7)."""

    egress_allow: tuple[str, ...] = ()
    """Networks (CIDR) that pods may reach although they are private, such as a NAS. Default none."""

    cpu_cores: int | None = None
    """CPU cores that may be promised to pods in all. Default the machine's count times 4: notebooks mostly wait."""

    memory_gb: int | None = None
    """Memory in GB (10^9 bytes) that may be promised to pods in all. Default the machine's, less 1 GB."""

    disk_overcommit: bool = False
    """Let the promised disks together exceed the free space of the data disk. Default false: a promise is kept."""

    disk_reserve_gb: int = 2
    """GB of the data disk that pods never get: the database needs room to say what happened. Default 2."""

    pids_max: int = 4096
    """Processes and threads a pod may have. Default 4096: numeric libraries start many, a fork bomb far more."""

    gpus: tuple[str, ...] | None = None
    """The GPUs that are given to pods, by their names (`GPU-…`, as `neuropod doctor` tells them). Default all. Name
    those that are left where others use some: a desktop, another service, a second server on this machine."""

    package_index_url: str | None = None
    """The package index that recipes are built from. Default: the host's pip configuration, else PyPI."""

    prepare_timeout_seconds: Seconds = 1800
    """How long building one environment may take. Default 1800 s: a large wheel over a slow line."""


class GatewaySettings(Group):
    """The reverse proxy in front of the pods' ports."""

    connect_timeout_seconds: Seconds = 5
    """How long a pod's port may take to accept a connection. Default 5 s."""

    idle_stream_seconds: Seconds = 3600
    """How long a stream (WebSocket, SSE, an answer being sent) may be silent before it is cut. Default 3600 s: nothing
    shorter cuts a kernel that computes."""

    pass_seconds: Seconds = 12 * 3600
    """How long a browser's pass for one pod host lasts before the gate asks the console again. Default 12 h."""

    decision_cache_seconds: Annotated[float, Field(gt=0, le=5)] = 5
    """How long an allowed answer of the gate is remembered. Default and most 5 s, which is how soon a revocation
    holds (SECURITY 24)."""


class ReconcileSettings(Group):
    """The loops."""

    lease_seconds: Seconds = 30
    """How long a claim on a row lasts. Default 30 s; verbs of runtimes time out under half of it."""

    batch: Annotated[int, Field(gt=0, le=200)] = 50
    """How many due rows one pass claims at once. Default 50."""

    workers: Annotated[int, Field(gt=0, le=200)] = 64
    """How many rows a loop works on at the same time. Default 64: pods that are worked on together share their
    transactions, so that a burst of launches costs little more of the database than one."""

    resync_seconds: Seconds = 60
    """How often a runtime's bulk list is compared with the rows. Default 60 s: nudges do the daily work."""

    start_deadline_seconds: Seconds = 600
    """How long a pod may take from its process's start until it is ready, counted while it is observed; waiting and
    pulls that progress do not count. Default 600 s."""

    stop_grace_seconds: Annotated[int, Field(gt=0)] = 30
    """How long a pod may take to end after SIGTERM before it is killed. Default 30 s, as on Kubernetes."""

    crash_restarts: Annotated[int, Field(ge=0)] = 5
    """How often a crashed pod is started again before it counts as failed. Default 5."""

    crash_quiet_seconds: Seconds = 3600
    """How long a pod must run for earlier crashes to be forgotten. Default 3600 s."""

    crash_wait_seconds: Seconds = 5
    """The wait before the first restart after a crash; it doubles each time, up to 300 s. Default 5 s."""

    look_seconds: Seconds = 60
    """How often it is measured what pods use, and judged which are idle. Default 60 s: one point of their series."""

    presence_seconds: Seconds = 30
    """How often a server that shares its PostgreSQL with others says that it is there. Default 30 s; one that dies
    without a word is taken for gone after three of them, and its pods are shown as unreachable."""

    sweep_grace_seconds: Seconds = 60
    """How old a workload without a row must be before the sweep removes it. Default 60 s."""


class LimitSettings(Group):
    """How much one user may have."""

    pods_per_user: Annotated[int, Field(gt=0)] = 20
    """Pods that a client may own at a time, stopped ones included. Default 20."""

    volumes_per_user: Annotated[int, Field(gt=0)] = 20
    """Volumes that one person may have at a time. Default 20."""

    secrets_per_user: Annotated[int, Field(gt=0)] = 100
    """Secrets that one person may keep. Default 100."""

    registries_per_user: Annotated[int, Field(gt=0)] = 20
    """Registries of images for which one person may keep a credential. Default 20."""

    ports_per_pod: Annotated[int, Field(gt=0, le=50)] = 20
    """Ports that a pod may expose. Default 20."""

    api_keys_per_user: Annotated[int, Field(gt=0)] = 50
    """API keys that a user may have. Default 50."""

    execs_per_pod: Annotated[int, Field(gt=0)] = 20
    """Commands and terminals that may run in a pod at a time beside its own process. Default 20."""

    log_bytes: Annotated[int, Field(ge=4096)] = 1024 * 1024
    """Bytes of log kept of each ended incarnation. Default 1 MiB."""

    log_incarnations: Annotated[int, Field(gt=0)] = 5
    """Of how many ended incarnations of a pod the log is kept. Default 5."""

    default_stop_after_seconds: LimitSeconds | None = None
    """How long after its process began to run a pod is stopped that asks for nothing else. Default none: never."""

    max_stop_after_seconds: LimitSeconds | None = None
    """The longest `stop_after_seconds` that a client may ask for; without one they may also ask for none. Default none.
    Administrators may give any."""

    default_idle_stop_after_seconds: LimitSeconds | None = None
    """How long a pod may be idle before it is stopped, where it asks for nothing else. Default none: it is not."""

    max_idle_stop_after_seconds: LimitSeconds | None = None
    """The longest `idle_stop_after_seconds` that a client may ask for; without one they may also ask for none. Default
    none. Administrators may give any."""

    stop_warning_seconds: Seconds = 600
    """How long before a pod is stopped by one of these limits its owner is warned, by an event and in its status; at
    most half the limit. Default 600 s."""

    idle_cpu_percent: Annotated[float, Field(ge=0)] = 10
    """A pod that uses more than this of one CPU core, on average between two looks, is not idle. Default 10: a
    Jupyter that nobody uses takes 1 to 3."""

    idle_gpu_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """A pod with a GPU that works more than this much of the time is not idle. Default 5."""

    quiet_stream_seconds: Seconds = 3600
    """How long an open WebSocket keeps a pod from being idle although nothing but keep-alives passes on it. Default
    3600 s: a tab that somebody forgot does not keep a pod all night."""

    @model_validator(mode="after")
    def _defaults_within_their_bounds(self) -> "LimitSettings":
        for name in ("stop_after_seconds", "idle_stop_after_seconds"):
            default, most = getattr(self, f"default_{name}"), getattr(self, f"max_{name}")
            if default is not None and most is not None and default > most:
                raise ValueError(f"default_{name} is above max_{name}")
        return self


class AccountSettings(Group):
    """Signing in."""

    session_seconds: Seconds = 14 * 24 * 3600
    """How long a browser stays signed in without being used. Default 14 days."""

    sign_in_link_seconds: Seconds = 900
    """How long a one-time sign-in link works. Default 15 minutes (SECURITY 32)."""

    password_min_length: Annotated[int, Field(ge=8)] = 10
    """Characters a password needs at least. Default 10."""


class EventSettings(Group):
    """Events, and who follows them."""

    keep_seconds: Seconds = 30 * 24 * 3600
    """How long events are kept. Default 30 days: a follower that was away for longer reads everything anew."""

    keep_count: Annotated[int, Field(ge=1000)] = 200_000
    """How many events are kept at most. Default 200,000."""

    streams_per_user: Annotated[int, Field(gt=0)] = 100
    """Event streams that a user may have open at a time, on one server. Default 100."""


class PriceSettings(Group):
    """What disks cost; what a GPU type costs stands in the catalogue, which administrators edit."""

    disk_gb_hour: str = "0.01"
    """What a GB of disk costs an hour, in the installation's currency, as decimal text. Default 0.01. A pod pays for
    its container disk while it runs, a volume is paid for while it exists."""

    @field_validator("disk_gb_hour")
    @classmethod
    def _is_an_amount(cls, text: str) -> str:
        price_of_text(text)
        return text

    @property
    def disk_micros_per_gb_hour(self) -> Micros:
        """The price as what one calculates with."""
        return price_of_text(self.disk_gb_hour)


class OidcSettings(Group):
    """Signing in by another provider (OpenID Connect). Off until issuer and client are set; see docs/howto/users.md."""

    issuer: str | None = None
    """The provider's issuer, as its own configuration names it: `https://id.example.org/realms/lab`. Default none:
    people sign in with passwords and one-time links alone."""

    client_id: str | None = None
    """The id under which this installation is registered there, with `<console>/auth/oidc/callback` as its only
    redirect address. Default none."""

    client_secret: SecretStr | None = None
    """The secret that belongs to it. Default none: a public client, held by PKCE alone."""

    name: str = "your organisation"
    """What stands on the button: `Sign in with …`. Default `your organisation`."""

    scopes: tuple[str, ...] = ("openid", "email", "profile")
    """What is asked for. Default openid, email, profile; some providers tell groups only for a scope of their own."""

    allowed_email_domains: tuple[str, ...] = ()
    """Domains of verified addresses that may sign in; applied at each sign-in. Default none: not asked."""

    allowed_claim: str | None = None
    """A claim that decides who may sign in, by name, or by names with dots: `groups`, `realm_access.roles`. Default
    none: not asked. With `allowed_email_domains` both must hold."""

    allowed_values: tuple[str, ...] = ()
    """Values of `allowed_claim` that let somebody in. Default none."""

    admin_claim: str | None = None
    """A claim that decides who is an administrator. Default none: administrators here say so. When it is set, the role
    follows it at each sign-in, down as well as up, but for the last active administrator."""

    admin_values: tuple[str, ...] = ()
    """Values of `admin_claim` that make an administrator. Default none."""

    create_users: bool = True
    """Make an account at the first sign-in of who is let in by a rule above. Default true; without a rule only
    identities that an administrator linked sign in."""

    allow_anyone: bool = False
    """Make accounts for everybody whom the provider knows, without a rule. Default false: with a public provider that
    would be the whole world."""

    trust_unverified_email: bool = False
    """Count addresses as verified although the provider does not say `email_verified`. Default false: whoever can set
    an address there could come in by its domain."""

    @model_validator(mode="after")
    def _belongs_together(self) -> "OidcSettings":
        if (self.issuer is None) != (self.client_id is None):
            raise ValueError("issuer and client_id go together")
        if (self.allowed_claim is None) == bool(self.allowed_values):
            raise ValueError("allowed_claim and allowed_values go together")
        if (self.admin_claim is None) == bool(self.admin_values):
            raise ValueError("admin_claim and admin_values go together")
        if self.issuer is not None:
            parts = urlsplit(self.issuer)
            here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
            if parts.scheme != "https" and not (parts.scheme == "http" and here):
                raise ValueError("issuer must be an https address")
        return self


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix="NEUROPOD_", env_nested_delimiter="__", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """The address that the server binds. Default 127.0.0.1: reachable from this machine alone."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port that the server binds; 0 takes a free one. Default 8080."""

    data_dir: Path = Path("data")
    """Where everything lives: `db/`, `volumes/`, `pods/`, `cache/`. Default ./data. One server at a time locks it."""

    database_url: str | None = None
    """The database, as `postgresql://user:password@host/name`. Default: SQLite in the data directory."""

    key_file: Path | None = None
    """The file with the encryption key. Default `<data dir>.key`, beside the data directory and never in it; must be
    given with PostgreSQL."""

    domain: str = "neuropod.localhost"
    """The console is `app.<domain>`, the API `api.<domain>`. Default neuropod.localhost, which browsers resolve to
    this machine."""

    pods_domain: str | None = None
    """Pod hosts are below this domain; another site than `domain` keeps pods' cookies away from the console. Default
    `neuropod-pods.localhost` with the default domain, else `domain`."""

    public_url: str | None = None
    """Scheme, host and port under which browsers reach the console. Default `http://app.<domain>:<port>`."""

    pods_url: str | None = None
    """Scheme, parent domain and port under which browsers reach pods. Default `http://<pods domain>:<port>`."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses (CIDR) whose X-Forwarded-* headers are believed. Default none (SECURITY 21)."""

    tls_cert_file: Path | None = None
    """The certificate chain (PEM) to serve HTTPS with. Default none: plain HTTP, on localhost or behind a proxy."""

    tls_key_file: Path | None = None
    """The private key (PEM) to `tls_cert_file`. Default none."""

    accept_plain_http: bool = False
    """Serve plain http beyond localhost without TLS and without a proxy. Default false: passwords would travel open."""

    admin_email: str = "admin@neuropod.localhost"
    """The e-mail address of the first administrator, made at the first start. Default admin@neuropod.localhost."""

    admin_api_key: SecretStr | None = None
    """A preset API key of the first administrator with all four scopes, for automation; at least 32 characters, kept
    hashed, replaced when it changes here, revoked when it is no longer here. Default none."""

    log_format: Literal["text", "json"] = "text"
    """How the server writes its log: `text` for people, `json` for collectors. Default text."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged. Default info."""

    fake_runtime: bool = False
    """Run pods on the fake runtime instead of this machine; for tests of clients and for load tests. Default false."""

    fake_runtime_name: str = "one"
    """Tells the fake runtimes of several servers apart. Default `one`."""

    kubeconfig: Path | None = None
    """A kubeconfig file: its cluster runs pods, under the name `kubernetes`, with the defaults of `kubernetes` below.
    Default none. The variable KUBECONFIG alone connects nothing: it may name a cluster that is not meant."""

    kubernetes: tuple[ClusterSettings, ...] = ()
    """The Kubernetes clusters that run pods, in the order in which they are preferred, after this machine. Default
    none."""

    local: LocalSettings = LocalSettings()
    """The `local` runtime."""

    gateway: GatewaySettings = GatewaySettings()
    """The gateway."""

    reconcile: ReconcileSettings = ReconcileSettings()
    """The loops."""

    limits: LimitSettings = LimitSettings()
    """Limits per user."""

    prices: PriceSettings = PriceSettings()
    """Prices."""

    accounts: AccountSettings = AccountSettings()
    """Signing in."""

    events: EventSettings = EventSettings()
    """Events, and who follows them."""

    oidc: OidcSettings = OidcSettings()
    """Signing in by another provider."""

    @field_validator("admin_api_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return key

    @model_validator(mode="after")
    def _belongs_together(self) -> "Settings":
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.database_url is not None and self.key_file is None:
            raise ValueError("key_file must be given with database_url")
        names = [cluster.name for cluster in self.clusters]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two clusters are called {twice.pop()!r}")
        told = self.addresses(self.port)
        if domain := conflicting([told.pods, *told.pods_of.values()]):
            raise ValueError(f"the pods domain {domain} has two schemes or ports")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Say where values come from, strongest first."""
        toml = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("NEUROPOD_CONFIG", "neuropod.toml")))
        return init_settings, env_settings, toml

    @property
    def effective_pods_domain(self) -> str:
        """`pods_domain` or its default."""
        if self.pods_domain is not None:
            return self.pods_domain
        return "neuropod-pods.localhost" if self.domain == "neuropod.localhost" else self.domain

    @property
    def effective_key_file(self) -> Path:
        """`key_file` or its default."""
        if self.key_file is not None:
            return self.key_file
        return self.data_dir.with_name(self.data_dir.name + ".key")

    @property
    def effective_database_url(self) -> str:
        """The database's URL, SQLite in the data directory by default."""
        return self.database_url or f"sqlite:///{self.data_dir / 'db' / 'neuropod.sqlite3'}"

    @property
    def clusters(self) -> tuple[ClusterSettings, ...]:
        """All clusters: those of `kubernetes`, and the one that `kubeconfig` names."""
        if self.kubeconfig is None:
            return self.kubernetes
        return (*self.kubernetes, ClusterSettings(name="kubernetes", kubeconfig=self.kubeconfig))

    @property
    def runs_local_pods(self) -> bool:
        """`local.enabled` or its default."""
        return not self.clusters if self.local.enabled is None else self.local.enabled

    def addresses(self, port: int) -> Addresses:
        """Return the addresses that URLs, cookies and Origin checks come from, given the port really bound."""
        scheme = "https" if self.tls_cert_file else "http"
        public = urlsplit(self.public_url or f"{scheme}://app.{self.domain}:{port}")
        pods = PodsAddress.of_url(self.pods_url or f"{scheme}://{self.effective_pods_domain}:{port}")
        own = {cluster.name: cluster.pods_address(pods) for cluster in self.clusters}
        return Addresses(
            console_origin=f"{public.scheme}://{public.netloc}",
            console_host=public.hostname or "",
            api_host=f"api.{self.domain}",
            pods=pods,
            pods_of={name: address for name, address in own.items() if address != pods},
        )
