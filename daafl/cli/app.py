"""The ``daafl`` command and its exit codes.

====  =====================================================================================
code  meaning
====  =====================================================================================
0     what was asked is done
1     a run failed, or something on disk cannot be used
2     a wrong setting, option or file; the sentence on standard error says which and why
70    an unexpected error: the traceback is in the file that the sentence names
130   interrupted (Ctrl-C); 143 when ended by a signal; `daafl resume RUN` goes on from there
====  =====================================================================================
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from daafl import __version__
from daafl.cli.audit import audit
from daafl.cli.completion import completion
from daafl.cli.ending import Terminated
from daafl.cli.explaining import explain
from daafl.cli.keys import keys
from daafl.cli.listing import list_choices
from daafl.cli.replaying import replay
from daafl.cli.reporting import report
from daafl.cli.resuming import resume
from daafl.cli.running import run
from daafl.errors import ConfigError, DaaflError

PROGRAM: Final = "daafl"
UNEXPECTED: Final = 70
INTERRUPTED: Final = 130
TERMINATED: Final = 143


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Federated learning on Flower, with a federation that runs itself.

    \b
    daafl run experiment=quickstart     the main job: 30 nodes learn handwritten digits
    daafl resume                        go on with a run that was killed or stopped
    daafl list                          everything that can be chosen
    daafl report                        write the newest run's report again
    daafl explain                       what it decided, why, and what came of it
    daafl keys                          who belongs to a federation, by signed keys
    daafl audit verify                  whether a log is as it was written
    """,
    epilog="`daafl COMMAND --help` has examples of each.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def app() -> None:
    """Hold the commands together."""


app.add_command(run)
app.add_command(resume)
app.add_command(report)
app.add_command(explain)
app.add_command(replay)
app.add_command(list_choices)
app.add_command(keys)
app.add_command(audit)
app.add_command(completion)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.
    """
    sys.exit(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; no error leaves it as a traceback."""
    try:
        code = app.main(
            args=None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        is_terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        return TERMINATED if is_terminated else INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left, which is no news for them; click ends the same way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DaaflError as error:
        _say(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except Exception as error:  # the last line of defence: no traceback on the terminal
        _say(
            f"an unexpected {type(error).__name__} ended the program: {error} "
            f"(details are in {_crash_log(error)}; please report them)"
        )
        return UNEXPECTED
    return code if isinstance(code, int) else 0


def _say(sentence: str) -> None:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)


def _crash_log(error: BaseException) -> Path:
    """Write the traceback to a new file and return its path."""
    descriptor, name = tempfile.mkstemp(prefix="daafl-crash-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"daafl {__version__}: {' '.join(sys.argv)}\n")
        file.writelines(traceback.format_exception(error))
    return Path(name)
