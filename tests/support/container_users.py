"""The users that a container may run as, each with the command that runs another command as this user."""

import subprocess

import pytest

__all__ = ["USERS", "as_user"]

USERS = {
    "this user": [],
    "without capabilities": ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"],
    "without a passwd entry": ["unshare", "--user", "--map-user=54321", "--map-group=54321"],
}
"""The command to put before another command, by the user who then runs it."""


def as_user(name: str) -> list[str]:
    """Give the command of a user, or skip the test if this machine cannot run it."""
    prefix = USERS[name]
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"there is no {prefix[0]} here")
    if done.returncode:
        pytest.skip(f"nobody can be {name} here: {done.stderr.strip()}")
    return prefix
