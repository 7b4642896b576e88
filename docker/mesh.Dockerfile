# One service of a mesh topology: the program alone, which needs no shared library.
#
#   cmake -S . -B build/mesh && cmake --build build/mesh --target aefm-mesh
#   docker build -f docker/mesh.Dockerfile -t aefm-mesh:1 build/mesh
FROM scratch
COPY aefm-mesh /aefm-mesh
USER 65532:65532
ENTRYPOINT ["/aefm-mesh"]
CMD ["--config", "/etc/aefm/service.json"]
