"""Fetching a file: said soon if it cannot be had, and never left behind half."""

import contextlib
import http.client
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from datamodules.core.files import md5_sum, replaced, sweep

#: Seconds until a download's host counts as out of reach.
PROBE_S = 8.0

#: Seconds without a byte after which a download counts as dried up.
STALL_S = 60.0


def unreachable(url: str, wait_s: float) -> str | None:
    """Return why a URL's host, or the proxy on the way to it, does not answer; None if it does.

    Asked in a thread that is given up after ``wait_s`` seconds: where a firewall swallows packets,
    connecting takes minutes to fail, and looking up the name may take longer than any socket's
    timeout.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = (
        None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme)
    )
    door = parts if proxy is None else urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = door.hostname or host, door.port or (443 if door.scheme == "https" else 80)
    answer: list[str | None] = []

    def knock() -> None:
        try:
            socket.create_connection(address, timeout=wait_s).close()
        except OSError as error:
            answer.append(f"{address[0]} cannot be reached ({error})")
            return
        with contextlib.suppress(OSError, http.client.HTTPException):  # a refusal is an answer
            head = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(head, timeout=2 * wait_s).close()
        answer.append(None)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(wait_s)
    return answer[0] if answer else f"{address[0]} does not answer within {wait_s:g} s"


def download(url: str, target: Path, md5: str | None, *, probe_s: float = PROBE_S) -> None:
    """Fetch a file; it appears under its name only when it is whole.

    Args:
        url: Where it is.
        target: What it becomes; folders on the way are made.
        md5: Its md5 sum, or None to take it as it comes.
        probe_s: Seconds that the host has for its first answer.

    Raises:
        OSError: If it cannot be had or is not what the sum says, with the reason as its text.
    """
    why = unreachable(url, probe_s)
    if why is not None:
        raise OSError(why)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name, older_s=10 * STALL_S)
    try:
        with replaced(target) as scratch:
            _receive(url, scratch)
            if md5 is not None and md5_sum(scratch) != md5:
                raise OSError(f"what {urlsplit(url).hostname} sent has another md5 sum than {md5}")
    except http.client.HTTPException as error:
        raise OSError(f"the download broke off ({type(error).__name__})") from None


def _receive(url: str, path: Path) -> None:
    """Write what a URL gives to a new file."""
    from tqdm import tqdm

    with path.open("xb") as file, urllib.request.urlopen(url, timeout=STALL_S) as answer:
        promised = answer.headers.get("Content-Length")
        total = None if promised is None else int(promised)
        # The bar shows only on a terminal, when the work takes longer than 2 s.
        bar = tqdm(
            total=total,
            desc="download",
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
            disable=None,
        )
        with bar:
            while chunk := answer.read(2**20):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and file.tell() != total:
            raise OSError(f"the download broke off after {file.tell()} of {total} bytes")
