# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""What the card of a base model says, for the cards of the models made from it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError
from yaml import YAMLError

from ..common.hub_access import find_place, is_hub_name
from ..common.printable import printable
from .names import model_on_hub
from .saved_files import find_file


LICENSING = ("license", "license_name", "license_link")
CREDIT_HEADING = "## Licence and credit"


@dataclass(frozen=True)
class BaseModelCard:
    """
    What the card of a base model says. Without a card, only the name is known.

    Args:
        name (`str`): The base model's name, as it was given.
        on_hub (`str`, *optional*): Its name on the Hub or, for a folder, the name of the model on the Hub it was made from.
        license, license_name, license_link (`str`, *optional*): Its licence, as in the Hub's metadata.
        credit (`str`, *optional*): Its section on licence and credit, without citations.
    """

    name: str
    on_hub: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    credit: str | None = None

    @property
    def licensing(self) -> dict[str, Any]:
        """The fields of the metadata that the cards of models made from it take over."""
        return {name: getattr(self, name) for name in LICENSING}


def read_base_model(name: str) -> BaseModelCard:
    """
    Reads the card of a base model.

    Args:
        name (`str`): A folder or a Hub name.
    """
    try:
        place = find_place(name)
        path = find_file(place, "README.md")
        card = ModelCard(Path(path).read_text(encoding="utf-8"), ignore_metadata_errors=True) if path else None
    except (HTTPError, OSError, ValueError, YAMLError):
        card = None
    if card is None:
        return BaseModelCard(name, model_on_hub(name))
    data = {key: value for key, value in card.data.to_dict().items() if isinstance(value, str | list)}
    found = re.search(rf"^{CREDIT_HEADING}\n(.*?)(?=^## |\Z)", card.text, flags=re.DOTALL | re.MULTILINE)
    credit = re.sub(r"```.*?```", "", found[1], flags=re.DOTALL) if found else ""
    ancestors = data.get("base_model") or []
    ancestors = [ancestors] if isinstance(ancestors, str) else ancestors
    ancestors = [name for name in ancestors if isinstance(name, str) and is_hub_name(name)]
    return BaseModelCard(
        name,
        model_on_hub(name) or next(iter(ancestors), None),
        **{key: printable(data[key]) for key in LICENSING if isinstance(data.get(key), str)},
        credit=re.sub(r"\n{3,}", "\n\n", credit).strip() or None,
    )
