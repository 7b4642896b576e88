# What disturbs nodes: stress-ng (0.15 or later) and iperf3, beside any POSIX sh.
#
#   docker build -f docker/interference.Dockerfile -t aefm-interference:1 docker
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends stress-ng iperf3 \
    && rm -rf /var/lib/apt/lists/* \
    && stress-ng --version && iperf3 --version
USER 65532:65532
CMD ["stress-ng", "--version"]
