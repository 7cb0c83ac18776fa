"""With which right a workload's image is pulled: what its owner keeps for its registry. Called by service.

A value is opened at the last moment, for a runtime, in two queries at most for any number of pods.
"""

from collections.abc import Mapping

from neuropod.accounts.registries.service import open_logins
from neuropod.accounts.registries.store import private_hosts
from neuropod.db.engine import ReadSession
from neuropod.ids import PodId, UserId
from neuropod.kit.secrets import SecretBox
from neuropod.pods.images import registry_of
from neuropod.pods.workload import Pull
from neuropod.runtimes.contract import RegistryCredential


async def pulls_of(
    session: ReadSession, box: SecretBox, images: Mapping[PodId, tuple[UserId, str]]
) -> dict[PodId, Pull]:
    """Return how each pod's image (given with the pod's owner) is pulled."""
    if not images:
        return {}
    places = {pod_id: (owner_id, registry_of(image)) for pod_id, (owner_id, image) in images.items()}
    private = await private_hosts(session, {host for _, host in places.values()})
    asking = [(owner_id, host) for owner_id, host in places.values() if host in private]
    logins = await open_logins(session, box, {owner_id for owner_id, _ in asking}, {host for _, host in asking})
    pulls = {}
    for pod_id, (owner_id, host) in places.items():
        login = logins.get((owner_id, host))
        credential = None if login is None else RegistryCredential(login.host, login.username, login.password)
        pulls[pod_id] = Pull(credential, always=host in private)
    return pulls
