# slotmux in a container. Kernels are compiled at the first start, for the CPU it starts on, into
# the volume /var/cache/slotmux; later starts find them there.
#   docker build -t slotmux .
#   docker run -p 8080:8080 -e SLOTMUX_API_KEY=... -v slotmux-cache:/var/cache/slotmux slotmux
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/slotmux
WORKDIR /src
# Dependencies change rarely: with empty packages in place this layer survives source edits.
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN mkdir server runtime kernels \
 && touch server/__init__.py runtime/__init__.py kernels/__init__.py \
 && /opt/slotmux/bin/pip install .
COPY server server
COPY runtime runtime
COPY kernels kernels
RUN /opt/slotmux/bin/pip install --no-deps --force-reinstall . \
 && find /opt/slotmux -name __pycache__ -prune -exec rm -rf {} + \
 && /opt/slotmux/bin/python -m compileall -q /opt/slotmux/lib

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="slotmux" \
      org.opencontainers.image.description="OpenAI-compatible inference server for GGUF models on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
# The cache must belong to the user that compiles into it, and be writable by nobody else. A named
# volume that is mounted there for the first time takes over owner and mode from here.
RUN groupadd --gid 10001 slotmux \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent slotmux \
 && install -d -o slotmux -g slotmux -m 0700 /var/cache/slotmux \
 && install -d -m 0755 /models
COPY --from=build /opt/slotmux /opt/slotmux
ENV PATH=/opt/slotmux/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SLOTMUX_HOST=0.0.0.0 \
    SLOTMUX_PORT=8080 \
    SLOTMUX_CACHE_DIR=/var/cache/slotmux
USER 10001:10001
WORKDIR /models
VOLUME ["/var/cache/slotmux"]
EXPOSE 8080
# A first start downloads and compiles; until then /health says 503 and the container is "starting".
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['SLOTMUX_PORT'] + '/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["slotmux"]
CMD ["serve"]
