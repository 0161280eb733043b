"""GWDataFind v1 over the stored strain, and the files that it names: for unmodified clients as gwdatafind and gwpy."""

import asyncio
import time
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from msgspec import Meta
from pydantic import Field

from glitchflow_api.bundle_routes import RelayedForGroup
from glitchflow_api.errors import NoSuchFile
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.openapi import described_strain_file, responses
from glitchflow_api.routes import Logic
from glitchflow_api.sessions import CurrentCaller, public_scheme, public_url
from glitchflow_api.strain_files import FORMATS, Dataset, datasets, parse_name
from glitchflow_api.url_pattern import PATTERN, compile_pattern
from glitchflow_api.while_allowed import WhileAllowed
from gwwire.bundles import Bundle, BundleOrder, BundleState
from gwwire.decoding import InvalidRequest
from gwwire.public import Coverage, Scope
from gwwire.query import Query as StrainQuery

router = APIRouter(default_response_class=Response, tags=["files"])

#: The most spans of a channel that /coverage returns.
_MOST_SPANS = 100_000
#: The most files in an answer: 300 days without a gap.
_MOST_FILES = 100_000
#: s until a request for a file is answered that it is still being built; the clients' own timeouts are shorter.
_BUILD_SECONDS, _POLL = 60.0, 0.1
_SERVED = " and ".join(f"`{extension}`" for extension in FORMATS)
Extension = Annotated[str, Path(pattern=r"^\w+$", max_length=20, description=f"only {_SERVED} have files")]
Site = Annotated[str, Path(pattern=r"^\w+$", max_length=20, description="first letter of the detector")]
Type = Annotated[str, Path(max_length=255, description="type of a channel, as in the names of files")]
Gps = Annotated[float, Path(allow_inf_nan=False, description="GPS s")]
# A parameter of the path where that has it, else of the query.
UrlType = Annotated[str | None, Field(pattern=r"^\w+$", max_length=20, description="only `http` or `https` has URLs")]
FileName = Annotated[str, Path(max_length=255, examples=["L-L1_GWOSC_4KHZ_R1_STRAIN-1126259446-32.hdf5"])]
#: Only patterns that are evaluated quickly: others could occupy the gateway for ever.
Match = Annotated[
    str,
    Query(
        pattern=PATTERN,
        max_length=200,
        description="only URLs in which this is found: text, `.*` at most three times, `^`, `$`",
    ),
]
_TEXTS, _SPANS = list[str], list[Annotated[list[int], Meta(min_length=2, max_length=2)]]


@router.get("/api/version", responses=responses(dict[str, Any]))
async def api_version() -> Response:
    """Return the versions of the software and of GWDataFind's API."""
    return _json({"version": version("glitchflow-datastore"), "api_versions": ["v1"]})


@router.get("/api/v1/{ext}.json", responses=responses(_TEXTS))
async def observatories(ext: Extension, logic: Logic) -> Response:
    """Return the sites with strain."""
    return _json(sorted({each.site for each in await _datasets(logic, ext)}))


@router.get("/api/v1/{ext}/{site}.json", responses=responses(_TEXTS))
async def types(ext: Extension, site: Site, logic: Logic) -> Response:
    """Return the types of a site, or of `all`: one for each channel."""
    return _json(sorted({each.type for each in await _datasets(logic, ext) if site in {"all", each.site}}))


@router.get("/api/v1/{ext}/{site}/{frametype}/segments.json", responses=responses(_SPANS))
async def all_times(ext: Extension, site: Site, frametype: Type, logic: Logic) -> Response:
    """Return the stored GPS seconds of a type, as `[[start, stop], …]`."""
    found = await _dataset(logic, ext, site, frametype)
    return _json(found.spans if found else [])


@router.get("/api/v1/{ext}/{site}/{frametype}/segments/{start},{stop}.json", responses=responses(_SPANS))
async def times(ext: Extension, site: Site, frametype: Type, start: Gps, stop: Gps, logic: Logic) -> Response:  # noqa: PLR0913, PLR0917 (the parts of the path)
    """Return the stored GPS seconds of a type within a span."""
    found = await _dataset(logic, ext, site, frametype)
    return _json(found.within(start, stop) if found else [])


@router.get("/api/v1/{ext}/{site}/{frametype}/latest.json", responses=responses(_TEXTS))
@router.get("/api/v1/{ext}/{site}/{frametype}/latest/{urltype}.json", responses=responses(_TEXTS))
async def latest(  # noqa: PLR0913, PLR0917 (the parts of the path)
    request: Request, ext: Extension, site: Site, frametype: Type, logic: Logic, urltype: UrlType = None
) -> Response:
    """Return the URL of the latest file of a type."""
    found = await _dataset(logic, ext, site, frametype)
    return _json(_urls(request, found, urltype, found.latest() if found else []))


@router.get("/api/v1/{ext}/{site}/{frametype}/{start},{stop}.json", responses=responses(_TEXTS))
@router.get("/api/v1/{ext}/{site}/{frametype}/{start},{stop}/{urltype}.json", responses=responses(_TEXTS))
async def urls(  # noqa: PLR0913, PLR0917 (the parts of the path)
    request: Request,
    ext: Extension,
    site: Site,
    frametype: Type,
    start: Gps,
    stop: Gps,
    logic: Logic,
    urltype: UrlType = None,
    match: Match = "",
) -> Response:
    """Return the URLs of the files of a type that overlap a span."""
    found, pattern = await _dataset(logic, ext, site, frametype), compile_pattern(match)
    files = list(islice(found.files(start, stop), _MOST_FILES + 1)) if found else []
    if len(files) > _MOST_FILES:
        raise InvalidRequest(f"the span has more than {_MOST_FILES:,} files; ask for a shorter one", field="stop")
    return _json([url for url in _urls(request, found, urltype, files) if pattern.match(url)])


@router.get("/api/v1/{ext}/{site}/{frametype}/{name}.json", responses=responses(_TEXTS))
async def url(request: Request, ext: Extension, site: Site, frametype: Type, name: FileName, logic: Logic) -> Response:  # noqa: PLR0913, PLR0917 (the parts of the path)
    """Return the URL of a file by its name, or nothing if there is no such file."""
    is_of_type = name.startswith(f"{site}-{frametype}-") and name.endswith(f".{ext}")
    return _json([_url(request, name)] if is_of_type and await _find(logic, name) else [])


@router.get("/files/{name}", responses=described_strain_file())
async def strain_file(name: FileName, caller: CurrentCaller, logic: Logic) -> Response:
    """Return the strain of whole GPS seconds of one channel, as HDF5 in GWOSC's layout or as a frame file (GWF).

    The file is built when it is first requested, and kept as a bundle is. Its ETag is its SHA-256; range requests are
    supported. A download ends when its credential is no longer valid.
    """
    order = await _find(logic, name)
    if order is None:
        raise NoSuchFile(f"there is no file {name!r}: not all of its span is stored")
    bundle = await _built(logic, order, caller.group)
    answer = RelayedForGroup(f"/bundles/{bundle.id}/files/{quote(name, safe='')}".encode())
    return WhileAllowed(answer, Scope.READ)


async def _datasets(logic: LogicClient, ext: str) -> list[Dataset]:
    """Return all datasets, with no more than one of the spans of each."""
    return datasets((await logic.get("/coverage?limit=1", Coverage)).channels, ext) if ext in FORMATS else []


async def _dataset(logic: LogicClient, ext: str, site: str, frametype: str) -> Dataset | None:
    """Return the dataset of a type, or None if there is none."""
    channels = [each.channel for each in await _datasets(logic, ext) if (each.site, each.type) == (site, frametype)]
    if not channels:
        return None
    query = urlencode({"channel": channels[0], "limit": _MOST_SPANS})
    found = datasets((await logic.get(f"/coverage?{query}", Coverage)).channels, ext)
    return next((each for each in found if each.channel == channels[0]), None)


async def _find(logic: LogicClient, name: str) -> BundleOrder | None:
    """Return the order of a bundle of one file, or None if there is no file of this name."""
    parts = parse_name(name)
    if parts is None:
        return None
    site, frametype, start, stop, extension = parts
    found = await _dataset(logic, extension, site, frametype)
    if found is None or not found.has_file(start, stop):
        return None
    query = StrainQuery(channel=(found.channel,), start=float(start), stop=float(stop))
    return BundleOrder(FORMATS[extension], query)


async def _built(logic: LogicClient, order: BundleOrder, group: str | None) -> Bundle:
    """Return the bundle of an order of a group when it is built, or after some time."""
    bundle = await logic.make_bundle(order, group)
    deadline = time.monotonic() + _BUILD_SECONDS
    while bundle.state is BundleState.BUILDING and time.monotonic() < deadline:
        await asyncio.sleep(_POLL)
        bundle = await logic.get(f"/bundles/{bundle.id}", Bundle)
    return bundle


def _urls(request: Request, found: Dataset | None, urltype: str | None, files: Iterable[tuple[int, int]]) -> list[str]:
    if found is None or urltype not in {None, public_scheme(request)}:
        return []
    return [_url(request, found.name(start, stop)) for start, stop in files]


def _url(request: Request, name: str) -> str:
    return public_url(request, f"/files/{quote(name)}")


def _json(answer: Any) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
