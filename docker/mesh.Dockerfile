# One service of a mesh topology. Any image with Python 3.11 or later will do as its base.
#
#   pip wheel . --no-deps --wheel-dir dist -C wheel.cmake=false
#   docker build -f docker/mesh.Dockerfile -t aefm-mesh:1 .
#
# `wheel.cmake=false` leaves out the load generator, which no service needs.
FROM python:3.13-slim-bookworm
COPY dist/*.whl /tmp/
# What a service imports, not what the plugin does; bounds as in pyproject.toml.
RUN pip install --no-cache-dir --no-deps /tmp/*.whl \
    && pip install --no-cache-dir "aiohttp>=3.9" "prometheus-client>=0.20" "psutil>=5.9" "uvloop>=0.19" \
       "opentelemetry-sdk>=1.25" "opentelemetry-exporter-otlp-proto-http>=1.25" \
    && rm /tmp/*.whl \
    && python3 -P -m pytest_aefm.mesh.server --help
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["python3", "-P", "-m", "pytest_aefm.mesh.server"]
CMD ["--config", "/etc/aefm/service.json"]
