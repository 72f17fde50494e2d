"""The commands of the library; :mod:`service.cli` adds the commands that start a server and speak to servers."""

from guards.cli.app import app, remarks, run
from guards.cli.attack_command import attack
from guards.cli.bundle_commands import evaluate, explain, predict, replay, report
from guards.cli.config_commands import check, fit, schema, tune
from guards.cli.watching_commands import groups, rules

__all__ = ["app", "remarks", "run"]

for command in (fit, check, tune, evaluate, predict, report, rules, attack, explain, replay, groups, schema):
    app.command()(command)
