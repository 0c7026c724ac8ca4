"""The whole catalogue: every module of faults, loaded."""

from __future__ import annotations

from tests.chaos import (  # noqa: F401 - each puts its faults into the catalogue
    faults_backup,
    faults_boxes,
    faults_log,
    faults_machine,
    faults_network,
    faults_orders,
    faults_processes,
    faults_tailnet,
)
from tests.chaos.kinds import (
    FLAVOURS,
    IMAGES,
    KEEPING,
    KINDS,
    PHASES,
    WEIGHTS,
    MissingError,
    has,
    kinds_for,
    pairs,
    phases_of,
)

__all__ = [
    "FLAVOURS",
    "IMAGES",
    "KEEPING",
    "KINDS",
    "PHASES",
    "WEIGHTS",
    "MissingError",
    "has",
    "kinds_for",
    "pairs",
    "phases_of",
]
