"""Describes the server's HTTP interface: the OpenAPI document, and a page for people."""
