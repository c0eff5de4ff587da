"""Whether this machine can talk to W&B's server: found out within seconds, and never asked for."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal, TypeVar

WandbMode = Literal["auto", "online", "offline", "off"]

#: Seconds that W&B's server has for a first answer.
ANSWER_S = 5

_Result = TypeVar("_Result")


def within(seconds: float, work: Callable[[], _Result]) -> _Result:
    """Do something in a thread, which is left behind where it takes longer.

    Raises:
        TimeoutError: If it took longer.
    """
    future: Future[_Result] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return future.result(seconds)


def no_answer(url: str) -> str | None:
    """Return why a server gives no answer; None where it gives one, whatever it is."""
    try:
        # The second limit also holds where looking up the name takes long.
        within(2 * ANSWER_S, lambda: urllib.request.urlopen(url, timeout=ANSWER_S).close())
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):  # W&B looks for certificates elsewhere
            return None
        known = reason.strerror if isinstance(reason, OSError) else None
        text = known or str(reason) or "timed out"
        return f"{url} does not answer: {text}"
    return None


def sentence(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def mode_of(asked: WandbMode) -> tuple[Literal["online", "offline", "disabled"], str]:
    """Return how a run is kept, and why not online; never asks for a login.

    Args:
        asked: ``online``, ``offline``, or ``auto``: what ``WANDB_MODE`` or ``wandb offline`` say,
            else online where this machine is logged in.
    """
    if asked == "offline":
        return "offline", "as asked"
    import wandb
    from wandb.sdk import wandb_setup

    settings = wandb_setup.singleton().settings  # environment and files, as W&B reads them
    if asked == "auto" and settings.mode == "disabled":
        return "disabled", ""
    if asked == "auto" and settings.mode in ("offline", "dryrun"):
        return "offline", "as WANDB_MODE or `wandb offline` say"
    settings.mode = "online"  # asked for; else W&B refuses to look for a login
    try:
        if not wandb.login(prompt=False, verify=False):
            return "offline", "not logged in"
    except wandb.errors.AuthenticationError as error:
        return "offline", sentence(error)
    # Without a network W&B itself takes init_timeout to find out. It may know a proxy that
    # Python does not.
    proxied = settings.http_proxy or settings.https_proxy
    why = None if proxied else no_answer(settings.base_url)
    return ("online", "") if why is None else ("offline", why)
