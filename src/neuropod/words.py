"""The closed sets of words that cross rings: the same in the database, the domain, the API, the console and the CLI.

docs/glossary.md explains them; tests/docs holds the two together.
"""

from enum import StrEnum


class Want(StrEnum):
    """The owner's wish for a pod."""

    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"


class Status(StrEnum):
    """What a pod is shown as; made by `pods.status.status_of`, stored nowhere."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    DELETING = "deleting"


class Reason(StrEnum):
    """Why a pod is in its status. Runtimes, loops and use-cases give it; the API passes it on unchanged."""

    REQUESTED = "requested"  # the owner asked for what is happening
    NO_CAPACITY = "no_capacity"  # waits for CPU or memory
    NO_GPU = "no_gpu"  # waits for a GPU of its type
    PREPARING = "preparing"  # the runtime builds or fetches what the pod runs on
    PULLING = "pulling"
    SCHEDULING = "scheduling"
    STARTING = "starting"  # its process starts
    NOT_READY = "not_ready"  # its process runs and does not answer yet
    READY = "ready"
    EXITED = "exited"
    CRASHED = "crashed"
    CRASH_LOOP = "crash_loop"  # crashed and waits for its next try
    CRASHED_TOO_OFTEN = "crashed_too_often"
    START_TIMEOUT = "start_timeout"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    REJECTED = "rejected"  # the runtime cannot run this workload at all
    PREPARE_FAILED = "prepare_failed"
    LOST = "lost"  # it ran, and the runtime knows nothing of it any more
    SERVER_DOWN = "server_down"  # ended by `neuropod down`
    REVISION = "revision"  # replaced by a newer revision
    DEADLINE = "deadline"
    IDLE = "idle"
    BALANCE = "balance"
    SUSPENDED = "suspended"
    RUNTIME_UNREACHABLE = "runtime_unreachable"
    NO_SERVER = "no_server"  # no server serves the pod's runtime
    PLACE_OCCUPIED = "place_occupied"  # something that is not this incarnation stands in its place
    INTERNAL = "internal"  # a defect of ours; the row's last_error says which


class Access(StrEnum):
    """Who may pass the gate to a port."""

    PRIVATE = "private"  # owner and administrators
    MEMBERS = "members"  # every signed-in active user
    PUBLIC = "public"


class Role(StrEnum):
    """What a user is."""

    ADMIN = "admin"
    CLIENT = "client"


class Scope(StrEnum):
    """What an API key may do; a set, none implies another."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"  # needs the role as well
    PORTS = "ports"  # passes the gate, nothing else


class ReadyWhen(StrEnum):
    """How a template tells that a pod is ready."""

    PORT = "port"  # its ready port accepts connections, and answers where it speaks HTTP
    PROCESS = "process"  # its process runs


class JupyterMode(StrEnum):
    """Where the token of a pod's Jupyter comes from."""

    OFF = "off"
    PLATFORM = "platform"  # made by us, handed in as JUPYTER_TOKEN
    FROM_LOG = "from_log"  # made by the image, read from the incarnation's log
