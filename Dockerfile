# sdlora in a container: one port (7860), one volume (/data), no root.
#   docker build -t sdlora .                  docker run -p 7860:7860 -v sdlora:/data sdlora
# The first start prints a password; mount a file and add `--password-file` to choose your own.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# CPU by default; https://download.pytorch.org/whl/cu130 and the like bring CUDA.
ARG TORCH_INDEX=""
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements.txt

COPY app.py pyproject.toml LICENSE README.md ./
COPY presets presets
COPY sdlora sdlora
RUN useradd --create-home --uid 1000 sdlora && mkdir /data && chown sdlora /data

USER sdlora
ENV SDLORA_WORKSPACE=/data SDLORA_BASES=/data/bases HF_HOME=/data/hub PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 7860), 4).close()"]
ENTRYPOINT ["python", "app.py", "--host", "0.0.0.0"]
