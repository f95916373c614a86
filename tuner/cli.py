"""The command line. Nothing heavy is imported here, so that `tune --help` answers at once."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO, cast

import click

from search_spaces.masking import MaskedStream
from tuner import __version__
from tuner.commands.options.front import FrontDoor, open_closed_streams, refuse_misplaced, system_message, usage_message
from tuner.commands.options.groups import (
    gate_options,
    plan_options,
    run_options,
    share_options,
    study_options,
    verify_options,
    worker_options,
)
from tuner.commands.options.types import FORMATS, MAX_SEED, PATH, RUNNERS, Budget, Format, Rate
from tuner.errors import ExitCode, TuneError, on_command_line, with_options
from tuner.interrupts import interruptible


@click.group(cls=FrontDoor, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--service", type=PATH, metavar="SPEC", help="The service spec, a YAML file.")
@run_options
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
@click.version_option(__version__, prog_name="tune")
@click.pass_context
def cli(context: click.Context, /, service: Path | None, **options: Any) -> None:
    """Find the cheapest container spec that serves a model within its latency objective.

    tune --service spec.yaml --budget 20 is the main job: it launches the server once for each configuration that the
    search picks, puts it under load, and ends with a recommendation. tune spec.yaml and tune run spec.yaml do the same.

    Exit codes: 0 done, 2 the command line or the spec is wrong, 3 no configuration met the SLO, 4 the environment
    cannot run it, 5 the gate failed, 6 the gate could not tell, 130 interrupted (what was measured is kept, and
    --resume continues).
    """
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    if service is None:
        if len(sys.argv) > 1:
            raise click.UsageError("--service is missing: name the spec, as in tune --service spec.yaml --budget 20.")
        click.echo(context.get_help())
        context.exit(ExitCode.DONE)
    from tuner.commands.run import RunOptions, run

    context.exit(run(RunOptions.of(service, options)))


@cli.command("run")
@click.argument("spec", type=PATH, default=Path("spec.yaml"))
@run_options
@click.pass_context
def run_command(context: click.Context, /, spec: Path, **options: Any) -> None:
    """Tune the service of a spec, as tune --service SPEC does."""
    from tuner.commands.run import RunOptions, run

    context.exit(run(RunOptions.of(spec, options)))


@cli.command()
@click.option(
    "--replay", is_flag=True, help="Replay measurements that come with tune; required, since a demo launches no server."
)
@click.option(
    "--budget", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Trials to spend."
)
@click.option("--output", type=PATH, metavar="DIR", help="Where results go.  [default: tuning/demo]")
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Makes the search repeatable."
)
@click.option("--resume", is_flag=True, help="Go on with the demo that was interrupted.")
@click.pass_context
def demo(context: click.Context, /, *, replay: bool, **options: Any) -> None:
    """Tune from a measured table in seconds, without a server.

    The table comes with tune; the demo first says where it is from. In a checkout of tune, `make demo` launches and
    measures a real service on this machine.
    """
    if not replay:
        raise click.UsageError("tune demo replays a table and launches nothing: say tune demo --replay.")
    from tuner.commands.demo import demo as command

    context.exit(command(**options))


@cli.command()
@click.argument("file", type=PATH, default=Path("spec.yaml"))
@click.pass_context
def init(context: click.Context, file: Path) -> None:
    """Write a commented spec to start from (spec.yaml; - prints it)."""
    from tuner.commands.init import init as command

    context.exit(command(file))


@cli.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1, type=PATH)
@click.option(
    "--budget", type=Budget(), default=20, show_default=True, help="Trials to estimate for, or the time to be spent."
)
@click.option("--runner", type=RUNNERS, help="Where servers would run, instead of what the spec says.")
def validate(specs: tuple[Path, ...], budget: int | float | None, runner: str | None) -> None:
    """Check a spec (spec.yaml), and say what a run of it takes.

    It launches nothing. It shows the size of the space, and estimates how long the trials take and what they cost.
    """
    from tuner.commands.validate import validate as command

    for spec in specs or (Path("spec.yaml"),):
        command(spec, budget, runner)


@cli.command()
@click.argument("name", metavar="[CATALOGUE]", required=False)
@click.option(
    "--terms", type=click.Choice(["on_demand", "spot", "one_year"]), default="on_demand", show_default=True,
    help="The terms on which cores, memory and GPUs are priced.",
)  # fmt: skip
@click.option("--refresh", type=PATH, metavar="FILE", help="Ask the cloud for today's prices, and write them to FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def prices(context: click.Context, name: str | None, terms: str, refresh: Path | None, *, as_json: bool) -> None:
    """List the price catalogues, or the instances of one.

    CATALOGUE is a name that `tune prices` lists, or a file.
    """
    from tuner.commands.prices import prices as command
    from tuner.commands.prices import refresh as renew

    if refresh is None:
        context.exit(command(name, terms, as_json=as_json))
    if name is None:
        raise click.UsageError("--refresh needs the catalogue's name: aws, azure or gcp.")
    context.exit(renew(name, refresh))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@study_options
@click.pass_context
def report(context: click.Context, folder: Path, storage: str | None, study: str | None) -> None:
    """Write a run's report and tables again, from its stored study."""
    from tuner.commands.report import report as command

    context.exit(command(folder, storage, study))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@plan_options
@click.pass_context
def plan(context: click.Context, /, **options: Any) -> None:
    """Plan replicas and money for given traffic.

    --qps N plans for a steady rate, or for a pattern with that peak; --traffic plans for recorded traffic. Replicas are
    planned with the lower bound of the measured capacity, and an autoscaler is simulated with the measured cold start.
    Costs are per month and on demand, unless you give prices of spot, reserved or own machines.
    """
    from tuner.commands.plan import PlanOptions
    from tuner.commands.plan import plan as command

    context.exit(command(PlanOptions.of(options)))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--format", type=Format(), default="kubernetes", show_default=True, metavar="FORMAT",
    help=f"One of {', '.join(FORMATS)}; the last four only if the spec runs that server.",
)  # fmt: skip
@click.option(
    "--qps", type=Rate(), metavar="N", help="Requests/s at the peak, which decide how many replicas there are."
)
@click.option(
    "--trial",
    type=click.IntRange(min=0),
    metavar="N",
    help="Export this trial's configuration, not the recommended one.",
)
@click.option("--output", type=PATH, metavar="DIR", help="Where the files go.  [default: standard output]")
@study_options
@click.pass_context
def export(context: click.Context, /, **options: Any) -> None:
    """Write the recommended configuration as manifests or files.

    Besides manifests there are servers' own configuration files, and JSON. Autoscalers target the measured knee, and
    --qps says how much traffic the replicas are for.
    """
    from tuner.commands.export import ExportOptions
    from tuner.commands.export import export as command

    context.exit(command(ExportOptions(**options)))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@gate_options
@click.pass_context
def gate(context: click.Context, /, **options: Any) -> None:
    """Fail if a service has become worse than it was.

    The exit code is 5 if the service is worse than its earlier recommendation (the baseline), and 6 if the noise hides
    that.

    The gate judges what the run in DIR found. With --measure or --service it launches and measures the baseline's
    configuration again, until capacity, latency and cost are sure enough.
    """
    from tuner.commands.gate import GateOptions
    from tuner.commands.gate import gate as command

    context.exit(command(GateOptions(**options)))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@verify_options
@click.pass_context
def verify(context: click.Context, /, **options: Any) -> None:
    """Say whether a deployment is as fast as what was measured.

    It compares the live rate and latency in Prometheus with the latency curve of the recommendation. The exit code is 0
    if the deployment holds, 5 if it is slower, and 6 if noise or too little traffic hides that.
    """
    from tuner.commands.verify import VerifyOptions
    from tuner.commands.verify import verify as command

    context.exit(command(VerifyOptions.of(options)))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@share_options
@click.pass_context
def share(context: click.Context, /, **options: Any) -> None:
    """Write the study as a table that others can replay.

    A data sheet comes with it. Both are anonymised: they hold no secret, and no name of a host, person, path, image or
    service. The command says what it left out.
    """
    from tuner.commands.export import ShareOptions, share_study

    context.exit(share_study(ShareOptions(**options)))


@cli.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=PATH)
@click.option(
    "--storage", metavar="URL", envvar="TUNE_STORAGE", show_envvar=True, help="Show the studies of this storage."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; any other host needs a token.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="The port to listen on; 0 takes a free one, and prints it.",
)  # fmt: skip
@click.option(
    "--token", envvar="TUNE_DASHBOARD_TOKEN", metavar="TEXT",
    help="What every visitor must give; safer in the environment, as TUNE_DASHBOARD_TOKEN.",
)  # fmt: skip
@click.option("--optuna", is_flag=True, help="Also serve Optuna's own dashboard, read-only, on the next free port.")
@click.pass_context
def dashboard(context: click.Context, /, **options: Any) -> None:
    """Serve a web page with studies, finished and running.

    It shows the studies in the folders DIR, or else those in tuning/. New trials appear as they end. It only reads, and
    changes nothing.
    """
    from tuner.commands.dashboard import DashboardOptions
    from tuner.commands.dashboard import dashboard as command

    context.exit(command(DashboardOptions(**options)))


@cli.command()
@click.pass_context
def clean(context: click.Context) -> None:
    """Remove servers, containers and pods that crashed runs left."""
    from tuner.commands.clean import clean as command

    context.exit(command())


@cli.command()
@worker_options
@click.pass_context
def worker(context: click.Context, /, **options: Any) -> None:
    """Run trials of a study that `tune --storage URL` began.

    Workers on several machines can share a study. If one dies, another takes up its trial. A worker ends when the
    study's budget is spent.
    """
    from tuner.commands.worker import WorkerOptions
    from tuner.commands.worker import worker as command

    context.exit(command(WorkerOptions(**options)))


@cli.command()
@click.option(
    "--job", type=PATH, required=True, metavar="FILE", help="The `spec` of the tuner's Job, as the chart writes it."
)
@click.option(
    "--namespace", metavar="NAME", help="The TuningRuns' namespace.  [default: the kubeconfig's, or the pod's own]"
)
@click.option(
    "--health-port", type=click.IntRange(1, 65535), metavar="N", help="The port for /healthz.  [default: none]"
)
@click.pass_context
def controller(context: click.Context, job: Path, namespace: str | None, health_port: int | None) -> None:
    """Run the TuningRuns of a Kubernetes namespace as Jobs.

    Each TuningRun gets a Job of its own, and its status shows the progress.
    """
    from tuner.commands.controller import controller as command

    context.exit(command(job, namespace, health_port))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Write it to where this user's shell looks for it.")
@click.pass_context
def completion(context: click.Context, shell: str, *, install: bool) -> None:
    """Print or install the completion of commands for a shell."""
    from tuner.commands.options.completion import completion as command

    context.exit(command(cli, shell, install=install))


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from tuner.spec.model import schema_text

    click.echo(schema_text(), nl=False)


for _command in cli.commands.values():
    _command.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help="Show tracebacks."))


def main(arguments: list[str] | None = None) -> None:
    """Run, and turn every error into one to three lines and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    out, err = MaskedStream(sys.stdout), MaskedStream(sys.stderr)
    streams = contextlib.redirect_stdout(cast("TextIO", out)), contextlib.redirect_stderr(cast("TextIO", err))
    with interruptible(), streams[0], streams[1], on_command_line():
        _run(arguments)


def _run(arguments: list[str]) -> None:
    try:
        code = cli.main(arguments, prog_name="tune", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)
    except click.ClickException as error:
        _fail(usage_message(error), ExitCode.USAGE, arguments)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(ExitCode.INTERRUPTED)
    except TuneError as error:
        _fail(with_options(str(error)), error.exit_code, arguments)
    except OSError as error:
        _fail(system_message(error), ExitCode.ENVIRONMENT, arguments)
    except Exception as error:  # noqa: BLE001 (a user can do nothing with a traceback; --debug shows it)
        _fail(f"internal error: {type(error).__name__}: {error}\n--debug shows where; please report it.", 1, arguments)


def _fail(message: str, code: int, arguments: list[str]) -> None:
    from results.text import visible

    if "--debug" in arguments:
        traceback.print_exc()
    click.echo(f"tune: {visible(message)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
