"""`python -m glitchflow_api`: the gateway under uvicorn with uvloop and httptools; `keys` looks after API keys."""

import sys

from glitchflow_api import keys
from glitchflow_api.settings import GatewaySettings
from glitchflow_api.start import own_tls, start
from gwservice.asgi import serve
from gwservice.protocol import Limits, limited


def main() -> int:
    """Run the gateway until SIGTERM or SIGINT, or carry out one command about keys."""
    match sys.argv[1:]:
        case ["keys", *arguments]:
            return keys.main(arguments, "python -m glitchflow_api keys")
        case []:
            settings = GatewaySettings.load()
            limits = Limits(settings.HEADER_TIMEOUT, settings.BODY_TIMEOUT, settings.MAX_CONNECTIONS)
            tls = own_tls(settings)
            serve(
                start(settings),
                settings.LISTEN,
                service="glitchflow_api",
                protocol=limited(limits),
                tls=tls,
                proxy_headers=True,
            )
            return 0
        case _:
            sys.stderr.write("usage: python -m glitchflow_api [keys ...]\n")
            return 2


if __name__ == "__main__":
    sys.exit(main())
