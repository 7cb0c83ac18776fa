"""Runs oidc-provider-mock as a process of its own: `python oidc_server.py FILE` prints its address.

Each request for tokens is written into FILE, a JSON object a line: what the client really sent.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import oidc_provider_mock
import werkzeug.serving

NOTES = Path(sys.argv[1])


class Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


def main() -> None:
    inside = oidc_provider_mock.app(require_nonce=True)

    def noting(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            with NOTES.open("a") as file:
                file.write(json.dumps({"form": form, "authorization": environ.get("HTTP_AUTHORIZATION")}) + "\n")
        return inside(environ, start_response)

    server = werkzeug.serving.make_server("127.0.0.1", 0, noting, threaded=True, request_handler=Quiet)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
