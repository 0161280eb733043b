"""Orders that another site's page made a browser send."""

import pytest
from gwservice.crosssite import CrossSite, refuse_cross_site

PROGRAM: dict[str, str] = {"Host": "gw.example.org"}

OWN = [
    PROGRAM,
    {**PROGRAM, "Sec-Fetch-Site": "same-origin", "Origin": "https://gw.example.org"},
    {**PROGRAM, "Sec-Fetch-Site": "none"},
    {**PROGRAM, "Origin": "https://GW.example.org"},
    {**PROGRAM, "Origin": "https://gw.example.org:443"},
    {"Host": "gw.example.org:443", "Origin": "https://gw.example.org"},
    {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"},
    {"Host": "gflapi:8000", "X-Forwarded-Host": "gw.example.org", "Origin": "https://gw.example.org"},
    {"Host": "gflapi:8000", "X-Forwarded-Host": "gw.example.org, inner", "Origin": "https://gw.example.org"},
]
FOREIGN = [
    {**PROGRAM, "Sec-Fetch-Site": "cross-site"},
    {**PROGRAM, "Sec-Fetch-Site": "same-site"},
    {**PROGRAM, "Sec-Fetch-Site": ""},
    {**PROGRAM, "Sec-Fetch-Site": "cross-site", "Origin": "https://gw.example.org"},
    {**PROGRAM, "Origin": "https://evil.example.org"},
    {**PROGRAM, "Origin": "https://gw.example.org.evil.org"},
    {**PROGRAM, "Origin": "https://gw.example.org:8443"},
    {**PROGRAM, "Origin": "http://gw.example.org:443"},
    {**PROGRAM, "Origin": "null"},
    {**PROGRAM, "Origin": ""},
    {**PROGRAM, "Origin": "http://["},
    {"Origin": "https://gw.example.org"},
    {"Host": "gflapi:8000", "X-Forwarded-Host": "inner, gw.example.org", "Origin": "https://gw.example.org"},
]


@pytest.mark.parametrize("headers", OWN)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_programs_and_the_sites_own_pages_may_give_orders(method: str, headers: dict[str, str]) -> None:
    refuse_cross_site(method, headers)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_another_sites_page_may_not(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(CrossSite):
        refuse_cross_site(method, headers)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_question_changes_nothing_and_may_come_from_anywhere(method: str, headers: dict[str, str]) -> None:
    refuse_cross_site(method, headers)
