"""The settings of compose and of the image: the gateway takes them, and is open on purpose only."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from service.gateway.context.settings import Settings, SettingsError, load_settings
from tests.repository.project import ROOT


class _Loader(yaml.SafeLoader):
    """YAML with compose's own tag."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))  # type: ignore[no-untyped-call]


def gateway(text: str) -> dict[str, Any]:
    """Return what a compose file says of the gateway."""
    service: dict[str, Any] = yaml.load(text, _Loader)["services"]["gateway"]
    return service


def image_environment() -> dict[str, str]:
    """Return the FOVEA_* variables of the gateway's image."""
    target = re.search(r"FROM base AS gateway\n(.*?)\nFROM ", (ROOT / "Dockerfile").read_text(), re.S)
    assert target is not None
    return dict(re.findall(r"(FOVEA_\w+)=(\S+)", target[1].partition("HEALTHCHECK")[0]))


def settings(*services: dict[str, Any]) -> Settings:
    """Return the settings of a gateway in a container, later services over earlier ones."""
    environ = image_environment()
    for service in services:
        assert all(isinstance(value, str) for value in service["environment"].values())
        environ |= service["environment"]
    return load_settings([], environ)


COMPOSE = gateway((ROOT / "docker-compose.yml").read_text())


def test_compose_lets_everybody_in_by_name() -> None:
    """In so many words, for a gateway that other containers reach; and the port is this machine's."""
    found = settings(COMPOSE)

    assert ("off", "0.0.0.0", False) == (found.auth, found.host, found.needs_key)
    assert ["127.0.0.1:8000:8000"] == COMPOSE["ports"]


def test_the_image_alone_lets_nobody_in() -> None:
    """`docker run` of the image without a word on keys is refused."""
    with pytest.raises(SettingsError, match=r"other machines reach 0\.0\.0\.0"):
        settings({"environment": {"FOVEA_MODELS_DIR": "/models"}})


def test_the_override_on_the_page_closes_the_door() -> None:
    """docs/secure.md: keys from a folder that is mounted, metrics on a port that is not published."""
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "secure.md").read_text(), re.S)
    assert block is not None
    override = gateway(block[1])
    found = settings(COMPOSE, override)

    assert ("keys", True) == (found.auth, found.needs_key)
    (source, target, mode) = override["volumes"][0].split(":")
    assert ("./keys", "ro") == (source, mode)
    assert str(found.keys_file).startswith(f"{target}/")
    assert not any(str(found.metrics_port) in port for port in override["ports"])
