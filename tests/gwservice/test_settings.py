import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from databuffer.settings import BufferSettings
from dslogic.settings import LogicSettings
from glitchflow_api.settings import GatewaySettings
from gwservice.settings import Address, ServiceSettings, parse_address


@pytest.mark.parametrize("settings", [BufferSettings, LogicSettings, GatewaySettings])
def test_nothing_has_to_be_set(settings: type[ServiceSettings]) -> None:
    assert settings.load()


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("50MB", 50_000_000), ("1.5 KiB", 1536), ("0", 0)])
def test_a_size_may_be_written_with_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("MAX_SIZE", text)
    assert size == LogicSettings.load().MAX_SIZE


def test_a_form_of_log_lines_that_there_is_not_stops_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(SystemExit, match="2"):
        BufferSettings.load()
    assert capsys.readouterr().err == "databuffer: setting LOG_FORMAT='xml': expected 'json' or 'text'\n"


def test_a_setting_of_two_words_says_which(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NLDS_API", "yes")
    with pytest.raises(SystemExit, match="2"):
        GatewaySettings.load()
    assert capsys.readouterr().err == "glitchflow_api: setting NLDS_API='yes': expected 'off' or 'on'\n"


@pytest.mark.parametrize("text", ["bufstat", "/bufstat", "//bufstat"])
def test_a_route_may_be_written_without_a_slash_and_a_base_url_with_one(text: str) -> None:
    gateway = GatewaySettings.model_validate({"DS_STAT": text, "DS_BURL": "http://dslogic:5000/"})
    assert (gateway.DS_STAT, gateway.DS_BURL) == ("/bufstat", "http://dslogic:5000")
    logic = LogicSettings.model_validate({"ENDP_STAT": text, "DB_BURL": "http://databuff:8080/"})
    assert (logic.ENDP_STAT, logic.DB_BURL) == ("/bufstat", "http://databuff:8080")


@pytest.mark.parametrize(
    ("volume", "data"),
    [
        ("data/", "data/datavar/"),
        ("./data", "data/datavar"),
        (".", "datavar"),
        ("../data", "../data/datavar"),
        (f"{Path.cwd()}/data", "data/datavar"),
        ("data", f"{Path.cwd()}/data/datavar/"),
    ],
)
def test_folders_may_be_relative_to_the_working_directory(volume: str, data: str) -> None:
    assert BufferSettings.model_validate({"DTVOLROOT": volume, "DATAROOT": data})
    with pytest.raises(ValueError, match="is not a folder directly in DTVOLROOT"):
        BufferSettings.model_validate({"DTVOLROOT": volume, "DATAROOT": f"{data}/deeper"})


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"DSST": "StatDesc.json"}, "DSST and ADMFNM are the same file, /adm/StatDesc.json"),
        ({"ADMFNM": "catalog.sqlite"}, "ADMFNM and the catalog in ADMROOT are the same file, /adm/catalog.sqlite"),
        ({"DSST": "catalog.sqlite-wal"}, "DSST and the catalog in ADMROOT are the same file"),
        ({"LOGROOT": "/log/../adm", "LOGSTREAM": "Dsstat.json"}, "LOGSTREAM and DSST are the same file"),
        ({"LOGROOT": "/adm", "ADMFNM": "next.LogStream.json"}, "LOGSTREAM (of the next batch) and ADMFNM are"),
        ({"LOGSTREAM": "MANIFEST.json"}, "LOGSTREAM (in the archive) and the manifest in DATAROOT are the same file"),
        *(
            ({"DATAROOT": f"/vol/{name}"}, f"DATAROOT /vol/{name}: the buffer needs this name in DTVOLROOT")
            for name in ("next", "quarantine", ".incoming", ".ledger", ".lock", "..", "2026-11-20 23 41", "lost+found")
        ),
        *(
            ({name: f"/vol/{folder}"}, f"'/vol/{folder}': expected a folder outside /vol/{folder.split('/')[0]}, which")
            for name in ("ADMROOT", "LOGROOT")
            for folder in ("data", "data/adm", ".incoming", "next", "quarantine/a/b", ".ledger", "2026-11-29 14 23/adm")
        ),
        *(
            (
                {root: "/vol", name: folder},
                f"{name}={folder!r}: the buffer needs this name for a folder, because {root}",
            )
            for root, name in (("ADMROOT", "ADMFNM"), ("ADMROOT", "DSST"), ("LOGROOT", "LOGSTREAM"))
            for folder in ("data", "next", "quarantine", "2026-11-20 23 41", "lost+found")
        ),
        ({"DATAROOT": "/vol/catalog.sqlite", "ADMROOT": "/vol"}, "DATAROOT and the catalog in ADMROOT are the same"),
        ({"LOGSTREAM": "gwb1.json"}, "LOGSTREAM='gwb1.json': expected a name unlike a segment's, such as gwb123.json"),
        ({"DATANM": "O3b", "LOGSTREAM": "O3b1.json"}, "LOGSTREAM='O3b1.json': expected a name unlike a segment's"),
        *(({name: ".."}, "without '/' that does not begin with '.'") for name in ("ADMFNM", "DSST", "LOGSTREAM")),
        ({"DSST": "a/b"}, "without '/' that does not begin with '.'"),
        ({"ADMFNM": ""}, "without '/' that does not begin with '.'"),
    ],
)
def test_two_settings_cannot_name_the_same_file_nor_one_that_the_buffer_needs(
    more: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"DTVOLROOT": "/vol", "DATAROOT": "/vol/data", "ADMROOT": "/adm", "LOGROOT": "/log"}
    for name, value in (folders | more).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        BufferSettings.load()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("databuffer: ")
    assert reason in line
    assert all(name in line for name in more if name not in {"LOGROOT", "DATANM"})


@pytest.mark.parametrize("place", ["data/deep/er", "next", ".bundles/x", "2026-11-29 14 23/x"])
@pytest.mark.parametrize("setting", ["DTVOLROOT", "ADMROOT", "LOGROOT", "TIERS"])
def test_a_folder_that_another_buffer_would_move_is_refused_and_one_beside_its_batches_is_not(
    place: str, setting: str, tmp_path: Path
) -> None:
    volume, own = tmp_path / "vol", tmp_path / "own"
    (volume / ".incoming").mkdir(parents=True)
    for name in (".lock", ".data.batch.json"):
        (volume / name).touch()

    def settings(folder: Path) -> BufferSettings:
        root = folder if setting == "DTVOLROOT" else own
        folders = {"ADMROOT": own / "adm", "LOGROOT": own / "log", "DTVOLROOT": root, "DATAROOT": root / "data"}
        value = {setting: f"a=file://{quote(str(folder))}" if setting == "TIERS" else folder}
        return BufferSettings.model_validate(folders | value)

    assert settings(volume / "other")
    top = volume / place.partition("/")[0]
    with pytest.raises(ValueError, match=f"{setting}.*: expected a folder outside {top}, which another buffer uses"):
        settings(volume / place)


def test_a_data_folder_that_is_the_volume_of_another_buffer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / ".incoming").mkdir(parents=True)
    (tmp_path / "data" / ".lock").touch()
    with pytest.raises(ValueError, match=r"DATAROOT='.*/data': it is the DTVOLROOT of another buffer"):
        BufferSettings.model_validate({"DTVOLROOT": tmp_path, "DATAROOT": tmp_path / "data"})


@pytest.mark.parametrize("below", ["", "deeper"])
@pytest.mark.parametrize("name", ["ADMROOT", "LOGROOT", "DTVOLROOT"])
def test_a_loop_of_symbolic_links_is_named(
    name: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    folder = str(tmp_path / "loop" / below)
    monkeypatch.setenv(name, folder)
    with pytest.raises(SystemExit, match="2"):
        BufferSettings.load()
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"databuffer: setting {name}={folder!r}: expected a folder, not a loop of symbolic links"


@pytest.mark.parametrize("folder", [".", "adm", "database/adm", "../vol2/data"])
def test_the_state_files_may_lie_elsewhere_on_the_volume(folder: str) -> None:
    folders = {"DTVOLROOT": "/vol", "DATAROOT": "/vol/data", "ADMROOT": f"/vol/{folder}", "LOGROOT": f"/vol/{folder}"}
    assert BufferSettings.model_validate(folders)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address("0.0.0.0", 8080)),
        ("8080", Address("0.0.0.0", 8080)),
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["host", "host:", ":x", ":70000", ":-1", "a..b:80", "http://127.0.0.1:80", "a b:80", "me@host:80"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        (["-m", "databuffer"], "SERVURL", "nowhere"),
        (["-m", "gunicorn", "-c", "dslogic/gunicorn.conf.py", "dslogic.app:create_app('default')"], "MAX_SIZE", "big"),
        (["-m", "glitchflow_api"], "DS_BURL", "dslogic:5000"),
    ],
)
def test_a_bad_value_stops_the_service_at_start_with_one_clear_line(command: list[str], name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, *command],
        check=False,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode != 0
    assert len(ended.stderr.splitlines()) == 1
    assert name in ended.stderr
    assert value in ended.stderr


@pytest.mark.parametrize(
    ("settings", "name", "value", "expected"),
    [
        (BufferSettings, "WCHSZ", "0", "1 or more"),
        (BufferSettings, "WCHSZ", "many", "a whole number"),
        (BufferSettings, "MAX_META", "0", "1 or more"),
        *(
            (service, name, value, "a whole number of bytes, such as 1048576, 50MB or 50MiB")
            for service, name, value in (
                (BufferSettings, "MAX_META", "1 Mi B"),
                (BufferSettings, "MAX_BODY", "1e-9"),
                (GatewaySettings, "MAX_BODY", "1e3"),
                (LogicSettings, "MAX_SIZE", "-1"),
                (LogicSettings, "MAX_SIZE", "1.0001kB"),
            )
        ),
        (BufferSettings, "DATANM", "\udcff", "text in UTF-8"),
        (BufferSettings, "SERVURL", "\udcff:1", "text in UTF-8"),
        (LogicSettings, "LOG_FORMAT", "\udce9", "text in UTF-8"),
        (BufferSettings, "DATANM", "é" * 101, "a file name of at most 200 bytes, without control characters"),
        *(
            (
                BufferSettings,
                "DATANM",
                value,
                "at most 150 letters, digits, '_', '.' and '-'; segments are read by their names",
            )
            for value in ("a b", "[x]", "*", "a%41", "a" * 151)
        ),
        (BufferSettings, "DATANM", "a\nb", "a file name of at most 200 bytes, without control characters"),
        (GatewaySettings, "EVENTS_INTERVAL", "0", "a number above 0"),
        (GatewaySettings, "EVENTS_INTERVAL", "61", "60 or less"),
        (GatewaySettings, "RATE", "fast", "a number"),
    ],
)
def test_a_value_that_is_not_allowed_is_reported_in_one_line_with_what_is_expected(  # noqa: PLR0913, PLR0917 (two are fixtures)
    settings: type[ServiceSettings],
    name: str,
    value: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="2"):
        settings.load()
    service = settings.__module__.partition(".")[0]
    assert capsys.readouterr().err == f"{service}: setting {name}={value!r}: expected {expected}\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " "])
def test_a_value_may_end_with_the_line_break_of_its_file(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    written = {"ADMROOT": "/adm", "ON_FROZEN": "rotate", "MAX_BODY": "1MB", "SERVURL": "127.0.0.1:1", "WCHSZ": "5"}
    for name, value in written.items():
        monkeypatch.setenv(name, value + end)
    found = BufferSettings.load()
    assert (str(found.ADMROOT), found.ON_FROZEN, found.MAX_BODY, found.WCHSZ) == ("/adm", "rotate", 10**6, 5)
    monkeypatch.setenv("DS_BURL", f"http://127.0.0.1:5000/{end}")
    assert GatewaySettings.load().DS_BURL == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (BufferSettings, "ADMROOT", " "),
        (BufferSettings, "LOGROOT", "/a\nb"),
        (BufferSettings, "CALLER_SECRET_FILE", ""),
        (GatewaySettings, "DS_STAT", ""),
        (GatewaySettings, "DS_STAT", "/buf stat"),
        (GatewaySettings, "DS_BURL", "http://a\nb"),
        (GatewaySettings, "DS_BURL", "http://alice:pass@127.0.0.1"),
        (BufferSettings, "TIERS", "http://alice:pass@127.0.0.1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line_without_a_password(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: type[ServiceSettings],
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        settings.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"setting {name}=" in line
    assert "pass" not in line


@pytest.mark.parametrize("url", ["http://h:99999", "http://h:port", "h:5000", "http://", "http://[::1"])
def test_an_address_that_cannot_be_one_stops_the_service_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("DB_BURL", url)
    with pytest.raises(SystemExit, match="2"):
        LogicSettings.load()
    assert capsys.readouterr().err == (
        f"dslogic: setting DB_BURL={url!r}: expected http://HOST:PORT or https://HOST:PORT\n"
    )


@pytest.mark.parametrize("value", ["0", "-1", "0MB", "0.5"])
@pytest.mark.parametrize("settings", [BufferSettings, LogicSettings, GatewaySettings])
def test_a_service_that_could_take_no_body_does_not_start(
    settings: type[ServiceSettings], value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_BODY", value)
    with pytest.raises(SystemExit, match="2"):
        settings.load()
    [line] = capsys.readouterr().err.splitlines()
    assert f"setting MAX_BODY={value!r}: " in line
