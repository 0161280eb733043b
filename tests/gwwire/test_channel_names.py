import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.channel_names import UNNAMED_TYPE, channel_of_object, object_of_channel, type_of_channel

#: Any text, and often one that looks like the type or the name of a channel.
CHANNELS = st.text(max_size=20) | st.from_regex(r"\A[AH]1?[:_#-][Aa]?[:_+-]?[Aa#%5F./-]{0,6}\Z")


def channel_of_type(text: str) -> str:
    """Decode the channel as docs/client.md describes."""
    if text == UNNAMED_TYPE:
        return ""
    text = re.sub(r"^([A-Z][0-9])_([0-9A-Za-z]*)_", r"\1#3A\2#2D", text)
    text = re.sub(r"^([A-Z][0-9])_", r"\1#3A", text)
    return unquote_to_bytes(text.replace("+", "-").replace("#", "%")).decode()


@given(channel=CHANNELS)
def test_a_type_is_safe_in_a_file_name_and_can_be_read_back(channel: str) -> None:
    text = type_of_channel(channel)
    assert re.fullmatch(r"[0-9A-Za-z_+#]{1,180}", text)
    assert channel_of_type(text) == channel


@pytest.mark.parametrize("letter", ["x", "é", "/"])
def test_a_long_channel_has_a_type_of_its_own_that_fits_a_file_name(letter: str) -> None:
    types = {type_of_channel(letter * 254 + last) for last in "ab"}
    assert len(types) == 2
    assert {len(text) for text in types} == {180}


@given(channel=CHANNELS)
def test_an_object_is_one_that_hdf5_can_hold_and_can_be_read_back(channel: str) -> None:
    name = object_of_channel(channel)
    assert not re.search(r"[/\x00]|^\.+\Z", name)
    assert channel_of_object(name) == channel


def test_the_channels_of_open_data_have_the_types_that_gwosc_gives_them() -> None:
    assert type_of_channel("L1:GWOSC-4KHZ_R1_STRAIN") == "L1_GWOSC_4KHZ_R1_STRAIN"
    assert object_of_channel("L1:GWOSC-4KHZ_R1_STRAIN") == "L1:GWOSC-4KHZ_R1_STRAIN"
