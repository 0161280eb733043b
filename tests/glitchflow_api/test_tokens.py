"""Tokens against a real issuer: its keys come over HTTP, and every signature is real."""

import asyncio
import hashlib
import hmac
import json
import logging
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from fastapi.testclient import TestClient
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from glitchflow_api.access import EVERYTHING, Caller
from glitchflow_api.app import create_app
from glitchflow_api.errors import IssuerAway, Unauthorized
from glitchflow_api.jwks import parse_jwks
from glitchflow_api.settings import GatewaySettings
from glitchflow_api.tokens import KeysOfFile, KeysOfUrl, Tokens
from gwwire.public import Scope
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, claims, public_jwk, rsa_key, token
from tests.support.raw_server import ServerConnection, raw_server

pytestmark = pytest.mark.anyio

ALICE = Caller("alice", "/detchar", frozenset({Scope.READ, Scope.STREAM}))


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa_key()


@pytest.fixture(scope="module")
def other() -> rsa.RSAPrivateKey:
    return rsa_key()


@pytest.fixture
def issuer(key: rsa.RSAPrivateKey) -> Iterator[Issuer]:
    with Issuer() as issuer:
        issuer.publish(public_jwk(key, "k1", alg="RS256", use="sig"))
        yield issuer


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings(**more: Any) -> GatewaySettings:
    seen = {"AUTH": "jwt", "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE, "JWT_JWKS": "https://x", **more}
    return GatewaySettings.model_validate(seen)


def tokens(issuer: Issuer, clock: Clock | None = None, **more: Any) -> Tokens:
    return Tokens(settings(**more), KeysOfUrl(issuer.url, clock=clock or time.monotonic))


async def refusal(known: Tokens, credential: str | None) -> str:
    with pytest.raises(Unauthorized) as refused:
        await known.identify(credential)
    return refused.value.detail


# ---- claims


async def test_a_valid_token_identifies_the_caller_and_their_scopes(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    assert await tokens(issuer).identify(token(key)) == ALICE


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("storage.read:/", {"read"}),
        ("storage.modify:/", {"stream", "clean"}),
        ("compute.create storage.read:/ openid profile", {"train", "read"}),
        ("storage.read:/ligo storage.create:/data", set()),
        ("read stream admin", set()),
        ("", set()),
        (None, set()),
        (17, set()),
        (["storage.read:/", "compute.create openid", 5], {"read", "train"}),
    ],
)
async def test_scopes_are_mapped_only_by_the_setting(
    issuer: Issuer, key: rsa.RSAPrivateKey, scope: Any, allowed: set[str]
) -> None:
    assert (await tokens(issuer).identify(token(key, scope=scope))).scopes == allowed


@pytest.mark.parametrize("scp", ["storage.read:/ compute.create", ["storage.read:/", "compute.create"]])
async def test_scopes_may_stand_in_scp_too(issuer: Issuer, key: rsa.RSAPrivateKey, scp: Any) -> None:
    assert (await tokens(issuer).identify(token(key, scope=None, scp=scp))).scopes == {"read", "train"}
    assert (await tokens(issuer).identify(token(key, scope="storage.create:/", scp=scp))).scopes == {
        *("read", "train", "stream")
    }


async def test_a_site_configures_the_meaning_of_scopes(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    known = tokens(issuer, JWT_SCOPES="read:/=read write:/=stream glitchflow.operator=admin")
    assert (await known.identify(token(key, scope="read:/ write:/ storage.read:/"))).scopes == {"read", "stream"}
    assert (await known.identify(token(key, scope="glitchflow.operator"))).scopes == EVERYTHING


@pytest.mark.parametrize(
    ("seen", "group"),
    [
        (["/a", "/b"], "/a"),
        ("daq", "daq"),
        (["Détchar of a:b"], "Détchar of a:b"),
        ("é" * 255, "é" * 255),
        (["", "/a"], "/a"),
        ([], None),
        ("", None),
        (None, None),
    ],
)
async def test_the_group_is_the_first_one_of_the_claim(
    issuer: Issuer, key: rsa.RSAPrivateKey, seen: Any, group: str | None
) -> None:
    assert (await tokens(issuer).identify(token(key, **{"wlcg.groups": seen}))).group == group
    assert (await tokens(issuer, JWT_GROUP="team").identify(token(key, team=seen))).group == group


@pytest.mark.parametrize("seen", [7, [["a"]], {"a": 1}, "a\r\nX-Evil: 1", ["/a ", "/b"], "a" * 256, "\ud800"])
async def test_a_group_that_cannot_be_used_is_refused_and_not_left_without_quotas(
    issuer: Issuer, key: rsa.RSAPrivateKey, seen: Any
) -> None:
    detail = await refusal(tokens(issuer), token(key, **{"wlcg.groups": seen}))
    assert detail.startswith("the token is not valid: its wlcg.groups has no group's name of 1 to 255 characters")


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        ("RS512", rsa_key),
        ("PS256", rsa_key),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("ES384", lambda: ec.generate_private_key(ec.SECP384R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
async def test_every_usual_kind_of_signature_is_taken(issuer: Issuer, algorithm: str, make: Any) -> None:
    key = make()
    issuer.publish(public_jwk(key, "k1", alg=algorithm))
    assert await tokens(issuer).identify(token(key, algorithm=algorithm)) == ALICE


@pytest.mark.parametrize("kind", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey])
async def test_keys_of_edwards_curves_are_for_eddsa_and_the_name_of_their_curve(issuer: Issuer, kind: Any) -> None:
    """RFC 9864 names the curve in `alg`, RFC 8037 does not."""
    key = kind.generate()
    curve = public_jwk(key, None)["crv"]
    for alg in ("EdDSA", curve, None):
        issuer.publish({**public_jwk(key, "k1"), **({"alg": alg} if alg else {})})
        known = tokens(issuer)
        assert await known.identify(token(key, algorithm="EdDSA")) == ALICE
        assert await known.identify(renamed(key, curve)) == ALICE
        assert "alg" in await refusal(known, renamed(key, "ES256"))


def renamed(key: Any, algorithm: str) -> str:
    """Sign a token with EdDSA, and name another algorithm in it."""
    head = base64url_encode(json.dumps({"alg": algorithm, "kid": "k1", "typ": "JWT"}).encode())
    signed = head + b"." + base64url_encode(json.dumps(claims()).encode())
    return (signed + b"." + base64url_encode(key.sign(signed))).decode()


async def test_every_key_of_an_id_whose_algorithm_fits_is_tried(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    issuer.publish(*(public_jwk(each, "k1", alg=alg) for alg, each in (("RS256", key), ("RS512", other))))
    known = tokens(issuer)
    assert await known.identify(token(key)) == ALICE
    assert await known.identify(token(other, algorithm="RS512")) == ALICE
    assert "alg" in await refusal(known, token(key, algorithm="RS384"))
    issuer.publish(public_jwk(other, "k1", alg="RS256"), public_jwk(key, "k1", alg="RS256"))
    assert await tokens(issuer).identify(token(key)) == ALICE


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_a_key_without_an_algorithm_is_for_every_algorithm_of_its_type(
    issuer: Issuer, key: rsa.RSAPrivateKey, algorithm: str
) -> None:
    issuer.publish(public_jwk(key, "k1"))
    assert await tokens(issuer).identify(token(key, algorithm=algorithm)) == ALICE


@pytest.mark.parametrize(
    "bad", ["k1", None, {}, {"kty": "RSA"}, {"kty": "RSA", "n": 5, "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": ""}]
)
async def test_a_damaged_key_of_the_issuer_does_not_disable_the_others(
    issuer: Issuer, key: rsa.RSAPrivateKey, bad: Any
) -> None:
    issuer.publish(bad, public_jwk(key, "k1"))
    assert await tokens(issuer).identify(token(key)) == ALICE


@pytest.mark.parametrize("kid", [["k1"], {"k1": 1}, 1])
async def test_a_key_whose_id_is_no_text_does_not_disable_the_others(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey, kid: Any
) -> None:
    issuer.publish({**public_jwk(other, "k1"), "kid": kid}, public_jwk(key, "k1"))
    known = tokens(issuer)
    assert await known.identify(token(key)) == ALICE
    assert "signature" in await refusal(known, token(other))


async def test_a_key_without_an_id_is_for_tokens_with_any_key_id(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    issuer.publish(public_jwk(other, "k2"), public_jwk(key, None))
    known = tokens(issuer)
    assert await known.identify(token(key, "k7")) == ALICE
    assert await known.identify(token(key, "k2")) == ALICE
    assert "alg" in await refusal(known, token(ec.generate_private_key(ec.SECP256R1()), "k7", "ES256"))


@pytest.mark.parametrize(
    ("algorithm", "make", "private"),
    [
        ("RS256", rsa_key, RSAAlgorithm),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    ],
)
async def test_of_a_key_published_with_its_private_part_only_the_public_part_is_used(
    issuer: Issuer, algorithm: str, make: Any, private: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = make()
    issuer.publish({**private.to_jwk(key, as_dict=True), "kid": "k1"})
    assert await tokens(issuer).identify(token(key, algorithm=algorithm)) == ALICE
    assert [record.levelname for record in caplog.records if "private part of the key 'k1'" in record.message] == [
        "WARNING"
    ]


async def test_a_subject_may_be_as_long_as_the_name_of_a_holder(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    assert (await tokens(issuer).identify(token(key, sub="é" * 255))).name == "é" * 255


# ---- refusals


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": 10**400}, "exp"),
        *(({"exp": bad}, "exp") for bad in (math.inf, math.nan, "1e400")),
        ({"nbf": 10**400}, "not yet valid"),
        ({"nbf": int(time.time()) + 86_400}, "not yet valid"),  # counted from the start of the whole suite
        ({"aud": "https://another.example.org"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"aud": [AUDIENCE + "/", "x"]}, "[Aa]udience"),
        ({"iss": "https://evil.example.org"}, "[Ii]ssuer"),
        ({"iss": None}, "iss"),
        ({"sub": None}, "sub"),
        ({"sub": 5}, "[Ss]ubject"),
        *(
            ({"sub": sub}, "sub")
            for sub in ("", "\ud800", "alice\n", "\x00", " alice", "alice ", "a" * 256, "a\u202eb")
        ),
    ],
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_refused(
    issuer: Issuer, key: rsa.RSAPrivateKey, more: dict[str, Any], why: str
) -> None:
    detail = await refusal(tokens(issuer), token(key, **more))
    assert re.match(f"the token is not valid: it(s| has| is) .*{why}", detail), detail


async def test_clocks_may_differ_a_little(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    now = int(time.time())
    assert await tokens(issuer).identify(token(key, exp=now - 3, nbf=now + 3, iat=now + 3)) == ALICE


async def test_one_of_several_audiences_is_enough(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    known = tokens(issuer, JWT_AUDIENCE=f"{AUDIENCE}, https://wlcg.cern.ch/jwt/v1/any")
    assert await known.identify(token(key, aud="https://wlcg.cern.ch/jwt/v1/any")) == ALICE
    assert await known.identify(token(key, aud=["other", AUDIENCE])) == ALICE


async def test_a_signature_of_another_key_is_refused(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    assert "signature" in await refusal(tokens(issuer), token(other))
    good = token(key)
    head, body, signature = good.split(".")
    forged = base64url_encode(json.dumps(claims(sub="root")).encode()).decode()
    assert await refusal(tokens(issuer), f"{head}.{forged}.{signature}")
    assert await refusal(tokens(issuer), f"{head}.{body}.")


async def test_no_algorithm_at_all_is_refused(issuer: Issuer) -> None:
    unsigned = jwt.encode(claims(), "", "none", headers={"kid": "k1"})
    assert "alg" in await refusal(tokens(issuer), unsigned)
    for name in ("None", "NONE", ""):
        head = base64url_encode(json.dumps({"alg": name, "kid": "k1", "typ": "JWT"}).encode()).decode()
        assert await refusal(tokens(issuer), f"{head}.{unsigned.split('.')[1]}.")


async def test_the_public_key_does_not_pass_for_a_shared_secret(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    """Sign with HMAC and use the public key, which everybody knows, as the secret."""
    public = key.public_key()
    spellings = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
        json.dumps(public_jwk(key, "k1")).encode(),
    ]
    head = base64url_encode(json.dumps({"alg": "HS256", "kid": "k1", "typ": "JWT"}).encode())
    signed = head + b"." + base64url_encode(json.dumps(claims()).encode())
    for secret in spellings:
        signature = base64url_encode(hmac.new(secret, signed, hashlib.sha256).digest())
        assert "alg" in await refusal(tokens(issuer), (signed + b"." + signature).decode())


async def test_a_shared_secret_in_the_issuers_keys_is_not_used(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    secret = b"a secret of thirty-two bytes, no"
    shared = {"kty": "oct", "kid": "k2", "k": base64url_encode(secret).decode(), "alg": "HS256"}
    issuer.publish(public_jwk(key, "k1"), shared, public_jwk(key, "k3", use="enc"))
    known = tokens(issuer)
    assert await known.identify(token(key)) == ALICE
    for kid in ("k2", "k3"):
        assert "the token's key id (kid) cannot be used" in await refusal(known, token(secret, kid, "HS256"))
    with pytest.raises(ValueError, match="not a JWKS with a key for one of"):
        parse_jwks(json.dumps({"keys": [shared]}).encode())


@pytest.mark.parametrize(
    "more",
    [
        *({"use": "enc"}, {"alg": "RSA-OAEP"}, {"kty": "EC"}, {"n": "x"}),
        *({"key_ops": ["encrypt"]}, {"key_ops": []}, {"key_ops": "verify"}, {"key_ops": [{}]}),
    ],
)
async def test_a_key_that_is_there_but_cannot_be_used_is_named_as_the_reason(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey, more: dict[str, Any]
) -> None:
    issuer.publish(public_jwk(other, "k2", key_ops=["verify"], use="sig"), {**public_jwk(key, "k1"), **more})
    known = tokens(issuer)
    detail = "the issuer's key with the token's key id (kid) cannot be used: it is damaged, not for signatures"
    assert (await refusal(known, token(key))).startswith(detail)
    assert await refusal(known, token(key, "k3")) == "the issuer has no key with the token's key id (kid)"
    assert await known.identify(token(other, "k2")) == ALICE


async def test_a_key_is_for_the_algorithm_it_is_for(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    assert await refusal(tokens(issuer), token(key, algorithm="PS256"))


async def test_a_key_that_is_too_short_is_not_trusted_and_does_not_disable_the_others(
    issuer: Issuer, key: rsa.RSAPrivateKey
) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (that it is too short is what this is about)
    issuer.publish(public_jwk(short, "k1"))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        signed = token(short)
    assert "too short" in await refusal(tokens(issuer), signed)
    issuer.publish(public_jwk(short, "k1"), public_jwk(key, "k1"))
    known = tokens(issuer)
    assert await known.identify(token(key)) == ALICE
    assert "too short" in await refusal(known, signed)


@pytest.mark.parametrize(
    "credential",
    [
        *(None, "eyJhbGciOiJSUzI1NiJ9.e30.", "e30.e30.e30"),
    ],
    ids=lambda credential: repr(credential)[:12],
)
async def test_an_invalid_token_is_refused(issuer: Issuer, credential: str | None) -> None:
    assert await refusal(tokens(issuer), credential)


@pytest.mark.parametrize(
    "credential",
    [
        *("", ".", "..", "a.b.c", "x" * 10_000, "\xff"),
        *(
            f"{base64url_encode(head).decode()}.e30.e30"
            for head in (b"[" * 40_000, b"9" * 5000, b"\xff", b"", b"[]", b"{")
        ),
    ],
    ids=lambda credential: repr(credential)[:12],
)
async def test_a_text_that_is_not_a_token_is_refused_in_plain_words(issuer: Issuer, credential: str) -> None:
    detail = "the token is not valid: it is not a JWT, or its exp or nbf is not a time"
    assert await refusal(tokens(issuer), credential) == detail


async def test_a_token_that_names_no_key_means_the_only_one(
    issuer: Issuer, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    assert await tokens(issuer).identify(token(key, None)) == ALICE
    issuer.publish(public_jwk(key, "k1"), public_jwk(other, "k2"))
    assert await refusal(tokens(issuer), token(key, None))


# ---- changing keys


async def test_a_new_key_is_fetched_when_the_first_token_signed_with_it_comes(
    issuer: Issuer, clock: Clock, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    known = tokens(issuer, clock)
    assert await known.identify(token(key)) == ALICE
    assert issuer.asked == 1
    issuer.publish(public_jwk(key, "k1"), public_jwk(other, "k2"))
    clock.now += 31
    assert await known.identify(token(other, "k2")) == ALICE
    assert await known.identify(token(key)) == ALICE
    assert issuer.asked == 2


async def test_tokens_with_unknown_keys_do_not_cause_a_request_to_the_issuer_each_time(
    issuer: Issuer, clock: Clock, other: rsa.RSAPrivateKey, key: rsa.RSAPrivateKey
) -> None:
    known = tokens(issuer, clock)
    for number in range(50):
        assert "the issuer has no key" in await refusal(known, token(other, f"unknown-{number}"))
        assert await known.identify(token(key)) == ALICE
    assert issuer.asked == 1
    clock.now += 31
    for number in range(50):
        assert await refusal(known, token(other, f"unknown-{number}"))
    assert issuer.asked == 2


async def test_a_key_taken_back_is_refused_once_the_keys_are_renewed(
    issuer: Issuer, clock: Clock, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    known, signed = tokens(issuer, clock), token(key)
    assert await known.identify(signed) == ALICE
    issuer.publish(public_jwk(other, "k2"))
    clock.now += 601
    assert await known.identify(signed) == ALICE  # it starts a renewal, and does not wait
    with anyio.fail_after(60):
        while issuer.asked < 2 or await _passes(known, signed):  # noqa: ASYNC110 (what is waited for is another thread's)
            await asyncio.sleep(0.01)
    assert "the issuer has no key" in await refusal(known, signed)


async def _passes(known: Tokens, signed: str) -> bool:
    try:
        await known.identify(signed)
    except Unauthorized:
        return False
    return True


async def test_an_issuer_that_goes_away_leaves_its_keys_in_force(
    issuer: Issuer, clock: Clock, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    known = tokens(issuer, clock)
    assert await known.identify(token(key)) == ALICE
    issuer.document = None
    clock.now += 601
    assert await refusal(known, token(other, "k2"))
    assert issuer.url in caplog.text
    assert await known.identify(token(key, iat=1)) == ALICE


async def test_an_unreachable_issuer_is_reported_and_asked_again_later(
    issuer: Issuer, clock: Clock, key: rsa.RSAPrivateKey
) -> None:
    document, issuer.document = issuer.document, None
    known = tokens(issuer, clock)
    for _ in range(3):
        with pytest.raises(IssuerAway) as away:
            await known.identify(token(key))
        assert away.value.retry_after == 30
    assert issuer.asked == 1
    issuer.document = document
    clock.now += 30
    assert await known.identify(token(key)) == ALICE


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": [{"kty": "RSA"}]}, [], "keys", {"keys": "k1"}])
async def test_an_invalid_jwks_is_logged(
    issuer: Issuer, key: rsa.RSAPrivateKey, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.document = document
    with pytest.raises(IssuerAway):
        await tokens(issuer).identify(token(key))
    assert "JWKS" in caplog.text


@pytest.mark.parametrize("text", [b"<html>", b"\x1f\x8b\x08", b"\xff"])
def test_a_text_that_is_not_json_is_no_jwks(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a JWKS: it is not JSON$"):
        parse_jwks(text)


async def test_while_keys_are_fetched_everything_else_goes_on_and_they_are_fetched_once(
    issuer: Issuer, key: rsa.RSAPrivateKey
) -> None:
    issuer.delay = 60
    known = tokens(issuer)
    waiting = [asyncio.create_task(known.identify(token(key))) for _ in range(5)]
    with anyio.fail_after(60):
        while not issuer.asked:  # noqa: ASYNC110 (what is waited for is another thread's)
            await asyncio.sleep(0.01)  # the loop is not blocked, or this would not return in time
    waiting.pop().cancel()  # cancelling one does not cancel the fetch for the others
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    issuer.released.set()
    assert await asyncio.gather(*waiting) == [ALICE] * 4
    assert issuer.asked == 1


def test_an_answer_that_never_ends_delays_neither_the_request_nor_the_stop_beyond_the_limit(
    key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dripping(talk: ServerConnection) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
        for _ in range(2000):
            talk.say(b" ")
            time.sleep(0.05)

    monkeypatch.setattr("glitchflow_api.tokens._FETCH_SECONDS", 0.3)
    with raw_server(dripping) as server:
        start = time.monotonic()
        with pytest.raises(IssuerAway):
            asyncio.run(Tokens(settings(), KeysOfUrl(server.url)).identify(token(key)))
        assert time.monotonic() - start < 60  # the whole answer takes 100
        assert "no complete answer within 0.3 s" in caplog.text
        assert server.ended[0].wait(60), "the connection stays open"


async def test_a_stop_ends_the_fetch_of_the_keys_and_answers_those_who_wait(
    issuer: Issuer, key: rsa.RSAPrivateKey
) -> None:
    issuer.delay = 60
    known = tokens(issuer)
    waiting = asyncio.create_task(known.identify(token(key)))
    with anyio.fail_after(60):
        while not issuer.asked:  # noqa: ASYNC110 (what is waited for is another thread's)
            await asyncio.sleep(0.01)
    known.close()
    with anyio.fail_after(50), pytest.raises(IssuerAway):  # the answer takes 60
        await waiting
    issuer.released.set()


async def test_keys_in_a_file_are_read_again_when_it_changes(
    tmp_path: Path, key: rsa.RSAPrivateKey, other: rsa.RSAPrivateKey
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [public_jwk(key, "k1")]}))
    keys = KeysOfFile(path)
    keys._file._look_seconds = 0  # noqa: SLF001 (not to wait a second)
    known = Tokens(settings(), keys)
    assert await known.identify(token(key)) == ALICE
    path.write_text(json.dumps({"keys": [public_jwk(other, "k2")]}))
    assert await known.identify(token(other, "k2")) == ALICE
    assert await refusal(known, token(key))


# ---- the cache of checked tokens


class Counting(Tokens):
    """Counts how often a token is really checked."""

    checks = 0

    async def _check(self, *arguments: Any) -> dict[str, Any]:
        self.checks += 1
        return await super()._check(*arguments)


async def test_a_checked_token_is_cached_for_a_minute_or_until_it_expires(
    issuer: Issuer, clock: Clock, key: rsa.RSAPrivateKey
) -> None:
    clock.now = time.time()
    known = Counting(settings(), KeysOfUrl(issuer.url), clock=clock)
    short, long = token(key, exp=int(clock.now) + 30), token(key, exp=int(clock.now) + 600)

    async def ask_all() -> int:
        before = known.checks
        for signed in (short, long) * 3:
            assert await known.identify(signed) == ALICE
        return known.checks - before

    assert await ask_all() == 2
    assert await ask_all() == 0
    clock.now += 45
    assert await ask_all() == 3  # of the short one, which may no longer be used from the cache
    clock.now += 20
    assert await ask_all() == 4


async def test_a_refused_token_is_checked_again_each_time(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    known = Counting(settings(), KeysOfUrl(issuer.url))
    for _ in range(3):
        assert await refusal(known, token(key)[:-8] + "AAAAAAAA")
    assert known.checks == 3


async def test_the_cache_of_checked_tokens_is_bounded(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    known = tokens(issuer)
    signed = [token(key, jti=str(number)) for number in range(6)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("glitchflow_api.tokens._MOST_CACHED", 3)
        for each in signed:
            await known.identify(each)
    assert len(known._cache) == 3  # noqa: SLF001 (that it is bounded shows nowhere else)


# ---- at the gateway


def test_the_gateway_takes_tokens_of_its_issuer(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    with TestClient(create_app(settings(JWT_JWKS=issuer.url))) as client:
        signed = token(key)
        seen = client.get("/whoami", headers={"Authorization": f"Bearer {signed}"}).json()
        assert seen == {"auth": "jwt", "name": "alice", "group": "/detchar", "scopes": ["read", "stream"]}
        assert client.post("/cleanbuf", headers={"Authorization": f"Bearer {signed}"}).json()["code"] == "forbidden"
        assert client.get("/stats").json()["code"] == "unauthorized"
        assert client.post("/session", json={"key": signed}).status_code == 204
        assert client.get("/whoami").json()["name"] == "alice"


def test_a_token_too_long_for_a_cookie_begins_no_session(issuer: Issuer, key: rsa.RSAPrivateKey) -> None:
    with TestClient(create_app(settings(JWT_JWKS=issuer.url))) as client:
        long = token(key, wlcg=["/group"] * 500)
        answer = client.post("/session", json={"key": long})
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid-request", "key")
        assert f"{len(long)} characters; a browser's cookie holds at most 4086" in answer.json()["detail"]
        assert "set-cookie" not in answer.headers
        assert client.get("/whoami", headers={"Authorization": f"Bearer {long}"}).json()["name"] == "alice"


def test_an_issuer_that_is_away_is_our_fault_and_closes_no_open_route(
    issuer: Issuer, key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.document = None
    headers = {"Authorization": f"Bearer {token(key)}"}
    with TestClient(create_app(settings(JWT_JWKS=issuer.url))) as client, caplog.at_level(logging.ERROR):
        answer = client.get("/stats", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "issuer-unreachable")
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert client.get("/whoami", headers=headers).json()["scopes"] == []
        assert client.get("/healthz", headers=headers).status_code == 200
