# One image for all services: what a container does is its command (`millrace produce quotes`, `millrace consume`). The
# targets `producer` and `consumer` have theirs built in.
# With what other flows need: docker build --build-arg EXTRAS="kafka aws" . (names as in `pip install millrace[kafka]`,
# or `all`). A pip configuration for the build, such as a mirror: --secret id=pip,src=$HOME/.config/pip/pip.conf

FROM python:3.13-slim AS build
RUN python -m venv --without-pip /opt/millrace
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1

# The dependencies change seldom, so they are layers of their own, below the code.
COPY requirements /src/requirements
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/millrace install -q --require-hashes -r /src/requirements/base.txt
ARG EXTRAS=postgres
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    for extra in $EXTRAS; do set -- "$@" -r "/src/requirements/$extra.txt"; done \
 && if [ $# -gt 0 ]; then pip --python /opt/millrace install -q --require-hashes "$@"; fi
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/build && /opt/build/bin/pip install -q --require-hashes -r /src/requirements/build.txt

COPY pyproject.toml README.md LICENSE flows.yaml flows.py /src/
COPY millrace /src/millrace
COPY pipeline /src/pipeline
COPY producer /src/producer
COPY consumer /src/consumer
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /tmp /src \
 && pip --python /opt/millrace install -q --no-deps --no-index /tmp/millrace-*.whl \
 # What no program here runs: headers and tests of libraries, and Arrow Flight.
 && cd /opt/millrace/lib/python*/site-packages \
 && rm -rf pyarrow/include pyarrow/*flight* \
 && find twisted zope pyarrow -type d \( -name test -o -name tests \) -prune -exec rm -r {} + \
 && python -m compileall -q -j 0 .

FROM python:3.13-slim AS millrace
# A fixed number, so that volumes stay readable from one image to the next.
RUN groupadd --gid 10001 millrace && useradd --uid 10001 --gid millrace --no-create-home --home-dir /tmp --shell /usr/sbin/nologin millrace \
 && install -d -o millrace -g millrace /data /access /access/redis /access/producer /access/consumer /access/operator /access/postgres \
    /access/producer-quotes-postgres /access/consumer-quotes-postgres
COPY --from=build /opt/millrace /opt/millrace
COPY flows.yaml flows.py /app/
ENV PATH=/opt/millrace/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp DATA=/data
WORKDIR /app
USER 10001:10001
# A volume has the owner of the folder that it is put on: one for the users of each flow.
RUN python -m millrace.access --folders /access /app/flows.yaml
CMD ["millrace", "--help"]

FROM millrace AS producer
ENTRYPOINT ["millrace", "produce"]

FROM millrace AS consumer
ENTRYPOINT ["millrace", "consume"]

FROM millrace
