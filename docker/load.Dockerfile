# Load from inside a cluster. Any image with Python 3.11 or later and glibc will do as its base.
#
#   pip wheel . --no-deps --wheel-dir dist -C wheel.py-api=py3 -C cmake.define.AEFM_STATIC_LUAJIT=ON
#   docker build -f docker/load.Dockerfile -t aefm-load:1 .
#
# The wheel holds the generator, and that LuaJIT and OpenSSL. It is built where libluajit-5.1-dev, libssl-dev and a C
# compiler are, on a system whose glibc is no newer than the image's.
FROM python:3.13-slim-bookworm
COPY dist/*.whl /tmp/
# What a pod of load imports, not what the plugin does; bounds as in pyproject.toml.
RUN pip install --no-cache-dir --no-deps /tmp/*.whl \
    && pip install --no-cache-dir "hdrhistogram>=0.10.3" \
    && rm /tmp/*.whl \
    && aefm-wrk --version \
    && python3 -P -m pytest_aefm.load.agent --help
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["python3", "-P", "-m", "pytest_aefm.load.agent"]
CMD ["--plan", "/etc/aefm/plan.json"]
