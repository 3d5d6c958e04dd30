# sdlora in a container: one port (7860), one volume (/data), no root, nothing written outside /data and /tmp.
#   docker build -t sdlora .                  docker run -p 127.0.0.1:7860:7860 -v sdlora:/data sdlora
# The first start prints a password; mount a file and add `--password-file FILE` to choose your own. compose.yaml says the rest.
ARG BASE_IMAGE=python:3.11.14-slim-bookworm

# Every Debian with Python 3.11 or newer will do: packages live in an environment of their own.
FROM ${BASE_IMAGE} AS packages
# requirements.lock (`make lock`) is everything that requirements.txt brings, to the byte, but torch: that differs by machine.
# Where torch comes from. Empty: PyPI's, with CUDA on x86. https://download.pytorch.org/whl/cpu is small, …/cu130 and the like choose a CUDA.
ARG TORCH_INDEX=""
COPY requirements.txt requirements.lock /tmp/
RUN python3 -m venv /opt/sdlora \
    && /opt/sdlora/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock \
    && /opt/sdlora/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' /tmp/requirements.txt)" \
    && /opt/sdlora/bin/pip check

FROM ${BASE_IMAGE}
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp sdlora \
    && mkdir /data \
    && chown sdlora:sdlora /data
COPY --from=packages /opt/sdlora /opt/sdlora
WORKDIR /app
COPY app.py pyproject.toml LICENSE README.md ./
COPY presets presets
COPY sdlora sdlora
RUN /opt/sdlora/bin/python -m compileall -q app.py sdlora

USER 1000:1000
ENV PATH=/opt/sdlora/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SDLORA_WORKSPACE=/data SDLORA_BASES=/data/bases HF_HOME=/data/hub
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=40s --start-period=60s CMD ["python", "-m", "sdlora", "health"]
ENTRYPOINT ["python", "app.py", "--host", "0.0.0.0", "--end-workers"]
