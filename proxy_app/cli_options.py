"""
Options that several commands of the command line have.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

CONFIG_PATH = Path("config/relay.yaml")

Command = TypeVar("Command", bound=Callable[..., object])


def with_config(command: Command) -> Command:
    """Give *command* the option `--config`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=CONFIG_PATH,
        envvar="RELAY_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The configuration.",
    )(command)


def with_json(command: Command) -> Command:
    """Give *command* the option `--json`."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON, for programs.")(
        command
    )
