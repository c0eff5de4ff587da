"""Weights on the Hugging Face hub: fetched by name and revision, and pushed with their card.

Only safetensors are read and written. A name is ``owner/name``, or ``owner/name@REVISION`` for a
branch, a tag or a commit; whatever is named, the commit that it means is looked up first, and
everything is read of that one.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from datamodules.core.download import PROBE_S
from datamodules.core.errors import OptionError, refuse
from datamodules.core.hub import hub_errors, hub_said, hub_unreachable
from zoo.run.card import Known, known_of, model_card
from zoo.run.names import HUB_PREFIX
from zoo.run.weights_file import write_weights

#: What the weights are called in a repository.
FILE = "model.safetensors"
_PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,94}/[A-Za-z0-9][\w.-]{0,94}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: A path that starts at a disk's root or in somebody's home, or a file's URL.
_PLACE = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/]|file:)")
#: What is written of the data, and is no path however it starts.
_NO_PLACES = ("class_names", "categories", "tokenizer", "chat_template", "end_token")
_USE = """\
```python
import zoo

model = zoo.load("{name}")
```
"""


def fetch_weights(name: str) -> Path:
    """Return the weights file of a repository, out of the hub's cache or over the network.

    Args:
        name: ``owner/name`` or ``owner/name@REVISION``, perhaps with ``hf:`` before it.

    Raises:
        OptionError: If there is no such repository, it holds no weights file, or the hub cannot be
            reached and the cache lacks it.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    _check_name(name, repository)
    if (reason := _cached_or_reason(repository, revision or "main")) is None:
        found = try_to_load_from_cache(repository, FILE, revision=revision or "main")
        return Path(str(found))
    if reason:
        raise refuse(
            "weights",
            name,
            f"the hub cannot be reached ({reason}) and its cache lacks them: fetch them where it "
            f"can by `hf download {repository} {FILE}`, and give the file",
        )
    api = HfApi()
    with _explained("weights", name, repository):
        info = api.model_info(repository, revision=revision or None, timeout=PROBE_S)
    files = [file.rfilename for file in info.siblings or []]
    if FILE not in files:
        raise _without_weights(name, files)
    with _explained("weights", name, repository):
        return Path(api.hf_hub_download(repository, FILE, revision=info.sha))


def pinned(name: str, path: Path) -> str:
    """Return the name that means the very file that a name was found to be.

    Args:
        name: Of the hub, or any other, which is its own.
        path: Where it was found.
    """
    if not name.startswith(HUB_PREFIX):
        return name
    return f"{name.partition('@')[0]}@{path.parent.name}"  # the cache has a folder a commit


def _cached_or_reason(repository: str, revision: str) -> str | None:
    """Return why the hub cannot be asked, "" if it can; None where the cache makes it needless.

    A commit never changes; a branch's last known one serves where there is no network.
    """
    from huggingface_hub import try_to_load_from_cache

    is_cached = isinstance(try_to_load_from_cache(repository, FILE, revision=revision), str)
    if is_cached and _COMMIT.fullmatch(revision):
        return None
    reason = hub_unreachable() or ""
    return None if reason and is_cached else reason


def _without_weights(name: str, files: list[str]) -> OptionError:
    if any(file.endswith(_PICKLES) for file in files):
        return refuse(
            "weights",
            name,
            f"it holds no {FILE}, and pickled weights, which can run code, are not opened: choose "
            "a repository that `zoo push` made",
        )
    return refuse("weights", name, f"it holds no {FILE}: choose a repository that `zoo push` made")


def _check_name(name: str, repository: str) -> None:
    if not _NAME.fullmatch(repository) or "--" in repository or ".." in repository:
        raise refuse("weights", name, "give owner/name, such as hf:me/digits, or owner/name@COMMIT")


@contextmanager
def _explained(option: str, name: str, repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into a sentence."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = f"{constants.ENDPOINT}/{repository}"
    try:
        yield
    except GatedRepoError:
        raise refuse(option, name, f"accept its terms at {place} and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise refuse(option, name, f"it has no such revision; {place} shows its commits") from None
    except RepositoryNotFoundError:
        remedy = (
            f"check its spelling, as {constants.ENDPOINT} has no public one of that name, or log "
            "in by `hf auth login` for a private one"
        )
        raise refuse(option, name, remedy) from None
    except LocalTokenNotFoundError:
        raise refuse(option, name, "log in by `hf auth login`, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            may = "read it" if option == "weights" else "write there"
            remedy = f"log in by `hf auth login`, or set HF_TOKEN, with a token that may {may}"
            raise refuse(option, name, remedy) from None
        remedy = f"the hub refused: {hub_said(error)}"
        raise refuse(option, name, remedy) from None
    except hub_errors() as error:
        remedy = f"try again later, as the hub's answer failed: {hub_said(error)}"
        raise refuse(option, name, remedy) from None


def push_weights(
    checkpoint: dict[str, Any],
    repository: str,
    *,
    known: Known | None = None,
    private: bool = False,
) -> str:
    """Put weights into a repository, in one commit: the file, the recipe, and a card.

    Args:
        checkpoint: As :func:`~zoo.run.checkpoint.read_checkpoint` gives it.
        repository: ``owner/name``, which is made if it is not there.
        known: What is known of its training; by default what the checkpoint holds.
        private: Whether a repository that is made is private.

    Returns:
        The name by which the very same weights are fetched: ``hf:owner/name@COMMIT``.

    Raises:
        OptionError: If the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    repository = repository.removeprefix(HUB_PREFIX)
    _check_name(repository, repository)
    if (reason := hub_unreachable()) is not None:
        raise refuse(
            "to", repository, f"the hub cannot be reached ({reason}): try again where it can"
        )
    known = known or known_of(checkpoint)
    places: list[str] = []
    whole = without_places(known.recipe, places)
    parts = {name: without_places(checkpoint.get(name), []) for name in ("hyper_parameters", "zoo")}
    pushed = {**checkpoint, **parts}
    if known.figures:
        pushed["test"] = known.figures
    note = f"Of paths only the last part is kept: {', '.join(dict.fromkeys(places))}."
    usage = _USE.format(name=f"{HUB_PREFIX}{repository}")
    with tempfile.TemporaryDirectory() as folder:
        write_weights(pushed, Path(folder, FILE))
        text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
        text = f"# {note}\n{text}" if places else text
        Path(folder, "recipe.yaml").write_text(text, encoding="utf-8")
        known = known._replace(recipe=whole)
        card = str(model_card(pushed, known, repository.rpartition("/")[2], usage))
        card += f"\n{note}\n" if places else ""
        Path(folder, "README.md").write_text(card, encoding="utf-8")
        api = HfApi()
        with _explained("to", repository, repository):
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Weights of lightning-zoo"
            )
    return f"{HUB_PREFIX}{repository}@{done.oid}"


def without_places(node: Any, found: list[str], name: str = "") -> Any:
    """Return plain data with the last part alone of paths that name places on this machine.

    Args:
        node: A recipe, or a part of a checkpoint.
        found: Gets the names of the options that had one.
        name: That of the node, dotted.
    """
    if isinstance(node, dict):
        return {
            key: value
            if key in _NO_PLACES
            else without_places(value, found, f"{name}.{key}".lstrip("."))
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [without_places(each, found, name) for each in node]
    if isinstance(node, str) and _PLACE.match(node) and "\n" not in node:
        found.append(name.replace(".init_args", ""))
        return re.split(r"[\\/]", node.rstrip("\\/"))[-1]
    return node
