"""
The command line: what can be said, and nothing of how it is done.

Nothing of the engine is imported before a command runs: LiteLLM alone takes seconds, and `--help`
should not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from typing_extensions import override

CONFIG_PATH = Path("config/relay.yaml")
PORT = 8000
SIMULATOR_PORT = 8001

PERIODS = ("day", "week", "month", "lifetime")

Command = TypeVar("Command", bound=Callable[..., object])


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


@main.group()
def customers() -> None:
    """Customers: their tier, limits and status. Servers apply a change within 2 seconds."""


@customers.command("list")
@with_config
@with_json
def list_customers(config_path: Path, *, is_json: bool) -> None:
    """List all customers."""
    from proxy_app import administration

    administration.list_customers(config_path, is_json=is_json)


@customers.command("show")
@with_config
@with_json
@click.argument("customer_id", metavar="ID")
def show_customer(config_path: Path, customer_id: str, *, is_json: bool) -> None:
    """Show a customer and the limits that apply to it."""
    from proxy_app import administration

    administration.show_customer(config_path, customer_id, is_json=is_json)


@customers.command("set-tier")
@with_config
@click.argument("customer_id", metavar="ID")
@click.argument("tier")
def set_tier(config_path: Path, customer_id: str, tier: str) -> None:
    """Put a customer into a tier; creates the customer where there is none."""
    from proxy_app import administration

    administration.set_tier(config_path, customer_id, tier)


@customers.command("set-limit")
@with_config
@click.argument("customer_id", metavar="ID")
@click.option("--cents", metavar="N", help="The limit; up to 7 decimals.")
@click.option("--unlimited", is_flag=True, help="No limit, whatever the tier says.")
@click.option("--reset", is_flag=True, help="The tier's limit again.")
@click.option("--per", "period", type=click.Choice(PERIODS), required=True, help="Which period.")
def set_limit(
    config_path: Path,
    customer_id: str,
    *,
    cents: str | None,
    unlimited: bool,
    reset: bool,
    period: str,
) -> None:
    """Give a customer a spend limit of its own, over its tier's."""
    if [cents is not None, unlimited, reset].count(True) != 1:
        raise click.UsageError("Give one of --cents N, --unlimited and --reset.")
    from proxy_app import administration

    if reset:
        administration.reset_limit(config_path, customer_id, period)
    else:
        administration.set_limit(config_path, customer_id, period, cents=cents)


@customers.command("block")
@with_config
@click.argument("customer_id", metavar="ID")
def block_customer(config_path: Path, customer_id: str) -> None:
    """Refuse all requests of a customer."""
    from proxy_app import administration

    administration.set_blocked(config_path, customer_id, is_blocked=True)


@customers.command("unblock")
@with_config
@click.argument("customer_id", metavar="ID")
def unblock_customer(config_path: Path, customer_id: str) -> None:
    """Serve a blocked customer again."""
    from proxy_app import administration

    administration.set_blocked(config_path, customer_id, is_blocked=False)


@main.command()
@with_config
@with_json
@click.option("--customer", "customer_id", metavar="ID", help="This one only.")
def usage(config_path: Path, customer_id: str | None, *, is_json: bool) -> None:
    """Show what each customer used this month, and what it has left."""
    from proxy_app import administration

    administration.show_usage(config_path, customer_id, is_json=is_json)
