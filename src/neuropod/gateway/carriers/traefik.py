"""What Traefik needs: Middlewares (`traefik.io/v1alpha1`) and annotations. Pure; the carrier `ingress`.

https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/ingress/ and …/http/middlewares/forwardauth/,
as of Traefik 3.7. A router whose Middleware is missing is an error of Traefik's and answers 404, so a port without its
gate is not served (SECURITY 11).
"""

from neuropod.gateway.carriers.names import NO_KEYS, PRIVATE_ANSWERS, PUBLIC_ANSWERS, PortNames
from neuropod.gateway.carriers.style import Carrier
from neuropod.kube.kinds import MIDDLEWARES
from neuropod.kube.objects import Object

KIND = MIDDLEWARES
_ROUTER = "traefik.ingress.kubernetes.io/router"
_MOST_ANSWER_BYTES = 256 * 1024  # of our own pages and problems
# All of ours with their aliases (`X_Neuropod_Key`): what the gate does not answer with is taken off the request.
_OUR_HEADERS = "(?i)^x[^a-z0-9]neuropod[^a-z0-9]"
_NO_HINTS = {"Alt-Svc": "", "Clear-Site-Data": ""}  # an empty value takes a header off
_PRIVATE = {
    # Traefik sets a value or leaves it, so a private port's answers are asked for anew each time (SECURITY 23).
    "Cache-Control": "private, no-cache",
    "CDN-Cache-Control": "no-store",
    "Surrogate-Control": "",
    "Edge-Control": "",
    "X-Accel-Expires": "",
    "Cloudflare-CDN-Cache-Control": "",
}
_KEYS = ("X-Neuropod-Key", "X-Neuropod-User", "X-Neuropod-Carried", "X_Neuropod_Key", "X_Neuropod_User")


def gate(carrier: Carrier, host: str) -> Object:
    """Return the Middleware that asks our gate about each request for a host.

    The gate answers with the Cookie header that the pod may see; without one the pod gets none.
    """
    return {
        "spec": {
            "forwardAuth": {
                "address": carrier.question_url(host),
                "trustForwardHeader": False,
                "authResponseHeaders": ["Cookie"],
                "authResponseHeadersRegex": _OUR_HEADERS,
                "maxResponseBodySize": _MOST_ANSWER_BYTES,
            }
        }
    }


def shared(*, gated: bool) -> dict[str, Object]:
    """Return the Middlewares that all ports of a user share, by name: what they change of pods' answers."""
    middlewares: dict[str, Object] = {
        PRIVATE_ANSWERS: {"spec": {"headers": {"customResponseHeaders": _NO_HINTS | _PRIVATE}}},
        PUBLIC_ANSWERS: {"spec": {"headers": {"customResponseHeaders": _NO_HINTS}}},
    }
    if not gated:
        middlewares[NO_KEYS] = {"spec": {"headers": {"customRequestHeaders": dict.fromkeys(_KEYS, "")}}}
    return middlewares


def port_annotations(names: PortNames, *, gated: bool, public: bool, https: bool) -> dict[str, str]:
    """Return the annotations of a port's Ingress. The gate comes first, so that its own answers stay as they are."""
    middlewares = (names.gate if gated else NO_KEYS, PUBLIC_ANSWERS if public else PRIVATE_ANSWERS)
    chain = ",".join(f"{names.namespace}-{name}@kubernetescrd" for name in middlewares)
    return {f"{_ROUTER}.middlewares": chain, **own_annotations(https=https)}


def own_annotations(*, https: bool) -> dict[str, str]:
    """Return the annotations of the Ingress of the gate's own paths."""
    return {f"{_ROUTER}.tls": "true"} if https else {}
