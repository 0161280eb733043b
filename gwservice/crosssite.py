"""Orders that another site's page made a browser send: refused, because the browser adds the cookie by itself."""

from urllib.parse import urlsplit

from gwservice.passing import Headers
from gwwire.problems import ProblemCode, ProblemError

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class CrossSite(ProblemError):
    """A browser sent the order for a page of another site."""

    code = ProblemCode.CROSS_SITE


def refuse_cross_site(method: str, headers: Headers) -> None:
    """Let pass what no other site's page can have sent.

    Browsers tell where a request comes from in `Sec-Fetch-Site` and `Origin`, which a page cannot change; programs send
    neither.

    Raises:
        CrossSite: the order comes from elsewhere.

    """
    if method in _SAFE:
        return
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None and site not in _OWN:
        raise CrossSite(f"the browser says that the request is {site}: orders are taken from this site's own pages")
    if origin is not None and not _is_own(origin, headers):
        raise CrossSite("the Origin of the request is another site: orders are taken from this site's own pages")


def _is_own(origin: str, headers: Headers) -> bool:
    """Compare with the name the browser asked, which a proxy keeps in X-Forwarded-Host (of several, the first)."""
    try:
        scheme, asked, *_ = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(scheme, "")
    forwarded = (headers.get("X-Forwarded-Host") or "").partition(",")[0].strip()
    names = {name.lower().removesuffix(port) for name in (headers.get("Host"), forwarded) if name}
    return asked.lower().removesuffix(port) in names
