"""
The command line: what can be said, and nothing of how it is done.

Nothing of the engine is imported before a command runs: LiteLLM alone takes seconds, and `--help`
should not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from proxy_app.cli_customers import customers
from proxy_app.cli_options import CONFIG_PATH, Command, with_config, with_json

PORT = 8000
SIMULATOR_PORT = 8001


class OneLineErrors(click.Group):
    """Tells a mistake in words, without a traceback: 2 where the operator's, else 1."""

    @override
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise  # a group alone: its help
        except click.UsageError as error:
            # With a context, click prints the usage above it.
            error.ctx = None
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from relay_middleware.errors import ConfigurationError, RelayError

            if not isinstance(error, RelayError):
                raise
            is_operators = isinstance(error, ConfigurationError)
            told = click.UsageError if is_operators else click.ClickException
            raise told(str(error)) from error


def with_port(default: int) -> Callable[[Command], Command]:
    """Give a command the option `--port`."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        envvar="PORT",
        show_default=True,
        show_envvar=True,
        help="Where to listen; 0 is any free port.",
    )


with_loopback_host = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Loopback only."
)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relay-meter", prog_name="relay")
def main() -> None:
    """Spend limits, attribution and routing for LLM traffic."""


@main.command()
@with_config
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@with_port(PORT)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes; more than one needs redis_url.",
)
def serve(config_path: Path, host: str, port: int, workers: int) -> None:
    """Serve OpenAI's API below /v1."""
    from proxy_app import serving

    serving.serve(
        config_path,
        host,
        port,
        workers=workers,
        when_ready=lambda address: click.echo(f"Relay listens on {address}/v1", err=True),
    )


@main.command()
@with_loopback_host
@with_port(PORT)
def demo(host: str, port: int) -> None:
    """Serve with simulated providers and a key that is printed; for trying out."""
    from proxy_app import demo

    demo.run(host, port)


@main.command()
@with_loopback_host
@with_port(SIMULATOR_PORT)
@click.option(
    "--behaviour",
    "behaviour_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="How the providers behave, as JSON.",
)
def simulate(host: str, port: int, behaviour_path: Path | None) -> None:
    """Serve the simulated providers alone."""
    from proxy_app import demo

    demo.simulate(host, port, behaviour_path)


@main.command()
@click.option(
    "--redis",
    "redis_url",
    metavar="URL",
    required=True,
    envvar="RELAY_REDIS_URL",
    show_envvar=True,
    help="Of the Redis that Relay is to use.",
)
@with_json
@click.option(
    "--workers",
    type=click.IntRange(2, 64),
    default=4,
    show_default=True,
    help="Processes that serve; one of them is killed.",
)
@click.option(
    "--requests",
    type=click.IntRange(100, 10_000),
    default=1000,
    show_default=True,
    help="Clients that ask at the same time, each until the money is spent.",
)
@click.option(
    "--new-customer",
    "is_new_customer",
    is_flag=True,
    help="All are the very first requests of a customer.",
)
@click.option(
    "--lie",
    "lie_percent",
    metavar="PERCENT",
    type=click.IntRange(0, 1000),
    default=0,
    help="Providers report so much more than they were told to use at most.",
)
@click.option(
    "--pause",
    "pause_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 30),
    default=0,
    help="Stop a second process for so long, too, as if it were dead.",
)
@click.option(
    "--keep",
    "kept",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Leave configuration, ledger and logs there, instead of nowhere.",
)
@click.pass_context
def selftest(
    context: click.Context,
    /,
    redis_url: str,
    *,
    is_json: bool,
    kept: Path | None,
    **plan: Any,
) -> None:
    """
    Prove against your own Redis that no limit is passed, with processes that are killed.

    Starts Relay and simulated providers on this machine, under a prefix of its own in Redis that is
    removed again, lets many clients spend $5.00 at once, kills a process, and counts. Exit code 1:
    a nano-dollar is not where it must be.
    """
    from proxy_app.selftest.command import selftest
    from proxy_app.selftest.plan import Plan

    if not selftest(redis_url, Plan(**plan), is_json=is_json, kept=kept):
        context.exit(1)


@main.command()
@click.argument(
    "path",
    metavar="[FILE]",
    type=click.Path(path_type=Path, dir_okay=False),
    default=CONFIG_PATH,
    envvar="RELAY_CONFIG",
)
@with_json
@click.pass_context
def check(context: click.Context, path: Path, *, is_json: bool) -> None:
    """
    Show what a configuration says, and every mistake in it with its line.

    FILE is config/relay.yaml or $RELAY_CONFIG unless it is given. Exit code 2: it cannot be served.
    """
    from proxy_app import checking

    if not checking.check(path, is_json=is_json):
        context.exit(2)


@main.command()
@with_config
@with_json
@click.option("--probe", "is_probe", is_flag=True, help="Call each with one short request.")
@click.pass_context
def deployments(
    context: click.Context, config_path: Path, *, is_json: bool, is_probe: bool
) -> None:
    """
    Show what each worker last saw of each deployment, and which are left out.

    With --probe each deployment is called once, which costs some tokens. Exit code 1: one of them
    does not answer.
    """
    from proxy_app import deployments

    if not is_probe:
        deployments.show(config_path, is_json=is_json)
    elif not deployments.probe(config_path, is_json=is_json):
        context.exit(1)


@main.group()
def keys() -> None:
    """API keys."""


@keys.command("create")
@with_config
@with_json
@click.option(
    "--may-name-customers", is_flag=True, help="May name any customer in a header: for servers."
)
@click.option("--customer", "customer_id", metavar="ID", help="Bound to this one customer.")
@click.option("--management", is_flag=True, help="Manages; makes no requests of customers.")
def create_key(
    config_path: Path,
    *,
    is_json: bool,
    may_name_customers: bool,
    customer_id: str | None,
    management: bool,
) -> None:
    """Create a key and print it: it is shown this once, and stored as a hash."""
    if [may_name_customers, customer_id is not None, management].count(True) != 1:
        raise click.UsageError("Give one of --may-name-customers, --customer ID and --management.")
    from proxy_app import administration

    administration.create_key(
        config_path, customer_id=customer_id, is_management=management, is_json=is_json
    )


@keys.command("list")
@with_config
@with_json
def list_keys(config_path: Path, *, is_json: bool) -> None:
    """List all keys, without their secrets."""
    from proxy_app import administration

    administration.list_keys(config_path, is_json=is_json)


@keys.command("revoke")
@with_config
@click.argument("api_key_id", metavar="ID")
def revoke_key(config_path: Path, api_key_id: str) -> None:
    """Revoke a key; every server refuses it within 2 seconds."""
    from proxy_app import administration

    administration.revoke_key(config_path, api_key_id)


main.add_command(customers)


@main.command()
@with_config
@with_json
@click.option("--customer", "customer_id", metavar="ID", help="This one only.")
def usage(config_path: Path, customer_id: str | None, *, is_json: bool) -> None:
    """Show what each customer used this month, and what it has left."""
    from proxy_app import administration

    administration.show_usage(config_path, customer_id, is_json=is_json)


@main.command()
@with_config
@with_json
def deadletters(config_path: Path, *, is_json: bool) -> None:
    """List what the ledger refused for good; with --json the records too."""
    from proxy_app import corrections

    corrections.list_dead_letters(config_path, is_json=is_json)
