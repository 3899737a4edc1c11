# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""Pushes to the Hub, with errors that say what was not pushed, and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, HTTPError

from ..common.errors import InputError
from ..common.hub_access import why_unreachable


def check_hub(called: str, repo_id: str) -> None:
    """
    Refuses a push before anything is done, if the Hub cannot be reached.

    Args:
        called (`str`): How the message begins, "--push_to_hub org/name".
        repo_id (`str`): The repository.

    Raises:
        [`InputError`]: If the Hub cannot be reached.
    """
    if reason := why_unreachable(repo_id):
        raise InputError(f"{called}: cannot be written to (the Hub cannot be reached: {reason})")


@contextmanager
def explaining_push(what: str, repo_id: str) -> Iterator[None]:
    """
    Raises one kind of error, whatever fails in a push, and at once if the Hub cannot be reached.

    Args:
        what (`str`): How the message begins: "the adapters", "the folder is complete, but".
        repo_id (`str`): The repository.

    Raises:
        [`InputError`]: If the Hub refuses, fails or cannot be reached.
    """
    try:
        if reason := why_unreachable(repo_id):
            raise OSError(f"the Hub cannot be reached ({reason})")
        yield
    # A failed upload of a large file raises a RuntimeError, whose cause tells why.
    except (HTTPError, HFValidationError, OSError, RuntimeError) as error:
        reason = f"{error} ({error.__cause__})" if isinstance(error, RuntimeError) and error.__cause__ else str(error)
        raise InputError(f"{what} could not be pushed to {repo_id}: {reason}") from error


def push_folder(
    folder: str | PathLike,
    repo_id: str,
    message: str,
    what: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    keep_card: bool = False,
) -> str:
    """
    Uploads a folder to a model repository. Creates the repository if there is none.

    Args:
        folder (`str`): The folder.
        repo_id (`str`): The repository.
        message (`str`): The message of the commit.
        what (`str`): As in [`explaining_push`].
        private (`bool`, *optional*): Whether the repository is to be private; defaults to the owner's setting.
        revision (`str`, *optional*): The branch, which is created if there is none; defaults to `main`.
        token (`str`, *optional*): The token of the Hub; defaults to the stored one.
        keep_card (`bool`, *optional*, defaults to `False`): Whether to keep a card that the repository has already.

    Returns:
        `str`: The repository's address.

    Raises:
        [`InputError`]: If the Hub refuses, fails or cannot be reached, or if `private` is true and the repository exists and
            is public.
    """
    api = HfApi(token=token)
    with explaining_push(what, repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        # For a repository that exists, `private` changes nothing.
        is_exposed = bool(private) and not api.model_info(url.repo_id).private
        if not is_exposed:
            if revision is not None:
                api.create_branch(url.repo_id, branch=revision, exist_ok=True)
            has_card = keep_card and api.file_exists(url.repo_id, "README.md", revision=revision)
            api.upload_folder(
                repo_id=url.repo_id,
                folder_path=Path(folder),
                commit_message=message,
                revision=revision,
                ignore_patterns=["README.md"] if has_card else None,
            )
    if is_exposed:
        raise InputError(f"{what} was not pushed to {repo_id}, which exists and is public, but was to be private")
    return str(url)
