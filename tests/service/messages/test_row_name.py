"""The names of rows in the store."""

from hypothesis import given
from hypothesis import strategies as st

from service.messages.row_name import id_of, row_name

OWNERS = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
IDS = st.text(max_size=20) | st.text("\\\0@/a0", max_size=20)


@given(OWNERS, IDS, OWNERS, IDS)
def test_two_rows_have_one_name_only_if_owner_and_id_are_the_same(
    owner: str | None, name: str, other_owner: str | None, other: str
) -> None:
    """No id of one principal, or of a server without keys, is the name of another's row."""
    same = (owner, name) == (other_owner, other)
    assert (row_name(owner, name) == row_name(other_owner, other)) == same


@given(OWNERS, IDS)
def test_the_id_can_be_read_back(owner: str | None, name: str) -> None:
    """A name holds no NUL, which PostgreSQL refuses, and gives the id back."""
    assert "\0" not in row_name(owner, name)
    assert id_of(row_name(owner, name)) == name
