"""Keeps a gateway's figures of trials, and writes them where the command line finds them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from pathlib import Path

from contract.index import check_name
from contract.trials.findings import Figures, findings_text, write_findings
from contract.trials.trial import KINDS, Trial

logger = logging.getLogger("fovea.trials")

_WRITE_S = 1.0


class TrialRecorder:
    """Figures of the trials that this gateway takes part in; to be updated from the event loop only.

    Args:
        folder: for a file of each gateway, in a folder of each model; None writes none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file = f"{uuid.uuid4().hex}.json"
        self._trials: dict[str, Trial] = {}
        self._figures: dict[str, dict[str, Figures]] = {}
        self._changed: set[str] = set()
        self._is_failing = False

    def figures(self, name: str, trial: Trial, kind: str) -> Figures:
        """Return the figures of a trial to add to at once; those of the model's earlier trial are forgotten."""
        known = self._trials.get(name)
        if known is not None and known.started > trial.started:
            return Figures()  # of a call that ends after its trial
        if known is None or known.started != trial.started:
            self._figures[name] = {kind: Figures() for kind in KINDS}
        self._trials[name] = trial
        self._changed.add(name)
        return self._figures[name][kind]

    def known(self, name: str, trial: Trial) -> dict[str, Figures]:
        """Return the figures of a trial by kind, as far as there are any."""
        known = self._trials.get(name)
        return self._figures[name] if known is not None and known.started == trial.started else {}

    async def watch(self) -> None:
        """Write changed figures once a second, without end."""
        while True:
            await asyncio.sleep(_WRITE_S)
            await self.flush()

    async def flush(self) -> None:
        """Write changed figures; a folder that cannot be written is logged once."""
        changed, self._changed = self._changed, set()
        if self._folder is not None:
            for name in changed:
                await self._write(self._folder / check_name(name) / self._file, name)

    async def _write(self, path: Path, name: str) -> None:
        text = findings_text(self._trials[name], self._figures[name])
        try:
            await asyncio.to_thread(write_findings, path, text)
        except OSError as err:
            if not self._is_failing:
                logger.warning(
                    "figures of trials cannot be written to %s: %s. Set FOVEA_TRIALS_DIR to a folder that gateways can "
                    "write; until then they are in /metrics alone",
                    path.parent,
                    err.strerror or err,
                )
            self._is_failing = True
        else:
            self._is_failing = False
