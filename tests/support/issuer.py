"""An issuer of tokens: real keys, and a real server on loopback that publishes the public keys."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

ISSUER = "https://issuer.example.org"
AUDIENCE = "https://glitchflow.example.org"


def rsa_key() -> rsa.RSAPrivateKey:
    """Create a key; of 2048 bits, because larger ones take seconds."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: PrivateKey, kid: str | None, **more: Any) -> dict[str, Any]:
    """Return the public key as the issuer publishes it."""
    public = key.public_key()
    match public:
        case rsa.RSAPublicKey():
            jwk = json.loads(RSAAlgorithm.to_jwk(public))
        case ec.EllipticCurvePublicKey():
            jwk = json.loads(ECAlgorithm.to_jwk(public))
        case _:
            jwk = json.loads(OKPAlgorithm.to_jwk(public))
    jwk.pop("key_ops", None)
    return {**jwk, **({"kid": kid} if kid else {}), **more}


def claims(**more: Any) -> dict[str, Any]:
    """Return the claims of a valid token; a claim that is None is left out."""
    now = int(time.time())
    seen = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": now + 600,
        "iat": now,
        "nbf": now,
        "scope": "storage.read:/ storage.create:/",
        "wlcg.groups": ["/detchar", "/other"],
        **more,
    }
    return {name: value for name, value in seen.items() if value is not None}


def token(key: Any, kid: str | None = "k1", algorithm: str = "RS256", **more: Any) -> str:
    """Sign a token."""
    return jwt.encode(claims(**more), key, algorithm, headers={"kid": kid} if kid else None)


@dataclass
class Issuer:
    """Use it as `with Issuer() as issuer`; `issuer.url` is the address of its keys.

    Attributes:
        document: its answer; None: status 500.
        asked: number of requests.
        delay: seconds that an answer takes.

    """

    document: Mapping[str, Any] | None = None
    asked: int = 0
    delay: float = 0.0
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def publish(self, *keys: Mapping[str, Any]) -> None:
        """Publish these public keys from now on, and no others."""
        self.document = {"keys": list(keys)}

    def __enter__(self) -> Self:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                if issuer.delay:
                    issuer.released.wait(issuer.delay)
                body = json.dumps(issuer.document).encode()
                self.send_response(500 if issuer.document is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
