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
    VOLUME_ELSEWHERE = "volume_elsewhere"  # its volume is tied to a machine of its cluster that has no room for it
    PREPARING = "preparing"  # the runtime builds or fetches what the pod runs on
    PULLING = "pulling"  # its image is fetched
    IMAGE_NOT_FOUND = "image_not_found"  # its image is not there
    PULL_DENIED = "pull_denied"  # the registry of its image refuses it
    SCHEDULING = "scheduling"  # a cluster looks for a node for it
    UNSCHEDULABLE = "unschedulable"  # no node of the cluster has room for it now
    VOLUME_WAITS = "volume_waits"  # its volume is not there yet, or cannot be mounted
    VOLUME_LOST = "volume_lost"  # its volume was made once, and is not there any more
    STARTING = "starting"  # its process starts
    NOT_READY = "not_ready"  # its process runs and does not answer yet
    READY = "ready"  # it runs and answers
    EXITED = "exited"  # ended by itself with code 0
    CRASHED = "crashed"  # ended by itself with another code, or by a signal
    CRASH_LOOP = "crash_loop"  # crashed and waits for its next try
    CRASHED_TOO_OFTEN = "crashed_too_often"  # and is not started again by itself
    START_TIMEOUT = "start_timeout"  # ran and was not ready within its deadline
    OUT_OF_MEMORY = "out_of_memory"  # ended because it took more memory than it has
    DISK_FULL = "disk_full"  # ended because it took more disk than it has
    REJECTED = "rejected"  # the runtime cannot run this workload at all
    QUOTA = "quota"  # it would take more than its owner may have there
    SECRET_MISSING = "secret_missing"  # a secret that it names is not there, so it was not started
    PREPARE_FAILED = "prepare_failed"  # what it runs on could not be built or fetched
    GPU_LOST = "gpu_lost"  # the machine does not have its GPU any more, or it is broken
    LOST = "lost"  # it ran, and the runtime knows nothing of it any more
    EVICTED = "evicted"  # its machine had to give up something and chose it
    NODE_LOST = "node_lost"  # its machine is gone for good
    DELETED_OUTSIDE = "deleted_outside"  # somebody else deleted what it ran as
    SERVER_DOWN = "server_down"  # ended by `neuropod down`
    REVISION = "revision"  # replaced by a newer revision
    DEADLINE = "deadline"  # its time was over
    IDLE = "idle"  # nobody used it for as long as was agreed
    BALANCE = "balance"  # the owner's money was used up
    SUSPENDED = "suspended"  # the owner is suspended
    RUNTIME_UNREACHABLE = "runtime_unreachable"  # its runtime does not answer
    NO_SERVER = "no_server"  # no server serves the pod's runtime
    PLACE_OCCUPIED = "place_occupied"  # something that is not this incarnation stands in its place
    INTERNAL = "internal"  # a defect of ours; the row's last_error says which


class Activity(StrEnum):
    """What keeps a pod from being idle."""

    CONNECTIONS = "connections"  # somebody uses one of its ports
    KERNELS = "kernels"  # a kernel or terminal of its Jupyter works, or did a moment ago
    CPU = "cpu"
    GPU = "gpu"


class Access(StrEnum):
    """Who may pass the gate to a port."""

    PRIVATE = "private"  # owner and administrators
    MEMBERS = "members"  # every signed-in active user
    PUBLIC = "public"


class Role(StrEnum):
    """What a user is."""

    ADMIN = "admin"
    CLIENT = "client"


class UserStatus(StrEnum):
    """What a user is shown as."""

    ACTIVE = "active"
    SUSPENDED = "suspended"  # cannot sign in; keys count for nothing; pods are stopped
    DELETING = "deleting"  # as suspended, for good; pods are being deleted
    DELETED = "deleted"  # nothing is left but the name in the history


class VolumesAtEnd(StrEnum):
    """What becomes of a deleted user's volumes."""

    KEEP = "keep"
    DELETE = "delete"


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
