r"""The name of a row in the store: the client's id, and the principal that sent the row if there are keys.

So one principal's ids are unknown to every other principal, and two principals may use the same id. An id is escaped,
because text in PostgreSQL cannot hold NUL: a backslash becomes two, NUL becomes ``\0``. A name with a principal begins
with one backslash and an at sign, which no escaped id does.
"""

__all__ = ["id_of", "owner_of", "row_name"]


def row_name(owner: str | None, name: str) -> str:
    r"""Give the name of a row.

    >>> row_name(None, "order-17"), row_name("shop", "order-17"), row_name(None, "a" + chr(0))
    ('order-17', '\\@shop/order-17', 'a\\0')
    """
    if "\0" in name or "\\" in name:
        name = name.replace("\\", "\\\\").replace("\0", "\\0")
    return name if owner is None else f"\\@{owner}/{name}"


def owner_of(name: str) -> str | None:
    r"""Give the principal that sent a row, from the name of the row; None if there were no keys.

    >>> owner_of(r"\@shop/order-17"), owner_of("order-17"), owner_of(r"\\@a/b")
    ('shop', None, None)
    """
    return name[2:].partition("/")[0] if name.startswith("\\@") else None


def id_of(name: str) -> str:
    r"""Give the id that a client sent, from the name of its row.

    >>> id_of("order-17"), id_of(r"\@shop/order-17"), id_of(r"a\0") == "a" + chr(0), id_of(r"\\@a/b")
    ('order-17', 'order-17', True, '\\@a/b')
    """
    if "\\" not in name:
        return name
    if name.startswith("\\@"):
        name = name.partition("/")[2]
    return "\\".join(part.replace("\\0", "\0") for part in name.split("\\\\"))
