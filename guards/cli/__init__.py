"""The library's commands: each command is declared in ``commands`` and does its work in a module of its own."""
