# Targets: gateway and modelserver (no TensorFlow: only protobuf stubs taken out of it), pipeline.
#
#     docker build --target gateway -t fovea-gateway .
#
# Needs no more than Docker 20.10 understands. A release passes PYTHON_IMAGE with a digest.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
# Any user may run the images (compose passes yours), so HOME is a place that everybody can write to.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
COPY LICENSE NOTICE ./

# Build stages: what they download and leave behind stays out of the images.
FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv

FROM build AS stubs
COPY requirements-pipeline.lock ./
RUN awk '/^[a-z]/ { keep = /^tensorflow(-serving-api)?==/ } keep' requirements-pipeline.lock > stubs.txt \
 && pip install --quiet --no-deps --no-compile --require-hashes --only-binary=:all: --target /tensorflow -r stubs.txt
COPY contract/stubs.py contract/
COPY scripts/extract_stubs.py scripts/
RUN python scripts/extract_stubs.py --packages /tensorflow --out /stubs && python -m compileall -q /stubs

FROM build AS gateway-packages
COPY requirements-gateway.lock ./
RUN pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary=:all: -r requirements-gateway.lock

# Of OpenVINO only what runs SavedModels and its own format on a CPU: no GPU, no NPU, no other formats, and not the
# package that reports usage to a server.
FROM build AS modelserver-packages
COPY requirements-modelserver.lock ./
RUN pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary=:all: -r requirements-modelserver.lock \
 && cd /opt/venv/lib/python*/site-packages \
 && rm -r openvino_telemetry* openvino/include openvino/tools \
 && for part in intel_gpu_plugin intel_npu_plugin auto_plugin auto_batch_plugin hetero_plugin \
        gguf_frontend jax_frontend onnx_frontend paddle_frontend pytorch_frontend tensorflow_lite_frontend; \
    do rm -f openvino/libs/libopenvino_$part.so*; done

# The C++ headers in TensorFlow's package are 430 MB that nothing here compiles against.
FROM build AS pipeline-packages
COPY requirements-pipeline.lock ./
RUN pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary=:all: -r requirements-pipeline.lock \
 && rm -r /opt/venv/lib/python*/site-packages/tensorflow/include /opt/venv/lib/python*/site-packages/openvino_telemetry*

FROM build AS ray-packages
COPY requirements-ray.lock ./
RUN pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary=:all: -r requirements-ray.lock \
 && rm -r /opt/venv/lib/python*/site-packages/tensorflow/include /opt/venv/lib/python*/site-packages/openvino_telemetry*

# The project's own code, compiled here because the images' user cannot write beside it.
FROM base AS code
COPY contract ./contract
COPY engine ./engine
COPY pipeline ./pipeline
COPY service ./service
RUN python -m compileall -q .

FROM base AS gateway
COPY --from=gateway-packages /opt/venv /opt/venv
COPY --from=stubs /stubs /opt/stubs
COPY --from=code /app/contract ./contract
COPY --from=code /app/service ./service
ENV PYTHONPATH=/app:/opt/stubs FOVEA_HOST=0.0.0.0 FOVEA_PORT=8000
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=10s \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=ssl._create_unverified_context())).open('http' + 's' * bool(os.environ.get('FOVEA_TLS_CERT')) + '://127.0.0.1:' + os.environ['FOVEA_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "service", "gateway"]

FROM base AS modelserver
COPY --from=modelserver-packages /opt/venv /opt/venv
COPY --from=stubs /stubs /opt/stubs
COPY --from=code /app/contract ./contract
COPY --from=code /app/engine ./engine
COPY --from=code /app/service ./service
ENV PYTHONPATH=/app:/opt/stubs
USER 1000:1000
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=60s \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8500), 4)"]
ENTRYPOINT ["python", "-m", "service", "modelserver"]
CMD ["--host=0.0.0.0", "--port=8500", "--monitoring_port=8501", "--enable_grpc_healthcheck_service", "--model_config_file=/models/models.config", "--model_config_file_poll_wait_seconds=1"]

FROM base AS pipeline
COPY --from=pipeline-packages /opt/venv /opt/venv
COPY --from=code /app/contract ./contract
COPY --from=code /app/engine ./engine
COPY --from=code /app/pipeline ./pipeline
# Keras keeps downloaded weights here; a volume mounted over it takes the folder's mode, so that any user can write.
RUN mkdir -m 1777 /keras
ENV PYTHONPATH=/app KERAS_HOME=/keras MPLCONFIGDIR=/tmp/matplotlib TF_CPP_MIN_LOG_LEVEL=1
USER 1000:1000
ENTRYPOINT ["python", "-m", "pipeline"]

# The nodes of a Ray cluster, and what submits jobs to it.
FROM pipeline AS pipeline-ray
COPY --from=ray-packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0
ENTRYPOINT []
