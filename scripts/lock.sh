#!/bin/sh
# Resolves pyproject.toml into hash-pinned lock files for Python 3.11 to 3.13 on every supported platform.
# `scripts/lock.sh --upgrade` moves the pins; without it they stay where pyproject.toml allows.
# Extras stay in the pins (coverage[toml]==): pip before 24.1 reads a bare pin as none for whoever asks for the extra,
# and fails as soon as the package has a newer release.
# The images' locks are constrained by the whole one, so no two of them disagree on a version.
set -eu
cd "$(dirname "$0")/.."

compile() {
    output=$1
    shift
    uv pip compile "$@" --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-strip-extras --quiet --output-file "$output"
    echo "$output: $(grep -c '==' "$output") packages"
}

# Every extra but ray, which has a lock of its own: few need its 240 MB.
compile requirements.lock pyproject.toml --extra client --extra dev --extra dicom --extra gateway --extra heic --extra int8 \
    --extra modelserver --extra otel --extra pipeline --extra sync --extra tensorflow "$@"
compile requirements-gateway.lock pyproject.toml --extra gateway --constraint requirements.lock "$@"
compile requirements-modelserver.lock pyproject.toml --extra modelserver --constraint requirements.lock "$@"
compile requirements-pipeline.lock pyproject.toml --extra pipeline --extra int8 --extra sync --extra tensorflow --constraint requirements.lock "$@"
compile requirements-ray.lock pyproject.toml --extra pipeline --extra ray --extra tensorflow --constraint requirements.lock "$@"
compile deploy/docs/requirements.lock --group docs "$@"
