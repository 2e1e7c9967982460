"""HTTPS: the server's certificate, read again when its file is renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from service.gateway.access.api_keys import file_signature

logger = logging.getLogger("fovea.tls")


class CertificateError(Exception):
    """The certificate cannot be used; the text is for the person who runs the service."""


class ServerCertificate:
    """A certificate chain and its key, for TLS 1.2 and newer.

    Args:
        chain: PEM file.
        key: PEM file; None if the key is in the chain's file.

    Attributes:
        context: for the server; connections made after a renewal get the new certificate.

    Raises:
        CertificateError: if the files cannot be used.
    """

    def __init__(self, chain: Path, key: Path | None) -> None:
        self._chain = chain
        self._key = key
        self._seen = self._signatures()
        self.context = self._load(_new_context())

    def refresh(self) -> None:
        """Load the files again if they have changed; those that cannot be used are reported and change nothing."""
        signatures = self._signatures()
        if signatures == self._seen:
            return
        self._seen = signatures
        try:
            self._load(_new_context())  # tried apart first: half a renewal must not spoil the certificate in use
            self._load(self.context)
        except CertificateError as err:
            logger.error("%s; the certificate read before stays in use", err)
        else:
            logger.info("the certificate was read again")

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            # Without a password to give, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._chain, self._key, password=lambda: "")
        except ssl.SSLError as err:
            reason = (err.reason or str(err)).lower().replace("_", " ")
            raise CertificateError(
                f"expected a certificate chain and its key, without password, in PEM format in {self._chain}"
                f"{f' and {self._key}' if self._key else ''}. Received: {reason}"
            ) from err
        except OSError as err:
            raise CertificateError(f"the certificate or its key cannot be read: {err.strerror or err}") from err
        return context

    def _signatures(self) -> list[tuple[int, int, int] | None]:
        return [file_signature(path) for path in (self._chain, self._key) if path is not None]


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trusting(chain: Path) -> ssl.SSLContext:
    """Return a client's context that trusts exactly the server that has this certificate, by whatever name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(chain)
    return context
