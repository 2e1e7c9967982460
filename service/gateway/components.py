"""The parts of a running gateway, made once and handed to the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request

from contract.store import TRIALS_FOLDER, ModelStore
from service.gateway.backend.backend import Backend
from service.gateway.backend.model_server import ModelServer
from service.gateway.backend.pool import ServerPool
from service.gateway.bodies.json_bodies import JsonBodies
from service.gateway.context.backend_targets import endpoints_of
from service.gateway.context.settings import Settings
from service.gateway.http.admission import Admission
from service.gateway.images.decoding import Decoder
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.micro_batching import MicroBatcher
from service.gateway.inference.readiness import Readiness
from service.gateway.inference.trials.canary import Canary
from service.gateway.inference.trials.recorder import TrialRecorder
from service.gateway.inference.trials.shadow import Shadow
from service.gateway.inference.trials.stop_rule import StopLimits
from service.gateway.inference.trials.trial_call import TrialCall
from service.gateway.inference.version_resolution import Catalog, NamedCatalog, StoreCatalog, TakenOver
from service.gateway.inference.versioned_call import VersionedCall
from service.gateway.protocols.signature_cache import SignatureCache
from service.gateway.protocols.tensor_prediction import TensorPredictor
from service.gateway.records.audit_log import AuditLog
from service.gateway.records.feedback import FeedbackDesk
from service.gateway.records.feedback_store import FeedbackStore
from service.gateway.telemetry.metrics import Metrics
from service.gateway.telemetry.model_gauges import StoreGauges, VersionGauges
from service.gateway.telemetry.server_info import ServerInfo
from service.gateway.telemetry.tracing import Tracing, carry_context
from service.gateway.telemetry.trial_metrics import TrialGauges, TrialMetrics


@dataclass(frozen=True)
class Components:
    """Everything that routes use."""

    settings: Settings
    admission: Admission
    backend: ModelServer
    catalog: Catalog
    contracts: ContractCache
    decoder: Decoder
    json_bodies: JsonBodies
    metrics: Metrics
    call: VersionedCall
    trials: TrialCall
    tensor_predictor: TensorPredictor
    readiness: Readiness
    feedback: FeedbackDesk
    audit: AuditLog | None
    tracing: Tracing | None


def build_components(settings: Settings, backend: ModelServer | None = None) -> Components:
    """Wire the parts together; nothing is connected yet, but the folder for feedback and the audit log are opened.

    Args:
        settings: everything that can be set.
        backend: the model server; None for the one or several that the settings name.

    Raises:
        TracingError: if traces are asked for and the extra `otel` is not installed.
        StorageError: if the folder for feedback or the audit log cannot be written.
    """
    tracing = None if settings.otlp_endpoint is None else Tracing(settings.otlp_endpoint)
    metadata = None if tracing is None else carry_context
    metrics = Metrics(None if tracing is None else tracing.tracer)
    has_taken_over: TakenOver | None = None
    if backend is None and (endpoints := endpoints_of(settings.backend)):
        pool = backend = ServerPool(
            endpoints,
            timeout_s=settings.predict_timeout_s,
            metadata=metadata,
            quorum_wait_s=settings.quorum_wait_s,
        )
        metrics.show(ServerInfo(pool.figures))
        has_taken_over = pool.has_taken_over
    elif backend is None:
        backend = Backend(settings.backend, timeout_s=settings.predict_timeout_s, metadata=metadata)
    catalog = build_catalog(settings, backend, has_taken_over=has_taken_over)
    contracts = ContractCache(backend)
    metrics.show(VersionGauges(contracts.known, catalog.live, lambda: dict(backend.precisions)))
    if settings.models_dir is not None:
        metrics.show(StoreGauges(settings.models_dir))
    admission = Admission(
        max_working=settings.max_concurrency,
        max_waiting=settings.max_queue,
        max_held_bytes=settings.max_held_bytes,
        metrics=metrics,
    )
    decoder = Decoder(
        threads=settings.decode_threads,
        max_pixels=settings.max_pixels,
        budget_s=settings.decode_budget_s,
        is_quiet=lambda: admission.is_quiet,
    )
    json_bodies = JsonBodies(max_values=settings.max_json_values)
    call = VersionedCall(
        backend,
        catalog,
        contracts=contracts,
        decoder=decoder,
        metrics=metrics,
        # A span of the model server belongs to one trace.
        batcher=MicroBatcher(backend, max_batch=settings.max_batch, is_enabled=tracing is None),
        max_batch=settings.max_batch,
    )
    return Components(
        settings=settings,
        admission=admission,
        backend=backend,
        catalog=catalog,
        contracts=contracts,
        decoder=decoder,
        json_bodies=json_bodies,
        metrics=metrics,
        call=call,
        trials=_build_trials(settings, call, catalog, admission=admission, metrics=metrics),
        tensor_predictor=TensorPredictor(
            backend,
            catalog,
            contracts=contracts,
            signatures=SignatureCache(backend),
            decoder=decoder,
            metrics=metrics,
            json_bodies=json_bodies,
            max_images=settings.max_images,
        ),
        readiness=Readiness(backend, catalog, contracts=contracts, metrics=metrics),
        feedback=FeedbackDesk(
            _open_feedback(settings), catalog, contracts=contracts, decoder=decoder, max_pixels=settings.max_pixels
        ),
        audit=_open_audit(settings, metrics),
        tracing=tracing,
    )


def _build_trials(
    settings: Settings, call: VersionedCall, catalog: Catalog, *, admission: Admission, metrics: Metrics
) -> TrialCall:
    folder = settings.trials_dir
    if folder is None and settings.models_dir is not None:
        folder = settings.models_dir / TRIALS_FOLDER
    recorder, counters = TrialRecorder(folder), TrialMetrics(metrics.registry)
    limits = StopLimits(settings.canary_max_errors, settings.canary_max_slowdown, settings.canary_min_answers)
    store = None if settings.models_dir is None else ModelStore(settings.models_dir)
    trials = TrialCall(
        call,
        catalog,
        canary=Canary(call, store, limits=limits, recorder=recorder, metrics=counters),
        shadow=Shadow(
            call,
            recorder=recorder,
            metrics=counters,
            max_in_flight=settings.shadow_max_in_flight,
            is_busy=lambda: admission.is_busy,
        ),
        recorder=recorder,
        header=settings.canary_header,
    )
    metrics.show(TrialGauges(trials.current))
    return trials


def _open_feedback(settings: Settings) -> FeedbackStore | None:
    if settings.feedback_dir is None:
        return None
    store = FeedbackStore(settings.feedback_dir, days=settings.feedback_days, max_images=settings.feedback_max_images)
    store.open()
    return store


def _open_audit(settings: Settings, metrics: Metrics) -> AuditLog | None:
    if settings.audit_log is None:
        return None
    audit = AuditLog(settings.audit_log, fsync=settings.audit_fsync == "always", on_failure=metrics.count_audit_failure)
    audit.open()
    return audit


def build_catalog(settings: Settings, backend: ModelServer, *, has_taken_over: TakenOver | None = None) -> Catalog:
    """Return the catalogue that the settings ask for: the store's index, or names."""
    if settings.models_dir is not None:
        return StoreCatalog(ModelStore(settings.models_dir), poll_s=settings.poll_s, has_taken_over=has_taken_over)
    return NamedCatalog(settings.models, backend, poll_s=settings.poll_s, has_taken_over=has_taken_over)


def components_of(app: FastAPI) -> Components:
    """Return the components of an app that `create_app` made."""
    return cast(Components, app.state.components)


async def _components(request: Request) -> Components:
    # Not because it waits: FastAPI would run a plain function in a thread.
    return components_of(request.app)


Wired = Annotated[Components, Depends(_components)]
