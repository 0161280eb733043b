import pytest

from databuffer.fingerprint import fingerprint, is_fingerprint, matches


@pytest.mark.parametrize("token", ["", "secret", "Größe 🜁", "x" * 10_000])
def test_a_fingerprint_knows_its_token_and_no_other(token: str) -> None:
    written = fingerprint(token)
    assert is_fingerprint(written)
    assert matches(written, token)
    assert not matches(written, token + " ")
    assert not token or token not in written


def test_two_fingerprints_of_a_token_differ() -> None:
    assert fingerprint("secret") != fingerprint("secret")


@pytest.mark.parametrize("text", ["", "secret", "scrypt:14:00:00", "sha256:aa:bb"])
def test_an_invalid_fingerprint_matches_nothing(text: str) -> None:
    assert not is_fingerprint(text)
    assert not matches(text, text)
