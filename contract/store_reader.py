"""Reading the model store: no lock is needed, as index and config are replaced atomically and versions never change."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

from contract.errors import StoreError
from contract.index import ROLES, Index, check_name, find_entry, parse_index
from contract.model import ModelContract

CONTRACT_FILE = "assets.extra/contract.json"
INITIALISING_MARK = ".filling"


class StoreReader:
    """What the store holds; `contract.store.ModelStore` adds the writing.

    Args:
        root: the folder, `models` by convention.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def config_path(self) -> Path:
        """The file that servers poll."""
        return self.root / "models.config"

    @property
    def is_initialising(self) -> bool:
        """Whether compose's `seed` has left word that it trains the store's first model."""
        return (self.root / INITIALISING_MARK).exists()

    def version_path(self, name: str, version: int) -> Path:
        """Return the folder of a version, whether it exists or not."""
        return self.root / check_name(name) / str(version)

    def read_index(self) -> Index:
        """Return the roles of every model; an absent store is an empty one.

        Raises:
            StoreError: if the index is unreadable or not of this format.
        """
        path = self.root / "index.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return MappingProxyType({})
        except (OSError, ValueError) as err:
            raise StoreError(f"the index {path.name} cannot be read: {err}") from err
        return parse_index(document)

    def read_versions(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the versions on disk, ascending, whether they play a role or not."""
        folder = self.root / check_name(name)
        paths = folder.glob("[0-9]*") if folder.is_dir() else ()
        return tuple(sorted(int(path.name) for path in paths if path.name.isdecimal()))

    def resolve(self, reference: str) -> tuple[str, int]:
        """Return the model and the version that a text names: NAME (its live version), NAME/3 or NAME/candidate.

        Raises:
            StoreError: if there is no such model, role or version.
        """
        name, _, choice = reference.partition("/")
        entry = find_entry(self.read_index(), name)
        if choice in ("", *ROLES):
            version = getattr(entry, choice or "live")
            if version is None:
                raise StoreError(f"{name} has no {choice or 'live'} version; live is version {entry.live}")
            return name, version
        existing = self.read_versions(name)
        if choice not in map(str, existing):
            numbers = ", ".join(map(str, existing))
            raise StoreError(
                f"{reference}: expected {name}, or {name}/ with one of {numbers}, {', '.join(ROLES)}. "
                f"Received: {choice!r}"
            )
        return name, int(choice)

    def read_contract(self, name: str, version: int) -> ModelContract:
        """Return the contract of a version.

        Raises:
            StoreError: if there is no such version.
            ContractError: if its contract is broken.
        """
        path = self.version_path(name, version) / CONTRACT_FILE
        try:
            return ModelContract.from_json(path.read_bytes())
        except OSError as err:
            raise StoreError(f"no contract for {name}/{version}: expected {CONTRACT_FILE}: {err.strerror}") from err
