"""Certificate and key of a service: which files are accepted, and the one-line messages for others."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glitchflow_api.settings import GatewaySettings
from gwservice.tls import server_tls
from gwservice.watched_file import FileBroken
from tests.support.certificates import Authority, write_key


@pytest.mark.parametrize("what", ["another key", "no key", "no certificate", "passphrase"])
def test_files_that_are_no_certificate_and_its_key_are_refused(tmp_path: Path, what: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.certify("service")
    assert server_tls(certificate, key)
    match what:
        case "another key":
            _, key = authority.certify("somebody")
        case "no key":
            key.unlink()
        case "no certificate":
            certificate.write_text("nonsense")
        case "passphrase":
            write_key(key, ec.generate_private_key(ec.SECP256R1()), b"secret")
    with pytest.raises(FileBroken, match=str(tmp_path)) as refused:
        server_tls(certificate, key)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["keys.log", "missing/keys.log"])
def test_the_keys_of_connections_are_not_written_to_a_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / file))
    context = server_tls(*Authority(tmp_path).certify("service"))
    assert context.keylog_filename is None
    assert not (tmp_path / file).exists()


@pytest.mark.parametrize("alone", ["TLS_CERT", "TLS_KEY"])
def test_certificate_and_key_must_be_set_together(alone: str) -> None:
    with pytest.raises(ValueError, match="TLS_CERT and TLS_KEY must be set together"):
        GatewaySettings.model_validate({alone: "/some/file.pem"})
