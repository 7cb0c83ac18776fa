"""What controllers need that follow the annotations of Ingress-NGINX, without snippets. Pure; the carrier `nginx`.

https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/ ; Traefik reads them with its
provider `kubernetesIngressNGINX`. Of the gate's answers such a controller understands 2xx, 401 (on to `auth-signin`)
and 403; Ingress-NGINX makes anything else a 500.
"""

from neuropod.gateway.carriers.style import SIGN_IN_PATH, Carrier
from neuropod.settings import PodsAddress

_PREFIX = "nginx.ingress.kubernetes.io"
_CONNECT_SECONDS = 5  # as our own gateway's
# What the pod gets of these is what the gate answers with: the Cookie that it may see, and nothing of ours.
_FROM_GATE = ("Cookie", "X-Neuropod-Key", "X-Neuropod-User", "X-Neuropod-Carried", "X_Neuropod_Key", "X_Neuropod_User")


def port_annotations(carrier: Carrier, host: str, pods: PodsAddress) -> dict[str, str]:
    """Return the annotations of a port's Ingress."""
    annotations = own_annotations(carrier, pods) | {
        f"{_PREFIX}/proxy-body-size": "0",  # no limit: the pod's own business
        f"{_PREFIX}/proxy-request-buffering": "off",
    }
    if carrier.gate is not None:
        annotations |= {
            f"{_PREFIX}/auth-url": carrier.question_url(host),
            # The literal host: `$http_host` is empty there with Traefik.
            f"{_PREFIX}/auth-signin": f"{pods.origin(host)}{SIGN_IN_PATH}",
            f"{_PREFIX}/auth-response-headers": ",".join(_FROM_GATE),
        }
    return annotations


def own_annotations(carrier: Carrier, pods: PodsAddress) -> dict[str, str]:
    """Return the annotations of the Ingress of the gate's own paths: nothing is asked there, whatever is usual."""
    return {
        f"{_PREFIX}/enable-global-auth": "false",
        # A Pod that has just gone refuses nothing, it is silent; by then the controller knows where to send instead.
        f"{_PREFIX}/proxy-connect-timeout": str(_CONNECT_SECONDS),
        f"{_PREFIX}/proxy-buffering": "off",
        f"{_PREFIX}/proxy-read-timeout": str(carrier.idle_seconds),
        f"{_PREFIX}/proxy-send-timeout": str(carrier.idle_seconds),
        f"{_PREFIX}/ssl-redirect": "true" if pods.scheme == "https" else "false",
    }
