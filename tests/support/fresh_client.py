"""An HTTP client that opens a connection for each request."""

import httpx

__all__ = ["FRESH"]

FRESH = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=120)
"""A client whose requests survive a machine that stalls for some seconds. Any thread may use the client.

`httpx.get` reads all root certificates first: that is 30 ms of CPU for each request, which a test that polls a server
takes from the server.
"""
