# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""
Names on the Hub, and one question to it before files are asked for: is the repository there, and may it be read? Without it,
a Hub that cannot be reached is waited for at each file.
"""

import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from .printable import one_line


# For an answer, and for the look-up of the Hub's address beside it.
ANSWER_SECONDS, LOOK_UP_SECONDS = 5.0, 2.0
# Waits before the question is put again to a Hub that fails.
WAITS = (0.5, 1.5)
FAILURES = (500, 502, 503, 504)
# How long an address that could not be reached is not asked again.
REMEMBERED_SECONDS = 20.0
_unreachable: dict[str, tuple[float, str]] = {}


@dataclass(frozen=True)
class Place:
    """
    Where a checkpoint is: a folder, or a repository on the Hub.

    Args:
        name (`str`): The folder or the repository.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str` or `bool`, *optional*): The token of the Hub; `None` stands for the stored one.
        local_files_only (`bool`, *optional*, defaults to `False`): Whether only cached files can be used.
    """

    name: str
    revision: str | None = None
    token: str | bool | None = None
    local_files_only: bool = False

    @property
    def hub(self) -> dict[str, Any]:
        """The arguments of `from_pretrained` and `cached_file`."""
        return {"revision": self.revision, "token": self.token, "local_files_only": self.local_files_only}


def is_hub_name(name: str, needs_owner: bool = True) -> bool:
    """
    Whether the Hub could have a repository of this name.

    Args:
        name (`str`): The name.
        needs_owner (`bool`, *optional*, defaults to `True`): Whether only `owner/name` counts, or also a name alone.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name or not needs_owner


def find_place(
    name: str | os.PathLike,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Place:
    """
    Finds a model by its name. A name that the Hub cannot have never goes to the network.

    Args:
        name (`str` or `PathLike`): A folder, or a repository on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        token (`str`, *optional*): The token of the Hub; defaults to the stored one.
        local_files_only (`bool`, *optional*, defaults to `False`): Whether the Hub is known not to answer.

    Returns:
        [`Place`]: If the Hub cannot be reached, and the cache has files of the repository, one that uses these only.

    Raises:
        `OSError`: If there is neither; the message says why, without the name.
    """
    name = os.fspath(name)
    if os.path.isdir(name):
        return Place(name)
    if os.path.exists(name):
        raise OSError("it is a file, expected a folder")
    if not is_hub_name(name):
        raise OSError("there is no such folder")
    reason = "it did not answer before" if local_files_only else ask_hub(name, revision, token)
    if reason and not is_cached(name):
        raise OSError(f"it is no folder here, and the Hub cannot be reached ({reason})")
    return Place(name, revision, token, bool(reason))


def ask_hub(
    name: str, revision: str | None = None, token: str | bool | None = None, repo_type: str = "model"
) -> str | None:
    """
    Asks the Hub for a repository, for a few seconds.

    Args:
        name (`str`): The repository.
        revision (`str`, *optional*): Branch, tag or commit.
        token (`str`, *optional*): The token of the Hub; defaults to the stored one.
        repo_type (`str`, *optional*, defaults to `"model"`): Or "dataset".

    Returns:
        `str`: Why the Hub cannot be asked; `None` if it has the repository.

    Raises:
        `OSError`: If the Hub does not have it, or does not let it be read; the message says why, without the name.
    """
    from huggingface_hub import HfApi, constants

    endpoint = constants.ENDPOINT
    asked, reason = _unreachable.get(endpoint, (-REMEMBERED_SECONDS, ""))
    if time.monotonic() - asked < REMEMBERED_SECONDS:
        return reason
    api = HfApi()
    info = api.dataset_info if repo_type == "dataset" else api.model_info
    answers: list[str | OSError | None] = []
    question = partial(info, name, revision=revision, token=token, timeout=ANSWER_SECONDS)
    # No time limit of the client holds for the look-up of an address.
    thread = threading.Thread(target=lambda: answers.append(_put(question, name, revision, endpoint)), daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS + LOOK_UP_SECONDS)
    if not answers:
        _unreachable[endpoint] = time.monotonic(), f"{endpoint} does not answer"
        return _unreachable[endpoint][1]
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def _put(question: partial, name: str, revision: str | None, endpoint: str) -> str | OSError | None:
    """Puts a question: `None` if the answer is yes, an error if it is no, and a reason if there is none."""
    from huggingface_hub import errors

    for wait in (*WAITS, None):
        try:
            question()
            return None
        except errors.OfflineModeIsEnabled:
            return "offline mode is set"
        except errors.RevisionNotFoundError:
            return OSError(f"the Hub has no revision {revision!r} of it")
        except errors.GatedRepoError:
            return OSError(f"it is gated: ask for access at {endpoint}/{name}")
        except errors.RepositoryNotFoundError:
            return OSError(
                "it is no folder here, and no repository on the Hub that can be read (one that is private needs a token)"
            )
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status == 429:
                # Files have limits of their own.
                return None
            if status not in FAILURES:
                return OSError(one_line(f"the Hub refuses it: {error}"))
            if wait is None:
                return f"{endpoint} answers {status}"
            time.sleep(wait)
        except errors.LocalTokenNotFoundError as error:
            return OSError(one_line(error))
        except (errors.HTTPError, OSError, ValueError) as error:
            reason = one_line(f"{endpoint}: {error or type(error).__name__}")
            _unreachable[endpoint] = time.monotonic(), reason
            return reason
    raise AssertionError("the last try returns")


def why_unreachable(name: str) -> str | None:
    """Why the Hub cannot be reached, asked for a repository that it need not have; `None` if it can, or has no such name."""
    try:
        return ask_hub(name) if is_hub_name(name, needs_owner=False) else None
    except OSError:
        return None


def is_cached(name: str, repo_type: str = "model") -> bool:
    """Whether the cache has files of a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name, repo_type=repo_type)
    return os.path.isdir(os.path.join(constants.HF_HUB_CACHE, folder, "snapshots"))
