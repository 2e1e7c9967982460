"""`shadow` and `canary`: try a model's candidate on live traffic."""

from __future__ import annotations

import argparse
from typing import Any

from contract.trials.findings import remove_findings
from contract.trials.trial import CANARY, DEFAULT_SHADOW, SHADOW, format_share, parse_share
from pipeline.commands.options.folders import add_folders, add_trials_folder, existing_store, trials_folder


def add(commands: Any) -> None:
    """Describe the commands to argparse."""
    shadow = commands.add_parser(SHADOW, help="ask the candidate a share of the live requests too")
    canary = commands.add_parser(CANARY, help="let the candidate answer a share of the live requests")
    default = format_share(DEFAULT_SHADOW)
    for kind, parser in ((SHADOW, shadow), (CANARY, canary)):
        parser.add_argument("name")
        text = "share of the requests, such as 5%% or 0.05, or off"
        if kind == SHADOW:
            parser.add_argument("share", nargs="?", default=default, help=f"{text}; by default {default}%")
        else:
            parser.add_argument("share", help=text)
        add_folders(parser)
        add_trials_folder(parser)
        parser.set_defaults(command=_set_share, kind=kind)


def _set_share(arguments: argparse.Namespace) -> None:
    share = parse_share(arguments.share)
    store = existing_store(arguments)
    entry = store.set_trial_share(arguments.name, arguments.kind, share)
    if entry.trial is not None:
        remove_findings(trials_folder(arguments) / arguments.name, but=entry.trial)
    candidate = f"{arguments.name}/{entry.candidate}"
    if not share:
        print(f"{candidate}: {arguments.kind} is off; version {entry.live} answers")
    elif arguments.kind == SHADOW:
        print(f"{candidate}: is asked {format_share(share)} of the requests too; version {entry.live} answers")
    else:
        print(f"{candidate}: answers {format_share(share)} of the requests; version {entry.live} answers the others")
