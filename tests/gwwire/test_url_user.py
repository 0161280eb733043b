import pytest

from gwwire.url_user import hide_user, split_user


@pytest.mark.parametrize(
    ("url", "bare", "user"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", None),
        ("http://h/a@b?c=d@e", "http://h/a@b?c=d@e", None),
        ("https://alice:p%40ss@h:1/x", "https://h:1/x", "Basic YWxpY2U6cEBzcw=="),
        ("http://alice:a@b@h", "http://h", "Basic YWxpY2U6YUBi"),
    ],
)
def test_the_user_of_a_url_is_sent_as_a_header_and_not_shown(url: str, bare: str, user: str | None) -> None:
    assert split_user(url) == (bare, user)
    assert hide_user(f"no gateway at {url}!") == f"no gateway at {bare.replace('//', '//***@', 1) if user else bare}!"
