"""The requests of one writer."""

from tests.support.segments import segment_body
from tools.clients import Connection


def send_to_gateway(connection: Connection, number: int) -> bool:
    status, answer = connection.post("/streamdata", segment_body(number))
    assert status == 200, answer
    return bool(answer["resp"] == "CREATED")


def send_to_buffer(connection: Connection, number: int) -> bool:
    status, answer = connection.post("/sendF", segment_body(number))
    assert status == 201, answer
    return True
