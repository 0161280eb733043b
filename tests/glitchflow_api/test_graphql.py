"""GraphQL over the real lower services, and its limits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from glitchflow_api.app import create_app
from glitchflow_api.graphql.limits import QueryTooLarge
from glitchflow_api.graphql.shortening import few_channels, shortened_coverage
from glitchflow_api.settings import GatewaySettings
from gwwire.public import ChannelCoverage, Span
from scripts.trio import Trio
from tests.support.segments import JSON, segment_body

ASK = """query($where: Where) {
  segments(where: $where) { segments { name channel detector facility t0 stop locality } more }
}"""
INTROSPECTION_DEPTH = "{__schema{types{name fields{name type{name ofType{name ofType{name}}}}}}}"


@pytest.fixture(scope="module")
def client(start_shared_trio: Callable[..., Trio]) -> Iterator[TestClient]:
    trio = start_shared_trio({"MAX_SIZE": "1kB"}, services=2)
    with TestClient(create_app(GatewaySettings.model_validate({"DS_BURL": trio.url}))) as client:
        for number, channel in enumerate(["H1:STRAIN", "L1:STRAIN", "L1:STRAIN"]):
            meta = {"channel": channel, "temperature": number}
            segment = {"h": [1, 2, 3, 4], "t": [100 + 2 * number, 0.5], "meta": meta}
            assert client.post("/streamdata", json=segment).json()["resp"] == "CREATED"
        assert client.post("/streamdata", content=segment_body(1), headers=JSON).json()["resp"] == "CREATED"
        assert client.patch("/records/file/ma22", json={"conditions": {"volts": {"a": 8}}}).status_code == 200
        yield client


def ask(client: TestClient, query: str, **variables: object) -> dict[str, Any]:
    answer = client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_filter_selects_as_in_the_other_routes(client: TestClient) -> None:
    where = {"facility": ["LIGO"], "detector": ["L1"], "start": 103.0, "conditions": ["temperature<2"]}
    found = ask(client, ASK, where=where)["data"]["segments"]
    fields = ("channel", "facility", "t0", "stop", "locality")
    assert [tuple(map(one.get, fields)) for one in found["segments"]] == [("L1:STRAIN", "LIGO", 102.0, 104.0, "DISK")]
    same = client.get("/segments?facility=LIGO&detector=L1&start=103&condition=temperature<2").json()
    assert [one["name"] for one in found["segments"]] == [one["name"] for one in same["segments"]]


def test_pages_follow_each_other_without_a_repetition(client: TestClient) -> None:
    query = "query($after: Long) { segments(first: 1, after: $after) { segments { seq } after more } }"
    seqs, after, more = [], 0, True
    while more:
        page = ask(client, query, after=after)["data"]["segments"]
        seqs += [one["seq"] for one in page["segments"]]
        after, more = page["after"], page["more"]
    assert seqs == [one["seq"] for one in client.get("/segments").json()["segments"]]


@pytest.mark.parametrize("field", ["batch", "record", "bundle"])
@pytest.mark.parametrize(
    "id_", ["", "/", "none", ".", "..", "file/..", "file//x", "file/x/", "a/manifest", "\0", "é/\n"]
)
def test_an_id_of_nothing_is_null_or_refused_with_a_reason(client: TestClient, field: str, id_: str) -> None:
    found = ask(client, f"query($id: String!) {{ {field}(id: $id) {{ id }} }}", id=id_)
    codes = {error["extensions"]["code"] for error in found.get("errors", [])}
    assert found["data"] == {field: None}
    assert codes <= {"invalid-request"}


def test_one_request_asks_for_things_of_every_kind(client: TestClient) -> None:
    found = ask(
        client,
        """{
          batches { id state n_itm locality }
          missing: batch(id: "none") { id }
          record(id: "file/ma22") { kind rev conditions last steps { name } }
          records(kind: "file", where: {conditions: ["volts.a>=8"]}) { records { id } }
          coverage(where: {channel: "L1:STRAIN"}) { dt spans { start stop segments } gaps { start stop } }
        }""",
    )
    assert "errors" not in found
    data = found["data"]
    assert [(batch["state"], batch["n_itm"], batch["locality"]) for batch in data["batches"]] == [("OPEN", 4, "DISK")]
    assert data["missing"] is None
    assert data["record"] == {"kind": "file", "rev": 1, "conditions": {"volts": {"a": 8}}, "last": None, "steps": []}
    assert data["records"] == {"records": [{"id": "file/ma22"}]}
    assert data["coverage"] == [
        {"dt": 0.5, "spans": [{"start": 102.0, "stop": 106.0, "segments": 2}], "gaps": []},
    ]


def test_facets_are_those_of_the_other_route_with_few_values(client: TestClient) -> None:
    ask_facets = """query($where: Where, $first: Int!) { facets(where: $where, first: $first) {
      segments bytes after more
      facets { name segments values { value segments bytes } more low high after }
    } }"""
    where = {"detector": ["H1", "L1"], "start": 100.0}
    same = client.get("/facets?detector=H1&detector=L1&start=100").json()
    assert ask(client, ask_facets, where=where, first=1000)["data"]["facets"] == same
    few = ask(client, ask_facets, where=where, first=1)["data"]["facets"]["facets"]
    channel = next(each for each in few if each["name"] == "channel")
    assert (channel["values"], channel["more"]) == ([{"value": "L1:STRAIN", "segments": 2, "bytes": 152}], 1)
    assert max(len(each["values"]) for each in few) == 1


BUNDLE = """id format state percent as_of n bytes digest size made expires query reason
  covered { channel dt spans { start stop segments } closed_gaps } gaps { channel dt spans { start stop } more }"""
REQUEST = f"""mutation($where: Where, $names: [String!], $format: BundleFormat! = tar, $first: Int = 100) {{
  requestBundle(where: $where, names: $names, format: $format, first: $first) {{ {BUNDLE} }}
}}"""


def test_a_bundle_is_requested_and_found_as_in_the_other_routes(client: TestClient) -> None:
    where = {"channel": ["L1:STRAIN"], "start": 100.0, "stop": 110.0}
    made = ask(client, REQUEST, where=where)["data"]["requestBundle"]
    same = client.post("/bundles", json={"query": where}).json()
    fields = ("id", "format", "state", "percent", "as_of", "n", "bytes", "digest", "size", "made", "query", "reason")
    assert {name: made[name] for name in fields} == {name: same[name] for name in fields}
    assert (made["format"], made["state"], made["n"]) == ("tar", "READY", 2)
    assert made["covered"][0]["spans"] == [{"start": 102.0, "stop": 106.0, "segments": 2}]
    gaps = [{"start": 100.0, "stop": 102.0}, {"start": 106.0, "stop": 110.0}]
    assert made["gaps"] == [{"channel": "L1:STRAIN", "dt": 0.5, "spans": gaps, "more": 0}]
    few = f'{{ bundle(id: "{made["id"]}", first: 1) {{ {BUNDLE} }} missing: bundle(id: "none") {{ id }} }}'
    found = ask(client, few)["data"]
    assert found["missing"] is None
    assert found["bundle"]["gaps"] == [{"channel": "L1:STRAIN", "dt": 0.5, "spans": gaps[:1], "more": 1}]
    assert {**found["bundle"], "gaps": made["gaps"]} == made


def test_named_segments_are_a_bundle_that_is_built(client: TestClient) -> None:
    names = [one["name"] for one in client.get("/segments?detector=L1").json()["segments"]]
    made = ask(client, REQUEST, names=names, format="hdf5")["data"]["requestBundle"]
    assert (made["format"], made["n"], made["query"]) == ("hdf5", 2, None)
    assert client.get(f"/bundles/{made['id']}").json()["digest"] == made["digest"]


@pytest.mark.parametrize("order", [{}, {"where": {}, "names": ["a"]}, {"names": ["missing"]}])
def test_an_order_that_the_other_route_refuses_has_its_problem(client: TestClient, order: dict[str, Any]) -> None:
    (error,) = ask(client, REQUEST, **order)["errors"]
    other = {"query" if name == "where" else name: value for name, value in order.items()}
    problem = client.post("/bundles", json=other).json()
    assert (error["extensions"]["code"], error["message"]) == (problem["code"], problem["detail"])


def test_the_schema_is_returned_on_request(client: TestClient) -> None:
    types = ask(client, INTROSPECTION_DEPTH)["data"]["__schema"]["types"]
    assert {"Segment", "Batch", "Record", "Step"} <= {one["name"] for one in types}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("{", "Syntax Error"),
        ("{ batches { colour } }", "colour"),
        ("{ batches }", "subfields"),
        ("query($n: Int!) { segments(first: $n) { more } }", "$n"),
        ("{ segments(where: {start: 1e999}) { more } }", "finite"),
        ('{ segments(where: {detector: ["L*"]}) { more } }', "wildcards"),
        ('{ segments(where: {conditions: ["cold"]}) { more } }', "cold"),
        ("{ segments(after: 99999999999999999999) { more } }", "64 bits"),
    ],
)
def test_an_error_in_the_query_is_in_errors(client: TestClient, query: str, word: str) -> None:
    found = ask(client, query)
    assert word in found["errors"][0]["message"]
    assert not found.get("data")


def test_an_error_of_a_field_has_the_problem_of_the_same_request_elsewhere(client: TestClient) -> None:
    (error,) = ask(client, "{ segments(where: {start: 2, stop: 1}) { more } }")["errors"]
    problem = client.get("/segments?start=2&stop=1").json()
    assert error["extensions"]["code"] == problem["code"] == "invalid-request"
    assert error["path"] == ["segments"]


BOMB = "{...F0}" + "".join(f"fragment F{i} on Query{{...F{i + 1} ...F{i + 1}}}" for i in range(40))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("{ segments(first: 1001) { more } }", id="a long list"),
        pytest.param("{ a: segments(first: 600) { more } b: segments(first: 600) { more } }", id="long lists"),
        pytest.param("{" + " ".join(f"a{i}: batch(id: 1) {{ id }}" for i in range(11)) + "}", id="many aliases"),
        pytest.param("{ batches { " + "id " * 900 + "} }", id="many fields"),
        pytest.param("{ batches { " + "id " * 4000 + "} }", id="many characters"),
        pytest.param("{ batches " + "@include(if: true) " * 400 + "{ id } }", id="many tokens"),
        pytest.param("{a" * 7 + "}" * 7, id="deep"),
        pytest.param("{ segments(first: " + "9" * 5000 + ") { more } }", id="a number of thousands of digits"),
        pytest.param(
            '{ a: segments(first: 1000) { more } b: segments { more } c: bundle(id: "x", first: -1000) { id } }',
            id="lists that a negative one would pay for",
        ),
        pytest.param(
            "{ segments(first: 1000) { segments { " + " ".join(f"a{i}: stop" for i in range(50)) + " } } }",
            id="many aliases of a field of many things",
        ),
        pytest.param(BOMB + "fragment F40 on Query{batches{id}}", id="a bomb of fragments"),
        pytest.param("{...A} fragment A on Query{...B} fragment B on Query{...A}", id="a circle of fragments"),
        pytest.param(
            '{record(id:"a"){...A}} fragment A on Record{steps{...B}} fragment B on Step{x{...A}}', id="a spiral"
        ),
    ],
)
def test_a_query_beyond_the_limits_is_refused_before_anything_is_looked_up(client: TestClient, query: str) -> None:
    answer = client.post("/graphql", json={"query": query})
    assert (answer.status_code, answer.json()["code"]) == (422, "query-too-large")


def test_a_default_of_a_variable_does_not_lift_the_limit(client: TestClient) -> None:
    (error,) = ask(client, "query($n: Int = 5000) { segments(first: $n) { more } }")["errors"]
    assert "1000" in error["message"]


def test_the_largest_lists_may_have_all_fields_of_their_things(client: TestClient) -> None:
    record = "id kind rev seq status run conditions last steps"
    steps = "{ name after state worker attempt expires started ended result reason }"
    assert ask(client, f"{{ records(first: 1000) {{ records {{ {record} {steps} }} after more }} }}")["data"]["records"]


def test_spans_are_shared_by_channels_and_too_many_channels_are_refused() -> None:
    spans: list[Span] = [(float(i * i), i * i + 1.0, 1) for i in range(1, 11)]
    channels = [ChannelCoverage(f"L1:{i}", 0.5, spans, 0.0) for i in range(3)]
    assert [len(each.spans) for each in shortened_coverage(channels, 15)] == [5, 5, 5]
    assert [len(each.spans) for each in shortened_coverage(channels, 1)] == [1, 1, 1]
    assert {each.closed_gaps for each in shortened_coverage(channels, 1)} == {18.0}
    with pytest.raises(QueryTooLarge, match="1001 channels"):
        few_channels([channels[0]] * 1001)
