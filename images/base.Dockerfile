# The stages that all images begin with. `make images` writes them before an image's own Dockerfile into the build
# context, so what is built there is one complete Dockerfile. That context also has requirements.txt (from
# pyproject.toml), constraints.txt and the project's wheel. Secrets `pip` (a pip.conf) and `ca` (a CA bundle) are optional.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Installs packages; nothing of it is in an image but what is copied out of it.
FROM ${BASE_IMAGE} AS tools
ENV PIP_CONFIG_FILE=/run/pip/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /build

# What an image is without its packages. Each image switches to the user itself, after its last layer.
FROM ${BASE_IMAGE} AS runtime
RUN echo 'tunesmith:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'tunesmith:x:65532:' >> /etc/group
ENV PATH=/opt/tunesmith/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
WORKDIR /tmp
LABEL org.opencontainers.image.licenses="Apache-2.0"

