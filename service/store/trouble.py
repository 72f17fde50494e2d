"""Says what is wrong with a database in words of this server.

A driver's message may quote any part of the database's URL: a value of the query, a user, a host that holds the end of
a password. So nothing of the message is repeated but phrases that are listed here.
"""

__all__ = ["trouble_of"]

PHRASES = (
    # of the connection to PostgreSQL
    "connection refused",
    "timeout expired",
    "name or service not known",
    "temporary failure in name resolution",
    "failed to resolve host",
    "could not translate host name",
    "no such file or directory",
    "network is unreachable",
    "no route to host",
    "connection reset by peer",
    "server closed the connection unexpectedly",
    "terminating connection due to administrator command",
    "the database system is starting up",
    "the database system is shutting down",
    "too many clients already",
    "remaining connection slots are reserved",
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "server does not support ssl",
    "certificate verify failed",
    "invalid sslmode value",
    "invalid connection option",
    "root certificate file",
    "permission denied",
    "read-only transaction",
    "queuepool limit",
    "does not exist",
    # of SQLite
    "database is locked",
    "unable to open database file",
    "attempt to write a readonly database",
    "database or disk is full",
    "disk i/o error",
    "database disk image is malformed",
    "file is not a database",
    "no such table",
)
"""What a driver's message may say; the first phrase that the message has is repeated, in lower case."""


def trouble_of(error: BaseException) -> str:
    """Name a driver's error by its class, its code, and the phrase that is known.

    >>> trouble_of(OSError('connection to server at "tail@host" failed: Connection refused'))
    'OSError: connection refused'
    """
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    message = str(error).lower()
    phrase = next((phrase for phrase in PHRASES if phrase in message), None)
    return type(error).__name__ + (f" ({code})" if code else "") + (f": {phrase}" if phrase else "")
