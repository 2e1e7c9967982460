"""The pages' files, and the headers that let the browser use them and nothing else."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_RELATIVE_LINK = re.compile(rb'((?:href|src)=")(?:\./(?=")|(?=[a-z]))')
# The page's own files and its own service, nothing else; no text ever becomes markup or code, whatever a label says.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    # Asked for again each time, and answered with 304: after an update no browser mixes old files with new ones.
    "cache-control": "no-cache",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class WebFile:
    """One file of the page.

    Attributes:
        content: its bytes.
        media_type: of the reply.
        etag: quoted hash of the content.
    """

    content: bytes
    media_type: str
    etag: str

    def with_links(self, root: str) -> WebFile:
        """Return the file with this before its relative links."""
        if root == "./":
            return self
        return _hash(_RELATIVE_LINK.sub(rb"\1" + root.encode(), self.content), self.media_type)


@functools.cache
def load_web_files() -> dict[str, WebFile]:
    """Return the page's files by name."""
    paths = [path for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES]
    return {path.name: build_web_file(path.name, path.read_bytes()) for path in paths}


def build_web_file(name: str, content: bytes) -> WebFile:
    """Return a file with the media type of its name's suffix."""
    return _hash(content, _TYPES[Path(name).suffix])


def _hash(content: bytes, media_type: str) -> WebFile:
    return WebFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
