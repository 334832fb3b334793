"""The one error for bad input, shared by both packages."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """Bad input, told in one sentence: the thing, what was expected, what came, and the remedy.

    The command lines print the message without a traceback and exit with status 2.
    """


def near_names(name: str, known: Iterable[str]) -> str:
    """Say which known names look like `name`, or contain it, for the end of an error message.

    >>> near_names("alexnt", ["alexnet", "vgg16"])
    "did you mean 'alexnet'?"
    >>> near_names("quux", ["alexnet", "vgg16"])
    "known are 'alexnet', 'vgg16'."
    """
    name, known = str(name), [str(k) for k in known]
    contain = [k for k in known if name and name.lower() in k.lower()]
    close = list(dict.fromkeys(contain[:3] + difflib.get_close_matches(name, known, n=3, cutoff=0.5)))
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(repr(k) for k in known[:20])
    return f"known are {shown}" + (f" and {len(known) - 20} more." if len(known) > 20 else ".")


def first_names(names: Iterable, n: int = 3) -> str:
    """Quote the first few names, and say how many more there are.

    >>> first_names(["a", "b", "c", "d"], 2)
    "'a', 'b' and 2 more"
    """
    names = list(names)
    shown = ", ".join(repr(str(name)) for name in names[:n])
    return shown + (f" and {len(names) - n} more" if len(names) > n else "")


def exit_status(program: str, run: Callable[[], int | None]) -> int:
    """Run a command and return its exit status, having told what stopped it in one line on stderr.

    2 for bad input or what the system refuses, such as a full disk; 130 after Ctrl-C; 141 when nobody reads on. A
    command that a run of the workflow has started ends with that run (`juicyfruits.run_lock.join_run`).

    >>> exit_status("juice", lambda: None)
    0
    """
    from juicyfruits.run_lock import join_run  # which imports this module

    try:
        join_run()
        return run() or 0
    except BrokenPipeError:  # whoever read the output has read enough, such as `head`
        sys.stdout = None
        return 141
    except (InputError, OSError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
